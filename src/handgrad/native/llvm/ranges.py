"""Loops over variables: all of their values, or of one variable only the part that a call is for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from handgrad.native.indices import Var
from handgrad.native.llvm.expressions import Expressions


@dataclass(frozen=True)
class Part:
    """What one call of a divided nest is for: the values of ``variable`` from ``first`` to below ``end``."""

    variable: Var
    first: Any
    end: Any


class Ranges:
    """Writes the loops of a nest, or of a part of it."""

    def __init__(self, expressions: Expressions, part: Part | None = None) -> None:
        self.e, self.b, self.part = expressions, expressions.b, part

    def tiles(
        self, variable: Var, size: int, whole: Callable[[Any], None], rest: Callable[[Any, int], None], *,
        unrolled: int = 0,
    ) -> None:  # fmt: skip
        """Run ``whole(start)`` for each ``size`` values of a variable, and ``rest(start, count)`` for what is left.

        A part begins at a multiple of ``size``, and ends at one or with the variable. Up to ``unrolled`` tiles are
        written out instead of looped over.
        """
        b = self.b
        full, left = divmod(variable.extent, size)
        stop = b.i64(full * size)
        if self.part is not None and variable == self.part.variable:
            last = b.ir.icmp_signed("==", self.part.end, b.i64(variable.extent))
            with self.e.scope():  # it may run no time: what it computes is there inside only
                b.between(self.part.first, b.lesser(self.part.end, stop), whole, size)
            if left:
                with self.e.scope():
                    b.only(last, lambda: rest(stop, left))
            return
        if full <= unrolled:
            for k in range(full):
                whole(b.i64(k * size))
        else:
            b.loop(full * size, whole, size)
        if left:
            rest(stop, left)

    def rest(self, start: Any, count: int, body: Callable[[Any, int], object]) -> None:
        """Run ``body`` for what is left of a variable that runs along the lanes; by itself for a half of a vector."""
        b, over = self.b, count % self.b.lanes
        whole = count - over if over <= b.lanes // 2 else count
        if whole:
            body(start, whole)
        if whole < count:
            with b.short(over):
                body(b.ir.add(start, b.i64(whole)) if whole else start, over)

    def loops(self, variables: Sequence[Var], body: Callable[[], None]) -> None:
        """Run ``body`` for all values of some variables, one loop in the other."""
        if not variables:
            body()
            return
        first, *others = variables

        def inside(value: Any) -> None:
            with self.e.bound(first, value):
                self.loops(others, body)

        self.tiles(first, 1, inside, lambda _start, _count: None)
