"""The loops of a nest: in which order, how many vectors at a time, and where sums are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from handgrad.native.arrays import Array
from handgrad.native.indices import Index, Var
from handgrad.native.layout import Layout
from handgrad.native.llvm.builder import I32, Builder
from handgrad.native.llvm.expressions import Expressions, Lanes
from handgrad.native.nests import Nest
from handgrad.native.program import IDENTITY, Map, Product, Reduce
from handgrad.native.scalars import FLOAT, Scalar

UNROLLED = 4  # vectors of a row that are written out instead of looped over
PANEL = 4  # vectors of a column panel


class NestWriter:
    """Writes the code of one nest after the other."""

    def __init__(self, builder: Builder, layout: Layout, arena: Any) -> None:
        self.b, self.layout, self.arena = builder, layout, arena

    def write(self, nest: Nest) -> None:
        """Write one nest."""
        self.e = Expressions(self.b, self.layout, self.arena)
        if nest.scatter is not None:
            self._scatter(nest)
        elif nest.product is not None:
            self._product(nest, nest.product)
        else:
            self.e.registers = registers_of(nest)
            self._statements(nest)

    # -- maps and reductions

    def _statements(self, nest: Nest) -> None:
        over = nest.over or frozenset()
        if not nest.domain:
            self._point(nest)
            return
        last = nest.domain[-1]
        self.e.vector = last
        outer = [v for v in nest.domain[:-1] if v not in over]
        inner = [v for v in nest.domain[:-1] if v in over]
        if last in over:
            self._loops(outer, lambda: self._rows(nest, inner, last))
        elif inner or self._has_row_constants(nest, last):
            self._columns(nest, outer, inner or outer, last, reduces=bool(inner))
        else:
            self._loops(outer, lambda: self._vectors(last, lambda: self._emit(nest), nest))

    def _point(self, nest: Nest) -> None:
        self._emit(nest)

    def _has_row_constants(self, nest: Nest, last: Var) -> bool:
        """Whether something is worth computing once for all rows."""
        seen: set[int] = set()
        stack: list[Scalar] = [s.body for s in nest.statements]
        while stack:
            node = stack.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if node.variables == {last} and node.costs > 1 and len(nest.domain) > 1:
                return True
            stack.extend(node.args)
        return False

    def _loops(self, variables: Sequence[Var], body: Callable[[], None], roots: Sequence[Scalar] = ()) -> None:
        if not variables:
            body()
            return
        first, *rest = variables

        def inside(value: Any) -> None:
            with self.e.bound(first, value):
                self._loops(rest, body)

        del roots
        self.b.loop(first.extent, inside)

    def _vectors(self, last: Var, body: Callable[[], None], nest: Nest) -> None:
        """Run ``body`` for every vector of a row."""
        lanes = self.b.lanes
        whole, rest = divmod(last.extent, lanes)
        self.e.lanes = None
        self.e.hoist([s.body for s in nest.statements], nest.writes)

        def one(base: Any, valid: int | None = None) -> None:
            with self.e.at(Lanes(base, valid)), self.e.scope():
                body()

        if whole <= UNROLLED:
            for k in range(whole):
                one(self.b.i64(k * lanes))
        else:
            self.b.loop(whole * lanes, one, lanes)
        if rest:
            one(self.b.i64(whole * lanes), rest)

    def _emit(self, nest: Nest) -> None:
        """Compute all maps at the present point, and then store them: an update reads what was there before."""
        maps = [s for s in nest.statements if isinstance(s, Map) and s.array not in nest.unstored]
        for value, made in [(self.e.value(made.body), made) for made in maps]:
            self.e.store(value, made.array, made.position)

    def _rows(self, nest: Nest, inner: Sequence[Var], last: Var) -> None:
        """Reduce along rows: sums are kept in a vector, and added up at the end."""
        reduces = [s for s in nest.statements if isinstance(s, Reduce)]
        slots = {s: self.b.slot(self.b.vector(self._scalar(s))) for s in reduces}
        for s in reduces:
            self.b.ir.store(self._identity(s, vector=True), slots[s])

        def body() -> None:
            self._emit(nest)
            for s in reduces:
                value = self.b.splat(self.e.value(s.body))
                assert self.e.lanes is not None
                if self.e.lanes.valid is not None:
                    value = self.b.ir.select(self.b.first(self.e.lanes.valid), value, self._identity(s, vector=True))
                self._accumulate(s, slots[s], value)

        self._loops(inner, lambda: self._vectors(last, body, nest))
        self.e.lanes = None
        for s in reduces:
            total = self.b.across(s.kind, self.b.ir.load(slots[s]))
            self._scalar_store(total, s)

    def _scalar_store(self, value: Any, statement: Reduce) -> None:
        vector, self.e.vector = self.e.vector, None
        self.e.store(value, statement.array, statement.position)
        self.e.vector = vector

    def _columns(self, nest: Nest, outer: Sequence[Var], inner: Sequence[Var], last: Var, *, reduces: bool) -> None:
        """Panels of a few vectors, and the rows inside: what columns share is computed once."""
        lanes = self.b.lanes

        def panels() -> None:
            vectors, rest = divmod(last.extent, lanes)
            size = min(PANEL, vectors) or 1
            panels_ = vectors // size
            self.b.loop(
                panels_ * size * lanes, lambda base: self._panel(nest, inner, self._contexts(base, size)), size * lanes
            )
            left = [Lanes(self.b.i64(k * lanes)) for k in range(panels_ * size, vectors)]
            if rest:
                left.append(Lanes(self.b.i64(vectors * lanes), rest))
            if left:
                self._panel(nest, inner, left)

        if reduces:
            self._loops(outer, panels)
        else:
            panels()

    def _contexts(self, base: Any, count: int) -> list[Lanes]:
        return [
            Lanes(base if k == 0 else self.b.ir.add(base, self.b.i64(k * self.b.lanes), flags=("nsw",)))
            for k in range(count)
        ]

    def _panel(self, nest: Nest, inner: Sequence[Var], contexts: Sequence[Lanes]) -> None:
        reduces = [s for s in nest.statements if isinstance(s, Reduce)]
        slots: dict[tuple[Reduce, int], Any] = {}
        roots = [s.body for s in nest.statements]
        with self.e.scope():
            for k, lanes in enumerate(contexts):
                with self.e.at(lanes):
                    self.e.hoist(roots, nest.writes)
                for s in reduces:
                    slots[s, k] = self.b.slot(self.b.vector(self._scalar(s)))
                    self.b.ir.store(self._identity(s, vector=True), slots[s, k])

            def body() -> None:
                for k, lanes in enumerate(contexts):
                    with self.e.at(lanes), self.e.scope():
                        self._emit(nest)
                        for s in reduces:
                            self._accumulate(s, slots[s, k], self.b.splat(self.e.value(s.body)))

            self._loops(inner, body)
            for k, lanes in enumerate(contexts):
                with self.e.at(lanes):
                    for s in reduces:
                        self.e.store(self.b.ir.load(slots[s, k]), s.array, s.position)

    def _scalar(self, statement: Reduce) -> Any:
        return self.b.real if statement.array.kind == FLOAT else I32

    def _identity(self, statement: Reduce, *, vector: bool) -> Any:
        kind = self._scalar(statement)
        number = IDENTITY[statement.kind]
        if kind == I32:
            number = {"max": -(2**31), "min": 2**31 - 1}.get(statement.kind, int(number) if number in (0.0, 1.0) else 0)
        return self.b.constant(self.b.vector(kind) if vector else kind, number)

    def _accumulate(self, statement: Reduce, slot: Any, value: Any) -> None:
        self.b.ir.store(self.b.combined(statement.kind, self.b.ir.load(slot), value), slot)

    # -- products

    def _product(self, nest: Nest, product: Product) -> None:
        *batch, rows, columns = product.domain
        self.e.vector = columns
        lanes, registers = self.b.lanes, self.b.machine.registers
        vectors = -(-columns.extent // lanes)
        width = next(w for w in (4, 3, 2, 1) if w <= vectors and (vectors % w == 0 or w <= 2 or vectors > 8))
        height = max(1, (registers - 2 - width) // width - 1 if registers <= 16 else (registers - 4 - width) // width)
        height = min(height, 8, rows.extent)

        def tiles() -> None:
            whole, rest = divmod(columns.extent, lanes)
            full = whole // width

            def panel(contexts: Sequence[Lanes]) -> None:
                with self.e.scope():
                    for lanes_ in contexts:
                        with self.e.at(lanes_):
                            self.e.hoist([s.body for s in nest.statements], nest.writes)
                    self.b.loop(
                        rows.extent // height * height,
                        lambda m: self._tile(nest, product, rows, m, height, contexts),
                        height,
                    )
                    left = rows.extent % height
                    if left:
                        self._tile(nest, product, rows, self.b.i64(rows.extent - left), left, contexts)

            self.b.loop(full * width * lanes, lambda base: panel(self._contexts(base, width)), width * lanes)
            others = [Lanes(self.b.i64(k * lanes)) for k in range(full * width, whole)]
            if rest:
                others.append(Lanes(self.b.i64(whole * lanes), rest))
            if others:
                panel(others)

        self._loops(batch, tiles)

    def _tile(
        self, nest: Nest, product: Product, rows: Var, first: Any, height: int, contexts: Sequence[Lanes]
    ) -> None:
        """Compute a few rows by a few vectors: every sum stays in a register."""
        b, e = self.b, self.e
        slots = [[b.slot(b.vector(b.real)) for _ in contexts] for _ in range(height)]
        for slot in (s for row in slots for s in row):
            b.ir.store(b.constant(b.vector(b.real), 0.0), slot)
        left, right = product.left, product.right
        left_flat = self.layout.slots[left.array].flat(left.position)
        right_flat = self.layout.slots[right.array].flat(right.position)
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
                            vectors.append(b.load(e.base(right.array), e.index(right_flat), b.vector(b.real), valid))
                    for r in range(height):
                        with e.bound(rows, places[r]):
                            one = b.splat(b.load(e.base(left.array), e.index(left_flat), b.real))
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
                        self._emit(nest)
                        e.values, e.registers = {}, {}

    # -- scatters

    def _scatter(self, nest: Nest) -> None:
        scatter = nest.scatter
        assert scatter is not None
        from handgrad.native.arrays import domain_of, variables_of

        base_domain = domain_of(scatter.array.shape)
        fill = Nest(base_domain, [Map(scatter.array, variables_of(scatter.array.shape), scatter.base, base_domain)])
        self._statements(fill)
        self.e = Expressions(self.b, self.layout, self.arena)
        e = self.e
        along = scatter.domain[-1] if scatter.domain else None
        if along is not None and scatter.position[-1] == Index.of(along):
            e.vector = along
        outer = scatter.domain[:-1] if e.vector is not None else scatter.domain

        def add() -> None:
            value = e.value(scatter.body)
            if e.vector is not None:
                value = self.b.splat(value)
            if scatter.adds:
                flat = self.layout.slots[scatter.array].flat(scatter.position)
                kind = self.b.real if scatter.array.kind == FLOAT else I32
                valid = e.lanes.valid if e.lanes is not None else None
                before = self.b.load(
                    e.base(scatter.array), e.index(flat), self.b.vector(kind) if e.vector else kind, valid
                )
                value = self.b.combined("sum", before, value)
            flat = self.layout.slots[scatter.array].flat(scatter.position)
            valid = e.lanes.valid if e.lanes is not None else None
            self.b.store(value, e.base(scatter.array), e.index(flat), valid)

        if e.vector is None:
            self._loops(outer, add)
        else:
            self._loops(outer, lambda: self._vectors(e.vector, add, nest) if e.vector is not None else None)


def registers_of(nest: Nest) -> dict[Array, Scalar]:
    """Return the arrays that a nest makes and reads in registers, as the expressions that make them."""
    return {s.array: s.body for s in nest.statements if isinstance(s, Map) and s.array.role == "temporary"}
