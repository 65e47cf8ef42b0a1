"""Functions of each number, and arithmetic with a factor."""

from __future__ import annotations

from handgrad.deriver.numpy_page.forms.table import form, operation
from handgrad.expr import Expr, call, number, power


@form("rsqrt")
def rsqrt(out: Expr, x: Expr) -> Expr:
    return power(x, number(-0.5))


@form("relu")
def relu(out: Expr, x: Expr) -> Expr:
    return call("np.maximum", x, 0, shape=out.shape)


@form("relu6", "hardtanh")
def hardtanh(out: Expr, x: Expr, min_val: float | None = None, max_val: float | None = None) -> Expr:
    low, high = (0, 6) if operation(out) == "relu6" else (-1, 1)
    return call(
        "np.clip", x, low if min_val is None else min_val, high if max_val is None else max_val, shape=out.shape
    )


@form("logsigmoid")
def logsigmoid(out: Expr, x: Expr) -> Expr:
    return -call("np.logaddexp", 0, -x, shape=out.shape)


@form("softplus")
def softplus(out: Expr, x: Expr, beta: Expr | None = None, threshold: Expr | None = None) -> Expr:
    if beta is None and threshold is None:
        return call("np.logaddexp", 0, x, shape=out.shape)
    given = {"beta": beta, "threshold": threshold}
    return call("softplus", x, shape=out.shape, **{key: item for key, item in given.items() if item is not None})


@form("frac")
def frac(out: Expr, x: Expr) -> Expr:
    return x - call("np.trunc", x, shape=out.shape)


@form("clamp", "clamp_min", "clamp_max")
def clamp(out: Expr, x: Expr, min: Expr | None = None, max: Expr | None = None) -> Expr:
    if operation(out) == "clamp_max":
        min, max = None, min
    if max is None or min is None:
        return call("np.maximum" if max is None else "np.minimum", x, min if max is None else max, shape=out.shape)
    return call("np.clip", x, min, max, shape=out.shape)


@form("invert", "bitwise_not")
def invert(out: Expr, x: Expr) -> Expr:
    return Expr("not", (x,), out.shape)


@form("neg")
def neg(out: Expr, x: Expr) -> Expr:
    return -x


# -- arithmetic with a factor


@form("add", "sub")
def add(out: Expr, x: Expr, other: Expr, alpha: Expr | None = None) -> Expr:
    scaled = other if alpha is None else alpha * other
    return Expr(operation(out), (x, scaled), out.shape)


@form("rsub")
def rsub(out: Expr, x: Expr, other: Expr, alpha: Expr | None = None) -> Expr:
    return Expr("sub", (other, x if alpha is None else alpha * x), out.shape)


@form("div")
def div(out: Expr, x: Expr, other: Expr, rounding_mode: str | None = None) -> Expr:
    ratio = Expr("div", (x, other), out.shape)
    if rounding_mode is None:
        return ratio
    return call("np.floor" if rounding_mode == "floor" else "np.trunc", ratio, shape=out.shape)


@form("addcmul", "addcdiv")
def addcmul(out: Expr, x: Expr, a: Expr, b: Expr, value: Expr | None = None) -> Expr:
    product = a * b if operation(out) == "addcmul" else a / b
    return x + (product if value is None else value * product)


@form("lerp")
def lerp(out: Expr, a: Expr, b: Expr, weight: Expr) -> Expr:
    return a + weight * (b - a)
