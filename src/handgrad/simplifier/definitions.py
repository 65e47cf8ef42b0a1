"""The definitions of forward values as rules: used forwards, or backwards, solved for one of their parts.

``probs = counts * counts_sum_inv`` also says that ``counts`` is ``probs / counts_sum_inv``, and
``bnvar_inv = (bnvar + eps)**-0.5`` that ``bnvar + eps`` is ``bnvar_inv**-2``. Which of these make a gradient shorter is
found by trying (`search.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from handgrad.simplifier.algebra import called, is_size, power, rebuilt, summed, times
from handgrad.simplifier.normal_form import Base, Call, Factor, Leaf, Mono, Poly, Sum, is_positive, monomial
from handgrad.simplifier.reading import Reader

INVERSE = Fraction(-1)


@dataclass(frozen=True)
class Rule:
    """``pivot`` is ``replacement``, by the definition of ``value``."""

    pivot: Factor
    replacement: Poly
    value: Leaf


class Definitions:
    """The definitions of all values that some polynomials lead to."""

    def __init__(self, reader: Reader, start: Iterable[Poly]) -> None:
        self.reader = reader
        self.known: dict[Leaf, Poly] = {}
        stack = [factor for poly in start for factor in poly.factors()]
        seen: set[Factor] = set()
        while stack:
            factor = stack.pop(0)
            if factor in seen or not isinstance(factor, Leaf):
                continue
            seen.add(factor)
            found = reader.definition(factor)
            if found is not None:
                self.known[factor] = found
                stack += found.factors()
        self.values = sorted(self.known, key=lambda leaf: leaf.key)
        self.folds = self._folds()

    # -- always used

    def _folds(self) -> dict[str, Rule]:
        """Return the rules that put a name for what has no name: a sum, a function, a root."""
        folds: dict[str, Rule] = {}
        for value in self.values:
            if is_nameless(value) and not any(isinstance(f, Sum) for f in _tops(self.known[value])):
                continue
            definition = self.known[value]
            for form in (definition, self.unfolded(definition)):
                for factor in _tops(form, inside_roots=True):
                    if isinstance(factor, Leaf) and not is_nameless(factor):
                        continue
                    replacement = solved(value, form, factor)
                    if replacement is not None:
                        folds.setdefault(factor.key, Rule(factor, replacement, value))
        return folds

    def unfolded(self, poly: Poly) -> Poly:
        """Return ``poly`` with the products that its sums are over written out, down to what is no product."""

        def change(factor: Factor) -> Poly | None:
            if not isinstance(factor, Sum):
                return None
            inner = factor.inner
            for _ in range(len(self.values)):
                products = {
                    f: self.known[f] for f in inner.factors()
                    if isinstance(f, Leaf) and f in self.known and f.labels & set(factor.sizes)
                    and is_product(self.known[f])
                }  # fmt: skip
                if not products:
                    break
                inner = rebuilt(inner, lambda f: products.get(f) if isinstance(f, Leaf) else None)  # noqa: B023
            return None if inner == factor.inner else summed(inner, factor.sizes)

        return rebuilt(poly, change)

    # -- tried

    def choices(self) -> list[Rule]:
        """Return the rules that may shorten a gradient: each puts something else for one value."""
        rules = []
        for value in self.values:
            definition = self.known[value]
            for factor in _tops(definition, inside_roots=True):
                if isinstance(factor, Leaf) and factor.kind == "value" and factor != value:
                    replacement = solved(value, definition, factor)
                    if replacement is not None:
                        rules.append(Rule(factor, replacement, value))
            if is_plain(definition):
                rules.append(Rule(value, definition, value))
            rules += self._exponential(value, definition)
        return rules

    def _exponential(self, value: Leaf, definition: Poly) -> Iterator[Rule]:
        """Yield rules from ``exp(logprobs)``: a quotient, where the definition has a logarithm in it."""
        logarithms = {leaf: known for leaf, known in self.known.items() if has_logarithm(known)}
        opened = rebuilt(definition, lambda f: logarithms.get(f) if isinstance(f, Leaf) else None)
        if not has_logarithm(opened):
            return
        folded = rebuilt(called("exp", opened), lambda f: None if isinstance(f, Leaf) else self._fold(f))
        whole = called("exp", Poly.of(value))
        for factor in _tops(folded):
            if isinstance(factor, Call) or (isinstance(factor, Leaf) and factor.kind == "value"):
                replacement = solved(whole, folded, factor)
                if replacement is not None:
                    yield Rule(factor, replacement, value)

    def _fold(self, factor: Factor) -> Poly | None:
        rule = self.folds.get(factor.key)
        return None if rule is None else rule.replacement


def is_nameless(leaf: Leaf) -> bool:
    """Whether it is a value without a name."""
    return leaf.kind == "value" and leaf.expr.data.name is None


def is_product(poly: Poly) -> bool:
    """Whether it is one term of values and numbers."""
    if poly.only is None:
        return False
    mono, _ = poly.only
    return any(isinstance(f, Leaf) and f.kind == "value" for f, _ in mono) and all(
        isinstance(f, Leaf) or (isinstance(f, Base) and not f.labels) for f, _ in mono
    )


def is_plain(poly: Poly) -> bool:
    """Whether it is a sum or difference of two things, or a product."""
    factors = _tops(poly)
    return len(poly.terms) <= 2 and any(isinstance(f, Leaf) and f.kind == "value" for f in factors) and all(
        isinstance(f, Leaf) or is_size(f) for f in factors
    )  # fmt: skip


def has_logarithm(poly: Poly) -> bool:
    """Whether a logarithm stands in it."""
    return any(isinstance(f, Call) and f.function == "log" for f in _tops(poly))


def _tops(poly: Poly, *, inside_roots: bool = False) -> list[Factor]:
    """Return the factors of the terms, and of a sum under a root."""
    found: dict[Factor, None] = {}
    for mono, _ in poly.sorted():
        for factor, _ in mono:
            found[factor] = None
            if inside_roots and isinstance(factor, Base):
                found.update(dict.fromkeys(_tops(factor.inner)))
    return list(found)


def solved(value: Leaf | Poly, definition: Poly, pivot: Factor) -> Poly | None:
    """Return what ``pivot`` is, given that ``value`` is ``definition``; None if that is no closed form."""
    whole = Poly.of(value) if isinstance(value, Leaf) else value
    having = {mono: c for mono, c in definition.terms.items() if any(f == pivot for f, _ in mono)}
    found: Poly | None = None
    if len(having) == 1:
        (mono, c), *_ = having.items()
        own, rest = dict(mono)[pivot], _without(mono, pivot)
        others = definition - Poly(having)
        coefficient = Poly({rest: c})
        if _may_be_zero(rest):
            return None  # and what it stands before is not to be had from the product
        if own in (1, -1) or (not others.terms and own.numerator in (1, -1)):
            isolated = times(whole - others, power(coefficient, INVERSE))
            found = power(isolated, 1 / own) if own != 1 else isolated
            if len(isolated.terms) != 1 and own != 1:
                found = None
    elif not having and definition.only is not None:
        found = _under_root(whole, definition, pivot)
    if found is None or not found.labels <= pivot.labels or pivot in found.factors():
        return None
    return found


def _under_root(whole: Poly, definition: Poly, pivot: Factor) -> Poly | None:
    """Solve ``value = rest * (pivot + ...) ** p``."""
    assert definition.only is not None
    mono, c = definition.only
    for factor, own in mono:
        if isinstance(factor, Base) and pivot in _tops(factor.inner) and own.numerator in (1, -1):
            if _may_be_zero(_without(mono, factor)):
                return None
            rest = Poly({_without(mono, factor): c})
            inner = power(times(whole, power(rest, INVERSE)), 1 / own)
            if inner.only is None or inner.only[0] == () or any(isinstance(f, Base) for f, _ in inner.only[0]):
                return None
            linear = {m: d for m, d in factor.inner.terms.items() if any(f == pivot for f, _ in m)}
            if len(linear) != 1:
                return None
            (m, d), *_ = linear.items()
            if dict(m)[pivot] != 1 or _may_be_zero(_without(m, pivot)):
                return None
            others = factor.inner - Poly(linear)
            return times(inner - others, power(Poly({_without(m, pivot): d}), INVERSE))
    return None


def _may_be_zero(mono: Mono) -> bool:
    return any(p > 0 and not (is_positive(f, p) or is_size(f)) for f, p in mono)


def _without(mono: Mono, factor: Factor) -> Mono:
    return monomial(item for item in mono if item[0] != factor)
