"""A normal form as an expression again: the shortest that is found, with what is common taken out in front."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from handgrad.expr import Expr, multiply, negate, number, power, total, transposed, unsqueeze
from handgrad.expr import reduction as reduction_of
from handgrad.simplifier.algebra import is_size, parted, times
from handgrad.simplifier.normal_form import ONE, Axes, Base, Call, Factor, Leaf, Mono, Poly, Sum, mono_key, monomial

GROUPED = 8  # of more terms, no groups are looked for


class UnwritableError(Exception):
    """A normal form has no text: its dimensions stand in no order that broadcasting knows."""


class Writer:
    """Writes for one frame: the labels of the full shape, in its order. ``means`` allows ``x.mean(0)``."""

    def __init__(self, frame: Axes, *, means: bool) -> None:
        self.frame, self.means = frame, means
        self._written: dict[str, Expr] = {}

    def write(self, poly: Poly) -> Expr:
        """Return the shortest expression for ``poly``.

        Raises:
            UnwritableError: there is none.
        """
        if poly.key not in self._written:
            self._written[poly.key] = self._write(poly)
        return self._written[poly.key]

    def _write(self, poly: Poly) -> Expr:
        if not poly.terms:
            return number(0)
        if poly.only is not None:
            return self._signed(*poly.only)
        content, common, rest = parted(poly)
        if (split := self._divided_once(content, common, rest)) is not None:
            return self._times(*split)
        sign = Fraction(1 if content > 0 else -1)
        choices = [self._times(content, common, rest), self._times(sign, common, rest.scale(abs(content)))]
        return min(choices, key=weight)

    def _times(self, c: Fraction, common: Mono, rest: Poly) -> Expr:
        """Return ``c * common * rest``."""
        if c < 0 and len(rest.terms) > 1 and any(own < 0 for own in rest.terms.values()):
            c, rest = -c, -rest
        bare = not common and c == 1
        inner = self._sum(rest)
        if bare:
            return inner
        return self._signed(common, c, inner)

    def _divided_once(self, c: Fraction, common: Mono, rest: Poly) -> tuple[Fraction, Mono, Poly] | None:
        """Take a size that terms are divided by out in front, where two terms or more are divided."""
        if self.means:
            return None
        divided = [mono for mono in rest.terms if any(own < 0 and is_size(factor) for factor, own in mono)]
        sizes = sorted({f for mono in divided for f, own in mono if own < 0 and isinstance(f, Leaf) and is_size(f)},
                       key=lambda factor: factor.key)  # fmt: skip
        if len(divided) < 2 or not sizes:
            return None
        size = max(sizes, key=lambda f: sum(any(g == f and own < 0 for g, own in mono) for mono in divided))
        return c, monomial([*common, (size, -ONE)]), times(rest, Poly.of(size))

    def _sum(self, poly: Poly) -> Expr:
        """Return a sum of terms; what only some of them share may be taken out of those."""
        best = self._flat(poly)
        if not 3 <= len(poly.terms) <= GROUPED:
            return best
        counts: dict[Factor, int] = {}
        for mono in poly.terms:
            for factor, _ in mono:
                counts[factor] = counts.get(factor, 0) + 1
        for factor, count in sorted(counts.items(), key=lambda item: item[0].key):
            if not 2 <= count < len(poly.terms) or is_size(factor):
                continue
            having = Poly({m: c for m, c in poly.terms.items() if any(f == factor for f, _ in m)})
            other = poly - having
            one, two = self.write(having), self.write(other)
            grouped = _added([two, one] if weight(two) <= weight(one) else [one, two])
            if weight(grouped) < weight(best):
                best = grouped
        return best

    def _flat(self, poly: Poly) -> Expr:
        parts = [(self._signed(mono, abs(c)), c < 0, mono_key(mono)) for mono, c in poly.terms.items()]
        parts.sort(key=lambda part: (part[1], not part[2], weight(part[0]), part[2]))
        return _added([expr for expr, _, _ in parts], [minus for _, minus, _ in parts])

    # -- one term

    def _signed(self, mono: Mono, c: Fraction, rest: Expr | None = None) -> Expr:
        found = self._term(mono, abs(c), rest)
        return negate(found) if c < 0 else found

    def _term(self, mono: Mono, c: Fraction, rest: Expr | None) -> Expr:
        powers = dict(mono)
        reduced = [self._reduction(factor, powers) for factor, own in mono if isinstance(factor, Sum) and own == 1]
        over, under = _whole(c.numerator), _whole(c.denominator)
        ten = c.denominator in (2, *(10**k for k in range(1, 16)))
        if c.denominator != 1 and Fraction(repr(float(c))) == c and (ten or c.numerator != 1):
            over, under = [_decimal(c)], []
        values: list[Expr] = []
        below: list[Expr] = []
        last: list[Expr] = []
        gradients: list[Expr] = []
        for factor, own in powers.items():
            if isinstance(factor, Sum) and own == 1:
                continue
            written = self._power(factor, abs(own) if own.denominator == 1 else own)
            if is_size(factor):
                (under if own < 0 else over).append(written)
            elif own < 0 and own.denominator == 1:
                below.append(written)
            elif isinstance(factor, Base):
                last.append(written)
            else:
                (gradients if isinstance(factor, Leaf) and factor.kind == "gradient" else values).append(written)
        last = [*reduced, *last, *([] if rest is None else [rest])]
        return _fraction(over, under, values, below, gradients, last)

    def _power(self, factor: Factor, own: Fraction) -> Expr:
        base = self._factor(factor)
        if own == 1:
            return base
        return power(base, _decimal(own) if own.denominator != 1 else number(int(own)))

    def _factor(self, factor: Factor) -> Expr:
        if isinstance(factor, Leaf):
            return self._aligned(factor.expr, factor.axes)
        if isinstance(factor, Call):
            inner = self.write(factor.inner)
            return Expr("call", (inner,), inner.shape, f"torch.{factor.function}")
        if isinstance(factor, Base):
            return self.write(factor.inner)
        assert isinstance(factor, Sum)
        return self._reduction(factor, {})

    def _reduction(self, factor: Sum, powers: dict[Factor, Fraction]) -> Expr:
        """Return a sum, or a mean where the term is divided by the size."""
        method = "sum"
        sizes = [size.only[0][0][0] for size in factor.sizes.values() if size.only is not None and size.only[0]]
        if self.means and len(sizes) == len(factor.sizes) and all(powers.get(size, 0) < 0 for size in sizes):
            method = "mean"
            for size in sizes:
                powers[size] += 1
                if not powers[size]:
                    del powers[size]
        inner = self.write(factor.inner)
        lead = len(self.frame) - len(inner.shape)
        dims = sorted(self._position(label) - lead for label in factor.sizes)
        if all(size == 1 for d, size in enumerate(inner.shape) if d not in dims):
            return reduction_of(method, inner) if method != "sum" else total(inner)
        return reduction_of(method, inner, dims, keepdim=dims != list(range(len(dims))))

    def _position(self, label: int) -> int:
        if label not in self.frame:
            raise UnwritableError
        return self.frame.index(label)

    def _aligned(self, expr: Expr, axes: Axes) -> Expr:
        """Return a value so that broadcasting puts its dimensions where they belong."""
        lead = len(self.frame) - len(axes)
        if lead >= 0 and all(label in (None, self.frame[lead + d]) for d, label in enumerate(axes)):
            return expr
        places = [self._position(label) for label in axes if label is not None]
        if len(places) == len(axes) == 2 and places == [places[1] + 1, places[1]]:
            expr, places = transposed(expr), places[::-1]
        if places != sorted(places) or len(places) != len(axes):
            raise UnwritableError
        for place in range(places[0], len(self.frame)):
            if place not in places:
                expr = unsqueeze(expr, place - places[0])
        return expr


def _fraction(
    over: list[Expr], under: list[Expr], values: list[Expr], below: list[Expr], gradients: list[Expr], last: list[Expr]
) -> Expr:
    """Return a product in the order of paper: numbers, values, what divides, gradients, sums."""
    result: Expr | None = None

    def divided(parts: Sequence[Expr]) -> None:
        nonlocal result
        for part in parts:
            result = (number(1) if result is None else result) / part

    def multiplied(parts: Sequence[Expr]) -> None:
        nonlocal result
        for part in parts:
            result = part if result is None else multiply(result, part)

    multiplied(over)
    if over:
        divided(under)
        under = []
    multiplied(values)
    if below and result is None and gradients:
        multiplied(gradients)
        gradients = []
    if result is not None:
        divided(below)
        below = []
    if under and result is not None:
        divided(under)
        under = []
    multiplied(gradients)
    if under and result is not None:
        divided(under)
        under = []
    multiplied(last)
    divided([*below, *under])
    return number(1) if result is None else result


def _added(parts: list[Expr], minus: list[bool] | None = None) -> Expr:
    minus = minus or [False] * len(parts)
    result = negate(parts[0]) if minus[0] else parts[0]
    for part, less in zip(parts[1:], minus[1:], strict=True):
        result = result - part if less else result + part
    return result


def _whole(n: int) -> list[Expr]:
    return [] if n == 1 else [number(n)]


def _decimal(c: Fraction) -> Expr:
    text = repr(float(c)).replace("e-0", "e-")
    return number(float(c), text)


def weight(expr: Expr) -> int:
    """Return how much there is to read."""
    if expr.op in ("raw", "keyword"):
        return 0
    if expr.op == "number":
        return 2 + 3 * sum(str(expr.data[1]).count(sign) for sign in ("/", "*", " + ", "("))
    own: int = {"neg": 1, "not": 1, "expand": 0, "let": 0, "key": 0, "scatter": 8}.get(expr.op, 2)
    return own + sum(map(weight, expr.args)) + int(expr.op in ("method", "call"))
