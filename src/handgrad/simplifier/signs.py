"""What is known of values whatever the numbers are.

Of what is above zero, the root of the square is the value itself; what is 0 or 1 is its own square.
"""

from __future__ import annotations

from typing import Any

from handgrad.graph import Value
from handgrad.rules.table import plain


def is_truth(value: Value) -> bool:
    """Whether a value is 0 or 1 everywhere: a mask, be it as numbers."""
    if str(value.dtype) == "torch.bool":
        return True
    step = value.step
    if step is None or plain(step.op) not in ("to", "float", "double", "type_as", "clone", "int", "long"):
        return False
    return isinstance(step.args[0], Value) and is_truth(step.args[0])


def is_above_zero(value: Value) -> bool:
    """Whether a value is above zero whatever the numbers are, by how it was made."""
    step = value.step
    if step is None:
        return False
    op = plain(step.op)
    if op in ("exp", "exp2", "sigmoid", "softmax", "cosh", "softplus", "sqrt", "rsqrt", "norm", "std"):
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
