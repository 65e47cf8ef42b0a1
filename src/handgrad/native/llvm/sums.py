"""Reductions: what they begin with, one step of them, and those of columns while rows go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from handgrad.native.llvm.builder import I32, Builder
from handgrad.native.llvm.expressions import Expressions, Lanes
from handgrad.native.nests import Nest
from handgrad.native.program import IDENTITY, Reduce
from handgrad.native.scalars import FLOAT


def begin(b: Builder, statement: Reduce) -> Any:
    """Return a place for a vector of running values, which holds what changes no result."""
    slot = b.slot(b.vector(_scalar(b, statement)))
    b.ir.store(identity(b, statement), slot)
    return slot


def identity(b: Builder, statement: Reduce) -> Any:
    """Return a vector of what changes no result."""
    kind, number = _scalar(b, statement), IDENTITY[statement.kind]
    if kind == I32:
        number = {"max": -(2**31), "min": 2**31 - 1}.get(statement.kind, int(number) if number in (0.0, 1.0) else 0)
    return b.constant(b.vector(kind), number)


def accumulate(b: Builder, statement: Reduce, slot: Any, value: Any) -> None:
    """Take one more vector into running values."""
    b.ir.store(b.combined(statement.kind, b.ir.load(slot), value), slot)


def _scalar(b: Builder, statement: Reduce) -> Any:
    return b.real if statement.array.kind == FLOAT else I32


class ColumnSums:
    """The reductions of a nest at a few vectors of columns, kept in registers while rows go by."""

    def __init__(self, expressions: Expressions, nest: Nest, vectors: Sequence[Lanes]) -> None:
        self.e, self.b = expressions, expressions.b
        reduces = [s for s in nest.statements if isinstance(s, Reduce)]
        self._slots = {lanes: {s: begin(self.b, s) for s in reduces} for lanes in vectors}

    def add(self, summands: Mapping[Reduce, Any]) -> None:
        """Take in what one row adds to the vector at the present point."""
        assert self.e.lanes is not None
        for statement, value in summands.items():
            accumulate(self.b, statement, self._slots[self.e.lanes][statement], value)

    def store(self) -> None:
        """Store all of them."""
        for lanes, slots in self._slots.items():
            with self.e.at(lanes):
                for statement, slot in slots.items():
                    self.e.store(self.b.ir.load(slot), statement.array, statement.position)
