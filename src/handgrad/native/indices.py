"""Whole-number expressions that say where in an array a number stands.

An `Index` is a sum of atoms times factors, and a constant. An atom is a loop variable, a quotient or remainder of an
index (what a reshape makes), or an entry of an array of whole numbers (what indexing makes).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handgrad.native.scalars import Scalar


@dataclass(frozen=True)
class Var:
    """A loop variable: it runs from 0 to ``extent - 1``. Equal places in equal domains are one variable."""

    place: int
    extent: int

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the greatest value."""
        return 0, self.extent - 1


@dataclass(frozen=True)
class Quotient:
    """``of // by``, rounded down."""

    of: Index
    by: int

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the greatest value."""
        low, high = self.of.bounds
        return low // self.by, high // self.by


@dataclass(frozen=True)
class Remainder:
    """``of % by``, not negative."""

    of: Index
    by: int

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the greatest value."""
        return 0, self.by - 1


@dataclass(frozen=True)
class Entry:
    """A number that is read from an array of whole numbers, below ``extent``."""

    of: Scalar
    extent: int

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the greatest value."""
        return 0, self.extent - 1


Atom = Var | Quotient | Remainder | Entry


@dataclass(frozen=True)
class Index:
    """``constant + sum(factor * atom)``."""

    terms: tuple[tuple[Atom, int], ...] = ()
    constant: int = 0

    @staticmethod
    def of(thing: Index | Atom | int) -> Index:
        """Return a number or an atom as an index; a variable of one value is 0."""
        if isinstance(thing, Index):
            return thing
        if isinstance(thing, int):
            return Index((), thing)
        low, high = thing.bounds
        return Index((), low) if low == high and not isinstance(thing, Entry) else Index(((thing, 1),))

    def __add__(self, other: Index | Atom | int) -> Index:
        other = Index.of(other)
        factors = dict(self.terms)
        for atom, factor in other.terms:
            factors[atom] = factors.get(atom, 0) + factor
        return Index(tuple((a, f) for a, f in factors.items() if f), self.constant + other.constant)

    def __mul__(self, factor: int) -> Index:
        if factor == 0:
            return Index()
        return Index(tuple((a, f * factor) for a, f in self.terms), self.constant * factor)

    def __neg__(self) -> Index:
        return self * -1

    def __sub__(self, other: Index | Atom | int) -> Index:
        return self + Index.of(other) * -1

    def __floordiv__(self, by: int) -> Index:
        whole, rest = self._split(by)
        low, high = rest.bounds
        if low // by == high // by:
            return whole + low // by
        if len(rest.terms) == 1 and not rest.constant:
            ((atom, factor),) = rest.terms
            if isinstance(atom, Quotient) and factor == 1:
                return whole + atom.of // (atom.by * by)
        return whole + Quotient(rest, by)

    def __mod__(self, by: int) -> Index:
        _, rest = self._split(by)
        low, high = rest.bounds
        if low // by == high // by:
            return rest - low // by * by
        return Index.of(Remainder(rest, by))

    def _split(self, by: int) -> tuple[Index, Index]:
        """Return a whole multiple of ``by``, divided, and what is left, which is never below zero."""
        whole = Index(tuple((a, f // by) for a, f in self.terms if f % by == 0), self.constant // by)
        rest = Index(tuple((a, f) for a, f in self.terms if f % by), self.constant % by)
        below = min(0, rest.bounds[0] // by)
        return whole + below, rest - below * by

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the greatest value."""
        low = high = self.constant
        for atom, factor in self.terms:
            ends = [end * factor for end in atom.bounds]
            low, high = low + min(ends), high + max(ends)
        return low, high

    @cached_property
    def variables(self) -> frozenset[Var]:
        """The loop variables in it, at any depth."""
        return frozenset(v for atom, _ in self.terms for v in _variables(atom))

    def factor_of(self, variable: Var) -> int | None:
        """Return the stride along ``variable``; None if it is not a constant."""
        factor = 0
        for atom, f in self.terms:
            if atom == variable:
                factor = f
            elif variable in set(_variables(atom)):
                return None
        return factor

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((frozenset(self.terms), self.constant))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Index)
            and self.constant == other.constant
            and (self.terms == other.terms or dict(self.terms) == dict(other.terms))
        )


def _variables(atom: Atom) -> Iterator[Var]:
    if isinstance(atom, Var):
        yield atom
    else:
        yield from atom.of.variables


def split(index: Index, sizes: tuple[int, ...]) -> list[Index]:
    """Return the position in an array of ``sizes`` of the element with number ``index`` in reading order."""
    found: list[Index] = []
    for size in reversed(sizes[1:]):
        found.append(index % max(size, 1))
        index = index // max(size, 1)
    return [*([index] if sizes else []), *reversed(found)]


def join(indices: list[Index], sizes: tuple[int, ...]) -> Index:
    """Return the number in reading order of the element at a position: the inverse of `split`."""
    total = Index()
    for index, size in zip(indices, sizes, strict=True):
        total = total * size + index
    return recombined(total)


def recombined(index: Index) -> Index:
    """Write ``x // n * n + x % n`` as ``x``, with any common factor."""
    while True:
        factors = dict(index.terms)
        for atom, factor in index.terms:
            if isinstance(atom, Remainder):
                whole = Index.of(atom.of) // atom.by  # how the quotient of the same number is written
                if len(whole.terms) == 1 and not whole.constant and whole.terms[0][1] == 1:
                    quotient = whole.terms[0][0]
                    if factors.get(quotient) == factor * atom.by:
                        rest = Index(tuple((a, f) for a, f in index.terms if a not in (atom, quotient)), index.constant)
                        index = rest + atom.of * factor
                        break
        else:
            return index
