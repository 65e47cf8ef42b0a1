"""Which definitions are used backwards: those with which the gradient of a region's head is shortest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from handgrad.expr import Expr
from handgrad.graph import Value
from handgrad.simplifier.algebra import TooLargeError, cancelled, picked, rebuilt
from handgrad.simplifier.arguments import UnreadableError
from handgrad.simplifier.definitions import Definitions, Rule
from handgrad.simplifier.lemmas import Lemma, Lemmas
from handgrad.simplifier.normal_form import Axes, Factor, Leaf, Poly, Sum
from handgrad.simplifier.reading import Reader
from handgrad.simplifier.regions import Region, Regions
from handgrad.simplifier.writing import UnwritableError, Writer, weight

ROUNDS = 8
PAIRS = 12  # with more rules than this, pairs are not tried


@dataclass
class Facts:
    """What was used to bring a gradient into its form."""

    rules: dict[str, Rule] = field(default_factory=dict)
    lemmas: dict[str, Lemma] = field(default_factory=dict)


class Search:
    """The gradients of one region, in normal form, under rules that are tried."""

    def __init__(self, regions: Regions, region: Region, *, plain: bool = False) -> None:
        self.regions, self.region = regions, region
        self.members = {*region.inside, region.head}
        self.reader = Reader(regions.backward, self._gradient, region.head, plain=plain)
        self._found: dict[tuple[Value, Axes], Poly] = {}
        self._settle: Callable[[Poly], Poly] | None = None
        self.axes: Axes = tuple(None if size == 1 else d for d, size in enumerate(region.head.shape))
        self.raw = self.gradient(region.head, self.axes)
        self.definitions = Definitions(self.reader, [self.raw, *self._values()])
        self.lemmas = Lemmas(self.definitions)
        self.frame = self._frame()
        self.writer = Writer(self.frame, means=self._has_means())
        self.chosen: dict[str, Rule] = {}

    def _frame(self) -> Axes:
        """Return the labels of the full shape, in the order of the value that has most dimensions."""
        leaves = [f for f in self.raw.factors() if isinstance(f, Leaf)]
        widest = max(leaves, key=lambda leaf: (len(leaf.labels), -ord(leaf.key[0])), default=None)
        own = tuple(range(len(self.region.head.shape)))
        if widest is None or len(widest.labels) <= len(own):
            return own
        return widest.axes

    def _values(self) -> list[Poly]:
        """Return the values of the region, with the labels that their gradients have."""
        met = [(value, axes) for value, axes in self._found if value.name is not None]
        ends = [f for f in self.raw.factors() if isinstance(f, Leaf) and f.kind == "gradient"]
        met += [(leaf.expr.data, leaf.axes) for leaf in ends]
        return [self.reader.read(self.reader.forward.leaf(value), axes) for value, axes in met]

    @property
    def has_plain_sizes(self) -> bool:
        """Whether a number was met that a size, or one less, may stand behind."""
        sizes = {size for value in (self.region.head, *self.region.inside) for size in value.shape}
        return bool(self.reader.sizes.literals & ({*sizes, *(size - 1 for size in sizes)} - {0, 1, 2}))

    def _has_means(self) -> bool:
        return any(step.op in ("mean", "var", "std", "var_mean") and step.made[0].shape for step in self.region.steps)

    # -- gradients

    def _gradient(self, value: Value, axes: Axes) -> Poly | None:
        if value is self.region.end:
            return None
        if value not in self.members:
            raise UnreadableError(f"the gradient of {value.name}")
        return self.gradient(value, axes)

    def gradient(self, value: Value, axes: Axes) -> Poly:
        """Return the gradient of a value of the region, settled if a way to settle is set."""
        if (value, axes) not in self._found:
            total, shares = Poly(), self.regions.shares.get(value, [])
            if not shares:
                raise UnreadableError(f"the gradient of {value.name} is made in a loop")
            for share in shares:
                if value is self.region.head and share.step not in self.region.steps:
                    continue
                total = total + self.reader.read(share.gradient, axes)
            self._found[value, axes] = total if self._settle is None else self._settle(total)
        return self._found[value, axes]

    def chain(self) -> list[tuple[Value, Axes, Poly, Facts]]:
        """Return the gradients from the end back to the head, each settled, and what that took."""
        self._found = {}
        steps: list[tuple[Poly, Facts]] = []

        def settle(poly: Poly) -> Poly:
            facts = Facts()
            found = self.settled(poly, self.chosen, facts)
            steps.append((found, facts))
            return found

        self._settle = settle
        order: list[tuple[Value, Axes, Poly, Facts]] = []
        try:
            head = self.gradient(self.region.head, self.axes)
        finally:
            self._settle = None
        for ((value, axes), _), (poly, facts) in zip(self._found.items(), steps, strict=True):
            order.append((value, axes, poly, facts))
        assert order[-1][2] == head
        return order

    # -- settling

    def settled(self, poly: Poly, chosen: dict[str, Rule] | None = None, facts: Facts | None = None) -> Poly:
        """Return ``poly`` with rules, those that were chosen unless given, and lemmas applied until nothing changes."""
        facts = Facts() if facts is None else facts
        chosen = self.chosen if chosen is None else chosen

        def change(factor: Factor) -> Poly | None:
            rule = chosen.get(factor.key) or self.definitions.folds.get(factor.key)
            if rule is not None:
                facts.rules[factor.key] = rule
                return rule.replacement
            lemma = self.lemmas.find(factor) if isinstance(factor, Sum) else None
            if lemma is not None:
                facts.lemmas[factor.key] = lemma
                return lemma.right
            return None

        for _ in range(ROUNDS):
            new = cancelled(picked(rebuilt(poly, change)))
            if new == poly:
                return poly
            poly = new
        raise TooLargeError

    def tried(self, chosen: dict[str, Rule]) -> tuple[int, Expr, Poly] | None:
        """Return the weight of the head's gradient under rules, and the gradient; None if there is no text for it."""
        try:
            poly = self.settled(self.raw, chosen)
            expr = self.writer.write(poly)
        except (TooLargeError, UnwritableError, ZeroDivisionError, RecursionError):
            return None
        return weight(expr), expr, poly

    @staticmethod
    def _groups(rules: list[Rule], there: set[Factor]) -> Iterator[tuple[Rule, ...]]:
        """Yield rules, then pairs of rules, that would change a gradient with the factors ``there``."""
        useful = [rule for rule in rules if rule.pivot in there]
        yield from ((rule,) for rule in useful)
        for one in useful if len(rules) <= PAIRS else ():
            within = there | set(one.replacement.factors())
            for other in rules:
                first = other in useful and rules.index(other) < rules.index(one)
                if other.pivot in within and other.pivot != one.pivot and not first:
                    yield one, other

    def run(self) -> tuple[int, Expr, Poly] | None:
        """Choose rules greedily, one or two at a time, while the gradient gets shorter."""
        best = self.tried({})
        while True:
            rules = [rule for rule in self.definitions.choices() if rule.pivot.key not in self.chosen]
            better: tuple[tuple[int, Expr, Poly], dict[str, Rule]] | None = None
            there = set(best[2].factors()) if best else {rule.pivot for rule in rules}
            for group in self._groups(rules, there):
                if better is not None and len(group) > 1:
                    break
                trial = {**self.chosen, **{rule.pivot.key: rule for rule in group}}
                found = self.tried(trial)
                if found and (best is None or found[0] < best[0]) and (better is None or found[0] < better[0][0]):
                    better = found, trial
            if better is None:
                return best
            best, self.chosen = better
