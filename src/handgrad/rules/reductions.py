"""Sums, means, variances, products, extremes and norms over dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from handgrad.expr import Expr, call, number, product, reduction, unreduce, written
from handgrad.rules.makers import away, distinct, tied
from handgrad.rules.table import Terms, rule, sample, to

Dims = int | Sequence[int] | None


def dims_of(dim: Dims, more: Sequence[int], x: Expr) -> list[int] | None:
    """Return the dimensions of a reduction, None for all."""
    if more:
        dim = [*([dim] if isinstance(dim, int) else dim or []), *more]
    if dim is None or (not isinstance(dim, int) and not len(dim)):
        return None
    chosen = [dim] if isinstance(dim, int) else list(dim)
    return [d % max(len(x.shape), 1) for d in chosen] if x.shape else None


def count(x: Expr, dims: list[int] | None) -> Expr:
    """Return how many numbers are reduced to one."""
    return product(x.shape if dims is None else [x.shape[d] for d in dims])


def over(dims: list[int] | None) -> str:
    """Return words for the dimensions of a reduction."""
    if dims is None:
        return ""
    return f" over dim {dims[0]}" if len(dims) == 1 else f" over dims {', '.join(map(str, dims))}"


@rule(
    "sum",
    samples=[
        sample("x.sum()", x=(3, 5)),
        sample("x.sum(1)", x=(3, 5)),
        sample("x.sum(0, keepdim=True)", x=(3, 5)),
        sample("x.sum((0, 2))", x=(3, 5, 2)),
        sample("torch.sum(x, dim=-1)", x=(3, 1, 5)),
        sample("x.sum(0)", x=(3, 5)),
    ],
)
def sum_(g: Expr, y: Expr, x: Expr, dim: Dims = None, keepdim: bool = False, *more: int) -> Terms:
    dims = dims_of(dim, (), x)
    yield to(x, unreduce(g, x.shape, dims, keepdim=keepdim), f"a sum{over(dims)}: every summand gets its gradient")


@rule(
    "mean",
    samples=[
        sample("x.mean()", x=(3, 5)),
        sample("x.mean(1, keepdim=True)", x=(3, 5)),
        sample("x.mean((0, 1))", x=(3, 5, 2)),
        sample("torch.mean(x, -1)", x=(3, 5)),
    ],
)
def mean(g: Expr, y: Expr, x: Expr, dim: Dims = None, keepdim: bool = False) -> Terms:
    dims = dims_of(dim, (), x)
    share = unreduce(g / count(x, dims), x.shape, dims, keepdim=keepdim)
    yield to(x, share, f"a mean{over(dims)}: each of the {written(count(x, dims).data[0])} gets its part")


def _spread(g: Expr, x: Expr, dims: list[int] | None, keepdim: bool, less: int) -> tuple[Expr, Expr]:
    """Return the deviations from the mean over n - less, and the gradient in the shape of x."""
    centre = reduction("mean", x, dims, keepdim=dims is not None)
    n = count(x, dims)
    return (x - centre) / (n - less if less else n), unreduce(g, x.shape, dims, keepdim=keepdim)


def _correction(dim: object, unbiased: bool | None, correction: int | None) -> int:
    if isinstance(dim, bool):
        unbiased = dim
    return int(unbiased if unbiased is not None else 1 if correction is None else correction)


@rule(
    "var",
    samples=[
        sample("x.var()", x=(3, 5)),
        sample("x.var(0, keepdim=True)", x=(3, 5)),
        sample("x.var(1, unbiased=False)", x=(3, 5)),
        sample("torch.var(x, dim=(0, 1), correction=0)", x=(3, 5, 2)),
        sample("x.var(unbiased=False)", x=(3, 5)),
    ],
)
def var(g: Expr, y: Expr, x: Expr, dim: Dims = None, unbiased: bool | None = None, keepdim: bool = False,
        correction: int | None = None) -> Terms:  # fmt: skip
    less = _correction(dim, unbiased, correction)
    deviation, share = _spread(g, x, dims_of(None if isinstance(dim, bool) else dim, (), x), keepdim, less)
    yield to(x, 2 * deviation * share, f"a variance: 2*(x - mean)/{'(n - 1)' if less else 'n'}; the part through "
             "the mean cancels")  # fmt: skip


@rule(
    "std",
    samples=[
        sample("x.std()", x=(3, 5)),
        sample("x.std(0, keepdim=True)", x=(3, 5)),
        sample("x.std(1, unbiased=False)", x=(3, 5)),
    ],
)
def std(g: Expr, y: Expr, x: Expr, dim: Dims = None, unbiased: bool | None = None, keepdim: bool = False,
        correction: int | None = None) -> Terms:  # fmt: skip
    dims = dims_of(None if isinstance(dim, bool) else dim, (), x)
    less = _correction(dim, unbiased, correction)
    deviation, share = _spread(g / y, x, dims, keepdim, less)
    yield to(x, deviation * share, f"a standard deviation: (x - mean)/{'(n - 1)' if less else 'n'} over itself")


@rule("var_mean", many=True, samples=[sample("torch.add(*torch.var_mean(x, 1, keepdim=True))", x=(3, 5))])
def var_mean(g: list[Expr | None], y: list[Expr], x: Expr, dim: Dims = None, unbiased: bool | None = None,
             keepdim: bool = False, correction: int | None = None) -> Terms:  # fmt: skip
    dims = dims_of(dim, (), x)
    if g[0] is not None:
        deviation, share = _spread(g[0], x, dims, keepdim, _correction(dim, unbiased, correction))
        yield to(x, 2 * deviation * share, "the variance: 2*(x - mean)/(n - 1)")
    if g[1] is not None:
        yield to(x, unreduce(g[1] / count(x, dims), x.shape, dims, keepdim=keepdim), "the mean: each gets its part")


@rule(
    "prod",
    samples=[
        sample("x.prod()", x=away(3, 2)),
        sample("x.prod(1)", x=away(3, 4)),
        sample("x.prod(0, keepdim=True)", x=away(3, 4)),
    ],
)
def prod(g: Expr, y: Expr, x: Expr, dim: int | None = None, keepdim: bool = False) -> Terms:
    dims = None if dim is None else [dim]
    whole = unreduce(y, x.shape, dims, keepdim=keepdim)
    yield to(x, whole / x * unreduce(g, x.shape, dims, keepdim=keepdim), "a product: all the other factors "
             "(x may hold no zero)")  # fmt: skip


@rule("cumsum", samples=[sample("x.cumsum(1)", x=(3, 5)), sample("torch.cumsum(x, dim=0)", x=(4,))])
def cumsum(g: Expr, y: Expr, x: Expr, dim: int) -> Terms:
    back = g.method("flip", dim).method("cumsum", dim).method("flip", dim)
    yield to(x, back, "each number is in every later sum: sum from the other end")


@rule("cumprod", samples=[sample("x.cumprod(1)", x=away(3, 4))])
def cumprod(g: Expr, y: Expr, x: Expr, dim: int) -> Terms:
    back = (y * g).method("flip", dim).method("cumsum", dim).method("flip", dim)
    yield to(x, back / x, "each number is in every later product (x may hold no zero)")


def _whole_extreme(g: Expr, y: Expr, x: Expr) -> Terms:
    hits = x.equals(y)
    yield to(x, hits * g / hits.method("sum", shape=()), "only the extreme value gets it; equal ones share it")


def _extreme(op: str, g: Expr, y: Expr, x: Expr, dim: int, keepdim: bool) -> Terms:
    dim = dim % len(x.shape)
    where = x.method(f"arg{op}", dim, shape=tuple(s for d, s in enumerate(x.shape) if d != dim))
    yield to(x, _marked(where, x, dim) * unreduce(g, x.shape, [dim], keepdim=keepdim),
             f"only the {op}imum gets the gradient")  # fmt: skip


def _marked(where: Expr, x: Expr, dim: int) -> Expr:
    """Return 1 at the index along ``dim`` that ``where`` says, and 0 elsewhere, in the shape of ``x``."""
    places = call("F.one_hot", where, x.shape[dim], shape=(*where.shape, x.shape[dim]))
    return places if dim == len(x.shape) - 1 else places.method("movedim", -1, dim, shape=x.shape)


@rule(
    "max",
    samples=[
        sample("x.max()", x=distinct(3, 5)),
        sample("x.max()", kink=True, x=tied(3, 5)),
        sample("x.max(1).values", x=distinct(3, 5)),
        sample("x.max(1, keepdim=True).values", kink=True, x=tied(3, 5)),
        sample("torch.max(x, 0)[0]", x=distinct(3, 5)),
        sample("torch.max(x, z)", x=(3, 5), z=(5,)),
    ],
)
def max_(g: Expr, y: Expr, x: Expr, dim: Expr | None = None, keepdim: bool = False) -> Terms:
    if dim is None:
        yield from _whole_extreme(g, y, x)
    elif dim.op != "number":
        yield from RULE_OF_TWO["max"](g, y, x, dim)
    else:
        yield from _extreme("max", g, y, x, dim.data[0], keepdim)


@rule(
    "min",
    samples=[
        sample("x.min()", x=distinct(3, 5)),
        sample("x.min(0).values", x=distinct(3, 5)),
        sample("torch.min(x, z)", x=(3, 5), z=(3, 1)),
    ],
)
def min_(g: Expr, y: Expr, x: Expr, dim: Expr | None = None, keepdim: bool = False) -> Terms:
    if dim is None:
        yield from _whole_extreme(g, y, x)
    elif dim.op != "number":
        yield from RULE_OF_TWO["min"](g, y, x, dim)
    else:
        yield from _extreme("min", g, y, x, dim.data[0], keepdim)


def _larger(g: Expr, y: Expr, a: Expr, b: Expr) -> Terms:
    for one, other in ((a, b), (b, a)):
        yield to(one, ((one > other) + number(0.5) * one.equals(other)) * g, "the larger one gets the gradient")


def _smaller(g: Expr, y: Expr, a: Expr, b: Expr) -> Terms:
    for one, other in ((a, b), (b, a)):
        yield to(one, ((one < other) + number(0.5) * one.equals(other)) * g, "the smaller one gets the gradient")


RULE_OF_TWO = {"max": _larger, "min": _smaller}


@rule(
    "amax",
    "amin",
    samples=[
        sample("x.amax(1)", x=distinct(3, 5)),
        sample("x.amax(1, keepdim=True)", kink=True, x=tied(3, 5)),
        sample("x.amin((0, 1))", x=distinct(3, 5, 2)),
        sample("x.amax()", x=distinct(3, 5)),
    ],
)
def amax(g: Expr, y: Expr, x: Expr, dim: Dims = None, keepdim: bool = False) -> Terms:
    dims = dims_of(dim, (), x)
    hits = x.equals(unreduce(y, x.shape, dims, keepdim=keepdim))
    share = hits * unreduce(g, x.shape, dims, keepdim=keepdim)
    yield to(
        x,
        share / reduction("sum", hits, dims, keepdim=dims is not None),
        "only the extreme values get it, in equal parts",
    )


@rule(
    "median",
    samples=[
        sample("x.median()", x=distinct(3, 5)),
        sample("x.median()", kink=True, x=tied(3, 5)),
        sample("x.median(1).values", x=distinct(3, 5)),
        sample("x.median(0, keepdim=True).values", kink=True, x=tied(3, 5)),
    ],
)
def median(g: Expr, y: Expr, x: Expr, dim: int | None = None, keepdim: bool = False) -> Terms:
    if dim is None:
        hits = x.equals(y)
        yield to(x, hits * g / hits.method("sum", shape=()), "only the median gets it; equal ones share it")
        return
    dim = dim % len(x.shape)
    found = x.method("median", dim, shape=tuple(s for d, s in enumerate(x.shape) if d != dim))
    where = Expr("attribute", (found,), found.shape, "indices")
    yield to(x, _marked(where, x, dim) * unreduce(g, x.shape, [dim], keepdim=keepdim), "only the median gets it")


@rule(
    "logsumexp",
    samples=[
        sample("x.logsumexp(1)", x=(3, 5)),
        sample("torch.logsumexp(x, 0, keepdim=True)", x=(3, 5)),
        sample("torch.logsumexp(x, (0, 1))", x=(3, 5)),
    ],
)
def logsumexp(g: Expr, y: Expr, x: Expr, dim: Dims, keepdim: bool = False) -> Terms:
    dims = dims_of(dim, (), x)
    whole = unreduce(y, x.shape, dims, keepdim=keepdim)
    share = (x - whole).pointwise("torch.exp")
    yield to(x, share * unreduce(g, x.shape, dims, keepdim=keepdim), "log-sum-exp: its derivative is the softmax")


@rule(
    "norm",
    "linalg_vector_norm",
    "linalg_norm",
    samples=[
        sample("x.norm()", x=away(3, 5)),
        sample("torch.linalg.vector_norm(x, dim=1, keepdim=True)", x=away(3, 5)),
        sample("x.norm(dim=1)", x=away(3, 5)),
        sample("x.norm(1)", x=away(3, 5)),
        sample("x.norm(p=3, dim=0)", x=away(3, 5)),
    ],
)
def norm(g: Expr, y: Expr, x: Expr, p: float | str | None = 2, dim: Dims = None, keepdim: bool = False) -> Terms:
    dims = dims_of(dim, (), x)
    order = 2.0 if p is None or p == "fro" else float(p)
    whole, share = (unreduce(e, x.shape, dims, keepdim=keepdim) for e in (y, g))
    if order == 2:
        yield to(x, x / whole * share, "d|x|/dx = x/|x|")
    elif order == 1:
        yield to(x, x.pointwise("torch.sign") * share, "a sum of absolute values: the sign")
    elif math.isinf(order):
        hits = x.pointwise("torch.abs").equals(whole)
        yield to(x, hits * x.pointwise("torch.sign") * share, "only the largest gets it, with its sign")
    else:
        ratio = x.pointwise("torch.abs") / whole
        yield to(x, x.pointwise("torch.sign") * ratio ** number(order - 1) * share, "(|x|/norm)**(p-1), with the sign")


@rule(
    "normalize", samples=[sample("F.normalize(x, dim=1)", x=away(3, 5)), sample("F.normalize(x, dim=0)", x=away(4, 2))]
)
def normalize(g: Expr, y: Expr, x: Expr, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Terms:
    if p != 2:
        raise NotImplementedError("F.normalize with p other than 2: write x / x.norm(p, dim, keepdim=True)")
    dim = dim % len(x.shape)
    size = x.method("norm", dim=dim, keepdim=True, shape=tuple(1 if d == dim else s for d, s in enumerate(x.shape)))
    size = size.method("clamp", min=eps)
    along = reduction("sum", y * g, [dim], keepdim=True)
    yield to(x, (g - y * along) / size, "the part along the vector does not change its direction")


@rule("logcumsumexp", samples=[sample("x.logcumsumexp(1)", x=(3, 4))])
def logcumsumexp(g: Expr, y: Expr, x: Expr, dim: int) -> Terms:
    weighted = (g * (-y).pointwise("torch.exp")).method("flip", dim).method("cumsum", dim).method("flip", dim)
    yield to(x, x.pointwise("torch.exp") * weighted, "its share of every later sum of exponentials")


@rule("dist", samples=[sample("torch.dist(a, b)", a=(3, 5), b=(5,))])
def dist(g: Expr, y: Expr, a: Expr, b: Expr, p: float = 2) -> Terms:
    if p != 2:
        raise NotImplementedError("torch.dist with p other than 2: write (a - b).norm(p)")
    yield to(a, (a - b) / y * g, "d|a - b|/da = (a - b)/|a - b|")
    yield to(b, (b - a) / y * g, "d|a - b|/db = (b - a)/|a - b|")


@rule(
    "sort",
    many=True,
    samples=[
        sample("x.sort(1).values", x=distinct(3, 5)),
        sample("torch.sort(x, descending=True)[0]", x=distinct(4)),
    ],
)
def sort(g: list[Expr | None], y: list[Expr], x: Expr, dim: int = -1, descending: bool = False, *,
         stable: bool = False) -> Terms:  # fmt: skip
    yield from _back_to_where_they_were(g, y, x, dim)


@rule(
    "topk",
    many=True,
    samples=[
        sample("x.topk(2, dim=1).values", x=distinct(3, 5)),
        sample("torch.topk(x, 1, 0).values", x=distinct(1, 5)),
        sample("x.topk(5, largest=False)[0]", x=distinct(3, 5)),
    ],
)
def topk(g: list[Expr | None], y: list[Expr], x: Expr, k: int, dim: int = -1, largest: bool = True,
         sorted: bool = True) -> Terms:  # fmt: skip
    yield from _back_to_where_they_were(g, y, x, dim)


def _back_to_where_they_were(g: list[Expr | None], y: list[Expr], x: Expr, dim: int) -> Terms:
    if g[0] is not None:
        zeros = call("torch.zeros_like", x, shape=x.shape)
        yield to(x, zeros.method("scatter", dim, y[1], g[0]), "each gradient goes back to where its number was")
