"""Transposed copies: square blocks that are read by rows, turned in registers, and written by rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.ir as ir

from handgrad.native.indices import Var
from handgrad.native.llvm.builder import I32, Builder
from handgrad.native.llvm.ranges import Ranges
from handgrad.native.loops import block_of
from handgrad.native.nests import Nest
from handgrad.native.program import Map


class TransposeWriter:
    """Writes a copy whose rows are the columns of what it reads, along the variable ``along``."""

    def __init__(self, ranges: Ranges, nest: Nest, along: Var) -> None:
        self.b, self.e, self.ranges = ranges.b, ranges.e, ranges
        (self.made,) = (s for s in nest.statements if isinstance(s, Map))
        *before, self.last = nest.domain
        self.along, self.others = along, [v for v in before if v != along]
        self.size = block_of(self.b.lanes, self.b.machine.item)

    def write(self) -> None:
        """Write it."""
        size = self.size

        def strip(i: Any, rows: int) -> None:
            self.ranges.tiles(self.last, size, lambda j: self._block(i, rows, j, size),
                              lambda j, left: self._block(i, rows, j, left))  # fmt: skip

        self.ranges.loops(self.others, lambda: self.ranges.tiles(self.along, size, lambda i: strip(i, size), strip))

    def _block(self, i: Any, rows: int, j: Any, columns: int) -> None:
        """Copy the block that begins at ``i`` along the rows of the source, and at ``j`` along those of the copy."""
        b, e = self.b, self.e
        scalar = b.real if self.made.array.kind == "float" else I32
        kind = ir.VectorType(scalar, self.size)
        source, target = (e.place(x.array, x.position) for x in (self.made.body, self.made))
        lines: list[Any] = [ir.Constant(kind, ir.Undefined)] * self.size
        for k in range(columns):
            with e.bound(self.along, i), e.bound(self.last, b.ir.add(j, b.i64(k))):
                lines[k] = b.load(source[0], e.index(source[1]), kind, None if rows == self.size else rows)
        for k, line in enumerate(transposed(b, lines)[:rows]):
            with e.bound(self.along, b.ir.add(i, b.i64(k))), e.bound(self.last, j):
                b.store(line, target[0], e.index(target[1]), None if columns == self.size else columns)


def transposed(b: Builder, lines: Sequence[Any]) -> list[Any]:
    """Return the columns of a square of vectors: halves are exchanged across the diagonal, then quarters, and so on."""
    lines, size = list(lines), len(lines)
    distance = size // 2
    while distance:
        for k in (k for k in range(size) if not k & distance):
            one, other = lines[k], lines[k | distance]
            first = [size + m - distance if m & distance else m for m in range(size)]
            second = [size + m if m & distance else m + distance for m in range(size)]
            lines[k], lines[k | distance] = (
                b.ir.shuffle_vector(one, other, ir.Constant(ir.VectorType(I32, size), picked))
                for picked in (first, second)
            )
        distance //= 2
    return lines
