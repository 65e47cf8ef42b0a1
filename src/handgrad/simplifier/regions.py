"""Regions: parts of a graph whose gradients may fold into one line.

A region has a head and an end. Every path from the head, or from some of its uses, leads through the end, and only
elementwise operations, reductions and picks lie between. So the gradient of the head, as far as it comes through the
region, is a function of the end's gradient alone. A region is worth a look if a value in it is used more than once,
where gradients add up, and may cancel; or if one of its operations does that inside, as softmax does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from handgrad.deriver.derivation import Backward
from handgrad.deriver.shares import Share
from handgrad.expr import walk
from handgrad.graph import Step, Value
from handgrad.rules.table import plain

MIXING = frozenset([
    "matmul", "mm", "bmm", "mv", "dot", "linear", "einsum", "baddbmm", "addmm", "embedding", "cat", "stack", "cumsum",
    "cumprod", "logcumsumexp", "sort", "topk", "median", "prod", "scaled_dot_product_attention",
])  # fmt: skip
COUPLING = frozenset([
    "softmax", "log_softmax", "softmin", "logsumexp", "sigmoid", "logsigmoid", "var", "std", "norm", "normalize",
    "layer_norm", "rms_norm", "cross_entropy", "nll_loss", "binary_cross_entropy",
])  # fmt: skip
LONGEST = 60  # steps; beyond that a region is a network


@dataclass(frozen=True)
class Region:
    """The values strictly between ``head`` and ``end``, in the order of the forward, and the steps that lead on."""

    head: Value
    end: Value
    inside: tuple[Value, ...]
    steps: tuple[Step, ...]
    whole: bool  # it holds every use of the head
    several: bool  # a value is used more than once

    @property
    def names(self) -> str:
        """How it is called: ``logits -> loss``."""
        return f"{self.head.name} -> {self.end.name or 'the result'}"


class Regions:
    """Finds the regions of a graph."""

    def __init__(self, backward: Backward) -> None:
        self.backward, walk_ = backward, backward.walk
        self.needed = walk_.needed
        self.order = sorted(self.needed, key=lambda value: value.id)
        self.place = {value: position for position, value in enumerate(self.order)}
        self.uses: dict[Value, list[tuple[Step, Value]]] = {value: [] for value in self.order}
        for step in backward.graph.steps:
            made = [value for value in step.made if value in self.needed]
            for value in dict.fromkeys(step.inputs):
                if value in self.needed:
                    self.uses[value] += [(step, out) for out in made if out is not value]
        self.after: dict[Value, int] = {}  # the values that every path passes, as bits
        self.reach: dict[Value, int] = {}  # those that some path passes
        for value in reversed(self.order):
            outs = [out for _, out in self.uses[value]]
            common, some = -1 if outs else 0, 0
            for out in outs:
                common &= self.after[out]
                some |= self.reach[out]
            self.after[value] = (1 << self.place[value]) | common
            self.reach[value] = (1 << self.place[value]) | some
        self.shares: dict[Value, list[Share]] = {}
        for share in backward.shares:
            if isinstance(share, Share):
                self.shares.setdefault(share.value, []).append(share)
        self.readers: dict[Value, set[Value]] = {}  # whose gradients read the gradient of a value
        for share in (share for shares in self.shares.values() for share in shares):
            for part in walk(share.gradient):
                if part.op == "gradient":
                    self.readers.setdefault(part.data, set()).add(share.value)

    def __iter__(self) -> Iterator[Region]:
        for head in self.order:
            if head.name is not None and head in self.shares:
                yield from self._from(head)

    def _from(self, head: Value) -> Iterator[Region]:
        common = 0
        for _, out in self.uses[head]:
            common |= self.after[out]
        for end in self.order[self.place[head] + 1 :]:
            if not common >> self.place[end] & 1 or not (end.name or end in self.backward.walk.seeds):
                continue
            region = self._between(head, end)
            if region is not None:
                yield region

    def _between(self, head: Value, end: Value) -> Region | None:
        bit = 1 << self.place[end]
        first = [(step, out) for step, out in self.uses[head] if self.after[out] & bit]
        others = [out for _, out in self.uses[head] if not self.after[out] & bit]
        if any(self.reach[out] & bit for out in others):
            return None
        inside: set[Value] = set()
        steps: dict[int, Step] = {step.index: step for step, _ in first}
        stack = [out for _, out in first]
        several = len(first) > 1
        while stack:
            value = stack.pop()
            if value is end or value in inside:
                continue
            inside.add(value)
            several |= len(self.uses[value]) > 1
            for step, out in self.uses[value]:
                steps[step.index] = step
                stack.append(out)
        promising = several or any(plain(step.op) in COUPLING for step in steps.values())
        if not promising or len(steps) > LONGEST or not all(map(_is_allowed, steps.values())):
            return None
        ordered = tuple(step for _, step in sorted(steps.items()))
        return Region(head, end, tuple(sorted(inside, key=lambda value: value.id)), ordered, not others, several)

    def saved(self, region: Region) -> list[Share]:
        """Return the shares that the closed form replaces: those that nothing outside of the region reads."""
        members = {region.head}
        chosen = [share for share in self.shares.get(region.head, []) if share.step in region.steps]
        for value in region.inside:
            if self.readers.get(value, set()) <= members:
                members.add(value)
                chosen += self.shares.get(value, [])
        return chosen


def _is_allowed(step: Step) -> bool:
    op = plain(step.op)
    return op not in MIXING and not op.startswith("conv") and not step.writes
