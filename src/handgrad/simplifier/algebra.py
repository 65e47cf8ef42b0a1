"""Arithmetic in normal form: products, powers, sums over labels, exact division, and putting something for a factor.

Products are flat and sorted; what is 0 or 1, times itself, is itself. A sum is linear; what does not depend on its
label stands outside of it; a one-hot sums to 1 along its classes. A sum of several terms under a power stays together,
and cancels against a multiple of itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction

from handgrad.simplifier.normal_form import ONE, Base, Call, Factor, Leaf, Mono, Poly, Sum, is_positive, monomial

WIDEST = 80  # more terms than this are no closed form
HIGHEST = 4  # a higher power of a sum of terms is not multiplied out


class TooLargeError(Exception):
    """A gradient has more terms than a closed form ever has."""


def times(a: Poly, b: Poly) -> Poly:
    """Return the product."""
    if len(a.terms) * len(b.terms) > WIDEST:
        raise TooLargeError
    terms: dict[Mono, Fraction] = {}
    whole: list[Poly] = []
    for one, c in a.terms.items():
        for other, d in b.terms.items():
            mono = monomial([*one, *other]) if one and other else one or other
            if any(isinstance(f, Base) and p > 0 and p.denominator == 1 for f, p in mono):
                whole.append(_multiplied_out(mono).scale(c * d))
            else:
                terms[mono] = terms.get(mono, Fraction(0)) + c * d
    return added([Poly(terms), *whole])


def _multiplied_out(mono: Mono) -> Poly:
    """Return a monomial with whole powers of sums of terms multiplied out."""
    result = Poly({tuple(i for i in mono if not (isinstance(i[0], Base) and i[1] > 0 and i[1].denominator == 1)): ONE})
    for factor, power in mono:
        if isinstance(factor, Base) and power > 0 and power.denominator == 1:
            for _ in range(int(power)):
                result = times(result, factor.inner)
    return result


def added(parts: Iterable[Poly]) -> Poly:
    """Return the sum of several."""
    terms: dict[Mono, Fraction] = {}
    for part in parts:
        for mono, c in part.terms.items():
            terms[mono] = terms[mono] + c if mono in terms else c
    if len(terms) > WIDEST:
        raise TooLargeError
    return Poly(terms)


def product(*factors: Poly) -> Poly:
    """Return the product of several."""
    result = Poly.number(1)
    for factor in factors:
        result = times(result, factor)
    return result


def power(base: Poly, exponent: Fraction) -> Poly:
    """Return ``base ** exponent``; what may be below zero stays together under a root."""
    if exponent == 0:
        return Poly.number(1)
    if exponent == 1 or base.value == 1:
        return base
    if base.only is not None:
        return _power_of_one(*base.only, exponent)
    if exponent.denominator == 1 and 0 < exponent <= HIGHEST:
        result = base
        for _ in range(int(exponent) - 1):
            result = times(result, base)
        return result
    if not base.terms:
        raise ZeroDivisionError("zero to a power that is not positive")
    if exponent.denominator != 1:
        return Poly.of(Base(base), exponent)
    content, common, rest = parted(base)
    return times(_power_of_one(common, content, exponent), Poly.of(Base(rest), exponent))


def _power_of_one(mono: Mono, c: Fraction, exponent: Fraction) -> Poly:
    if exponent.denominator == 1:
        return times(Poly({monomial((f, p * exponent) for f, p in mono): c ** int(exponent)}), Poly.number(1))
    out: list[tuple[Factor, Fraction]] = []
    under: list[tuple[Factor, Fraction]] = []
    for factor, own in mono:
        (out if is_positive(factor, own) else under).append((factor, own))
    root = _root(c, exponent)
    if root is None:
        under_poly = Poly({tuple(under): c})
        root = ONE
    else:
        under_poly = Poly({tuple(under): ONE})
    result = Poly({monomial((f, p * exponent) for f, p in out): root})
    if under_poly.value == 1:
        return result
    if under_poly.only is not None and under_poly.only[1] == 1 and len(under) == 1 and under[0][1] == 1:
        return times(result, Poly.of(under[0][0], exponent))
    return times(result, Poly.of(Base(under_poly), exponent))


def _root(c: Fraction, exponent: Fraction) -> Fraction | None:
    """Return ``c ** exponent`` if it is rational."""
    if c <= 0:
        return None
    found = Fraction(c**exponent if c == 1 else float(c) ** float(exponent)).limit_denominator(10**6)
    return found if found**exponent.denominator == c**exponent.numerator else None


def parted(base: Poly) -> tuple[Fraction, Mono, Poly]:
    """Return number, monomial and sum whose product is ``base``; nothing is common to the terms of the sum."""
    terms = base.sorted()
    sign = next((c for mono, c in terms if mono and all(is_size(f) for f, _ in mono)), terms[0][1])
    if () in base.terms and not all(is_size(f) for mono, _ in terms for f, _ in mono):
        sign = base.terms[()]  # `1 - p` rather than `p - 1`, but `n - 1`
    common = shared([mono for mono, _ in terms])
    numerators, denominators = {abs(c.numerator) for _, c in terms}, {c.denominator for _, c in terms}
    content = Fraction(math.gcd(*numerators), math.lcm(*denominators)) if len(denominators) == 1 else ONE
    content *= 1 if sign > 0 else -1
    inverse = [(factor, -own) for factor, own in common]
    rest = Poly({monomial([*mono, *inverse]): c / content for mono, c in terms})
    return content, common, rest


def is_size(factor: Factor) -> bool:
    """Whether a factor is a number: a size, or made of sizes."""
    if isinstance(factor, Base):
        return all(is_size(f) for mono in factor.inner.terms for f, _ in mono)
    return isinstance(factor, Leaf) and factor.kind == "size"


def shared(monos: list[Mono]) -> Mono:
    """Return what is in every monomial: in each factor the smallest power, if all have the same sign."""
    found = []
    for factor, own in monos[0]:
        powers = [own, *(dict(mono).get(factor, Fraction(0)) for mono in monos[1:])]
        least = min(powers) if min(powers) > 0 else max(powers) if max(powers) < 0 else Fraction(0)
        if least:
            found.append((factor, least))
    return tuple(found)


def divide(whole: Poly, by: Poly) -> Poly | None:
    """Return ``whole / by`` if that leaves no remainder."""
    lead = next(
        (f for mono, _ in by.sorted() for f, p in mono if p == 1 and not isinstance(f, Base)
         and sum(any(g == f for g, _ in other) for other in by.terms) == 1), None,
    )  # fmt: skip
    if lead is None:
        return None
    first = next(mono for mono in by.terms if any(f == lead for f, _ in mono))
    degrees = [dict(mono).get(lead, Fraction(0)) for mono in whole.terms]
    if any(degree.denominator != 1 for degree in degrees):
        return None
    lowest = min(degrees, default=Fraction(0))
    inverse = Poly({monomial((f, -p) for f, p in first): 1 / by.terms[first]})
    rest, quotient = whole, Poly()
    for _ in range(3 * WIDEST):
        if not rest.terms:
            return quotient
        mono, c = max(rest.sorted(), key=lambda item: dict(item[0]).get(lead, Fraction(0)))
        if dict(mono).get(lead, Fraction(0)) <= lowest:
            return None
        part = times(Poly({mono: c}), inverse)
        quotient = quotient + part
        rest = rest - times(part, by)
    return None


def cancelled(poly: Poly) -> Poly:
    """Return ``poly`` with fewer denominators: those sums of terms that divide what stands over them are gone."""
    for base in dict.fromkeys(f for mono, _ in poly.sorted() for f, p in mono if isinstance(f, Base) and p < 0):
        groups: dict[Fraction, Poly] = {}
        for mono, c in poly.terms.items():
            own = dict(mono).get(base, Fraction(0))
            bare = tuple(item for item in mono if item[0] != base)
            groups[own] = groups.get(own, Poly()) + Poly({bare: c})
        result, changed = Poly(), False
        for own, group in sorted(groups.items()):
            quotient = divide(group, base.inner) if own < 0 else None
            changed |= quotient is not None
            new = times(group, Poly.of(base, own)) if quotient is None else times(quotient, Poly.of(base, own + 1))
            result = result + new
        if changed:
            return cancelled(result)
    return poly


def summed(poly: Poly, sizes: Mapping[int, Poly]) -> Poly:
    """Return the sum of ``poly`` over labels, whose sizes are given."""
    return added(_summed_mono(mono, dict(sizes)).scale(c) for mono, c in poly.terms.items())


def _summed_mono(mono: Mono, sizes: dict[int, Poly]) -> Poly:
    if not sizes:
        return Poly({mono: ONE})
    for factor, own in mono:
        label = factor.classes if isinstance(factor, Leaf) else None
        others = frozenset[int]().union(*(f.labels for f, _ in mono if f != factor))
        if label is not None and label in sizes and own == 1 and label not in others:
            rest = tuple(item for item in mono if item[0] != factor)
            return _summed_mono(rest, {a: size for a, size in sizes.items() if a != label})
    outside: list[tuple[Factor, Fraction]] = []
    inside: list[tuple[Factor, Fraction]] = []
    for factor, own in mono:
        (inside if factor.labels & set(sizes) else outside).append((factor, own))
    result = Poly({tuple(outside): ONE})
    met = frozenset[int]().union(*(factor.labels for factor, _ in inside))
    for label, size in sorted(sizes.items()):
        if label not in met:
            result = times(result, size)
    for group in _connected(inside, sizes):
        labels = frozenset[int]().union(*(factor.labels for factor, _ in group)) & set(sizes)
        chosen = {label: sizes[label] for label in labels}
        if len(group) == 1 and isinstance(group[0][0], Sum) and group[0][1] == 1:
            inner, own_sizes = group[0][0].apart({*sizes})
            group, chosen = list(inner), {**chosen, **own_sizes}
        result = times(result, Poly.of(Sum(monomial(group), chosen)))
    return result


def picked(poly: Poly) -> Poly:
    """Return ``poly`` with ``onehot * x`` for ``onehot * (onehot * x).sum(1)``: what it picks is what stands there."""
    parts = []
    for mono, c in poly.terms.items():
        hots = [factor for factor, own in mono if isinstance(factor, Leaf) and factor.classes is not None]
        if hots and any(isinstance(factor, Sum) for factor, _ in mono):
            parts.append(product(Poly.number(c), *(power(_picked_by(factor, hots), own) for factor, own in mono)))
        else:
            parts.append(Poly({mono: c}))
    return added(parts)


def _picked_by(factor: Factor, hots: list[Leaf]) -> Poly:
    for hot in hots:
        if isinstance(factor, Sum) and len(factor.sizes) == 1 and hot.classes is not None:
            (label,) = factor.bound
            same = hot.relabel({hot.classes: label})
            rest = [(f, p) for f, p in factor.mono if f != same]
            if hot.classes not in factor.labels and len(rest) < len(factor.mono):
                return Poly({monomial((f.relabel({label: hot.classes}), p) for f, p in rest): ONE})
    return Poly.of(factor)


def _connected(factors: list[tuple[Factor, Fraction]], sizes: dict[int, Poly]) -> list[list[tuple[Factor, Fraction]]]:
    """Return the factors in groups that share no label that is summed over."""
    groups: list[tuple[set[int], list[tuple[Factor, Fraction]]]] = []
    for item in factors:
        labels, members = set(item[0].labels) & set(sizes), [item]
        for group in [group for group in groups if group[0] & labels]:
            labels |= group[0]
            members = group[1] + members
            groups.remove(group)
        groups.append((labels, members))
    return [members for _, members in groups]


def called(function: str, inner: Poly) -> Poly:
    """Return a function of each number. Exponentials of sums become products where a logarithm stands in the sum."""
    if function == "exp":
        if inner.value == 0:
            return Poly.number(1)
        result, left = Poly.number(1), Poly()
        for mono, c in inner.terms.items():
            factor = mono[0][0] if len(mono) == 1 and mono[0][1] == 1 else None
            if isinstance(factor, Call) and factor.function == "log":
                result = times(result, power(factor.inner, c))
            else:
                left = left + Poly({mono: c})
        return times(result, Poly.of(Call("exp", left))) if left.terms else result
    if function == "log" and inner.value == 1:
        return Poly()
    return Poly.of(Call(function, inner))


def rebuilt(poly: Poly, change: Callable[[Factor], Poly | None]) -> Poly:
    """Return ``poly`` with something put for each factor for which ``change`` returns something, inside others too."""
    parts = []
    for mono, c in poly.sorted():
        new = [(factor, own, _rebuilt_factor(factor, change)) for factor, own in mono]
        if all(own_poly.only == (((factor, ONE),), ONE) for factor, _, own_poly in new):
            parts.append(Poly({mono: c}))
        else:
            parts.append(product(Poly.number(c), *(power(own_poly, own) for _, own, own_poly in new)))
    return added(parts)


def _rebuilt_factor(factor: Factor, change: Callable[[Factor], Poly | None]) -> Poly:
    new = change(factor)
    if new is not None:
        return new
    if isinstance(factor, Call):
        inner = rebuilt(factor.inner, change)
        return Poly.of(factor) if inner == factor.inner else called(factor.function, inner)
    if isinstance(factor, Base):
        return rebuilt(factor.inner, change)
    if isinstance(factor, Sum):
        inner = rebuilt(factor.inner, change)
        return Poly.of(factor) if inner == factor.inner else summed(inner, factor.sizes)
    return Poly.of(factor)
