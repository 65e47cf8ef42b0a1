"""Every line of a backward by itself: what it adds to a gradient, and which uses of the value that accounts for."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from handgrad.checker.evaluation import Evaluation, Given, are_close
from handgrad.checker.truth import ConsistentPoint, FinePoint, Point
from handgrad.claims import Claim, Event
from handgrad.graph import Graph, Value
from handgrad.precision import FEW_DIGITS, close, largest, vanishes

Contribution = tuple[frozenset[Value], list[Tensor]]
"""The uses of a value that something accounts for, and what that is at each point."""


MOST_TOGETHER = 6
"""So many wrong blocks are tried in every combination; of more, only all together."""


@dataclass(eq=False)
class Block:
    """One or more events that set a gradient or add one contribution to it."""

    events: list[Event]
    deltas: list[Tensor] | None  # what it contributes, at each point; None: it could not be computed
    reads: frozenset[Value]  # the values whose gradients it reads
    covers: frozenset[Value] = frozenset()  # the uses of the value that it accounts for
    status: str = "wrong"  # right, shape, zero or wrong


@dataclass(eq=False)
class Judged:
    """A claim, its blocks, and what was found."""

    claim: Claim
    of: Value
    reads: frozenset[Value]
    totals: list[Tensor]  # what it is in the end, at each point
    is_right: bool = False
    shape_differs: bool = False
    blocks: list[Block] = field(default_factory=list)
    thrown_away: list[tuple[Block, Event]] = field(default_factory=list)
    missing: frozenset[Value] = frozenset()
    twice: frozenset[Value] = frozenset()
    needed: frozenset[Value] = frozenset()  # the uses, where they are finer than the claimed ones
    note: str | None = None

    @property
    def wrong_blocks(self) -> list[Block]:
        """The blocks that account for nothing."""
        return [block for block in self.blocks if block.status == "wrong"]


class Lines(Evaluation):
    """The local check of claims, one after the other."""

    def __init__(self, graph: Graph, points: list[Point], given: Given) -> None:
        super().__init__(graph, points, given)
        self._reaching: dict[frozenset[Value], set[Value]] = {}

    def judge(self, claim: Claim, of: Value) -> Judged | None:
        """Judge ``claim`` as the gradient of ``of``; None if what it is cannot be computed again."""
        final = claim.final
        assert final is not None
        own = self.own_values(claim, of)
        totals = self.evaluate(final, of, own, self.carried(claim))
        if totals is None:
            return None
        reads, _ = self._reads(final, own, of)
        judged = Judged(claim, of, reads, totals)
        truths = [point.through(of, reads) for point in self.points]
        judged.shape_differs = tuple(totals[0].shape) != of.shape
        if self._same(totals, truths, judged):
            judged.is_right = True
            return judged
        if not reads and all(not total.any() for total in totals) and all(vanishes(t) for t in truths):
            judged.is_right = True
            judged.note = "zero for every input, as written"
            return judged
        if self._is_right_where_it_counts(judged, own):
            judged.is_right = True
            return judged
        self._divide(judged, own)
        for block in judged.blocks:
            self.match(block, of)
        self._match_together(judged)
        self._match_finely(judged)
        self._cover(judged)
        return judged

    def wrong_additions(self, claim: Claim, of: Value, events: Iterable[Event]) -> list[Block]:
        """Return those of ``events`` that add something which is no contribution to the gradient of ``of``."""
        own = self.own_values(claim, of)
        found = []
        for event in events:
            if event.before is None or event.after is None:
                continue
            reads, _ = self._reads(event.after, own, of, [event.before])
            zeros = [torch.zeros(event.before.shape, dtype=torch.float64) for _ in self.points]
            block = Block([event], self.evaluate(event.after, of, own, {event.before: zeros}), reads)
            self.match(block, of)
            if block.status == "wrong":
                found.append(block)
        return found

    def _is_right_where_it_counts(self, judged: Judged, own: set[Value]) -> bool:
        """Whether the claim is right for every gradient that can occur, if not for noise."""
        if not judged.reads or any(use not in judged.reads for use in self.points[0].branches(judged.of)):
            return False
        calm = Lines(self.graph, [ConsistentPoint(point) for point in self.points], self.given)
        calm.finals = self.finals
        assert judged.claim.final is not None
        totals = calm.evaluate(judged.claim.final, judged.of, own, self.carried(judged.claim))
        truths = [point.through(judged.of, judged.reads) for point in calm.points]
        if totals is None or all(vanishes(truth) for truth in truths):
            return False
        return self._same(totals, truths, judged)

    def _same(self, found: list[Tensor], truths: list[Tensor], judged: Judged | None = None) -> bool:
        if are_close(found, truths):
            return True
        if are_close(found, truths, FEW_DIGITS):
            if judged is not None:
                judged.note = "but for a constant with few digits"
            return True
        return False

    def _divide(self, judged: Judged, own: set[Value]) -> None:
        """Find out what each event does: sets the gradient, adds to it, or changes it as a whole."""
        blocks: list[Block] = []
        for event in judged.claim.events:
            before, after = event.before, event.after
            if after is None:
                continue
            stop = [] if before is None else [before]
            reads, seen = self._reads(after, own, judged.of, stop)
            if before is None or before not in seen or before is after:
                deltas = self.evaluate(after, judged.of, own, self.carried(judged.claim))
                if blocks and before is not after:
                    judged.thrown_away += [(block, event) for block in blocks]
                if before is not after or not blocks:
                    blocks = [Block([event], deltas, reads)]
                continue
            zeros = [torch.zeros(before.shape, dtype=torch.float64) for _ in self.points]
            noise = [point.random(before) for point in self.points]
            from_zero = self.evaluate(after, judged.of, own, {before: zeros})
            from_noise = self.evaluate(after, judged.of, own, {before: noise})
            adds = (
                from_zero is not None
                and from_noise is not None
                and all(
                    close(b - a, n) for a, b, n in zip(from_zero, from_noise, noise, strict=True) if a.shape == n.shape
                )
                and all(a.shape == n.shape for a, n in zip(from_zero, noise, strict=True))
            )
            if not adds:
                events = [e for block in blocks for e in block.events]
                together = frozenset().union(reads, *(block.reads for block in blocks))
                deltas = self.evaluate(after, judged.of, own, self.carried(judged.claim))
                blocks = [Block([*events, event], deltas, together)]
                continue
            last = blocks[-1] if blocks else None
            if last and last.deltas is not None and from_zero is not None and self._continues(last, reads, from_zero):
                last.events.append(event)
                last.deltas = [a + b for a, b in zip(last.deltas, from_zero, strict=True)]
                last.reads |= reads
            else:
                blocks.append(Block([event], from_zero, reads))
        judged.blocks = blocks

    @staticmethod
    def _continues(last: Block, reads: frozenset[Value], deltas: list[Tensor]) -> bool:
        """Whether an addition belongs to the block before it: zeros that are filled, a closed form from the loss."""
        assert last.deltas is not None
        if all(not delta.any() for delta in last.deltas):
            return True
        again = all(a.shape == b.shape and close(a, b) for a, b in zip(deltas, last.deltas, strict=True))
        return not reads and not last.reads and not again

    def candidates(self, of: Value, reads: frozenset[Value]) -> list[Contribution]:
        """Return what a correct block that reads ``reads`` may be, and which uses each accounts for."""
        return list(self._candidates(of, reads))

    def _candidates(self, of: Value, reads: frozenset[Value]) -> Iterator[Contribution]:
        tables = [point.branches(of) for point in self.points]
        loss = self.points[0].loss
        users = [user for user in tables[0] if user in reads or user is loss]
        sizes = range(len(users), 0, -1) if len(users) <= 4 else (len(users), 1)
        for size in sizes:
            for some in itertools.combinations(users, size):
                yield frozenset(some), [sum((t[u] for u in some), torch.zeros(())) for t in tables]
        everything = [point.through(of, reads) for point in self.points]
        if any(largest(t) for t in everything):
            yield frozenset(tables[0]), everything
        if reads:
            part = [point.through(of, reads, loss=False) for point in self.points]
            if any(largest(t) for t in part):
                free = self._free(reads)
                yield frozenset(u for u in tables[0] if u in reads or u not in free), part

    def _free(self, reads: frozenset[Value]) -> set[Value]:
        """Return the values from which the loss can be reached without meeting ``reads``."""
        if reads not in self._reaching:
            forward, found = self._forward, set[Value]()
            stack = [self.points[0].loss]
            while stack:
                value = stack.pop()
                if value not in found:
                    found.add(value)
                    if value.step is not None and value in forward:
                        stack.extend(given for given in value.step.inputs if given not in reads)
            self._reaching[reads] = found
        return self._reaching[reads]

    def match(self, block: Block, of: Value) -> None:
        """Find out which uses of the value ``block`` accounts for."""
        if block.deltas is None:
            return
        for covers, truths in self._candidates(of, block.reads):
            if self._same(block.deltas, truths):
                block.covers = covers
                block.status = "right" if block.deltas[0].shape == truths[0].shape else "shape"
                return
        if all(not delta.any() for delta in block.deltas):
            block.status = "zero"

    def _match_together(self, judged: Judged) -> None:
        """Blocks that are wrong alone may be one contribution written in parts."""
        wrong = [block for block in judged.wrong_blocks if block.deltas is not None]
        if len(wrong) < 2:
            return
        for size in range(len(wrong), 1, -1) if len(wrong) <= MOST_TOGETHER else [len(wrong)]:
            for some in itertools.combinations(wrong, size):
                try:
                    deltas = [sum(ds[1:], ds[0]) for ds in zip(*(b.deltas or [] for b in some), strict=True)]
                except RuntimeError:
                    continue
                joined = Block([], deltas, frozenset().union(*(b.reads for b in some)))
                self.match(joined, judged.of)
                if joined.status == "right":
                    for block in some:
                        block.status = "right"
                    some[-1].covers = joined.covers
                    return

    def _match_finely(self, judged: Judged) -> None:
        """Match what is left with the next uses of the value, whose gradients nobody may have written yet."""
        wrong = [block for block in judged.wrong_blocks if block.reads]
        if not wrong or len(wrong) < len(judged.wrong_blocks):
            return
        fine = Lines(self.graph, [FinePoint(point) for point in self.points], self.given)
        for block in wrong:
            fine.match(block, judged.of)
        if judged.wrong_blocks:
            for block in wrong:
                block.status, block.covers = "wrong", frozenset()
            return
        judged.needed = frozenset(fine.points[0].branches(judged.of))

    def _cover(self, judged: Judged) -> None:
        need = judged.needed or frozenset(self.points[0].branches(judged.of))
        covered: set[Value] = set()
        twice: set[Value] = set()
        for block in judged.blocks:
            twice |= covered & block.covers
            covered |= block.covers
        judged.missing, judged.twice = need - covered, frozenset(twice)
        if judged.wrong_blocks or judged.twice or any(b.deltas is None for b in judged.blocks):
            return
        if judged.missing and not judged.needed and self._left_out_is_zero(judged):
            judged.is_right = True

    def _left_out_is_zero(self, judged: Judged) -> bool:
        """Whether all that is missing goes through values that nobody claims, and is zero for every input."""
        if any(user in self.given.values() and user is not self.points[0].loss for user in judged.missing):
            return False
        parts = [p.true_contribution(judged.of, user) for p in self.points for user in judged.missing]
        return all(vanishes(part) for part in parts)

    def unclaimed_zero_path(self, judged: Judged) -> Value | None:
        """Return a value that nobody claims, through which nothing comes, and without which the claim is right."""
        for value in sorted(self._forward & self.graph.ancestors(*judged.reads), key=lambda v: v.id):
            if value.name is None or value in self.given.values() or value is judged.of or not value.is_floating:
                continue
            if judged.of not in self.graph.ancestors(value):
                continue
            without = frozenset({value})
            truths = [point.through(judged.of, judged.reads, without) for point in self.points]
            if self._same(judged.totals, truths):
                parts = [point.through(value, frozenset()) for point in self.points]
                if all(vanishes(part) for part in parts):
                    return value
        return None
