"""Sums, differences, products, quotients, powers, and choices between two values."""

from __future__ import annotations

import math

import torch

from handgrad.expr import Expr, call, divide, elementwise, is_number, number
from handgrad.rules.makers import away, boolean, positive
from handgrad.rules.table import Terms, rule, sample, to

ONE = number(1)


@rule(
    "add",
    samples=[
        sample("a + b", a=(3, 5), b=(3, 5)),
        sample("a + b", a=(5,), b=(3, 5)),
        sample("a + b", a=(3, 1), b=(4, 1, 5)),
        sample("2 + a", a=(3,)),
        sample("torch.add(a, b, alpha=3)", a=(3, 5), b=(3, 1)),
    ],
)
def add(g: Expr, y: Expr, a: Expr, b: Expr, alpha: Expr = ONE) -> Terms:
    yield to(a, g, "a sum passes the gradient on")
    yield to(b, alpha * g, "a sum passes the gradient on")


@rule(
    "sub",
    samples=[
        sample("a - b", a=(3, 5), b=(3, 5)),
        sample("a - b", a=(5,), b=(3, 5)),
        sample("a - b", a=(3, 5), b=(3, 1)),
        sample("torch.sub(a, b, alpha=0.5)", a=(3, 5), b=(1, 5)),
    ],
)
def sub(g: Expr, y: Expr, a: Expr, b: Expr, alpha: Expr = ONE) -> Terms:
    yield to(a, g, "a difference passes the gradient on")
    yield to(b, -(alpha * g), "what is subtracted gets the opposite sign")


@rule("rsub", samples=[sample("1 - x", x=(3, 5)), sample("torch.rsub(x, 2.5)", x=(3,))])
def rsub(g: Expr, y: Expr, x: Expr, c: Expr) -> Terms:
    yield to(c, g, "a difference passes the gradient on")
    yield to(x, -g, "what is subtracted gets the opposite sign")


@rule("neg", samples=[sample("-x", x=(3, 5))])
def neg(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, -g, "the opposite sign")


@rule("positive", "clone", "contiguous", "double", "float", "half", "bfloat16", "to", "type_as", "requires_grad",
      "alias", "cpu", "retain_grad", "view_as_real",
      samples=[sample("x.clone() * 2", x=(3, 5)), sample("(+x).contiguous() * 2", x=(3, 5))])  # fmt: skip
def clone(g: Expr, y: Expr, x: Expr, *_: object, dtype: object = None, copy: object = None) -> Terms:
    yield to(x, g, "the same numbers, the same gradient")


@rule(
    "mul",
    samples=[
        sample("a * b", a=(3, 5), b=(3, 5)),
        sample("a * b", a=(3, 1), b=(4, 1, 5)),
        sample("a * b", a=(), b=(3, 5)),
        sample("0.5 * a", a=(3, 5)),
        sample("a * a", a=(3, 5)),
    ],
)
def mul(g: Expr, y: Expr, a: Expr, b: Expr) -> Terms:
    yield to(a, b * g, "a product: times the other factor")
    yield to(b, a * g, "a product: times the other factor")


@rule(
    "div",
    samples=[
        sample("a / b", a=(3, 5), b=away(3, 5)),
        sample("a / b", a=(5,), b=away(3, 1)),
        sample("a / 3", a=(3, 5)),
        sample("a / a.detach()", kink=True, a=away(4)),
    ],
)
def div(g: Expr, y: Expr, a: Expr, b: Expr, rounding_mode: str | None = None) -> Terms:
    if rounding_mode is None:
        yield to(a, g / b, "a quotient: over the denominator")
        yield to(b, -(a / b) / b * g, "d(a/b)/db = -(a/b)/b", exact=-g * ((a / b) / b))


@rule("rdiv", samples=[sample("2 / x", x=away(3, 5)), sample("1.0 / x", x=positive(3))])
def rdiv(g: Expr, y: Expr, x: Expr, c: Expr) -> Terms:
    yield to(x, -(c / x**2) * g if not is_number(c, 1) else -(x ** number(-2)) * g, "d(c/x)/dx = -c/x**2",
             exact=-g * (y * (1.0 / x)))  # fmt: skip
    yield to(c, g / x, "a quotient: over the denominator")


@rule("reciprocal", samples=[sample("x.reciprocal()", x=away(3, 5))])
def reciprocal(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, -(y**2) * g, "d(1/x)/dx = -(1/x)**2", exact=-g * (y * y))


@rule(
    "pow",
    samples=[
        sample("x**2", x=(3, 5)),
        sample("x**-1", x=away(3, 5)),
        sample("x.pow(3)", x=(3, 5)),
        sample("(x + 1e-5) ** -0.5", x=positive(1, 5)),
        sample("x**p", x=positive(3, 5), p=(5,)),
        sample("x**0", x=(3,)),
        sample("x**p", x=positive(3), p=()),
    ],
)
def pow_(g: Expr, y: Expr, x: Expr, p: Expr) -> Terms:
    if p.op != "number":
        yield to(x, p * x ** (p - 1) * g, "d(x**p)/dx = p*x**(p-1)")
        yield to(p, y * x.pointwise("torch.log") * g, "d(x**p)/dp = x**p*log(x)")
        return
    k = p.data[0]
    if k == 0:
        yield to(x, number(0.0) * x * g, "d(x**0)/dx = 0")
    elif k == 2:
        yield to(x, 2 * x * g, "d(x**2)/dx = 2*x", exact=g * (2 * x))
    elif k == -1:
        yield to(x, -(x ** number(-2)) * g, "d(x**-1)/dx = -x**-2", exact=g * -(x ** number(-2)))
    else:
        less = number(k - 1)
        yield to(x, p * x**less * g, "d(x**p)/dx = p*x**(p-1)", exact=g * (p * x**less))


@rule("rpow", samples=[sample("2.0 ** x", x=(3, 5)), sample("2 ** x", x=(3,))])
def rpow(g: Expr, y: Expr, x: Expr, c: Expr) -> Terms:
    base = c.data[0] if c.op == "number" else None
    log = c.pointwise("torch.log") if base is None else number(math.log(base), f"math.log({c.data[1]})")
    yield to(x, y * log * g, "d(c**x)/dx = c**x*log(c)")
    if base is None:
        yield to(c, x * c ** (x - 1) * g, "d(c**x)/dc = x*c**(x-1)")


@rule("square", samples=[sample("x.square()", x=(3, 5))])
def square(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, 2 * x * g, "d(x**2)/dx = 2*x", exact=g * (2 * x))


@rule("addcmul", samples=[sample("torch.addcmul(a, b, c, value=2)", a=(3, 5), b=(3, 1), c=(5,))])
def addcmul(g: Expr, y: Expr, a: Expr, b: Expr, c: Expr, value: Expr = ONE) -> Terms:
    yield to(a, g, "a sum passes the gradient on")
    yield to(b, value * c * g, "a product: times the other factors")
    yield to(c, value * b * g, "a product: times the other factors")


@rule("addcdiv", samples=[sample("torch.addcdiv(a, b, c, value=0.5)", a=(3, 5), b=(3, 1), c=away(5))])
def addcdiv(g: Expr, y: Expr, a: Expr, b: Expr, c: Expr, value: Expr = ONE) -> Terms:
    yield to(a, g, "a sum passes the gradient on")
    yield to(b, value * g / c, "a quotient: over the denominator")
    yield to(c, -(value * b / c) / c * g, "d(b/c)/dc = -(b/c)/c")


@rule("lerp", samples=[sample("torch.lerp(a, b, w)", a=(3, 5), b=(5,), w=(3, 1)),
                       sample("torch.lerp(a, b, 0.25)", a=(3, 5), b=(3, 5))])  # fmt: skip
def lerp(g: Expr, y: Expr, a: Expr, b: Expr, weight: Expr) -> Terms:
    yield to(a, (1 - weight) * g, "a + w*(b - a): a has the factor 1 - w")
    yield to(b, weight * g, "a + w*(b - a): b has the factor w")
    yield to(weight, (b - a) * g, "a + w*(b - a): w has the factor b - a")


@rule(
    "maximum",
    samples=[
        sample("torch.maximum(a, b)", a=(3, 5), b=(5,)),
        sample("torch.maximum(a, a.detach().clone())", kink=True, a=(3, 5)),
    ],
)
def maximum(g: Expr, y: Expr, a: Expr, b: Expr) -> Terms:
    for one, other in ((a, b), (b, a)):
        share = (one > other) + number(0.5) * one.equals(other)
        yield to(one, share * g, "the larger one gets the gradient; equal ones half each")


@rule(
    "minimum",
    samples=[
        sample("torch.minimum(a, b)", a=(3, 5), b=(3, 1)),
        sample("torch.minimum(a, a.detach().clone())", kink=True, a=(3, 5)),
    ],
)
def minimum(g: Expr, y: Expr, a: Expr, b: Expr) -> Terms:
    for one, other in ((a, b), (b, a)):
        share = (one < other) + number(0.5) * one.equals(other)
        yield to(one, share * g, "the smaller one gets the gradient; equal ones half each")


@rule("fmax", samples=[sample("torch.fmax(a, b)", a=(3, 5), b=(5,)),
                       sample("torch.fmax(a, a.detach().clone())", kink=True, a=(3, 5))])  # fmt: skip
def fmax(g: Expr, y: Expr, a: Expr, b: Expr) -> Terms:
    yield to(a, (a >= b) * g, "the larger one gets the gradient, the first of equal ones")
    yield to(b, (a < b) * g, "the larger one gets the gradient, the first of equal ones")


@rule("fmin", samples=[sample("torch.fmin(a, b)", a=(3, 5), b=(3, 1)),
                       sample("torch.fmin(a, a.detach().clone())", kink=True, a=(3, 5))])  # fmt: skip
def fmin(g: Expr, y: Expr, a: Expr, b: Expr) -> Terms:
    yield to(a, (a <= b) * g, "the smaller one gets the gradient, the first of equal ones")
    yield to(b, (a > b) * g, "the smaller one gets the gradient, the first of equal ones")


@rule(
    "where",
    samples=[
        sample("a.where(c, b)", c=boolean(3, 5), a=(3, 5), b=(5,)),
        sample("a.where(b < 0.3, b)", a=(3, 5), b=away(3, 5)),
        sample("torch.where(c, a, b)", c=boolean(3, 5), a=(3, 5), b=(5,)),
        sample("torch.where(a > 0, a, 0.1 * a)", a=away(3, 5)),
        sample("torch.where(c, a, 0.0)", c=boolean(3, 1), a=(3, 5)),
    ],
)
def where(g: Expr, y: Expr, condition: Expr, a: Expr, b: Expr) -> Terms:
    if a.op == "value" and a.data.dtype is torch.bool:  # `a.where(condition, b)`
        condition, a = a, condition
    yield to(a, condition * g, "only where the condition holds")
    yield to(b, ~condition * g, "only where the condition does not hold")


@rule(
    "clamp",
    "clamp_min",
    "clamp_max",
    samples=[
        sample("x.clamp(min=0)", x=away(3, 5)),
        sample("torch.clamp(x, -0.5, 0.5)", x=(3, 5)),
        sample("x.clamp(max=b)", x=(3, 5), b=(5,)),
        sample("x.clamp_min(0.1)", x=(3, 5)),
        sample("x.relu().clamp(min=0)", kink=True, x=(3, 5)),
    ],
)
def clamp(g: Expr, y: Expr, x: Expr, min: Expr | None = None, max: Expr | None = None) -> Terms:
    inside: Expr | None = None
    for bound, here in ((min, min is not None and x >= min), (max, max is not None and x <= max)):
        if isinstance(here, Expr) and isinstance(bound, Expr):
            inside = here if inside is None else inside & here
    assert inside is not None
    yield to(x, inside * g, "only where nothing was cut off")
    if min is not None:
        yield to(min, (x < min) * g, "where the lower bound took over")
    if max is not None:
        yield to(max, (x > max) * g, "where the upper bound took over")


@rule("hypot", samples=[sample("torch.hypot(a, b)", a=away(3, 5), b=away(5))])
def hypot(g: Expr, y: Expr, a: Expr, b: Expr) -> Terms:
    yield to(a, a / y * g, "d sqrt(a**2 + b**2)/da = a/sqrt(a**2 + b**2)")
    yield to(b, b / y * g, "d sqrt(a**2 + b**2)/db = b/sqrt(a**2 + b**2)")


@rule("atan2", "arctan2", samples=[sample("torch.atan2(a, b)", a=away(3, 5), b=away(5))])
def atan2(g: Expr, y: Expr, a: Expr, b: Expr) -> Terms:
    yield to(a, b / (a**2 + b**2) * g, "d atan2(a, b)/da = b/(a**2 + b**2)")
    yield to(b, -a / (a**2 + b**2) * g, "d atan2(a, b)/db = -a/(a**2 + b**2)")


@rule("logaddexp", samples=[sample("torch.logaddexp(a, b)", a=(3, 5), b=(5,))])
def logaddexp(g: Expr, y: Expr, a: Expr, b: Expr) -> Terms:
    for one in (a, b):
        yield to(one, (one - y).pointwise("torch.exp") * g, "its share of the sum of exponentials")


@rule("xlogy", samples=[sample("torch.xlogy(a, b)", a=positive(3, 5), b=positive(5))])
def xlogy(g: Expr, y: Expr, a: Expr, b: Expr) -> Terms:
    yield to(a, b.pointwise("torch.log") * g, "d(a*log b)/da = log b")
    yield to(b, divide(a, b) * g, "d(a*log b)/db = a/b")


@rule("fmod", "remainder", "mod", samples=[sample("torch.fmod(x, 0.7)", x=away(3, 5))])
def fmod(g: Expr, y: Expr, x: Expr, m: Expr) -> Terms:
    yield to(x, g, "between jumps the slope is 1")
    yield to(m, -elementwise("div", x - y, m) * g, "minus the number of whole times it fits")


@rule("nan_to_num", samples=[sample("torch.nan_to_num(x)", x=(3, 5))])
def nan_to_num(g: Expr, y: Expr, x: Expr, *_: object, nan: object = None) -> Terms:
    yield to(x, call("torch.isfinite", x, shape=x.shape) * g, "only finite numbers pass")
