"""Which values are above zero whatever the numbers are: a root of their square is the value itself."""

from __future__ import annotations

from typing import Any

from handgrad.graph import Value
from handgrad.rules.table import plain


def is_above_zero(value: Value) -> bool:
    """Whether a value is above zero whatever the numbers are, by how it was made."""
    step = value.step
    if step is None:
        return False
    op = plain(step.op)
    if op in ("exp", "exp2", "sigmoid", "softmax", "cosh", "softplus", "sqrt", "rsqrt"):
        return True
    if op == "pow":
        exponent = getattr(step.args[1], "value", None)
        return (isinstance(exponent, float) and exponent != int(exponent)) or _all_above_zero(step.args[:1])
    if op in ("sum", "mean", "reciprocal"):
        return _all_above_zero(step.args[:1])
    return op in ("mul", "div", "rdiv", "add") and _all_above_zero(step.args)


def _all_above_zero(items: list[Any]) -> bool:
    return all(
        is_above_zero(item) if isinstance(item, Value)
        else isinstance(getattr(item, "value", None), int | float) and item.value > 0
        for item in items
    )  # fmt: skip
