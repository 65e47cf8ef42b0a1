"""Which matrices lie transposed in memory, and which products are computed transposed.

A product of 32 rows and 27 columns takes two vectors of 16 for each row, 64 in all; transposed it takes 54. What is
computed of such a matrix number by number is computed transposed with it. Whichever shapes are turned, the results are
the same; which ones are is a matter of what the whole step costs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from handgrad.native.arrays import Array, Shape, domain_of, variables_of
from handgrad.native.indices import Index, Var
from handgrad.native.program import (
    Definition,
    Map,
    Product,
    Program,
    Reduce,
    Scatter,
    behind_copies,
    bodies_of,
    is_copy,
    loads_of,
)
from handgrad.native.scalars import Scalar, load, replaced, replaced_in

# what things cost, in vectors that are multiplied and added
COPIED, COPIED_FAR = 0.3, 1.5  # a number of a transposed copy, of `FAR` numbers or more
SINGLE = 2.0  # a number that is read by itself
ACROSS = 20.0  # the sum of the numbers of a vector
FAR = 1 << 17
COSTLIEST = 100  # a number of a formula
GAIN = 0.01  # shapes are turned for at least such a part of the cost
MOST = 10  # shapes that are tried

Turned = frozenset[Shape]


def oriented(program: Program, lanes: int) -> tuple[Program, dict[Array, Array]]:
    """Return a program that is the same but for rows and columns, and its arrays that lie transposed.

    ``lanes`` is how many numbers a vector has.
    """
    costs = Costs(program.definitions, lanes)
    best: Turned = frozenset()
    shapes = costs.candidates()
    while True:
        some = (c for count in (1, 2) for c in itertools.combinations(shapes, count))
        found = min((best ^ frozenset(c) for c in some), key=costs.of, default=best)
        if costs.of(found) >= (1 - GAIN) * costs.of(best):
            break
        best = found
    return turned(program, best, costs) if best else (program, {})


def turned(program: Program, shapes: Turned, costs: Costs) -> tuple[Program, dict[Array, Array]]:
    """Return a program with what is computed in ``shapes`` turned, and its arrays that lie transposed."""
    turning = _Turning(costs, shapes)
    given = [turning.arrays.get(array, array) for array in program.given]
    return replace(program, definitions=turning.definitions, given=given), turning.arrays


class Costs:
    """What definitions cost if those of some shapes are turned."""

    def __init__(self, definitions: Sequence[Definition], lanes: int) -> None:
        self.definitions, self.lanes = definitions, lanes
        self.made = {d.array: d for d in definitions}
        self.shapes = {d.array: shape for d in definitions if (shape := _shape_of(d)) and _fills(d)}
        self._counted = [d for d in definitions if d.domain and all(v.extent for v in d.domain) and not is_copy(d)]
        self._concerned = [self._shapes_of(d) for d in self._counted]
        self._known: dict[tuple[int, Turned], _Cost] = {}

    def candidates(self) -> list[Shape]:
        """Return shapes of products that fit better into vectors when they are turned, those with most work first."""
        gains: dict[Shape, int] = {}
        for d in self.definitions:
            shape = _shape_of(d)
            if isinstance(d, Product) and shape and self._lines(*shape[::-1]) < self._lines(*shape):
                gains[shape] = gains.get(shape, 0) + d.k.extent * math.prod(shape)
        return sorted(gains, key=lambda shape: (-gains[shape], shape))[:MOST]

    def of(self, turned: Turned) -> float:
        """Return what all definitions cost; a copy that several of them read is made once."""
        total, copies = 0.0, dict[Hashable, float]()
        for number, concerned in enumerate(self._concerned):
            key = number, turned & concerned
            if key not in self._known:
                self._known[key] = self._cost(self._counted[number], turned)
            cost = self._known[key]
            total += cost.own
            if cost.copied is not None:
                copies[cost.copied] = cost.of_copy
        return total + sum(copies.values())

    def _shapes_of(self, d: Definition) -> Turned:
        """Return the shapes that the cost of a definition depends on: its own, and those of what it reads."""
        nodes = [
            *loads_of(*bodies_of(d)),
            *(map(self.behind_copies, (d.left, d.right)) if isinstance(d, Product) else ()),
        ]
        found = {_shape_of(d), *(self.shapes.get(node.array) for node in nodes)}
        return frozenset(shape for shape in found if shape is not None)

    def _cost(self, d: Definition, turned: Turned) -> _Cost:
        is_turned = _shape_of(d) in turned
        sizes = [v.extent for v in d.domain]
        rows, columns = sizes[-2:] if len(sizes) > 1 else (1, sizes[-1])
        lines = math.prod(sizes[:-2]) * (self._lines(columns, rows) if is_turned else self._lines(rows, columns))
        last = d.domain[-2] if is_turned else d.domain[-1]
        if isinstance(d, Product):
            node = self.behind_copies(d.left if is_turned else d.right)
            if self._is_contiguous(node, last, turned):
                return _Cost(lines * d.k.extent)
            size = d.k.extent * last.extent
            return _Cost(lines * d.k.extent, (node.array, is_turned), size * (COPIED if size < FAR else COPIED_FAR))
        singles = sum(last in node.variables and not self._is_contiguous(node, last, turned)
                      for node in loads_of(*bodies_of(d)))  # fmt: skip
        points = math.prod(sizes)
        across = points / last.extent * ACROSS if isinstance(d, Reduce) and last in d.over else 0.0
        return _Cost(
            lines * sum(min(body.costs, COSTLIEST) for body in bodies_of(d)) + SINGLE * singles * points + across
        )

    def _lines(self, rows: int, columns: int) -> float:
        """Return how many vectors some rows take; half a vector takes half the time."""
        whole, rest = divmod(columns, self.lanes)
        return rows * (whole + (0 if not rest else 0.5 if rest <= self.lanes // 2 else 1))

    def _is_contiguous(self, node: Scalar, along: Var, turned: Turned) -> bool:
        return is_contiguous(node, along, self.shapes.get(node.array) in turned)

    def behind_copies(self, node: Scalar) -> Scalar:
        """Return what a load reads, also where that has been copied."""
        return behind_copies(node, self.made)


@dataclass(frozen=True)
class _Cost:
    """What a definition costs by itself, and what the transposed copy does that it reads."""

    own: float
    copied: Hashable = None
    of_copy: float = 0.0


class _Turning:
    """Definitions with some shapes turned, and which ``arrays`` lie transposed."""

    def __init__(self, costs: Costs, shapes: Turned) -> None:
        self._costs, self._turned = costs, shapes
        self.arrays = {a: Array(a.shape[::-1], a.kind, a.name, a.role)
                       for a, shape in costs.shapes.items() if shape in shapes}  # fmt: skip
        self._copies: dict[Scalar, Array] = {}
        self.definitions: list[Definition] = []
        for d in costs.definitions:
            self.definitions.append(self._turn(d))

    def _turn(self, d: Definition) -> Definition:
        is_turned = _shape_of(d) in self._turned
        values, domain = _swapped(d.domain) if is_turned else ({}, d.domain)
        array = self.arrays.get(d.array, d.array)
        position = tuple(replaced_in(index, values, self.arrays) for index in d.position)
        if d.array in self.arrays:
            position = position[::-1]

        def of(node: Scalar) -> Scalar:
            return replaced(node, values, self.arrays)

        if isinstance(d, Map):
            return Map(array, position, of(d.body), domain)
        if isinstance(d, Reduce):
            over = frozenset(v for i in d.over for v in values.get(i, Index.of(i)).variables)
            return Reduce(array, position, of(d.body), domain, over, d.kind)
        if isinstance(d, Scatter):
            return Scatter(array, position, of(d.body), d.domain, replaced(d.base, {}, self.arrays), d.adds)
        left, right = (d.right, d.left) if is_turned else (d.left, d.right)
        return Product(array, position, of(left), self._in_rows(of(right), of(self._costs.behind_copies(right)),
                                                                d.k, domain[-1]), domain, d.k)  # fmt: skip

    def _in_rows(self, node: Scalar, source: Scalar, k: Var, column: Var) -> Scalar:
        """Return the right-hand factor of a product, whose rows lie in memory as rows: a copy if they do not."""
        for one in (source, node):
            if is_contiguous(one, column, turned=False):
                return one
        if not node.variables <= {k, column}:  # of a batch of products
            return node
        shape = (k.extent, column.extent)
        h, e = variables_of(shape)
        body = replaced(source, {k: h, column: e})
        if body not in self._copies:
            self._copies[body] = Array(shape)
            self.definitions.append(Map(self._copies[body], (h, e), body, domain_of(shape)))
        return load(self._copies[body], (Index.of(k), Index.of(column)))


def is_contiguous(node: Scalar, along: Var, turned: bool) -> bool:
    """Whether what a load reads along a variable lies side by side, if its array is turned or if not."""
    places = [index for index, size in zip(node.position, node.array.shape, strict=True) if size > 1]
    if not places:
        return False
    *others, last = places[::-1] if turned else places
    return last == Index.of(along) and not any(along in index.variables for index in others)


def _shape_of(d: Definition) -> Shape | None:
    """Return the shape that decides whether a definition is turned; None for what is never turned."""
    if isinstance(d, Scatter) or is_copy(d) or len(d.domain) != 2:
        return None
    return tuple(v.extent for v in d.domain)


def _fills(d: Definition) -> bool:
    """Whether a definition makes all of a matrix, a number at each point: it lies turned if it is computed so."""
    return not isinstance(d, Reduce) and d.position == variables_of(d.array.shape) and len(d.array.shape) == 2


def _swapped(domain: Sequence[Var]) -> tuple[Mapping[Var, Index], tuple[Var, ...]]:
    """Return what two variables become when they change places, and the domain that they then have."""
    m, n = domain
    first, second = Var(m.place, n.extent), Var(n.place, m.extent)
    return {m: Index.of(second), n: Index.of(first)}, (first, second)
