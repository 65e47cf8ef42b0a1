"""What the lines of a backward compute at the points, with what they read given to them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from handgrad.checker.truth import Point
from handgrad.claims import Claim
from handgrad.graph import Graph, Value
from handgrad.precision import FEW_DIGITS, close, fitted

Given = dict[Value, Value]
"""Which values of the backward are given to whoever reads them, and as the gradient of what."""


class Evaluation:
    """Values of the backward, computed again."""

    def __init__(self, graph: Graph, points: list[Point], given: Given) -> None:
        self.graph, self.points, self.given = graph, points, given
        self.finals: set[Value] = set()  # what claims ended as
        self._determined: dict[tuple[Value, Value, int], frozenset[Value]] = {}

    def settle(self, claimed: list[Value]) -> None:
        """Let ``claimed`` be the values whose gradients are judged, now that it is known which they are."""
        for point in self.points:
            point.claim(claimed)
        self._determined.clear()

    @property
    def _forward(self) -> set[Value]:
        return self.points[0].forward_values

    def _given_at(self, point: Point, value: Value | None, of: Value, own: set[Value]) -> dict[Value, Tensor]:
        """Return what stands in for the gradients that a line of ``of`` reads.

        Noise, for those that ``of`` leads to. The gradient of anything else (of a bias, say, read because it happens
        to be the sum that is needed) is what it should be, given the same noise.
        """
        down = self.points[0].downstream(of)
        given: dict[Value, Tensor] = {}
        met = self.given if value is None else self._reads(value, own, of)[1] & self.given.keys()
        for other in met:
            its = self.given[other]
            if other in own or other is value:
                continue
            if its in down or its is point.loss or other.step is None:
                given[other] = point.noise(its)
            elif other in self.finals:
                truth = point.through(its, self._behind(other, its, of))
                shaped = fitted(truth, other.shape)
                given[other] = truth if shaped is None else shaped
        return given

    def _behind(self, other: Value, its: Value, of: Value) -> frozenset[Value]:
        """Return the gradients that determine the one of ``its``, which a line of ``of`` reads as ``other``.

        Those that it was computed from, or if that was done wrongly, those of the uses of ``its``.
        """
        key = other, of, len(self.given)
        if key not in self._determined:
            own = {v for v, o in self.given.items() if o is its}
            reads, _ = self._reads(other, own, of)
            self._determined[key] = reads
            found = self.evaluate(other, of, own, {})
            if not found or not are_close(found, [p.through(its, reads) for p in self.points], FEW_DIGITS):
                known = self.points[0].downstream(of) | {self.points[0].loss}
                self._determined[key] = frozenset(self.points[0].branches(its)) & known
        return self._determined[key]

    def evaluate(
        self, value: Value, of: Value, own: set[Value], before: dict[Value, list[Tensor]]
    ) -> list[Tensor] | None:
        """Return ``value`` at each point; its ``own`` past values are not given, but for those in ``before``."""
        results = []
        for i, point in enumerate(self.points):
            alias = value in self.given and value not in own
            given = self._given_at(point, None if alias else value, of, own)
            given |= {v: tensors[i] for v, tensors in before.items()}
            try:
                results.append(point.evaluate(value, given))
            except (RuntimeError, IndexError, ValueError, TypeError):
                return None
        return results

    def evaluate_many(self, values: Iterable[Value], of: Value, own: set[Value], point: int) -> dict[Value, Tensor]:
        """Return those of ``values`` that can be computed at the point, each with what it reads given."""
        here = self.points[point]
        return here.evaluate_many(values, self._given_at(here, None, of, own))

    def reads_of(self, value: Value, of: Value, own: set[Value]) -> frozenset[Value]:
        """Return which gradients ``value`` was computed from."""
        return self._reads(value, own, of)[0]

    def carried(self, claim: Claim) -> dict[Value, list[Tensor]]:
        """Return zeros in place of what the claim brought along from an earlier pass, to which it adds."""
        if claim.carried is None:
            return {}
        return {claim.carried: [torch.zeros(claim.carried.shape, dtype=torch.float64) for _ in self.points]}

    def own_values(self, claim: Claim, of: Value) -> set[Value]:
        """Return the values that are its own: an alias belongs to whom it was taken from."""
        return {v for v in claim.values if v not in self.given} | {v for v, o in self.given.items() if o is of}

    def _reads(
        self, value: Value, own: set[Value], of: Value, stop: Iterable[Value] = ()
    ) -> tuple[frozenset[Value], set[Value]]:
        """Return which gradients, of values that ``of`` leads to, ``value`` was computed from; and all in between."""
        reads: set[Value] = set()
        seen: set[Value] = set()
        last, stack = set(stop), [value]
        forward, down, loss = self._forward, self.points[0].downstream(of), self.points[0].loss
        while stack:
            current = stack.pop()
            if current in seen:
                continue
            seen.add(current)
            if current in last:
                continue
            owner = self.given.get(current)
            if owner is not None and current not in own and (owner in down or owner is loss or current.step is None):
                reads.add(owner)
            elif current.step is not None and current not in forward:
                stack.extend(current.step.inputs)
        return frozenset(reads), seen

    def fits(self, value: Value, of: Value, own: set[Value], before: dict[Value, list[Tensor]] | None = None) -> bool:
        """Whether ``value`` is the gradient of ``of``, whatever the gradients that it was computed from are."""
        totals = self.evaluate(value, of, own, before or {})
        if totals is None:
            return False
        reads = self.reads_of(value, of, own)
        for total, point in zip(totals, self.points, strict=True):
            shaped = fitted(total, of.shape)
            if shaped is None or not close(shaped, point.through(of, reads), FEW_DIGITS):
                return False
        return True


def are_close(found: list[Tensor], truths: list[Tensor], digits: float | None = None) -> bool:
    """Whether two gradients are the same at every point, but for dims of size 1 and rounding."""
    fits = [fitted(a, tuple(b.shape)) for a, b in zip(found, truths, strict=True)]
    if any(fit is None for fit in fits):
        return False
    pairs = [(fit, truth) for fit, truth in zip(fits, truths, strict=True) if fit is not None]
    return all(close(a, b) if digits is None else close(a, b, digits) for a, b in pairs)
