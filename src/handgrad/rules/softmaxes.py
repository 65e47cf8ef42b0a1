"""Softmax and its logarithm: along one dimension, every output depends on every input."""

from __future__ import annotations

from handgrad.expr import Expr, call, let, total, unbroadcast
from handgrad.rules.makers import integers
from handgrad.rules.table import Terms, rule, sample, to

SOFTMAX = "softmax: its output times what the gradient is above its mean, weighted by the output"


@rule(
    "softmax",
    samples=[
        sample("F.softmax(x, 1)", x=(3, 5)),
        sample("x.softmax(dim=0)", x=(3, 5)),
        sample("torch.softmax(x, -1)", x=(4, 3, 5)),
        sample("F.softmax(x, dim=1)", x=(4, 3, 5)),
        sample("x.softmax(0)", x=(5,)),
        sample("F.softmax(x / 0.7, dim=-2)", x=(4, 3, 5)),
        sample("(w * F.softmax(x, 1)).sum()", x=(3, 5), w=(5,)),
        sample("F.softmax(x, 1)[:, 0].log().sum()", x=(3, 5)),
        sample("torch.special.softmax(x, 1)", x=(3, 5)),
    ],
)
def softmax(g: Expr, y: Expr, x: Expr, dim: int | None = None) -> Terms:
    g, dim = let("dprobs", g), _given(dim)
    yield to(x, y * (g - total(y * g, (dim,), keepdim=True)), SOFTMAX, exact=kernel("_softmax", g, y, x, dim))


@rule("softmin", samples=[sample("F.softmin(x, dim=1)", x=(3, 5)), sample("F.softmin(x, 0)", x=(4, 1, 3))])
def softmin(g: Expr, y: Expr, x: Expr, dim: int | None = None) -> Terms:
    g, dim = let("dprobs", g), _given(dim)
    yield to(x, -(y * (g - total(y * g, (dim,), keepdim=True))), f"softmin is the softmax of -x; {SOFTMAX}")


@rule(
    "log_softmax",
    samples=[
        sample("F.log_softmax(x, 1)", x=(3, 5)),
        sample("x.log_softmax(dim=0)", x=(3, 5)),
        sample("torch.log_softmax(x, -1)", x=(4, 3, 5)),
        sample("F.log_softmax(x, dim=1)", x=(4, 3, 5)),
        sample("F.log_softmax(x, 1).sum()", x=(3, 5)),
        sample("-F.log_softmax(x, 1)[range(3), i].mean()", x=(3, 5), i=integers(3, high=5)),
        sample("torch.special.log_softmax(x, 0)", x=(5,)),
    ],
)
def log_softmax(g: Expr, y: Expr, x: Expr, dim: int | None = None) -> Terms:
    g, dim = let("dlogprobs", g), _given(dim)
    share = g - y.pointwise("torch.exp") * _sum(g, dim)
    yield to(x, share, "log(softmax): the gradient without its sum in proportion to the probabilities",
             exact=kernel("_log_softmax", g, y, x, dim))  # fmt: skip


def kernel(forward: str, g: Expr, y: Expr, x: Expr, dim: int) -> Expr:
    """Return what autograd itself calls; no sum adds up in just its order."""
    dtype = Expr("attribute", (x,), (), "dtype")
    return call(f"torch.ops.aten.{forward}_backward_data", g, y, dim, dtype, shape=x.shape)


def _sum(g: Expr, dim: int) -> Expr:
    """Return the sum along ``dim``; of what is only repeated there, a product."""
    if g.op != "expand":
        return total(g, (dim,), keepdim=True)
    return unbroadcast(g, tuple(1 if d == dim % len(g.shape) else size for d, size in enumerate(g.shape)))[0]


def _given(dim: int | None) -> int:
    if dim is None:
        raise NotImplementedError("without `dim` the dimension is guessed from the shape: give it")
    return dim
