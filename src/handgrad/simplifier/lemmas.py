"""What is true of forward values by their definitions: the row sum of ``probs`` is 1, the column sum of ``bnraw`` is 0.

A sum without a gradient in it is unfolded, definition by definition, until every part is known: a sum that has a name,
a sum of a constant, nothing. ``(bnraw**2).sum(0)`` becomes ``bnvar_inv**2 * (bndiff**2).sum(0)``, which is
``bnvar_inv**2 * (n - 1) * bnvar``; with ``bnvar_inv`` used backwards that is ``(n - 1) * (1 - eps * bnvar_inv**2)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from handgrad.graph import Value
from handgrad.rules.table import plain
from handgrad.simplifier.algebra import TooLargeError, called, rebuilt, summed
from handgrad.simplifier.definitions import Definitions, has_logarithm
from handgrad.simplifier.normal_form import Call, Factor, Leaf, Poly, Sum

DEEPEST = 6


@dataclass(frozen=True)
class Lemma:
    """A sum, what it is, and the values whose definitions say so."""

    left: Sum
    right: Poly
    by: tuple[Leaf, ...]


@dataclass
class Lemmas:
    """The sums that are known."""

    definitions: Definitions
    _known: dict[str, Lemma | None] = field(default_factory=dict)

    def find(self, left: Sum) -> Lemma | None:
        """Return what a sum is, if no sum is left in that."""
        if left.key not in self._known:
            self._known[left.key] = None
            if not any(isinstance(f, Leaf) and f.kind in ("gradient", "truth") for f in left.inner.factors()):
                by: dict[Leaf, None] = {}
                try:
                    right = self._resolved(left, by, DEEPEST)
                except TooLargeError:
                    right = None
                if right is not None and not any(isinstance(f, Sum) for f in right.factors()):
                    self._known[left.key] = Lemma(left, right, tuple(by))
        return self._known[left.key]

    def _resolved(self, left: Sum, by: dict[Leaf, None], depth: int) -> Poly | None:
        known = self.definitions.folds.get(left.key)
        if known is not None:
            by[known.value] = None
            return self._all(known.replacement, by, depth - 1)
        if depth == 0:
            return None
        axiom = self._axiom(left)
        if axiom is not None:
            return axiom
        for factor, _ in left.mono:
            opened = self._opened(factor) if factor.labels & set(left.sizes) else None
            if opened is None:
                continue
            leaf, inner = opened
            tried = dict(by)
            tried[leaf] = None
            swapped = rebuilt(left.inner, lambda f, old=factor, new=inner: new if f == old else None)  # type: ignore[misc]
            found = self._all(summed(swapped, left.sizes), tried, depth - 1)
            if found is not None:
                by.update(tried)
                return found
        return None

    def _all(self, poly: Poly, by: dict[Leaf, None], depth: int) -> Poly | None:
        """Return ``poly`` with every sum in it resolved; None if one cannot be."""
        failed = False

        def change(factor: Factor) -> Poly | None:
            nonlocal failed
            if failed or not isinstance(factor, Sum):
                return None
            found = self._resolved(factor, by, depth) if depth >= 0 else None
            failed |= found is None
            return found

        result = rebuilt(poly, change)
        return None if failed else result

    def _opened(self, factor: Factor) -> tuple[Leaf, Poly] | None:
        """Return a value's definition; of an exponential, that of what is in it."""
        known = self.definitions.known
        if isinstance(factor, Leaf) and factor in known:
            return factor, known[factor]
        if isinstance(factor, Call) and factor.function in ("exp", "log"):
            fold = self.definitions.folds.get(factor.key)
            if fold is not None:
                return fold.value, fold.replacement
            leaves = [leaf for leaf in factor.inner.factors() if isinstance(leaf, Leaf) and leaf in known]
            for leaf in sorted(leaves, key=lambda leaf: (not has_logarithm(known[leaf]), leaf.key))[:1]:
                new = rebuilt(factor.inner, lambda f: known[leaf] if f == leaf else None)  # noqa: B023
                return leaf, called(factor.function, new)
        return None

    @staticmethod
    def _axiom(left: Sum) -> Poly | None:
        """Return 1 for the sum of a softmax along its dimension."""
        if len(left.mono) != 1 or left.mono[0][1] != 1 or len(left.sizes) != 1:
            return None
        factor, wanted = left.mono[0][0], "softmax"
        if isinstance(factor, Call) and factor.function == "exp" and factor.inner.only is not None:
            mono, c = factor.inner.only
            if c == 1 and len(mono) == 1 and mono[0][1] == 1:
                factor, wanted = mono[0][0], "log_softmax"
        value = factor.expr.data if isinstance(factor, Leaf) and factor.kind == "value" else None
        if not isinstance(value, Value) or value.step is None or plain(value.step.op) != wanted:
            return None
        dim = value.step.kwargs.get("dim", value.step.args[1] if len(value.step.args) > 1 else None)
        dim = getattr(dim, "value", None)
        assert isinstance(factor, Leaf)
        return Poly.number(1) if isinstance(dim, int) and [factor.axes[dim]] == left.bound else None
