"""A normal form for gradients: sums of monomials over values, upstream gradients, one-hots and sizes.

Everything is in index notation. A value has a label for each of its dimensions, None where its size is 1: ``probs`` is
``probs[0,1]``, ``counts_sum`` of shape (n, 1) is ``counts_sum[0,]``, and broadcasting needs no word. A sum binds
labels: the row sum of ``probs`` is ``Sum((1,), probs[0,1])`` and depends on label 0 alone. A monomial maps factors to
exponents, whole numbers or fractions; a `Poly` maps monomials to rational coefficients. What is done with them is in
`algebra.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from functools import cached_property
from typing import Literal

from handgrad.expr import Expr

Axes = tuple[int | None, ...]
Kind = Literal["size", "value", "truth", "gradient"]
Mono = tuple[tuple["Factor", Fraction], ...]  # sorted by the keys of the factors
ONE = Fraction(1)
POSITIVE = frozenset(["exp", "exp2", "sigmoid", "softplus", "cosh"])
_RANKS = {"size": "0", "value": "1", "truth": "2", "gradient": "4"}


class Factor:
    """What stands in a monomial. Factors are equal if their keys are; keys also give the order."""

    key: str
    family: str  # the key without labels
    labels: frozenset[int]
    positive: bool = False  # surely above zero, whatever the numbers

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Factor) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return self.key

    @property
    def idempotent(self) -> bool:
        """Whether it times itself is itself."""
        return False

    @property
    def order(self) -> list[int]:
        """The labels in the order in which they stand."""
        return sorted(self.labels)

    def relabel(self, new: Mapping[int, int]) -> Factor:
        """Return the factor with other labels."""
        raise NotImplementedError

    def inside(self) -> Iterator[Poly]:
        """Yield what stands inside."""
        yield from ()


class Leaf(Factor):
    """A size, a value, a 0-or-1 (a mask or a one-hot), or an upstream gradient. ``expr`` is how it is written."""

    def __init__(
        self, kind: Kind, name: str, axes: Axes, expr: Expr, *, positive: bool = False, classes: int | None = None
    ) -> None:
        self.kind, self.name, self.axes, self.expr, self.positive = kind, name, axes, expr, positive
        self.classes = classes  # of a one-hot: the label along which it sums to 1
        self.labels = frozenset(label for label in axes if label is not None)
        self.family = f"{_RANKS[kind]} {name}"
        self.key = f"{self.family}[{','.join('' if a is None else str(a) for a in axes)}]"

    @property
    def idempotent(self) -> bool:
        """Whether it is 0 or 1."""
        return self.kind == "truth"

    @property
    def order(self) -> list[int]:
        """The labels in the order in which they stand."""
        return [label for label in self.axes if label is not None]

    def relabel(self, new: Mapping[int, int]) -> Leaf:
        """Return the leaf with other labels."""
        axes = tuple(label if label is None else new.get(label, label) for label in self.axes)
        classes = self.classes if self.classes is None else new.get(self.classes, self.classes)
        return Leaf(self.kind, self.name, axes, self.expr, positive=self.positive, classes=classes)


class Call(Factor):
    """A function of each number, such as ``exp``."""

    def __init__(self, function: str, inner: Poly) -> None:
        self.function, self.inner, self.labels = function, inner, inner.labels
        self.positive = function in POSITIVE
        self.family = f"3 {function}"
        self.key = f"{self.family}({inner.key})"

    def relabel(self, new: Mapping[int, int]) -> Call:
        """Return the call with other labels."""
        return Call(self.function, self.inner.relabel(new))

    def inside(self) -> Iterator[Poly]:
        """Yield the argument."""
        yield self.inner


class Base(Factor):
    """A sum of several terms that stands under a power."""

    family = "5"

    def __init__(self, inner: Poly) -> None:
        self.inner, self.labels, self.positive = inner, inner.labels, inner.positive
        self.key = f"{self.family} ({inner.key})"

    def relabel(self, new: Mapping[int, int]) -> Base:
        """Return the base with other labels."""
        return Base(self.inner.relabel(new))

    def inside(self) -> Iterator[Poly]:
        """Yield the sum."""
        yield self.inner


class Sum(Factor):
    """A monomial summed over labels, of the sizes ``sizes``. Its labels are numbered anew, so that equals are equal."""

    family = "6"

    def __init__(self, mono: Mono, sizes: Mapping[int, Poly]) -> None:
        free = frozenset[int]().union(*(factor.labels for factor, _ in mono)) - set(sizes)
        order: list[int] = []
        for factor, _ in sorted(mono, key=lambda item: (item[0].family, item[0].key)):
            order += [label for label in factor.order if label in sizes and label not in order]
        spare = (label for label in range(len(order) + len(free)) if label not in free)
        new = dict(zip(order, spare, strict=False))
        if any(old != label for old, label in new.items()):
            mono = monomial((factor.relabel(new), power) for factor, power in mono)
        self.sizes = {new[label]: sizes[label] for label in order}
        self.mono, self.labels = mono, free
        self.positive = all(is_positive(factor, power) for factor, power in mono)
        self.key = f"{self.family} {sorted(self.sizes)}({mono_key(mono)})"

    @property
    def bound(self) -> list[int]:
        """The labels that are summed over."""
        return sorted(self.sizes)

    @property
    def inner(self) -> Poly:
        """What is summed."""
        return Poly({self.mono: ONE})

    def relabel(self, new: Mapping[int, int]) -> Sum:
        """Return the sum with other labels; the bound ones make room."""
        mono, sizes = self.apart({*new.values(), *self.labels})
        moved = {old: label for old, label in new.items() if old in self.labels}
        return Sum(monomial((factor.relabel(moved), power) for factor, power in mono), sizes)

    def apart(self, taken: set[int]) -> tuple[Mono, dict[int, Poly]]:
        """Return what is summed, and the sizes, with bound labels that are not in ``taken``."""
        first = 1 + max([*taken, *self.sizes, *self.labels], default=0)
        away = {label: first + position for position, label in enumerate(self.bound)}
        mono = monomial((factor.relabel(away), power) for factor, power in self.mono)
        return mono, {away[label]: size for label, size in self.sizes.items()}

    def inside(self) -> Iterator[Poly]:
        """Yield what is summed."""
        yield self.inner


def is_positive(factor: Factor, power: Fraction) -> bool:
    """Whether a power is surely above zero: a fractional one exists only above zero."""
    return factor.positive or power.denominator != 1


def monomial(factors: Iterable[tuple[Factor, Fraction]]) -> Mono:
    """Return the product of powers, sorted."""
    powers: dict[Factor, Fraction] = {}
    for factor, power in factors:
        powers[factor] = powers.get(factor, Fraction(0)) + power
    for factor, power in powers.items():
        if factor.idempotent and power > 0:
            powers[factor] = ONE
    kept = [(factor, power) for factor, power in powers.items() if power]
    return tuple(sorted(kept, key=lambda item: item[0].key))


def mono_key(mono: Mono) -> str:
    """Return the text that a monomial is told from others by."""
    return " * ".join(factor.key if power == 1 else f"{factor.key}^{power}" for factor, power in mono)


class Poly:
    """A sum of monomials with rational coefficients. It does not change."""

    def __init__(self, terms: Mapping[Mono, Fraction] | None = None) -> None:
        self.terms = {mono: c for mono, c in (terms or {}).items() if c}

    @classmethod
    def number(cls, value: Fraction | int) -> Poly:
        """Return a number."""
        return cls({(): Fraction(value)})

    @classmethod
    def of(cls, factor: Factor, power: Fraction = ONE) -> Poly:
        """Return a power of a factor."""
        return cls({((factor, power),): ONE} if power else {(): ONE})

    @cached_property
    def key(self) -> str:
        """The text that it is told from others by."""
        return " + ".join(sorted(f"{c} {mono_key(mono)}" for mono, c in self.terms.items())) or "0"

    @cached_property
    def labels(self) -> frozenset[int]:
        """The labels that it depends on."""
        return frozenset[int]().union(*(factor.labels for mono in self.terms for factor, _ in mono))

    @cached_property
    def positive(self) -> bool:
        """Whether it is surely above zero: no term is below, and one is above."""
        return all(c > 0 and _not_below(mono) for mono, c in self.terms.items()) and any(
            all(is_positive(factor, power) for factor, power in mono) for mono in self.terms
        )

    @property
    def value(self) -> Fraction | None:
        """The number that it is, None if it is none."""
        if not self.terms:
            return Fraction(0)
        return self.terms.get(()) if len(self.terms) == 1 else None

    @property
    def only(self) -> tuple[Mono, Fraction] | None:
        """Its term, None if there is not exactly one."""
        return next(iter(self.terms.items())) if len(self.terms) == 1 else None

    def sorted(self) -> list[tuple[Mono, Fraction]]:
        """Return the terms in an order that does not depend on how they came to be."""
        return sorted(self.terms.items(), key=lambda item: mono_key(item[0]))

    def factors(self) -> Iterator[Factor]:
        """Yield every factor, those inside of others too."""
        for mono, _ in self.sorted():
            for factor, _ in mono:
                yield factor
                for inner in factor.inside():
                    yield from inner.factors()

    def relabel(self, new: Mapping[int, int]) -> Poly:
        """Return it with other labels."""
        return Poly({monomial((f.relabel(new), p) for f, p in mono): c for mono, c in self.terms.items()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return self.key

    def __add__(self, other: Poly) -> Poly:
        terms = dict(self.terms)
        for mono, c in other.terms.items():
            terms[mono] = terms.get(mono, Fraction(0)) + c
        return Poly(terms)

    def __neg__(self) -> Poly:
        return self.scale(Fraction(-1))

    def __sub__(self, other: Poly) -> Poly:
        return self + -other

    def scale(self, number: Fraction) -> Poly:
        """Return it times a number."""
        return Poly({mono: c * number for mono, c in self.terms.items()})


def _is_even(power: Fraction) -> bool:
    return power.denominator == 1 and power % 2 == 0


def _not_below(mono: Mono) -> bool:
    """Whether a monomial is not below zero: its factors are positive, squares, or sums of squares."""
    for factor, power in mono:
        if is_positive(factor, power) or _is_even(power) or factor.idempotent:
            continue
        if not isinstance(factor, Sum) or not _not_below(factor.mono):
            return False
    return True
