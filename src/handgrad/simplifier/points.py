"""Two points at which whatever is shown is true: the forward again, in float64, near where it was run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from handgrad.deriver.derivation import Backward
from handgrad.deriver.page import Page
from handgrad.errors import ReplayError
from handgrad.expr import Expr, is_number
from handgrad.graph import Replay, Value
from handgrad.printer import text

CLOSE = 1e-9  # of the largest number
JITTERS = (0.15, 0.01, 0.0)
SEEDS = (1, 2)


class NotProvedError(Exception):
    """A line is not true at one of the two points, or cannot be computed there."""


@dataclass
class Point:
    """The values there, and what draws the gradients that come from above."""

    replay: Replay
    generator: torch.Generator


class Points:
    """The two points, and what an expression is there."""

    def __init__(self, backward: Backward) -> None:
        self.backward = backward
        self.page = Page(backward.forward, [], by_path=False)
        self._points = [self._at(seed) for seed in SEEDS]

    def _at(self, seed: int) -> Point:
        graph, walk = self.backward.graph, self.backward.walk
        for jitter in JITTERS:
            generator = torch.Generator().manual_seed(seed)
            given = {}
            for leaf in dict.fromkeys([*graph.leaves, *sorted(walk.wrt, key=lambda value: value.id)]):
                if leaf.is_floating and not leaf.dtype.is_complex:
                    exact = leaf.value.to(torch.float64)
                    noise = torch.randn(exact.shape, generator=generator, dtype=torch.float64)
                    moved = exact * (1 + jitter * noise) if leaf in walk.needed else exact
                    given[leaf] = moved.requires_grad_(leaf in walk.wrt)
            replay = Replay(graph, given=given, dtype=torch.float64, differentiable=True)
            replay.run(walk.seeds)
            known = graph.ancestors(*walk.seeds)
            try:
                replay.check_escapes(escape for escape in graph.escapes if escape.value in known)
            except ReplayError:
                continue
            break
        return Point(replay, generator)

    def seeds(self, end: Value) -> list[Tensor]:
        """Return a random gradient of ``end`` for each point; of the loss, 1."""
        seed = self.backward.walk.seeds.get(end)
        if seed is not None and is_number(seed, 1):
            return [torch.ones((), dtype=torch.float64) for _ in self._points]
        return [
            torch.randn(end.shape, generator=point.generator, dtype=torch.float64)
            for point in self._points
        ]  # fmt: skip

    def truth(self, value: Value, end: Value, seeds: list[Tensor]) -> list[Tensor]:
        """Return autograd's gradient of ``value``, as far as it comes through ``end``, at each point."""
        found = []
        for point, seed in zip(self._points, seeds, strict=True):
            one, other = point.replay[end], point.replay[value]
            (gradient,) = torch.autograd.grad(one, other, seed, retain_graph=True, allow_unused=True)
            found.append(torch.zeros_like(other) if gradient is None else gradient)
        return found

    def evaluate(self, expr: Expr, end: Value, seeds: list[Tensor]) -> list[Tensor]:
        """Return what the text of ``expr`` computes at each point."""
        code = text(self.page.resolve(expr))
        return [self._run(code, point.replay, end, seed) for point, seed in zip(self._points, seeds, strict=True)]

    def _run(self, code: str, replay: Replay, end: Value, seed: Tensor) -> Tensor:
        scope = self.backward.scope
        space: dict[str, Any] = {"torch": torch, "F": F, "math": math}
        for name, item in scope.names.items():
            if not isinstance(item, Value):
                space.setdefault(name, item)
        for value in [*scope.known, *self.page.used]:
            for known in (scope.identifier(value), scope.text(value)):
                if known is not None and known.isidentifier():
                    space[known] = replay[value].detach()
        space[f"d{scope.identifier(end)}"] = seed
        with torch.no_grad(), replay.default_dtype():
            try:
                found = eval(compile(code, "<simplified>", "eval"), space)  # noqa: S307 our own text
            except (RuntimeError, TypeError, NameError, IndexError, AttributeError) as error:
                raise NotProvedError(f"{code}: {error}") from None
        return torch.as_tensor(found, dtype=torch.float64)


def agree(found: list[Tensor], expected: list[Tensor]) -> bool:
    """Whether two lists of tensors are the same up to rounding; what is smaller is repeated."""
    for one, other in zip(found, expected, strict=True):
        try:
            difference = one.expand_as(other) - other
        except RuntimeError:
            return False  # the shapes do not fit
        scale = max(other.abs().max().item() if other.numel() else 0.0, 1e-3)
        if not bool((difference.abs() <= CLOSE * scale).all()):
            return False
    return True
