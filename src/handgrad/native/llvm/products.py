"""Matrix products: tiles of sums in registers, and what follows each sum before it is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from handgrad.native.llvm.expressions import Lanes
from handgrad.native.llvm.ranges import Ranges
from handgrad.native.llvm.sums import ColumnSums
from handgrad.native.loops import height_of, tile_of
from handgrad.native.nests import Nest, registers_of
from handgrad.native.program import Product, Reduce


class ProductWriter:
    """Writes the code of a product, with the statements of its nest."""

    def __init__(self, ranges: Ranges, nest: Nest, product: Product) -> None:
        self.b, self.e, self.ranges = ranges.b, ranges.e, ranges
        self.nest, self.product = nest, product
        *self.batch, self.rows, self.columns = product.domain
        self.registers = self.b.machine.registers
        self.height, self.width = tile_of(product, self.b.lanes, self.registers)
        self.divides_rows = ranges.part is not None and ranges.part.variable == self.rows

    def write(self, emit: Callable[[], Mapping[Reduce, Any]]) -> None:
        """Write it; ``emit`` writes the statements at the present point."""
        self._emit = emit
        self.e.vector = self.columns
        size = self.width * self.b.lanes
        self.ranges.loops(
            self.batch,
            lambda: self.ranges.tiles(
                self.columns, size,
                lambda base: self._panel(self.e.lanes_from(base, size)),
                lambda base, left: self.ranges.rest(
                    base, left, lambda at, count: self._panel(self.e.lanes_from(at, count))
                ),
            ),
        )  # fmt: skip

    def _panel(self, contexts: Sequence[Lanes]) -> None:
        """Compute all rows of a few vectors of columns."""
        with self.e.scope():
            for lanes in contexts:
                with self.e.at(lanes):
                    self.e.hoist([s.body for s in self.nest.statements], self.nest.writes)
            sums = ColumnSums(self.e, self.nest, contexts)
            height = self.height if self.divides_rows else height_of(self.product, len(contexts), self.registers)
            self.ranges.tiles(
                self.rows, height,
                lambda m: self._tile(m, height, contexts, sums),
                lambda m, left: self._tile(m, left, contexts, sums),
            )  # fmt: skip
            sums.store()

    def _tile(self, first: Any, height: int, contexts: Sequence[Lanes], sums: ColumnSums) -> None:
        """Compute a few rows by a few vectors: every sum stays in a register."""
        b, e, nest, product, rows = self.b, self.e, self.nest, self.product, self.rows
        slots = [[b.slot(b.vector(b.real)) for _ in contexts] for _ in range(height)]
        for slot in (s for row in slots for s in row):
            b.ir.store(b.constant(b.vector(b.real), 0.0), slot)
        left, right = product.left, product.right
        (left_base, left_flat), (right_base, right_flat) = (e.place(x.array, x.position) for x in (left, right))
        places = [first if r == 0 else b.ir.add(first, b.i64(r), flags=("nsw",)) for r in range(height)]
        unroll = next(u for u in (4, 3, 2, 1) if product.k.extent % u == 0)

        def step(k: Any) -> None:
            for u in range(unroll):
                here = k if u == 0 else b.ir.add(k, b.i64(u), flags=("nsw",))
                with e.bound(product.k, here):
                    vectors = []
                    for lanes in contexts:
                        with e.at(lanes):
                            valid = None if e.is_padded(right.array, right.position) else lanes.valid
                            vectors.append(b.load(right_base, e.index(right_flat), b.vector(b.real), valid))
                    for r in range(height):
                        with e.bound(rows, places[r]):
                            one = b.splat(b.load(left_base, e.index(left_flat), b.real))
                        for vector, slot in zip(vectors, slots[r], strict=True):
                            b.ir.store(b.fma(one, vector, b.ir.load(slot)), slot)

        b.loop(product.k.extent, step, unroll)
        for r in range(height):
            with e.bound(rows, places[r]):
                for lanes, slot in zip(contexts, slots[r], strict=True):
                    with e.at(lanes), e.scope():
                        e.values = {product.array: b.ir.load(slot)}
                        e.registers = registers_of(nest)
                        if product.array not in nest.unstored:
                            e.store(e.values[product.array], product.array, product.position)
                        sums.add(self._emit())
                        e.values, e.registers = {}, {}
