"""A closed form and why it is one: equal lines, each with its reason, compared with autograd before it is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from handgrad.deriver.forward import Forward
from handgrad.deriver.page import Page
from handgrad.expr import Expr, Size, call, is_number, walk
from handgrad.graph import Value
from handgrad.printer import text
from handgrad.simplifier.definitions import Rule
from handgrad.simplifier.lemmas import Lemma
from handgrad.simplifier.normal_form import Axes, Leaf, Poly
from handgrad.simplifier.points import NotProvedError, Points, agree
from handgrad.simplifier.regions import Region
from handgrad.simplifier.search import Facts, Search
from handgrad.simplifier.writing import UnwritableError

ONE_HOT = "a one-hot sums to 1 along its classes"


_PLAIN = ("number", "add", "sub", "mul", "div", "neg", "pow")  # what Python computes without a tensor


class Equality(NamedTuple):
    """``left = right``, because ``reason``."""

    left: str
    right: str
    reason: str

    def __str__(self) -> str:
        return f"{self.left} = {self.right}"


@dataclass
class ClosedForm:
    """One line for a gradient that took several: the code, and the equal lines that lead to it."""

    region: Region
    gradient: str  # dlogits
    code: str
    expr: Expr  # in names
    replaces: int  # lines
    proof: list[Equality] = field(default_factory=list)
    prelude: list[str] = field(default_factory=list)  # what the forward computed and did not keep

    @property
    def head(self) -> str:
        """The name of the value that it is the gradient of."""
        return str(self.region.head.name)

    @property
    def end(self) -> str | None:
        """The name of the value that the gradient comes from."""
        return self.region.end.name

    def __str__(self) -> str:
        rows = [f"# {self.region.names}: {self.replaces} lines in one", *self.prelude, self.code, "#   because"]
        for step in self.proof:
            rows.append(f"#   {step}")
            rows += [f"#       {step.reason}"] if step.reason else []
        return "\n".join(rows)


class Prover:
    """Writes the closed form of a region that has been searched, and proves it."""

    def __init__(self, points: Points, search: Search) -> None:
        self.points, self.search, self.region = points, search, search.region
        self.forward = search.reader.forward
        self.page = Page(self.forward, [])
        self.seeds = points.seeds(self.region.end)
        self._said: set[str] = set()

    def closed_form(self, replaces: int) -> ClosedForm:
        """Return the closed form.

        Raises:
            NotProvedError: a line does not agree with autograd.
            UnwritableError: it has no text.
        """
        proof: list[Equality] = []
        poly = Poly()
        before: list[Poly] = []
        for value, axes, poly, facts in self.search.chain():
            proof += [e for e in map(self._rule, facts.rules.values()) if e is not None]
            proof += [e for e in map(self._lemma, facts.lemmas.values()) if e is not None]
            lost = _one_hots(before) - _one_hots([poly])
            before.append(poly)
            step = self._step(value, axes, poly, facts, one_hot=bool(lost))
            if step is not None:
                proof.append(step)
        head = self.region.head
        expr = self._full(self._shaped(self.search.writer.write(poly), head, self.search.axes))
        if not agree(self.points.evaluate(expr, self.region.end, self.seeds), self._truth(head)):
            raise NotProvedError(head.name)
        resolved = self.page.resolve(expr)
        gradient = f"d{self.forward.scope.identifier(head)}"
        code = f"{gradient} {'=' if self.region.whole else '+='} {text(resolved)}{_shape_comment(self.forward, head)}"
        return ClosedForm(self.region, gradient, code, resolved, replaces, proof, self.page.prelude)

    def _shaped(self, expr: Expr, value: Value, axes: Axes) -> Expr:
        """Return ``expr`` without the dimensions of the frame that ``value`` does not have."""
        frame = self.search.frame
        lead = len(frame) - len(axes)
        fits = all(label in (None, frame[lead + d]) for d, label in enumerate(axes))
        if not expr.shape or (fits and len(expr.shape) <= len(axes)):
            return expr
        shape = self.forward.sizes.shape(value)
        for dim in (-1, 0):
            if expr.shape == ((*shape, 1) if dim else (1, *shape)):
                return expr.method("squeeze", dim, shape=shape)
        return expr.method("reshape", *shape, shape=shape)

    def _full(self, expr: Expr) -> Expr:
        """Return ``expr`` in the shape of the head."""
        head = self.region.head
        shape = self.forward.sizes.shape(head)
        if expr.shape == shape or not self.region.whole:
            return expr
        like = self.forward.leaf(head)
        if is_number(expr, 0):
            return call("torch.zeros_like", like, shape=shape)
        if all(part.op in _PLAIN for part in walk(expr)):
            return call("torch.full_like", like, expr, shape=shape)
        return expr.method("expand_as", like, shape=shape)

    def _truth(self, value: Value) -> list[Tensor]:
        return self.points.truth(value, self.region.end, self.seeds)

    def _true(self, left: Expr, right: Expr) -> bool:
        """Whether two expressions for the same frame are equal; either may be repeated."""
        one, other = (self.points.evaluate(expr, self.region.end, self.seeds) for expr in (left, right))
        full = [(a + b).shape for a, b in zip(one, other, strict=True)]
        return agree(one, [item.expand(shape) for item, shape in zip(other, full, strict=True)])

    # -- equal lines

    def _step(self, value: Value, axes: Axes, poly: Poly, facts: Facts, *, one_hot: bool) -> Equality | None:
        """Return the line of one gradient, in its form."""
        try:
            expr = self._shaped(self.search.writer.write(poly), value, axes)
        except UnwritableError:
            return None
        if not agree(self.points.evaluate(expr, self.region.end, self.seeds), self._truth(value)):
            raise NotProvedError(str(value.name))
        shares = [s for s in self.search.regions.shares[value] if s.step in self.region.steps]
        parts = [part for share in shares for part in share.why.split("; ") if part and not part.startswith("`")]
        reasons = list(dict.fromkeys(parts))
        reasons += [self._known(Poly.of(lemma.left), lemma.right) for lemma in facts.lemmas.values()]
        reasons += [self._known(Poly.of(r.pivot), r.replacement) for r in facts.rules.values() if r.pivot.family == "6"]
        if one_hot:
            reasons.append(ONE_HOT)
        return Equality(f"d{self.forward.scope.identifier(value)}", self._text(expr), "; ".join(reasons))

    def _known(self, left: Poly, right: Poly) -> str:
        one, other = self.search.writer.write(left), self.search.writer.write(self.search.settled(right))
        return f"{self._text(one)} is {self._text(other)}"

    def _rule(self, rule: Rule) -> Equality | None:
        return self._equality(Poly.of(rule.pivot), rule.replacement, [rule.value], "the definition of")

    def _lemma(self, lemma: Lemma) -> Equality | None:
        return self._equality(Poly.of(lemma.left), lemma.right, list(lemma.by), "by the definitions of")

    def _equality(self, left: Poly, right: Poly, by: list[Leaf], words: str) -> Equality | None:
        """Return a fact about forward values the first time that it is needed."""
        if left.key in self._said:
            return None
        self._said.add(left.key)
        try:
            one, other = self.search.writer.write(left), self.search.writer.write(self.search.settled(right))
        except UnwritableError:
            return None
        if not self._true(one, other):
            raise NotProvedError(left.key)
        names = list(dict.fromkeys(self._text(leaf.expr) for leaf in by))
        return Equality(self._text(one), self._text(other), f"{words} {', '.join(names)}" if names else "")

    def _text(self, expr: Expr) -> str:
        return text(self.page.resolve(expr))


def _one_hots(polys: list[Poly]) -> set[str]:
    return {f.name for poly in polys for f in poly.factors() if isinstance(f, Leaf) and f.classes is not None}


def _shape_comment(forward: Forward, value: Value) -> str:
    sizes = [size.text if size.text and size.text.isidentifier() else str(int(size)) for size in _sizes(forward, value)]
    return f"  # ({', '.join(sizes)}{',' * (len(sizes) == 1)})"


def _sizes(forward: Forward, value: Value) -> list[Size]:
    return [size if isinstance(size, Size) else Size(size) for size in forward.sizes.shape(value)]
