"""Which ATen operations have a lowering: a table that the modules of `handgrad.native.lowering` fill."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
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


def find(operation: Any) -> Lowering | None:
    """Return the lowering of an ATen operation, None if it has none."""
    _fill()
    name = str(operation).removeprefix("aten.").removeprefix("prims.")
    bare, _, overload = name.partition(".")
    found = LOWERINGS.get(name) or LOWERINGS.get(bare)
    if found is None and bare.endswith("_"):  # what it writes in place, it returns
        plain = bare.removesuffix("_")
        found = LOWERINGS.get(f"{plain}.{overload}") or LOWERINGS.get(plain)
    return found


def decomposition_of(operation: Any) -> Callable[..., Any] | None:
    """Return how PyTorch writes an operation with others, if it has no lowering here."""
    if find(operation) is not None:
        return None
    known = _decompositions().get(operation)
    if known is not None:
        return known
    return operation.decompose if operation._can_decompose() else None


@cache
def _decompositions() -> dict[Any, Callable[..., Any]]:
    from torch._decomp import core_aten_decompositions

    return {**core_aten_decompositions()}


def _fill() -> None:
    if not LOWERINGS:
        import handgrad.native.lowering  # noqa: F401


__all__ = ["LOWERINGS", "Lowering", "Program", "Tensor", "decomposition_of", "find", "lowering"]
