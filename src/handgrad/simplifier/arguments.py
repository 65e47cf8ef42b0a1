"""The arguments of calls as Python values, and what a reduction reduces."""

from __future__ import annotations

import ast
from typing import Any

from handgrad.expr import Expr, Shape
from handgrad.graph import Value
from handgrad.rules.table import plain


class UnreadableError(Exception):
    """An expression has no normal form: a product of matrices, an unknown call."""


def options(expr: Expr) -> dict[str, Any]:
    """Return the arguments of a call that are given by name."""
    return {item.data: literal(item.args[0]) for item in expr.args if item.op == "keyword"}


def literal(expr: Expr) -> Any:
    """Return the Python value of an argument."""
    if expr.op == "list":
        return [literal(item) for item in expr.args]
    if expr.op == "number":
        return expr.data[0]
    try:
        return ast.literal_eval(expr.data) if expr.op == "raw" else None
    except (ValueError, SyntaxError):
        raise UnreadableError("argument") from None


def reduced(expr: Expr) -> tuple[Expr, list[int]]:
    """Return what a reduction reduces, and over which dimensions."""
    inner, *rest = expr.args
    given = [literal(item) for item in rest if item.op != "keyword"]
    dim = options(expr).get("dim", options(expr).get("axis"))
    if dim is None and given and plain(str(expr.data).rpartition(".")[2]) != "norm":
        dim = given[0]
        if isinstance(dim, int) and not isinstance(dim, bool) and len(given) > 1 and type(given[1]) is int:
            dim = given
    if dim is None or isinstance(dim, bool) or not inner.shape:
        dims = list(range(len(inner.shape)))
    else:
        dims = sorted(d % len(inner.shape) for d in ([dim] if isinstance(dim, int) else dim))
    if len(expr.shape) not in (len(inner.shape), len(inner.shape) - len(dims)):
        raise UnreadableError("reduction")
    return inner, dims


def reduction_args(dims: list[int], keepdim: bool) -> list[Expr]:
    """Return the arguments of a reduction over ``dims``."""
    keep = Expr("keyword", (Expr("raw", (), (), str(keepdim)),), (), "keepdim")
    return [Expr("raw", (), (), repr(tuple(dims))), keep]


def is_view(key: Expr) -> bool:
    """Whether an index only adds dimensions: ``x[:, None]``."""
    return all(item.op == "raw" and item.data in ("None", ":", "...") for item in key.args)


def picked_along(dim: Expr, places: Expr, shape: Shape) -> Expr:
    """Return the classes that `gather` picks, one along the last dimension, in a shape without that."""
    if literal(dim) % len(shape) != len(shape) - 1 or places.shape != (*shape[:-1], 1):
        raise UnreadableError("gather")
    inner = places.args[0] if places.args else places
    if inner.shape == places.shape[:-1] and (
        places.data == "unsqueeze" or (places.op == "index" and is_view(places.args[1]))
    ):
        return inner
    return places.method("squeeze", -1, shape=places.shape[:-1])


def signature(expr: Expr) -> str:
    """Return a text that tells an expression from any other."""
    data = f"%{expr.data.id}" if isinstance(expr.data, Value) else "" if expr.data is None else str(expr.data)
    inside = ", ".join(map(signature, expr.args))
    return f"{expr.op} {data}({inside})"
