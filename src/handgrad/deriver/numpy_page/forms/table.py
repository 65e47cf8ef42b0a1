"""The table of forms: operations of PyTorch as NumPy says them, expression in, expression out.

A form takes the expression, whose arguments are in NumPy already, and arguments bound by name, as PyTorch calls them::

    @form("squeeze")
    def squeeze(out: Expr, x: Expr, dim: Any = None) -> Expr: ...

A parameter annotated ``Expr`` comes as an expression, any other as the plain Python value. An operation in `SAME` has
another name at most.
"""

from __future__ import annotations

from collections.abc import Callable

from handgrad.expr import Expr, is_mask
from handgrad.rules.table import plain

FORMS: dict[str, Callable[..., Expr]] = {}
SAME = {name: name for name in (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "abs", "sign", "floor", "ceil", "trunc", "round",
    "sin", "cos", "tan", "sinh", "cosh", "tanh", "square", "reciprocal", "sinc", "hypot", "maximum", "minimum", "fmax",
    "fmin", "logaddexp", "logaddexp2", "deg2rad", "rad2deg", "isfinite", "isnan", "isinf", "signbit", "outer",
    "kron", "fmod",
    "remainder", "floor_divide", "heaviside", "nan_to_num", "logical_and", "logical_or", "logical_not", "logical_xor",
    "zeros_like", "ones_like", "full_like", "empty_like", "trace", "ravel",
    "inner", "vdot", "hstack", "vstack", "dstack", "column_stack",
    "atleast_1d", "atleast_2d", "atleast_3d", "finfo", "copysign", "ldexp", "positive", "arange",
)} | {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh",
    "atan2": "arctan2", "arctan2": "arctan2", "floordiv": "floor_divide", "sgn": "sign", "fix": "trunc",
    "linalg_inv": "linalg.inv", "inverse": "linalg.inv", "linalg_det": "linalg.det", "det": "linalg.det",
    "linalg_solve": "linalg.solve", "linalg_matrix_power": "linalg.matrix_power", "matrix_power": "linalg.matrix_power",
}  # fmt: skip


class NoFormError(Exception):
    """An operation has no NumPy form; the message names it."""


def form(*ops: str) -> Callable[[Callable[..., Expr]], Callable[..., Expr]]:
    """Return a decorator that enters a form for ``ops``."""

    def enter(function: Callable[..., Expr]) -> Callable[..., Expr]:
        for op in ops:
            FORMS[op] = function
        return function

    return enter


def operation(expr: Expr) -> str:
    """Return the plain name of the operation of a call, a method or an attribute."""
    return plain(str(expr.data).rsplit(".", 1)[-1])


def is_floating(expr: Expr) -> bool:
    """Whether the numbers of ``expr`` are floating already: not truth values, not indices."""
    if expr.op == "value":
        return bool(expr.data.is_floating)
    if expr.op in ("gradient", "name"):
        return True
    return not is_mask(expr) and any(map(is_floating, expr.args))
