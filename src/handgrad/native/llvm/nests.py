"""The loops of a nest: in which order, how many vectors at a time, and where sums are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from handgrad.native.indices import Index, Var
from handgrad.native.layout import Layout
from handgrad.native.llvm.ahead import ROWS_AHEAD, call_ahead
from handgrad.native.llvm.builder import I32, Builder
from handgrad.native.llvm.expressions import Expressions, Lanes
from handgrad.native.llvm.forms import Start
from handgrad.native.llvm.products import ProductWriter
from handgrad.native.llvm.ranges import Part, Ranges
from handgrad.native.llvm.sums import ColumnSums, accumulate, begin, identity
from handgrad.native.llvm.transposes import TransposeWriter
from handgrad.native.loops import PANEL, order_of, turned
from handgrad.native.nests import Nest, registers_of
from handgrad.native.program import Map, Reduce
from handgrad.native.scalars import FLOAT

UNROLLED = 4  # vectors of a row that are written out instead of looped over


class NestWriter:
    """Writes the code of a nest, or of a part of it."""

    def __init__(self, builder: Builder, layout: Layout, starts: Mapping[Start, Any], part: Part | None = None) -> None:
        """Begin; ``starts`` holds the address of every start of the nest's form."""
        self.b, self.layout, self.starts = builder, layout, starts
        self._begin(part)

    def _begin(self, part: Part | None) -> None:
        self.e = Expressions(self.b, self.layout, self.starts)
        self.ranges = Ranges(self.e, part)

    def write(self, nest: Nest) -> None:
        """Write the nest."""
        if nest.scatter is not None:
            self._scatter(nest)
        elif nest.product is not None:
            ProductWriter(self.ranges, nest, nest.product).write(lambda: self._emit(nest))
        elif (along := turned(nest)) is not None:
            TransposeWriter(self.ranges, nest, along).write()
        else:
            self.e.registers = registers_of(nest)
            self._statements(nest)

    # -- maps and reductions

    def _statements(self, nest: Nest) -> None:
        if not nest.domain:
            self._emit(nest)
            return
        last = nest.domain[-1]
        self.e.vector = last
        order = order_of(nest)
        if order.kind == "rows":
            self._loops(order.outer, lambda: self._rows(nest, order.inner, last))
        elif order.kind == "columns":
            self._loops(order.outer, lambda: self._columns(nest, order.inner, last))
        else:
            self._loops(order.outer, lambda: self._vectors(last, lambda: self._emit(nest), nest))

    def _loops(self, variables: Sequence[Var], body: Callable[[], None]) -> None:
        self.ranges.loops(variables, body)

    def _vectors(self, last: Var, body: Callable[[], object], nest: Nest) -> None:
        """Run ``body`` for every vector of a row."""
        lanes = self.b.lanes
        self.e.lanes = None
        self.e.hoist([s.body for s in nest.statements], nest.writes)

        def one(base: Any, valid: int | None = None) -> None:
            with self.e.at(Lanes(base, valid)), self.e.scope():
                body()

        self.ranges.tiles(last, lanes, one, one, unrolled=UNROLLED)

    def _emit(self, nest: Nest) -> dict[Reduce, Any]:
        """Compute everything at the present point, and then store the maps: an update reads what was there before.

        Returns what is added to the reductions.
        """
        maps = [s for s in nest.statements if isinstance(s, Map) and s.array not in nest.unstored]
        values = [self.e.value(made.body) for made in maps]
        summands = {s: self.b.splat(self.e.value(s.body)) for s in nest.statements if isinstance(s, Reduce)}
        for value, made in zip(values, maps, strict=True):
            self.e.store(value, made.array, made.position)
        return summands

    def _rows(self, nest: Nest, inner: Sequence[Var], last: Var) -> None:
        """Reduce along rows: sums are kept in a vector, and added up at the end."""
        reduces = [s for s in nest.statements if isinstance(s, Reduce)]
        slots = {s: begin(self.b, s) for s in reduces}

        def body() -> None:
            for s, value in self._emit(nest).items():
                assert self.e.lanes is not None
                if self.e.lanes.valid is not None:
                    value = self.b.ir.select(self.b.first(self.e.lanes.valid, value.type), value, identity(self.b, s))
                accumulate(self.b, s, slots[s], value)

        self._loops(inner, lambda: self._vectors(last, body, nest))
        self.e.lanes = None
        for s in reduces:
            total = self.b.across(s.kind, self.b.ir.load(slots[s]))
            self._scalar_store(total, s)

    def _scalar_store(self, value: Any, statement: Reduce) -> None:
        vector, self.e.vector = self.e.vector, None
        self.e.store(value, statement.array, statement.position)
        self.e.vector = vector

    def _columns(self, nest: Nest, inner: Sequence[Var], last: Var) -> None:
        """Panels of a few vectors, and the rows inside: what columns share is computed once."""
        lanes = self.b.lanes
        size = min(PANEL, last.extent // lanes) or 1
        self.ranges.tiles(
            last, size * lanes,
            lambda base: self._panel(nest, inner, self.e.lanes_from(base, size * lanes)),
            lambda base, left: self.ranges.rest(
                base, left, lambda at, count: self._panel(nest, inner, self.e.lanes_from(at, count))
            ),
        )  # fmt: skip

    def _panel(self, nest: Nest, inner: Sequence[Var], contexts: Sequence[Lanes]) -> None:
        roots = [s.body for s in nest.statements]
        with self.e.scope():
            for lanes in contexts:
                with self.e.at(lanes):
                    self.e.hoist(roots, nest.writes)
            sums = ColumnSums(self.e, nest, contexts)

            def body() -> None:
                if inner:
                    call_ahead(self.e, nest, inner[-1], [self.e.variables[inner[-1]]], ROWS_AHEAD, contexts)
                for lanes in contexts:
                    with self.e.at(lanes), self.e.scope():
                        sums.add(self._emit(nest))

            self._loops(inner, body)
            sums.store()

    # -- scatters

    def _scatter(self, nest: Nest) -> None:
        scatter = nest.scatter
        assert scatter is not None
        from handgrad.native.arrays import domain_of, variables_of

        base_domain = domain_of(scatter.array.shape)
        fill = Nest(base_domain, [Map(scatter.array, variables_of(scatter.array.shape), scatter.base, base_domain)])
        part = self.ranges.part
        self._begin(part and Part(base_domain[-1], part.first, part.end))
        self._statements(fill)
        self._begin(part)
        e = self.e
        along = scatter.domain[-1] if scatter.domain else None
        *before, last = scatter.position or [Index()]
        if along is not None and last == Index.of(along) and not any(along in index.variables for index in before):
            e.vector = along
        outer = scatter.domain[:-1] if e.vector is not None else scatter.domain

        def add() -> None:
            value = e.value(scatter.body)
            if e.vector is not None:
                value = self.b.splat(value)
            base, flat = e.place(scatter.array, scatter.position)
            padded = e.is_padded(scatter.array, scatter.position)
            valid = None if e.lanes is None or padded else e.lanes.valid
            if scatter.adds:
                kind = self.b.real if scatter.array.kind == FLOAT else I32
                before = self.b.load(base, e.index(flat), self.b.vector(kind) if e.vector else kind, valid)
                value = self.b.combined("sum", before, value)
            self.b.store(value, base, e.index(flat), valid)

        if e.vector is None:
            self._loops(outer, add)
        else:
            self._loops(outer, lambda: self._vectors(e.vector, add, nest) if e.vector is not None else None)
