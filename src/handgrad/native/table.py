"""Which ATen operations have a lowering: a table that the modules of `handgrad.native.lowering` fill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from handgrad.native.arrays import Tensor
from handgrad.native.program import Program

Lowering = Callable[..., Any]  # (program, *arguments of the operation) -> Tensor or a tuple of these
Written = TypeVar("Written", bound=Lowering)
LOWERINGS: dict[str, Lowering] = {}


def lowering(*names: str) -> Callable[[Written], Written]:
    """Register a function as the lowering of ``names``: ``add.Tensor``, or ``add`` for every overload of it."""

    def register(function: Written) -> Written:
        for name in names:
            LOWERINGS[name] = function
        return function

    return register


_NEW_SHAPES = {"squeeze_": "squeeze", "unsqueeze_": "unsqueeze", "t_": "t", "transpose_": "transpose"}
"""What changes the shape of a tensor in place is left by `functionalize`: what it returns is what is read."""


def find(operation: Any) -> Lowering | None:
    """Return the lowering of an ATen operation, None if it has none."""
    _fill()
    name = str(operation).removeprefix("aten.").removeprefix("prims.")
    bare = name.partition(".")[0]
    return LOWERINGS.get(name) or LOWERINGS.get(bare) or LOWERINGS.get(_NEW_SHAPES.get(bare, ""))


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Return PyTorch's own decompositions of the operations that have no lowering here."""
    from torch._decomp import core_aten_decompositions

    table: dict[Any, Callable[..., Any]] = {**core_aten_decompositions()}
    return {operation: made for operation, made in table.items() if find(operation) is None}


def _fill() -> None:
    if not LOWERINGS:
        import handgrad.native.lowering  # noqa: F401


__all__ = ["LOWERINGS", "Lowering", "Program", "Tensor", "decompositions", "find", "lowering"]
