"""Functions of single numbers: exponentials, logarithms, roots, error functions."""

from __future__ import annotations

import math

from handgrad.expr import Expr, call, choose, let, number
from handgrad.rules.makers import away, positive, tied, unit
from handgrad.rules.table import Terms, rule, sample, to

LOG_2, LOG_10 = number(math.log(2), "math.log(2)"), number(math.log(10), "math.log(10)")
PI = number(math.pi, "math.pi")


@rule("exp", samples=[sample("x.exp()", x=(3, 5))])
def exp(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, y * g, "exp is its own derivative", exact=g * y)


@rule("exp2", samples=[sample("torch.exp2(x)", x=(3, 5)), sample("torch.special.exp2(x)", x=(3,))])
def exp2(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, y * LOG_2 * g, "d(2**x)/dx = 2**x*log(2)", exact=g * y * LOG_2)


@rule("expm1", samples=[sample("torch.expm1(x)", x=(3, 5)), sample("torch.special.expm1(x)", x=(3,))])
def expm1(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, (y + 1) * g, "d(exp(x) - 1)/dx = exp(x), which is the output and 1", exact=g * (y + 1))


@rule("log", samples=[sample("x.log()", x=positive(3, 5))])
def log(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, g / x, "d(log x)/dx = 1/x")


@rule("log1p", samples=[sample("torch.log1p(x)", x=positive(3, 5)), sample("torch.special.log1p(x)", x=unit(4))])
def log1p(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, g / (x + 1), "d(log(1 + x))/dx = 1/(1 + x)")


@rule("log2", samples=[sample("x.log2()", x=positive(3, 5))])
def log2(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, g / (x * LOG_2), "d(log2 x)/dx = 1/(x*log(2))")


@rule("log10", samples=[sample("x.log10()", x=positive(3, 5))])
def log10(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, g / (x * LOG_10), "d(log10 x)/dx = 1/(x*log(10))")


@rule("sqrt", samples=[sample("x.sqrt()", x=positive(3, 5))])
def sqrt(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, g / (2 * y), "d(sqrt x)/dx = 1/(2*sqrt x)")


@rule("rsqrt", samples=[sample("x.rsqrt()", x=positive(3, 5))])
def rsqrt(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, number(-0.5) * y**3 * g, "d(x**-0.5)/dx = -0.5*(x**-0.5)**3", exact=number(-0.5) * g * y**3)


@rule("abs", samples=[sample("x.abs()", x=away(3, 5)), sample("x.abs()", kink=True, x=tied(4, 7))])
def abs_(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, x.pointwise("torch.sign") * g, "d|x|/dx = sign(x)", exact=g * x.pointwise("torch.sign"))


@rule("erf", samples=[sample("torch.erf(x)", x=(3, 5)), sample("torch.special.erf(x)", x=(3,))])
def erf(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, TWO_OVER_ROOT_PI * (-(x**2)).pointwise("torch.exp") * g, "erf' = 2/sqrt(pi)*exp(-x**2)")


@rule("erfc", samples=[sample("torch.erfc(x)", x=(3, 5)), sample("torch.special.erfc(x)", x=(3,))])
def erfc(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, -(TWO_OVER_ROOT_PI * (-(x**2)).pointwise("torch.exp")) * g, "erfc' = -2/sqrt(pi)*exp(-x**2)")


TWO_OVER_ROOT_PI = number(2 / math.pi**0.5, "2 / math.pi**0.5")
HALF_ROOT_PI = number(0.5 * math.pi**0.5, "0.5 * math.pi**0.5")


@rule("erfinv", samples=[sample("torch.erfinv(x)", x=unit(3, 5)), sample("torch.special.erfinv(x)", x=unit(3))])
def erfinv(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, HALF_ROOT_PI * (y**2).pointwise("torch.exp") * g, "erfinv' = sqrt(pi)/2*exp(erfinv**2)")


@rule("logit", samples=[sample("torch.logit(0.4 * p)", p=positive(3, 5)),
                        sample("torch.logit(0.4 * p, eps=0.3)", p=positive(9)),
                        sample("(0.4 * p).logit(0.3)", p=positive(3, 5)),
                        sample("torch.special.logit(0.4 * p)", p=positive(3))])  # fmt: skip
def logit(g: Expr, y: Expr, p: Expr, eps: Expr | None = None) -> Terms:
    share = g / (p * (1.0 - p))
    if eps is None:
        yield to(p, share, "d log(p/(1 - p))/dp = 1/(p*(1 - p))")
    else:
        yield to(p, ((p >= eps) & (p <= 1 - eps)) * share, "1/(p*(1 - p)), where eps cut nothing off")


@rule("sinc", samples=[sample("torch.sinc(x)", x=(3, 5)), sample("torch.special.sinc(x)", x=tied(3, 5))])
def sinc(g: Expr, y: Expr, x: Expr) -> Terms:
    slope = ((PI * x).pointwise("torch.cos") - y) / x
    angle = let("angle", x * PI)
    exact = g * ((angle * angle.pointwise("torch.cos") - angle.pointwise("torch.sin")) / (x * x * PI))
    yield to(x, choose(x.equals(0), 0.0, slope, x) * g, "sinc' = (cos(pi*x) - sinc(x))/x, and 0 at 0",
             exact=choose(x.equals(0), 0.0, exact, x))  # fmt: skip


@rule("lgamma", samples=[sample("torch.lgamma(x)", x=positive(3, 5)), sample("torch.special.gammaln(x)", x=away(3))])
def lgamma(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, x.pointwise("torch.digamma") * g, "the derivative of log(gamma) is called digamma",
             exact=g * x.pointwise("torch.digamma"))  # fmt: skip


@rule("digamma", samples=[sample("x.digamma()", x=positive(3, 5)), sample("torch.special.psi(x)", x=positive(3))])
def digamma(g: Expr, y: Expr, x: Expr) -> Terms:
    slope = call("torch.polygamma", 1, x, shape=x.shape)
    yield to(x, slope * g, "digamma' = polygamma(1, x)", exact=g * slope)
