"""Sums, means, extremes, norms."""

from __future__ import annotations

import math
from typing import Any

from handgrad.deriver.numpy_page.forms.table import form, operation
from handgrad.expr import Expr, call, raw


def _along(dim: int | list[int] | tuple[int, ...] | None, keepdim: bool) -> tuple[list[Any], dict[str, Any]]:
    if isinstance(dim, list):
        dim = tuple(dim) or None
    return ([] if dim is None else [dim], {"keepdims": True} if keepdim else {})


@form("sum", "mean", "prod", "amax", "amin", "argmax", "argmin", "all", "any", "cumsum")
def reduce(out: Expr, x: Expr, dim: Any = None, keepdim: bool = False) -> Expr:
    op = operation(out)
    places, named = _along(dim, keepdim)
    return x.method({"amax": "max", "amin": "min"}.get(op, op), *places, shape=out.shape, **named)


@form("max", "min")
def extreme(out: Expr, x: Expr, other: Expr | None = None, keepdim: bool = False) -> Expr:
    op = operation(out)
    if other is None:
        return x.method(op, shape=out.shape)
    return call(f"np.{op}imum", x, other, shape=out.shape)


@form("var", "std")
def spread(
    out: Expr,
    x: Expr,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    correction: int | None = None,
) -> Expr:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    less = int(unbiased) if unbiased is not None else 1 if correction is None else correction
    places, named = _along(dim, keepdim)
    return x.method(operation(out), *places, shape=out.shape, **({"ddof": less} if less else {}), **named)


@form("norm", "linalg_vector_norm", "linalg_norm")
def norm(out: Expr, x: Expr, p: Any = None, dim: Any = None, keepdim: bool = False) -> Expr:
    order = 2 if p is None or p == "fro" else p
    given = {} if order == 2 else {"p": raw("math.inf") if math.isinf(order) else order}
    places = _along(dim, False)[0]
    if places:
        given["dim"] = places[0]
    return call("vector_norm", x, shape=out.shape, **given, **({"keepdim": True} if keepdim else {}))


@form("dist")
def dist(out: Expr, a: Expr, b: Expr, p: Any = None) -> Expr:
    return call("vector_norm", a - b, shape=out.shape, **({} if p is None else {"p": p}))


@form("diff")
def diff(out: Expr, x: Expr, n: int = 1, dim: int = -1) -> Expr:
    return call("np.diff", x, *([] if n == 1 else [n]), shape=out.shape, **({} if dim == -1 else {"axis": dim}))


@form("logcumsumexp")
def logcumsumexp(out: Expr, x: Expr, dim: int) -> Expr:
    return call("np.logaddexp.accumulate", x, shape=out.shape, axis=dim)


@form("cumprod")
def cumprod(out: Expr, x: Expr, dim: int) -> Expr:
    return x.method("cumprod", dim, shape=out.shape)


@form("count_nonzero")
def count_nonzero(out: Expr, x: Expr, dim: Any = None) -> Expr:
    return call("np.count_nonzero", x, shape=out.shape, **({} if dim is None else {"axis": dim}))
