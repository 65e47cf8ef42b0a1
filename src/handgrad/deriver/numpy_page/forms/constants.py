"""Tensors that are made from nothing."""

from __future__ import annotations

from typing import Any

from handgrad.deriver.numpy_page.forms.shapes import WHOLE, shape_of
from handgrad.deriver.numpy_page.forms.table import form, operation
from handgrad.expr import Expr, call, raw


@form("zeros", "ones", "empty")
def constant(out: Expr, *sizes: Expr, size: Expr | None = None, dtype: Any = None) -> Expr:
    kind = (
        {"dtype": raw("int" if str(dtype) in WHOLE else "bool")}
        if str(dtype) in WHOLE or str(dtype) == "torch.bool"
        else {}
    )
    return call(f"np.{operation(out)}", size or shape_of(sizes), shape=out.shape, **kind)


@form("new_zeros", "new_ones")
def new_constant(out: Expr, like: Expr, *sizes: Expr) -> Expr:
    return call(f"np.{operation(out).removeprefix('new_')}", shape_of(sizes), shape=out.shape)


@form("full")
def full(out: Expr, size: Expr, fill_value: Expr) -> Expr:
    return call("np.full", size, fill_value, shape=out.shape)


@form("new_full")
def new_full(out: Expr, like: Expr, size: Expr, fill_value: Expr) -> Expr:
    return call("np.full", size, fill_value, shape=out.shape)


@form("fill", "copy", "zero")
def filled(out: Expr, x: Expr, value: Expr | None = None, *_: Expr) -> Expr:
    if value is None:
        return call("np.zeros_like", x, shape=out.shape)
    return value if value.shape == out.shape else call("np.full_like", x, value, shape=out.shape)


@form("tensor", "as_tensor", "scalar_tensor", "new_tensor")
def tensor(out: Expr, *given: Expr) -> Expr:
    return call("np.array", given[-1], shape=out.shape)


@form("eye")
def eye(out: Expr, n: Expr, m: Expr | None = None) -> Expr:
    return call("np.eye", n, *([] if m is None else [m]), shape=out.shape)


@form("linspace")
def linspace(out: Expr, start: Expr, end: Expr, steps: Expr) -> Expr:
    return call("np.linspace", start, end, steps, shape=out.shape)
