"""Sines and their like, circular and hyperbolic, and their inverses."""

from __future__ import annotations

import math

from handgrad.expr import Expr, number
from handgrad.rules.makers import positive, unit
from handgrad.rules.table import Terms, rule, sample, to


@rule("sin", samples=[sample("x.sin()", x=(3, 5))])
def sin(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, x.pointwise("torch.cos") * g, "sin' = cos", exact=g * x.pointwise("torch.cos"))


@rule("cos", samples=[sample("x.cos()", x=(3, 5))])
def cos(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, -x.pointwise("torch.sin") * g, "cos' = -sin", exact=g * -x.pointwise("torch.sin"))


@rule("tan", samples=[sample("x.tan()", x=unit(3, 5))])
def tan(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, (1.0 + y**2) * g, "tan' = 1 + tan**2", exact=g * (1.0 + y**2))


@rule("asin", samples=[sample("x.asin()", x=unit(3, 5)), sample("torch.arcsin(x)", x=unit(3))])
def asin(g: Expr, y: Expr, x: Expr) -> Terms:
    slope = (1.0 - x**2).pointwise("torch.rsqrt")
    yield to(x, slope * g, "asin' = 1/sqrt(1 - x**2)", exact=g * (-x * x + 1).pointwise("torch.rsqrt"))


@rule("acos", samples=[sample("x.acos()", x=unit(3, 5)), sample("torch.arccos(x)", x=unit(3))])
def acos(g: Expr, y: Expr, x: Expr) -> Terms:
    slope = (1.0 - x**2).pointwise("torch.rsqrt")
    yield to(x, -slope * g, "acos' = -1/sqrt(1 - x**2)", exact=g * -(-x * x + 1).pointwise("torch.rsqrt"))


@rule("atan", samples=[sample("x.atan()", x=(3, 5)), sample("torch.arctan(x)", x=(3,))])
def atan(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, g / (1.0 + x**2), "atan' = 1/(1 + x**2)", exact=g / (x * x + 1))


@rule("sinh", samples=[sample("x.sinh()", x=(3, 5))])
def sinh(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, x.pointwise("torch.cosh") * g, "sinh' = cosh", exact=g * x.pointwise("torch.cosh"))


@rule("cosh", samples=[sample("x.cosh()", x=(3, 5))])
def cosh(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, x.pointwise("torch.sinh") * g, "cosh' = sinh", exact=g * x.pointwise("torch.sinh"))


@rule("asinh", samples=[sample("x.asinh()", x=(3, 5)), sample("torch.arcsinh(x)", x=(3,))])
def asinh(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, (x**2 + 1.0).pointwise("torch.rsqrt") * g, "asinh' = 1/sqrt(x**2 + 1)",
             exact=g * (x**2 + 1).pointwise("torch.rsqrt"))  # fmt: skip


@rule("acosh", samples=[sample("(1 + x).acosh()", x=positive(3, 5)), sample("torch.arccosh(1 + x)", x=positive(3))])
def acosh(g: Expr, y: Expr, x: Expr) -> Terms:
    slope = (x**2 - 1.0).pointwise("torch.rsqrt")
    yield to(x, slope * g, "acosh' = 1/sqrt(x**2 - 1)", exact=g * slope)


@rule("atanh", samples=[sample("x.atanh()", x=unit(3, 5)), sample("torch.arctanh(x)", x=unit(3))])
def atanh(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, g / (1.0 - x**2), "atanh' = 1/(1 - x**2)", exact=g * 1 / (1 - x**2))


@rule("deg2rad", samples=[sample("torch.deg2rad(x)", x=(3, 5))])
def deg2rad(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, number(math.pi / 180, "math.pi / 180") * g, "a degree is pi/180")


@rule("rad2deg", samples=[sample("torch.rad2deg(x)", x=(3, 5))])
def rad2deg(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, number(180 / math.pi, "180 / math.pi") * g, "a radian is 180/pi degrees")
