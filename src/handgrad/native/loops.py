"""In which order the loops of a nest run, and which of them is divided: among threads, or into strips."""

from __future__ import annotations

import math
from dataclasses import dataclass

from handgrad.native.indices import Index, Var
from handgrad.native.nests import Nest
from handgrad.native.program import Map, Product
from handgrad.native.scalars import Scalar

PANEL = 4  # vectors of a column panel
WORTH = 1 << 18  # operations: a nest of fewer is not divided
BLOCK = 32  # bytes: the side of a block that is turned in registers
ENOUGH = 8  # column panels are divided from so many on; of fewer, rows


@dataclass(frozen=True)
class Order:
    """The loops around statements. ``rows`` reduces along the last variable, ``columns`` goes down column panels."""

    kind: str  # rows, columns, or plain
    outer: tuple[Var, ...]
    inner: tuple[Var, ...]


@dataclass(frozen=True)
class Division:
    """A loop that can be cut at every multiple of ``grain``: its parts write different places, and read no other's."""

    variable: Var
    grain: int

    @property
    def parts(self) -> int:
        """How many parts there are at most."""
        return -(-self.variable.extent // self.grain)


def order_of(nest: Nest) -> Order:
    """Return the order of the loops of a nest of statements over at least one variable."""
    over = nest.over or frozenset()
    *others, last = nest.domain
    outer = tuple(v for v in others if v not in over)
    inner = tuple(v for v in others if v in over)
    if last in over:
        return Order("rows", outer, inner)
    if inner:
        return Order("columns", outer, inner)
    return Order("columns", (), outer) if _has_row_constants(nest, last) else Order("plain", outer, ())


def turned(nest: Nest) -> Var | None:
    """Return along which variable the rows lie that a nest copies as columns; None if it is no transposed copy."""
    made = nest.statements[0] if len(nest.statements) == 1 else None
    if not isinstance(made, Map) or nest.product is not None or made.body.op != "load" or len(nest.domain) < 2:
        return None
    *outer, row = made.body.position or (Index(),)
    along = next((v for v in nest.domain[:-1] if row == Index.of(v)), None)
    return None if along is None or any(along in index.variables for index in outer) else along


def block_of(lanes: int, item: int) -> int:
    """Return how many rows and columns a transposed copy turns at once: half of the longest vectors is as fast."""
    return min(lanes, BLOCK // item)


def _has_row_constants(nest: Nest, last: Var) -> bool:
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


def work_of(nest: Nest) -> int:
    """Return about how many operations a nest takes; a multiplication and an addition in one are one."""
    points = math.prod(v.extent for v in nest.domain)
    each = sum(s.body.costs for s in nest.statements) + (nest.product.k.extent if nest.product else 0)
    return points * max(each, 1)


def tile_of(product: Product, lanes: int, registers: int) -> tuple[int, int]:
    """Return how many rows, and how many vectors of columns, of a product are summed in registers at once."""
    columns = product.domain[-1]
    vectors = -(-columns.extent // lanes)
    widest = 4 if registers > 16 else 2
    width = next(w for w in range(widest, 0, -1) if w <= vectors and (vectors % w == 0 or w <= 2 or vectors > 8))
    return height_of(product, width, registers), width


def height_of(product: Product, width: int, registers: int) -> int:
    """Return of how many rows, of ``width`` vectors, the sums fit into registers beside what is multiplied."""
    height = (registers - (4 if registers > 16 else 1) - width) // width
    return min(height, 16 if width == 1 else 8, product.domain[-2].extent)


def division_of(nest: Nest, lanes: int, registers: int) -> Division | None:
    """Return how a nest is divided; None if it is too small, or its parts are not independent."""
    if nest.scatter is not None or not nest.domain or work_of(nest) < WORTH:
        return None
    *_, last = nest.domain
    if nest.product is not None:
        height, width = tile_of(nest.product, lanes, registers)
        columns = Division(last, width * lanes)
        *batch, rows, _ = nest.domain
        others = [Division(v, 1) for v in batch] + [columns]
        if nest.over is None:
            others.append(Division(rows, height))
    else:
        order = order_of(nest)
        columns = Division(last, PANEL * lanes)
        rows_of = order.inner if order.kind == "columns" and nest.over is None else order.outer
        others = [Division(v, lanes if v == turned(nest) else 1) for v in rows_of]
        if order.kind == "rows":
            return _finest(others)
        others.append(columns)
    return columns if columns.parts >= ENOUGH else _finest(others)


def _finest(divisions: list[Division]) -> Division | None:
    best = max(divisions, key=lambda d: d.parts, default=None)
    return best if best is not None and best.parts > 1 else None
