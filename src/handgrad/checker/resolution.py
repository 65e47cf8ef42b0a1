"""Of which value each claim of a pass is the gradient, and the points at which that is judged."""

from __future__ import annotations

import ast

import torch

from handgrad.checker.lines import Lines
from handgrad.checker.series import ends_of_series, is_series
from handgrad.checker.truth import Point
from handgrad.claims import Claim, ClaimedPass
from handgrad.errors import NothingToJudgeError
from handgrad.graph import Escape, Graph, Value
from handgrad.source import enclosing

JITTERS = (0.15, 0.04, 0.01, 0.0)


class Resolution:
    """The claims of a pass, each with its value; what is given to lines, and where they are run."""

    def __init__(
        self,
        graph: Graph,
        claimed: ClaimedPass,
        same_loss: list[ClaimedPass],
        earlier: list[ClaimedPass],
    ) -> None:
        self.graph, self.claimed, self.loss = graph, claimed, claimed.loss
        self.claims = [claim for claim in claimed.claims if claim.final is not None]
        ancestors = graph.ancestors(self.loss, unseen=True)
        self.before = [c for p in same_loss for c in p.claims if c.final is not None and c.of in ancestors]
        used = {v for p in earlier for c in p.claims for v in c.values if v.step is not None} & ancestors
        boundary = max((v.time for v in used), default=0)
        self.stop = lambda value: value.is_parameter or value.time <= boundary or value.grad_of is not None
        if not bool(torch.isfinite(self.loss.value).all()):
            raise NothingToJudgeError(
                f"{self.loss.name or 'the loss'} is {self.loss.value.item()}: there are no gradients to judge; "
                "look for a division by zero, a log of zero, or NaN in the data"
            )
        self.unfinished = [c for c in self.claimed.claims if c.final is None]
        everyone = [*self.before, *self.claims]
        failed = [claim for claim in self.unfinished if claim.failure]
        self.candidates = list(dict.fromkeys(v for claim in [*everyone, *failed] for v in claim.candidates))
        self.points = self._points(self.candidates)
        self.given: dict[Value, Value] = {}
        self.lines = Lines(self.graph, self.points, self.given)
        self.of: dict[Claim, Value] = {}
        self.series: dict[Claim, bool] = {}
        read_grads = {v: v.grad_of for v in self.graph.values if v.grad_of is not None and v.grad_of in self.candidates}
        for claim in sorted(everyone, key=lambda c: c.events[0].bindings[0].time):
            self._resolve(claim, read_grads)
        self.of |= {claim: claim.of for claim in failed}
        self.stopped = bool(failed)
        self.lines.settle([of for claim, of in self.of.items() if claim not in self.series])

    def _points(self, targets: list[Value]) -> list[Point]:
        escapes = self._escapes()
        points = []
        for seed in (1, 2):
            for jitter in JITTERS:
                point = Point(self.graph, self.loss, targets, seed=seed, jitter=jitter, stop=self.stop)
                if point.is_usable and not point.steers_elsewhere(escapes):
                    break
            points.append(point)
        return points

    def _escapes(self) -> list[Escape]:
        """Return the numbers taken out of the forward that may have steered it."""
        forward = self.graph.ancestors(self.loss)
        return [e for e in self.graph.escapes if e.value in forward and e.value is not self.loss and _steers(e)]

    def _resolve(self, claim: Claim, read_grads: dict[Value, Value]) -> None:
        """Decide of which value ``claim`` is the gradient, and let its values be given to others."""
        self.given |= {v: of for v, of in read_grads.items() if of not in claim.candidates and v not in self.given}
        if is_series(claim):
            self.series[claim] = self._series_is_right(claim)
            self.of[claim] = claim.of
            return
        chosen = claim.candidates[0]
        options = list(claim.candidates)
        pairs = [of for of, _ in claim.compared_with if of not in options]
        for option in [*options, *pairs] if len(options) + len(pairs) > 1 else []:
            if self._matches(claim, option):
                chosen = option
                break
        self.of[claim] = chosen
        if claim.final is not None:
            self.lines.finals.add(claim.final)
        for binding in claim.bindings:
            value = binding.value
            if value is not None and value not in self.given and value not in self.points[0].forward_values:
                self.given[value] = chosen

    def _matches(self, claim: Claim, of: Value) -> bool:
        assert claim.final is not None
        own = self.lines.own_values(claim, of)
        return self.lines.fits(claim.final, of, own, self.lines.carried(claim))

    def _series_is_right(self, claim: Claim) -> bool:
        """Whether each value that a loop gives the name is the gradient of one of the values of the forward."""
        ends = ends_of_series(claim)
        open_ = list(claim.candidates)
        for end in ends:
            match = next(
                (of for of in open_ if end.shape == of.shape and self.lines.fits(end, of, set(claim.values))), None
            )
            if match is None:
                return False
            open_.remove(match)
        return True


def _steers(escape: Escape) -> bool:
    """Whether a number that was taken out may matter later: not where it is only printed or kept in a list."""
    if escape.how == "bool":
        return True
    node = escape.site.node
    if node is None:
        return True
    for outer in enclosing(node):
        if isinstance(outer, ast.FormattedValue | ast.Expr):
            return False
        if isinstance(outer, ast.stmt):
            return True
    return True
