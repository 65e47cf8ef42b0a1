"""How far two vectors are apart, and what angle is between them."""

from __future__ import annotations

from handgrad.expr import Expr, broadcast, let, number, unreduce
from handgrad.rules.makers import away
from handgrad.rules.table import Terms, rule, sample, to

ONE, TINY = number(1.0), number(1e-6)


@rule(
    "cosine_similarity",
    samples=[
        sample("F.cosine_similarity(a, b)", a=(3, 5), b=(3, 5)),
        sample("F.cosine_similarity(a, b, dim=0)", a=(3, 5), b=(3, 5)),
        sample("F.cosine_similarity(a, b, dim=-1)", a=(4, 1, 5), b=(3, 5)),
        sample("F.cosine_similarity(a, b, 0).square()", a=(5,), b=(5,)),
        sample("F.cosine_similarity(a, b, -2).sum()", a=(3, 5, 2), b=(3, 5, 2)),
    ],
)
def cosine_similarity(g: Expr, y: Expr, a: Expr, b: Expr, dim: int = 1, eps: float = 1e-8) -> Terms:
    shape = broadcast(a.shape, b.shape)
    dim = dim % len(shape) - len(shape)
    cosine, g = (unreduce(e, shape, [dim], keepdim=False) for e in (y, g))
    of_a, of_b = (let(f"{n}_norm", _norm(x, dim).method("clamp", min=eps)) for n, x in (("a", a), ("b", b)))
    a_hat, b_hat = let("a_hat", a / of_a), let("b_hat", b / of_b)
    why = "the other direction, less its part along the own one, over the own length"
    yield to(a, (b_hat - cosine * a_hat) / of_a * g, why)
    yield to(b, (a_hat - cosine * b_hat) / of_b * g, why)


def _norm(x: Expr, dim: int) -> Expr:
    shape = tuple(1 if d == dim % len(x.shape) else size for d, size in enumerate(x.shape))
    return x.method("norm", dim=dim, keepdim=True, shape=shape)


@rule(
    "pairwise_distance",
    samples=[
        sample("F.pairwise_distance(a, b)", a=(3, 5), b=(3, 5)),
        sample("F.pairwise_distance(a, b, keepdim=True)", a=(3, 5), b=(5,)),
        sample("F.pairwise_distance(a, b, 2.0, 0.1)", a=away(4, 3, 5), b=(4, 3, 5)),
    ],
)
def pairwise_distance(g: Expr, y: Expr, a: Expr, b: Expr, p: float = 2.0, eps: Expr = TINY,
                      keepdim: bool = False) -> Terms:  # fmt: skip
    _euclidean(p, "F.pairwise_distance")
    shape = broadcast(a.shape, b.shape)
    whole, g = (unreduce(e, shape, [-1], keepdim=keepdim) for e in (y, g))
    share = (a - b + eps) / whole * g
    yield to(a, share, "d|a - b|/da = (a - b)/|a - b|")
    yield to(b, -share, "d|a - b|/db = -(a - b)/|a - b|")


@rule(
    "triplet_margin_loss",
    samples=[
        sample("F.triplet_margin_loss(a, p, n)", a=(4, 5), p=(4, 5), n=(4, 5)),
        sample("s * F.triplet_margin_loss(a, p, n, margin=2.5, reduction='sum')", a=(4, 5), p=(4, 5), n=(4, 5), s=()),
        sample("F.triplet_margin_loss(a, p, n, 0.1, reduction='none')", a=(9, 2), p=(9, 2), n=(9, 2)),
    ],
)
def triplet_margin_loss(
    g: Expr, y: Expr, anchor: Expr, positive: Expr, negative: Expr, margin: Expr = ONE, p: float = 2.0,
    eps: Expr = TINY, swap: bool = False, reduction: str = "mean",
) -> Terms:  # fmt: skip
    _euclidean(p, "F.triplet_margin_loss")
    if swap:
        raise NotImplementedError("F.triplet_margin_loss with swap: write the loss out")
    near, far = let("to_positive", anchor - positive + eps), let("to_negative", anchor - negative + eps)
    near_by, far_by = let("near", _norm(near, -1)), let("far", _norm(far, -1))
    share = g / anchor.shape[0] if reduction == "mean" and len(anchor.shape) > 1 else g
    share = unreduce(share, near.shape, [-1], keepdim=False) if reduction == "none" else share
    active = let("active", (near_by - far_by + margin >= 0).method("type_as", anchor))
    towards, away_from = let("towards", near / near_by), let("away_from", far / far_by)
    why = "where the margin is not kept: the directions to the positive and to the negative"
    yield to(anchor, active * (towards - away_from) * share, why)
    yield to(positive, -(active * towards * share), why)
    yield to(negative, active * away_from * share, why)


def _euclidean(p: float, function: str) -> None:
    if p != 2:
        raise NotImplementedError(f"{function} with p other than 2: write it out")
