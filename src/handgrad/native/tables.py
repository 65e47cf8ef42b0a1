"""An embedding beside a product: where a batch has more rows than the table, the table is multiplied instead.

For ``A[n, t*E + e] = C[X[n, t], e]``, with ``C`` of V rows and ``W_t`` the E rows of ``W`` from ``t*E`` on, and with
the sums ``S_t[v]`` of the rows n of G where ``X[n, t]`` is v:

* ``A @ W`` is the sum over t of ``(C @ W_t)[X[:, t]]``;
* rows ``t*E`` to ``t*E + E - 1`` of ``A.T @ G`` are ``C.T @ S_t``;
* the rows of ``G @ W.T``, cut into T parts and added up where X says, are the sum over t of ``S_t @ W_t.T``.

Each is the same sum in another order, with V rows to multiply where there were N.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from handgrad.native.arrays import Array, domain_of, variables_of
from handgrad.native.indices import Entry, Index, Remainder, Var, split
from handgrad.native.program import (
    Definition,
    Map,
    Product,
    Program,
    Scatter,
    behind_copies,
    bodies_of,
    loads_of,
    needed,
)
from handgrad.native.scalars import Scalar, load, op, real, replaced, replaced_in

ROWS = 2  # a batch has at least so many times the rows of the table
WIDTH = 4  # numbers of a row: with fewer, reading the table takes as long as multiplying
PLACES = 8  # rows side by side: tables that are added up in one expression

At = Callable[[Index, Index], Scalar]


@dataclass(frozen=True)
class Gather:
    """Rows of ``table``, ``size`` of them side by side, each ``width`` numbers; ``row(n, t)`` says which."""

    table: Array
    size: int
    width: int
    row: Callable[[Index, Index], Index]

    def pays(self, rows: int) -> bool:
        """Whether multiplying the table is less than multiplying so many rows of it."""
        return self.width >= WIDTH and self.size <= PLACES and rows >= ROWS * self.table.shape[0] >= ROWS * 2


def with_tables(program: Program, results: Iterable[Array]) -> Program:
    """Return a program of the same results that multiplies tables where that is less."""
    wanted = set(results) | set(program.given)
    found = _Tables(needed(program.definitions, wanted), wanted).definitions
    return replace(program, definitions=needed(found, wanted))


class _Tables:
    def __init__(self, definitions: Sequence[Definition], kept: set[Array]) -> None:
        self.made = {d.array: d for d in definitions if d.array not in kept}
        self.readers = Counter(a for d in definitions for a in {n.array for n in loads_of(*bodies_of(d))})
        self.sums: dict[tuple[Index, int], Array] = {}
        self.definitions: list[Definition] = []
        for definition in definitions:
            self.definitions.append(self._rewritten(definition) or definition)

    def _rewritten(self, made: Definition) -> Definition | None:
        if isinstance(made, Scatter):
            return self._from_sums(made)
        if isinstance(made, Product) and len(made.domain) == 2:
            return self._from_table(made) or self._of_sums(made)
        return None

    def _from_table(self, p: Product) -> Definition | None:
        """Return the product of gathered rows as rows of a product."""
        n, h = p.domain
        gather = self._gather(p.left, n, p.k)
        if gather is None:
            return None
        right = _function(p.right, p.k, h)
        table = self._multiplied(
            (gather.size, gather.table.shape[0], h.extent), gather.width,
            lambda _t, v, e: load(gather.table, (v, e)), lambda t, e, c: right(t * gather.width + e, c),
        )  # fmt: skip
        picked = (load(table, (t, gather.row(Index.of(n), t), Index.of(h))) for t in map(Index.of, range(gather.size)))
        return Map(p.array, p.position, _added(picked), p.domain)

    def _of_sums(self, p: Product) -> Definition | None:
        """Return the product of transposed gathered rows as one of the transposed table and sums."""
        k, h = p.domain
        gather = self._gather(p.left, p.k, k)
        if gather is None:
            return None
        sums = self._summed(gather, _function(p.right, p.k, h), p.k.extent, h.extent)
        shape = (gather.size, gather.width, h.extent)
        t, e, c = variables_of(shape)
        v = _inner(shape, gather.table.shape[0])
        place = tuple(replaced_in(index, {k: t * gather.width + e, h: c}) for index in p.position)
        return Product(p.array, place, load(gather.table, (Index.of(v), e)), load(sums, (t, Index.of(v), c)),
                       domain_of(shape), v)  # fmt: skip

    def _from_sums(self, s: Scatter) -> Definition | None:
        """Return rows of a product that are added up in a table as a product of sums."""
        p = self.made.get(s.body.array) if s.body.op == "load" else None
        if not s.adds or not isinstance(p, Product) or self.readers[p.array] > 1 or not _is_entry(s.position[0]):
            return None
        if len(s.position) != 2 or len(p.domain) != 2 or p.position != tuple(map(Index.of, p.domain)):
            return None
        (rows, columns), width = p.domain, s.array.shape[1]
        shape = (rows.extent, columns.extent // width, width)
        n, t, e = variables_of(shape)
        *outer, last = s.domain
        if last.extent != width or math.prod(v.extent for v in outer) * width != math.prod(shape):
            return None
        here = dict(zip(s.domain, (*split(n * shape[1] + t, tuple(v.extent for v in outer)), e), strict=True))
        row, column = (replaced_in(index, here) for index in s.position)
        reads = tuple(replaced_in(index, here) for index in s.body.position)
        if column != e or e.variables & row.variables or reads != (n, t * width + e):
            return None

        def row_at(this: Index, place: Index) -> Index:
            return replaced_in(row, {v: to for index, to in ((n, this), (t, place)) for v in index.variables})

        gather = Gather(s.array, shape[1], width, row_at)
        if not gather.pays(rows.extent) or p.left.position[-1] != Index.of(p.k):
            return None
        sums = self._summed(gather, _function(p.left, rows, p.k), rows.extent, p.k.extent)
        right = self._turned(_function(p.right, p.k, columns), gather, p.k.extent)
        products = self._multiplied(
            (gather.size, s.array.shape[0], width), p.k.extent,
            lambda t, v, h: load(sums, (t, v, h)), lambda t, h, e: load(right, (t, h, e)),
        )  # fmt: skip
        here_ = variables_of(s.array.shape)
        shares = (load(products, (t, *here_)) for t in map(Index.of, range(gather.size)))
        return Map(s.array, here_, _added([s.base, *shares]), domain_of(s.array.shape))

    # -- what they are made of

    def _gather(self, node: Scalar, n: Var, k: Var) -> Gather | None:
        """Return a load as rows of a table, if it is that and it pays; ``n`` numbers the rows, ``k`` the columns."""
        node = behind_copies(node, self.made)
        if len(node.position) != 2 or not _is_entry(node.position[0]):
            return None
        row, column = node.position
        width = column.terms[0][0].by if column.terms and isinstance(column.terms[0][0], Remainder) else k.extent
        if column != Index.of(k) % width or k.extent % width or not row.variables <= {n, k}:
            return None
        gather = Gather(node.array, k.extent // width, width,
                        lambda this, t: replaced_in(row, {n: this, k: t * width}))  # fmt: skip
        place, within = (Index.of(Var(_FRESH + d, size)) for d, size in enumerate((gather.size, width)))
        by_place = replaced_in(row, {k: place * width + within}) == gather.row(Index.of(n), place)
        return gather if by_place and gather.pays(n.extent) else None

    def _summed(self, gather: Gather, of: At, rows: int, columns: int) -> Array:
        """Return for each place and each row of the table the sum of ``of`` over the rows that read it."""
        shape = (rows, gather.size, columns)
        n, t, c = variables_of(shape)
        row, body = gather.row(n, t), of(n, c)
        if (row, id(body)) not in self.sums:
            sums = Array((gather.size, gather.table.shape[0], columns))
            self.definitions.append(Scatter(sums, (t, row, c), body, domain_of(shape), real(0), adds=True))
            self.sums[row, id(body)] = sums
        return self.sums[row, id(body)]

    def _multiplied(self, shape: tuple[int, int, int], terms: int, left: Callable[[Index, Index, Index], Scalar],
                    right: Callable[[Index, Index, Index], Scalar]) -> Array:  # fmt: skip
        """Return the sums over k of ``left(t, row, k) * right(t, k, column)``."""
        array, (t, row, column), k = Array(shape), variables_of(shape), _inner(shape, terms)
        made = Product(array, (t, row, column), left(t, row, Index.of(k)), right(t, Index.of(k), column),
                       domain_of(shape), k)  # fmt: skip
        self.definitions.append(made)
        return array

    def _turned(self, of: At, gather: Gather, rows: int) -> Array:
        """Return ``of(h, t * width + e)`` as an array of t, h and e."""
        shape = (gather.size, rows, gather.width)
        array, (t, h, e) = Array(shape), variables_of(shape)
        body = behind_copies(of(h, t * gather.width + e), self.made)
        self.definitions.append(Map(array, (t, h, e), body, domain_of(shape)))
        return array


_FRESH = 100  # no domain has so many variables


def _inner(shape: tuple[int, ...], extent: int) -> Var:
    return Var(len(domain_of(shape)), extent)


def _function(node: Scalar, first: Var, second: Var) -> At:
    """Return an expression as a function of two variables of it."""
    return lambda x, y: replaced(node, {first: x, second: y})


def _added(terms: Iterable[Scalar]) -> Scalar:
    return reduce(lambda a, b: op("add", a, b), terms)


def _is_entry(index: Index) -> bool:
    return len(index.terms) == 1 and index.terms[0][1] == 1 and isinstance(index.terms[0][0], Entry)
