"""Functions of single numbers: exponentials, roots, trigonometry, activations."""

from __future__ import annotations

from handgrad.expr import Expr, call, number
from handgrad.rules.makers import away, positive
from handgrad.rules.table import Terms, rule, sample, to


@rule("exp", samples=[sample("x.exp()", x=(3, 5))])
def exp(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, y * g, "exp is its own derivative", exact=g * y)


@rule("log", samples=[sample("x.log()", x=positive(3, 5))])
def log(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, g / x, "d(log x)/dx = 1/x")


@rule("sqrt", samples=[sample("x.sqrt()", x=positive(3, 5))])
def sqrt(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, g / (2 * y), "d(sqrt x)/dx = 1/(2*sqrt x)")


@rule("rsqrt", samples=[sample("x.rsqrt()", x=positive(3, 5))])
def rsqrt(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, number(-0.5) * y**3 * g, "d(x**-0.5)/dx = -0.5*(x**-0.5)**3", exact=number(-0.5) * g * y**3)


@rule("tanh", samples=[sample("x.tanh()", x=(3, 5))])
def tanh(g: Expr, y: Expr, x: Expr) -> Terms:
    one = number(1.0)
    exact = call("torch.addcmul", call("torch.ones_like", y, shape=y.shape), y, y, shape=y.shape, value=-1) * g
    yield to(x, (one - y**2) * g, "tanh' = 1 - tanh**2", exact=exact)


@rule("relu", samples=[sample("x.relu()", x=away(3, 5)), sample("F.relu(x.relu())", kink=True, x=(3, 5))])
def relu(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, (y > 0) * g, "relu lets the gradient through where its output is positive")


@rule("abs", samples=[sample("x.abs()", x=away(3, 5))])
def abs_(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, x.pointwise("torch.sign") * g, "d|x|/dx = sign(x)")
