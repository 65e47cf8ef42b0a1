"""Activations: what stands between the layers of a network.

Where the output tells the slope (sigmoid, tanh, relu), it is used: the input need not be kept.
"""

from __future__ import annotations

import math

from handgrad.expr import Expr, call, choose, index, index_key, let, listed, number
from handgrad.rules.makers import away, tied
from handgrad.rules.table import Terms, rule, sample, to

ONE, HALF, TWENTY, HUNDREDTH = map(number, (1.0, 0.5, 20.0, 0.01))
ROOT_2 = number(2**0.5, "2**0.5")
ROOT_2_PI = number((2 * math.pi) ** 0.5, "(2 * math.pi)**0.5")
ROOT_2_OVER_PI = number((2 / math.pi) ** 0.5, "(2 / math.pi)**0.5")
CUBE = number(0.044715)
ENDS = "x / x.detach().abs()"  # 1 and -1


def kernel(backward: str, g: Expr, *args: object, **kwargs: object) -> Expr:
    """Return what autograd itself calls: where its rounding depends on how one loop does several operations."""
    return call(f"torch.ops.aten.{backward}", g, *args, shape=g.shape, **kwargs)


@rule("tanh", samples=[sample("x.tanh()", x=(3, 5)), sample("F.tanh(x)", x=(3, 5))])
def tanh(g: Expr, y: Expr, x: Expr) -> Terms:
    exact = call("torch.addcmul", call("torch.ones_like", y, shape=y.shape), y, y, shape=y.shape, value=-1) * g
    yield to(x, (ONE - y**2) * g, "tanh' = 1 - tanh**2", exact=exact)


@rule("sigmoid", samples=[sample("torch.sigmoid(x)", x=(3, 5)), sample("torch.special.expit(x)", x=(3,)),
                          sample("F.sigmoid(x)", x=(4, 1, 2))])  # fmt: skip
def sigmoid(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, y * (1.0 - y) * g, "sigmoid' = sigmoid*(1 - sigmoid)", exact=g * (1.0 - y) * y)


@rule("logsigmoid", samples=[sample("F.logsigmoid(x)", x=(3, 5))])
def logsigmoid(g: Expr, y: Expr, x: Expr) -> Terms:
    kept = index(call("torch.ops.aten.log_sigmoid_forward", x, shape=()), index_key([1]), x.shape)
    exact = kernel("log_sigmoid_backward", g, x, kept)
    yield to(x, (-x).pointwise("torch.sigmoid") * g, "log(sigmoid)' = 1 - sigmoid(x) = sigmoid(-x)", exact=exact)


@rule("relu", samples=[sample("x.relu()", x=away(3, 5)), sample("F.relu(x.relu())", kink=True, x=(3, 5))])
def relu(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, (y > 0) * g, "relu lets the gradient through where its output is positive")


@rule("relu6", samples=[sample("F.relu6(4 * x)", x=away(3, 5)), sample("F.relu6(x)", kink=True, x=tied(4, 7)),
                        sample(f"F.relu6(3 + 3 * ({ENDS}))", kink=True, x=away(3, 5))])  # fmt: skip
def relu6(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, ((y > 0) & (y < 6)) * g, "only where nothing was cut off")


@rule("hardtanh", samples=[sample("F.hardtanh(x)", x=(3, 5)), sample("F.hardtanh(x, -0.3, 0.7)", x=(3, 5)),
                           sample("F.hardtanh(x, min_val=-2, max_val=0.5)", x=(3, 5)),
                           sample(f"F.hardtanh({ENDS})", kink=True, x=away(3, 5))])  # fmt: skip
def hardtanh(g: Expr, y: Expr, x: Expr, min_val: Expr = -ONE, max_val: Expr = ONE) -> Terms:
    yield to(x, ((y > min_val) & (y < max_val)) * g, "only where nothing was cut off")


@rule("leaky_relu", samples=[sample("F.leaky_relu(x)", x=away(3, 5)), sample("F.leaky_relu(x, 0.2)", x=away(3, 5)),
                             sample("F.leaky_relu(x, negative_slope=-0.5)", x=away(3, 5)),
                             sample("F.leaky_relu(x, 0.2)", kink=True, x=tied(4, 7)),
                             sample("F.leaky_relu(x).sum()", x=away(3, 5))])  # fmt: skip
def leaky_relu(g: Expr, y: Expr, x: Expr, negative_slope: Expr = HUNDREDTH) -> Terms:
    g = let("dout", g)
    told = y if negative_slope.data[0] > 0 else x  # an output has the sign of its input if the slope is positive
    yield to(x, choose(told > 0, g, negative_slope * g, x), "the slope is smaller where x is negative",
             exact=choose(told > 0, g, g * negative_slope, x))  # fmt: skip


@rule("prelu", samples=[sample("F.prelu(x, w)", x=away(3, 5), w=(5,)), sample("F.prelu(x, w)", x=away(3, 5), w=(1,)),
                        sample("F.prelu(x, w)", x=away(3, 5, 2, 4), w=(5,)),
                        sample("torch.prelu(x, w)", x=away(7), w=(1,)),
                        sample("F.prelu(x, w)", kink=True, x=tied(4, 7), w=(7,))])  # fmt: skip
def prelu(g: Expr, y: Expr, x: Expr, weight: Expr) -> Terms:
    g = let("dout", g)
    more = (1,) * (len(x.shape) - 2)
    per_channel = len(x.shape) > 2 and weight.shape != (1,)
    slope = weight.method("view", -1, *more, shape=(*weight.shape, *more)) if per_channel else weight
    yield to(x, choose(x > 0, g, slope * g, x), "the slope is `weight` where x is negative")
    share = (x <= 0) * x * g
    if per_channel:
        dims = [d for d in range(len(x.shape)) if d != 1]
        share = share.method("sum", tuple(dims), shape=weight.shape)
    yield to(weight, share, "where x is negative, the output is weight*x")


@rule("elu", samples=[sample("F.elu(x)", x=away(3, 5)), sample("F.elu(x, 0.7)", x=away(3, 5)),
                      sample("F.elu(x, alpha=2.0)", kink=True, x=tied(4, 7))])  # fmt: skip
def elu(g: Expr, y: Expr, x: Expr, alpha: Expr = ONE) -> Terms:
    exact = kernel("elu_backward", g, alpha, 1, 1, False, x)
    yield to(x, choose(y > 0, 1.0, y + alpha, y) * g, "alpha*exp(x) where x is negative: the output and alpha",
             exact=exact)  # fmt: skip


@rule("celu", samples=[sample("F.celu(x)", x=away(3, 5)), sample("F.celu(x, 0.7)", x=away(3, 5)),
                       sample("torch.celu(x, alpha=2.0)", kink=True, x=tied(4, 7))])  # fmt: skip
def celu(g: Expr, y: Expr, x: Expr, alpha: Expr = ONE) -> Terms:
    exact = kernel("elu_backward", g, alpha, 1, 1 / alpha, False, x)
    yield to(x, choose(y > 0, 1.0, y / alpha + 1.0, y) * g, "exp(x/alpha) where x is negative: the output over alpha, "
             "and 1", exact=exact)  # fmt: skip


ALPHA, SCALE = number(1.6732632423543772), number(1.0507009873554805)


@rule("selu", samples=[sample("F.selu(x)", x=away(3, 5)), sample("torch.selu(x)", kink=True, x=tied(4, 7))])
def selu(g: Expr, y: Expr, x: Expr) -> Terms:
    exact = kernel("elu_backward", g, ALPHA, SCALE, 1, False, x)
    slope = choose(y > 0, SCALE, y + SCALE * ALPHA, y)
    yield to(x, slope * g, "scale, or scale*alpha*exp(x) where x is negative: the output and scale*alpha", exact=exact)


@rule("gelu", samples=[sample("F.gelu(x)", x=(3, 5)), sample("F.gelu(x, approximate='tanh')", x=(3, 5)),
                       sample("F.gelu(x * 2)", x=(4, 1, 2)),
                       sample("F.gelu(x, approximate='none').sum()", x=(3,))])  # fmt: skip
def gelu(g: Expr, y: Expr, x: Expr, approximate: str = "none") -> Terms:
    exact = kernel("gelu_backward", g, x, approximate=approximate)
    if approximate == "tanh":
        t = let("t", (ROOT_2_OVER_PI * (x + CUBE * x**3)).pointwise("torch.tanh"))
        inner_slope = ROOT_2_OVER_PI * (1.0 + 3 * CUBE * x**2)
        slope = 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t**2) * inner_slope
        yield to(
            x, slope * g, "gelu = 0.5*x*(1 + t), t = tanh(sqrt(2/pi)*(x + 0.044715*x**3)): product rule", exact=exact
        )
    else:
        cdf = let("cdf", 0.5 * (1.0 + (x / ROOT_2).pointwise("torch.erf")))
        pdf = let("pdf", (-0.5 * x**2).pointwise("torch.exp") / ROOT_2_PI)
        yield to(x, (cdf + x * pdf) * g, "gelu = x*cdf(x) of the normal distribution: product rule", exact=exact)


@rule("silu", samples=[sample("F.silu(x)", x=(3, 5)), sample("F.silu(x + 1).sum()", x=(4, 1, 2))])
def silu(g: Expr, y: Expr, x: Expr) -> Terms:
    s = let("sigma", x.pointwise("torch.sigmoid"))
    yield to(x, s * (1.0 + x * (1.0 - s)) * g, "silu = x*sigmoid(x): product rule",
             exact=kernel("silu_backward", g, x))  # fmt: skip


@rule("mish", samples=[sample("F.mish(x)", x=(3, 5)), sample("F.mish(2 * x)", x=(3, 2))])
def mish(g: Expr, y: Expr, x: Expr) -> Terms:
    t = let("t", x.pointwise("F.softplus").pointwise("torch.tanh"))
    slope = t + x * x.pointwise("torch.sigmoid") * (1.0 - t**2)
    exact = kernel("mish_backward", g, x)
    yield to(x, slope * g, "mish = x*tanh(softplus(x)): product rule; softplus' = sigmoid", exact=exact)


@rule("softplus", samples=[sample("F.softplus(x)", x=(3, 5)), sample("F.softplus(x, beta=2)", x=(3, 5)),
                           sample("F.softplus(x, 3.0, 0.5)", kink=True, x=(3, 5)),
                           sample("F.softplus(x, threshold=1)", x=away(3, 5))])  # fmt: skip
def softplus(g: Expr, y: Expr, x: Expr, beta: Expr = ONE, threshold: Expr = TWENTY) -> Terms:
    exact = kernel("softplus_backward", g, x, beta, threshold)
    slope = (beta * x).pointwise("torch.sigmoid")
    if threshold.data[0] < 20:  # above 20 the sigmoid is 1, up to rounding
        slope = choose(beta * x > threshold, 1.0, slope, x)
    yield to(x, slope * g, "softplus' = sigmoid" + ", and 1 above the threshold" * (threshold.data[0] < 20),
             exact=exact)  # fmt: skip


@rule("softsign", samples=[sample("F.softsign(x)", x=away(3, 5)), sample("F.softsign(x)", kink=True, x=tied(4, 7))])
def softsign(g: Expr, y: Expr, x: Expr) -> Terms:
    d = let("d", 1 + x.pointwise("torch.abs"))
    exact = g / d + -g * (x / d / d) * x.pointwise("torch.sign")
    yield to(x, g / (1.0 + x.pointwise("torch.abs")) ** 2, "d(x/(1 + |x|))/dx = 1/(1 + |x|)**2", exact=exact)


@rule("tanhshrink", samples=[sample("F.tanhshrink(x)", x=(3, 5))])
def tanhshrink(g: Expr, y: Expr, x: Expr) -> Terms:
    t = let("t", x.pointwise("torch.tanh"))
    exact = g + -g * call("torch.addcmul", call("torch.ones_like", t, shape=t.shape), t, t, shape=t.shape, value=-1)
    yield to(x, (x - y) ** 2 * g, "(x - tanh x)' = tanh**2, and tanh is x - output", exact=exact)


@rule("hardshrink", samples=[sample("F.hardshrink(x)", x=(3, 5)), sample("F.hardshrink(x, 0.3)", x=(3, 5)),
                             sample(f"F.hardshrink({ENDS}, lambd=1)", kink=True, x=away(3, 5))])  # fmt: skip
def hardshrink(g: Expr, y: Expr, x: Expr, lambd: Expr = HALF) -> Terms:
    yield to(x, (x.pointwise("torch.abs") > lambd) * g, "only where x was left as it is")


@rule("softshrink", samples=[sample("F.softshrink(x)", x=(3, 5)), sample("F.softshrink(x, 0.3)", x=(3, 5)),
                             sample(f"F.softshrink({ENDS}, lambd=1)", kink=True, x=away(3, 5))])  # fmt: skip
def softshrink(g: Expr, y: Expr, x: Expr, lambd: Expr = HALF) -> Terms:
    yield to(x, (x.pointwise("torch.abs") > lambd) * g, "only where x was not made zero")


@rule("hardsigmoid", samples=[sample("F.hardsigmoid(3 * x)", x=(3, 5)),
                              sample(f"F.hardsigmoid(3 * ({ENDS}))", kink=True, x=away(3, 5))])  # fmt: skip
def hardsigmoid(g: Expr, y: Expr, x: Expr) -> Terms:
    inside = (y > 0) & (y < 1)
    yield to(x, inside * g / 6, "1/6 where nothing was cut off", exact=inside * (g * number(1 / 6, "1 / 6")))


@rule("hardswish", samples=[sample("F.hardswish(3 * x)", x=(3, 5)),
                            sample(f"F.hardswish(3 * ({ENDS}))", kink=True, x=away(3, 5))])  # fmt: skip
def hardswish(g: Expr, y: Expr, x: Expr) -> Terms:
    between = choose(x < 3, x / 3 + 0.5, 1.0, x)
    yield to(x, choose(x > -3, between, 0.0, x) * g, "x*(x + 3)/6 has the slope x/3 + 1/2; 0 below -3, 1 above 3")


@rule("threshold", samples=[sample("F.threshold(x, 0.1, -2)", x=(3, 5)),
                            sample("F.threshold(x, 0.5, value=0.5)", x=(3, 5)),
                            sample("F.threshold(x, 1, 0)", kink=True, x=tied(4, 7))])  # fmt: skip
def threshold(g: Expr, y: Expr, x: Expr, threshold: Expr, value: Expr) -> Terms:
    yield to(x, (x > threshold) * g, "only where x was above the threshold")


@rule(
    "glu",
    samples=[sample("F.glu(x)", x=(3, 6)), sample("F.glu(x, 0)", x=(4, 5)), sample("F.glu(x, dim=-2)", x=(2, 6, 3))],
)
def glu(g: Expr, y: Expr, x: Expr, dim: int = -1) -> Terms:
    g, half = let("dout", g), y.shape
    parts = x.method("chunk", 2, dim=dim, shape=())
    a, b = (index(parts, index_key([i]), half) for i in (0, 1))
    gate = let("gate", b.pointwise("torch.sigmoid"))
    both = listed([gate * g, a * gate * (1.0 - gate) * g])
    exact = listed([gate * g, (1.0 - gate) * gate * a * g])
    yield to(x, call("torch.cat", both, dim, shape=x.shape), "a*sigmoid(b), a and b the halves: product rule for each",
             exact=call("torch.cat", exact, dim, shape=x.shape))  # fmt: skip
