"""Normalisations: over features, over the batch, over groups of channels.

All have one backward. With ``xhat`` of mean 0 and variance 1 along some dimensions, the gradient of the input is that
of ``xhat``, less its mean, less its part along ``xhat``, over the standard deviation::

    dx = rstd * (dxhat - dxhat.mean(-1, keepdim=True) - xhat * (dxhat * xhat).mean(-1, keepdim=True))
"""

from __future__ import annotations

from collections.abc import Sequence

from handgrad.expr import Expr, call, let, number, reduction, strip, total
from handgrad.rules.makers import Maker, fixed, positive
from handgrad.rules.table import Terms, rule, sample, to

EPS = number(1e-5)
OF_X = "normalised: less the mean, less the part along xhat, over the standard deviation"
OF_WEIGHT, OF_BIAS = "the output is weight*xhat + bias: times xhat", "the output is weight*xhat + bias"


def spreads(*shape: int) -> Maker:
    """Return running variances: positive, and without a gradient."""
    return lambda generator: positive(*shape)(generator).detach()


def normalised(x: Expr, dims: Sequence[int], eps: Expr) -> tuple[Expr, Expr]:
    """Return ``xhat``, of mean 0 and variance 1 along ``dims``, and ``rstd``, one over the standard deviation."""
    rstd = let("rstd", (reduction("var", x, dims, keepdim=True, unbiased=False) + eps).pointwise("torch.rsqrt"))
    return let("xhat", (x - reduction("mean", x, dims, keepdim=True)) * rstd), rstd


def through(dxhat: Expr, xhat: Expr, rstd: Expr, dims: Sequence[int]) -> Expr:
    """Return the gradient of what was normalised along ``dims``."""
    dxhat = let("dxhat", dxhat)
    return rstd * (dxhat - mean(dxhat, dims) - xhat * mean(dxhat * xhat, dims))


def mean(x: Expr, dims: Sequence[int]) -> Expr:
    """Return the mean of ``x`` along ``dims``, kept; of what is only repeated there, itself."""
    inner = strip(x)
    own = (1,) * (len(x.shape) - len(inner.shape)) + inner.shape
    summed = [d for d in dims if own[d] != 1]
    if not summed:
        return inner
    return reduction("mean", inner, summed if inner is x else [d % len(own) - len(own) for d in summed], keepdim=True)


def times(g: Expr, weight: Expr | None) -> Expr:
    """Return ``g * weight``; without a weight, ``g``."""
    return g if weight is None else g * weight


@rule(
    "layer_norm",
    samples=[
        sample("F.layer_norm(x, (5,))", x=(3, 5)),
        sample("F.layer_norm(x, (5,), w, b)", x=(3, 5), w=(5,), b=(5,)),
        sample("F.layer_norm(x, [5], weight=w, eps=0.1)", x=(4, 3, 5), w=(5,)),
        sample("F.layer_norm(x, x.shape[1:], bias=b)", x=(4, 3, 5), b=(3, 5)),
        sample("F.layer_norm(x, (3, 5), w, b)", x=(4, 3, 5), w=(3, 5), b=(3, 5)),
        sample("F.layer_norm(x, (5,), w).sum()", x=(3, 5), w=(5,)),
        sample("F.layer_norm(2 * x, (5,)).relu()", x=(3, 5)),
        sample("F.layer_norm(x, (5,))", x=(5,)),
    ],
)
def layer_norm(g: Expr, y: Expr, x: Expr, normalized_shape: Sequence[int], weight: Expr | None = None,
               bias: Expr | None = None, eps: Expr = EPS) -> Terms:  # fmt: skip
    dims = list(range(-len(normalized_shape), 0))
    xhat, rstd = normalised(x, dims, eps)
    g = let("dout", g)
    if bias is not None:
        yield to(bias, g, OF_BIAS)
    if weight is not None:
        yield to(weight, xhat * g, OF_WEIGHT)
    yield to(x, through(times(g, weight), xhat, rstd, dims), OF_X)


@rule(
    "rms_norm",
    samples=[
        sample("F.rms_norm(x, (5,))", x=(3, 5)),
        sample("F.rms_norm(x, (5,), w)", x=(4, 3, 5), w=(5,)),
        sample("F.rms_norm(x, (3, 5), weight=w, eps=0.1)", x=(4, 3, 5), w=(3, 5)),
        sample("F.rms_norm(x + 1, [5], w, 1e-6)", x=(3, 5), w=(5,)),
    ],
)
def rms_norm(g: Expr, y: Expr, x: Expr, normalized_shape: Sequence[int], weight: Expr | None = None,
             eps: Expr | None = None) -> Terms:  # fmt: skip
    dims = list(range(-len(normalized_shape), 0))
    if eps is None:
        eps = Expr("attribute", (call("torch.finfo", Expr("attribute", (x,), (), "dtype"), shape=()),), (), "eps")
    rrms = let("rrms", (mean(x**2, dims) + eps).pointwise("torch.rsqrt"))
    xhat = let("xhat", x * rrms)
    g = let("dout", g)
    if weight is not None:
        yield to(weight, xhat * g, "the output is weight*xhat")
    dxhat = let("dxhat", times(g, weight))
    yield to(x, rrms * (dxhat - xhat * mean(dxhat * xhat, dims)), "over the root mean square: less the part along xhat")


def per_channel(x: Expr, like: Expr) -> Expr:
    """Return ``x``, one number for each channel, so that it broadcasts to ``like``."""
    more = (1,) * (len(like.shape) - 2)
    return x.method("view", -1, *more, shape=(*x.shape, *more)) if more else x


def sum_per_channel(x: Expr) -> Expr:
    """Return the sum of ``x`` over all but the channels; of a matrix, `unbroadcast` does it."""
    return x if len(x.shape) == 2 else total(x, [d for d in range(len(x.shape)) if d != 1])


def affine(g: Expr, xhat: Expr, weight: Expr | None, bias: Expr | None) -> Terms:
    """Yield the shares of a weight and a bias for each channel."""
    if bias is not None:
        yield to(bias, sum_per_channel(g), OF_BIAS)
    if weight is not None:
        yield to(weight, sum_per_channel(xhat * g), OF_WEIGHT)


@rule(
    "batch_norm",
    samples=[
        sample("F.batch_norm(x, None, None, training=True)", x=(6, 3)),
        sample("F.batch_norm(x, None, None, w, training=True).sum(0)", x=(4, 3, 5), w=(3,)),
        sample("F.batch_norm(x, None, None, w, b, training=True, eps=0.01)", x=(6, 3), w=(3,), b=(3,)),
        sample("F.batch_norm(x, m, v, w, b, True)", x=(4, 3, 5), m=fixed(3), v=spreads(3), w=(3,), b=(3,)),
        sample("F.batch_norm(x, m, v, w, training=True)", x=(2, 3, 4, 5), m=fixed(3), v=spreads(3), w=(3,)),
        sample("F.batch_norm(x, m, v, w, b)", x=(6, 3), m=fixed(3), v=spreads(3), w=(3,), b=(3,)),
        sample("F.batch_norm(x, m, v, w, b, training=False)", x=(2, 3, 4, 5), m=fixed(3), v=spreads(3),
               w=(3,), b=(3,)),
        sample("F.batch_norm(x, m, v)", x=(4, 3, 5), m=fixed(3), v=spreads(3)),
    ],
)  # fmt: skip
def batch_norm(g: Expr, y: Expr, x: Expr, running_mean: Expr | None, running_var: Expr | None,
               weight: Expr | None = None, bias: Expr | None = None, training: bool = False,
               momentum: float = 0.1, eps: Expr = EPS) -> Terms:  # fmt: skip
    dims = [d for d in range(len(x.shape)) if d != 1]
    yield from _of_channels(g, x, running_mean, running_var, weight, bias, eps, dims if training else None)


@rule(
    "instance_norm",
    samples=[
        sample("F.instance_norm(x)", x=(2, 3, 5)),
        sample("F.instance_norm(x, weight=w, bias=b, eps=0.1)", x=(2, 3, 4, 5), w=(3,), b=(3,)),
        sample("F.instance_norm(x, m, v, w, b, use_input_stats=False)", x=(2, 3, 5), m=fixed(3),
               v=spreads(3), w=(3,), b=(3,)),
    ],
)  # fmt: skip
def instance_norm(g: Expr, y: Expr, x: Expr, running_mean: Expr | None = None, running_var: Expr | None = None,
                  weight: Expr | None = None, bias: Expr | None = None, use_input_stats: bool = True,
                  momentum: float = 0.1, eps: Expr = EPS) -> Terms:  # fmt: skip
    dims = list(range(2, len(x.shape)))
    yield from _of_channels(g, x, running_mean, running_var, weight, bias, eps, dims if use_input_stats else None)


def _of_channels(g: Expr, x: Expr, running_mean: Expr | None, running_var: Expr | None, weight: Expr | None,
                 bias: Expr | None, eps: Expr, dims: list[int] | None) -> Terms:  # fmt: skip
    g = let("dout", g)
    if dims is not None:
        xhat, rstd = normalised(x, dims, eps)
        yield from affine(g, xhat, weight, bias)
        yield to(x, through(times(g, weight and per_channel(weight, x)), xhat, rstd, dims), OF_X)
        return
    assert running_mean is not None
    assert running_var is not None
    centre, spread = per_channel(running_mean, x), per_channel(running_var, x)
    rstd = let("rstd", (spread + eps).pointwise("torch.rsqrt"))
    yield from affine(g, let("xhat", (x - centre) * rstd), weight, bias)
    yield to(x, times(g, weight and per_channel(weight, x)) * rstd, "the running statistics are constants: a product")


@rule(
    "group_norm",
    samples=[
        sample("F.group_norm(x, 2)", x=(3, 6)),
        sample("F.group_norm(x, 3, w, b)", x=(3, 6, 5), w=(6,), b=(6,)),
        sample("F.group_norm(x, num_groups=2, weight=w, eps=0.1)", x=(2, 4, 3, 5), w=(4,)),
        sample("F.group_norm(x, 1, w, bias=b).sum()", x=(2, 4, 3), w=(4,), b=(4,)),
    ],
)
def group_norm(g: Expr, y: Expr, x: Expr, num_groups: int, weight: Expr | None = None, bias: Expr | None = None,
               eps: Expr = EPS) -> Terms:  # fmt: skip
    g = let("dout", g)
    xhat, rstd = normalised(let("groups", _grouped(x, num_groups)), [-1], eps)
    yield from affine(g, xhat.method("reshape_as", x, shape=x.shape), weight, bias)
    dxhat = let("dxhat", _grouped(times(g, weight and per_channel(weight, x)), num_groups))
    share = through(dxhat, xhat, rstd, [-1])
    yield to(x, share.method("reshape_as", x, shape=x.shape), f"{OF_X}, in each group of channels")


def _grouped(x: Expr, groups: int) -> Expr:
    size = 1
    for d in x.shape[1:]:
        size *= d
    return x.method("reshape", x.shape[0], groups, -1, shape=(x.shape[0], groups, size // groups))
