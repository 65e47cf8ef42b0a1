"""Matrix products: tiles of sums in registers, and what follows each sum before it is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.ir as ir

from handgrad.native.layout import LINE
from handgrad.native.llvm.ahead import call_ahead
from handgrad.native.llvm.builder import I8, Builder
from handgrad.native.llvm.expressions import Lanes
from handgrad.native.llvm.ranges import Ranges
from handgrad.native.llvm.sums import ColumnSums
from handgrad.native.loops import height_of, tile_of
from handgrad.native.nests import Nest, is_long, registers_of
from handgrad.native.program import Product, Reduce

CHUNK = 256  # terms of a long sum that are added up at once: their vectors take 64 KiB of the stack at most


@dataclass(frozen=True)
class Chunk:
    """A part of the terms of a product: ``count`` of them from ``first`` on, for which ``packed`` holds vectors."""

    first: Any
    count: int
    packed: Any
    is_last: bool

    def vectors(self, b: Builder, number: Any, count: int) -> list[Any]:
        """Return the packed vectors of a term of the chunk."""
        start = b.ir.mul(number, b.i64(count * b.lanes))
        places = (b.ir.add(start, b.i64(k * b.lanes)) for k in range(count))
        return [b.load(self.packed, place, b.vector(b.real)) for place in places]


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
            if is_long(self.product):
                self._in_chunks(contexts, sums)
            else:
                self._rows(contexts, lambda m, count: self._tile(m, count, contexts, sums))
            sums.store()

    def _rows(self, contexts: Sequence[Lanes], tile: Callable[[Any, int], None]) -> None:
        """Run ``tile(first, count)`` for all rows."""
        height = self.height if self.divides_rows else height_of(self.product, len(contexts), self.registers)
        self.ranges.tiles(self.rows, height, lambda m: tile(m, height), tile)

    # -- long sums

    def _in_chunks(self, contexts: Sequence[Lanes], sums: ColumnSums) -> None:
        """Add up a part of the terms for all rows, then the next: what is read of the right-hand factor is packed.

        It lies side by side then, in the second cache, for all rows. Sums wait in memory for the next part.
        """
        b, terms, size = self.b, self.product.k.extent, len(contexts) * self.b.lanes
        packed = b.slot(ir.ArrayType(b.real, CHUNK * size))
        packed.align = LINE
        place = b.ir.bitcast(packed, I8.as_pointer())
        last = (terms - 1) // CHUNK * CHUNK

        def clear(m: Any, count: int) -> None:
            for row in self._places(m, count):
                for lanes in contexts:
                    with self.e.bound(self.rows, row), self.e.at(lanes):
                        nothing = b.constant(b.vector(b.real), 0.0)
                        self.e.store(nothing, self.product.array, self.product.position)

        def part(k: Any) -> None:
            with self.e.scope():
                self._pack(place, k, CHUNK, contexts)
                chunk = Chunk(k, CHUNK, place, is_last=False)
                self._rows(contexts, lambda m, count: self._tile(m, count, contexts, sums, chunk))

        self._rows(contexts, clear)
        b.loop(last, part, CHUNK)
        self._pack(place, b.i64(last), terms - last, contexts)
        chunk = Chunk(b.i64(last), terms - last, place, is_last=True)
        self._rows(contexts, lambda m, count: self._tile(m, count, contexts, sums, chunk))

    def _pack(self, place: Any, first: Any, count: int, contexts: Sequence[Lanes]) -> None:
        """Copy some rows of the right-hand factor, as wide as a panel."""
        b, size = self.b, len(contexts) * self.b.lanes

        def one(k: Any) -> None:
            with self.e.bound(self.product.k, b.ir.add(first, k)):
                for number, vector in enumerate(self._right(contexts)):
                    b.store(vector, place, b.ir.add(b.ir.mul(k, b.i64(size)), b.i64(number * b.lanes)))

        b.loop(count, one)

    def _right(self, contexts: Sequence[Lanes]) -> list[Any]:
        """Return the vectors of the right-hand factor at the present term."""
        vectors = []
        for lanes in contexts:
            with self.e.at(lanes):
                vectors.append(self.e.side_by_side(self.product.right.array, self.product.right.position))
        return vectors

    # -- tiles

    def _places(self, first: Any, count: int) -> list[Any]:
        b = self.b
        return [first if r == 0 else b.ir.add(first, b.i64(r), flags=("nsw",)) for r in range(count)]

    def _tile(self, first: Any, height: int, contexts: Sequence[Lanes], sums: ColumnSums,
              chunk: Chunk | None = None) -> None:  # fmt: skip
        """Compute a few rows by a few vectors: every sum stays in a register. A ``chunk`` is a part of the terms."""
        b, e, nest, product, rows = self.b, self.e, self.nest, self.product, self.rows
        places = self._places(first, height)
        slots = [[b.slot(b.vector(b.real)) for _ in contexts] for _ in range(height)]
        for r in range(height):
            for lanes, slot in zip(contexts, slots[r], strict=True):
                nothing = b.constant(b.vector(b.real), 0.0)
                with e.bound(rows, places[r]), e.at(lanes):  # the sums of the chunks before this one wait in memory
                    b.ir.store(e.side_by_side(product.array, product.position) if chunk else nothing, slot)
        left = product.left
        left_base, left_flat = e.place(left.array, left.position)
        terms = chunk.count if chunk else product.k.extent
        unroll = next(u for u in (4, 3, 2, 1) if terms % u == 0)

        def step(k: Any) -> None:
            for u in range(unroll):
                here = k if u == 0 else b.ir.add(k, b.i64(u), flags=("nsw",))
                with e.bound(product.k, b.ir.add(chunk.first, here) if chunk else here):
                    vectors = chunk.vectors(b, here, len(contexts)) if chunk else self._right(contexts)
                    for r in range(height):
                        with e.bound(rows, places[r]):
                            one = b.splat(b.load(left_base, e.index(left_flat), b.real))
                        for vector, slot in zip(vectors, slots[r], strict=True):
                            b.ir.store(b.fma(one, vector, b.ir.load(slot)), slot)

        if chunk is None or chunk.is_last:
            call_ahead(e, nest, rows, places, height, contexts)
        b.loop(terms, step, unroll)
        for r in range(height):
            with e.bound(rows, places[r]):
                for lanes, slot in zip(contexts, slots[r], strict=True):
                    with e.at(lanes), e.scope():
                        value = b.ir.load(slot)
                        if product.array not in nest.unstored:
                            e.store(value, product.array, product.position)
                        if chunk is None or chunk.is_last:
                            e.values, e.registers = {product.array: value}, registers_of(nest)
                            sums.add(self._emit())
                            e.values, e.registers = {}, {}
