"""Derivatives by central differences, each with an estimate of its own error, and kinks told from slopes.

Two steps, h and h/2, give Richardson's extrapolation and, by how much they differ, the error. At a kink the slopes to
both sides stay apart as the step shrinks, where those of a smooth function come together in proportion to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from handgrad.function_check.subject import Case, Subject

DOUBLE, SINGLE = 2.0**-52, 2.0**-23
STEPS = {DOUBLE: (2.0**-12, 2.0**-17, 2.0**-8), SINGLE: (2.0**-5, 2.0**-3, 2.0**-7)}
ENTRIES = 64
"""Of how many entries of one input the derivative is found."""


class Slope(NamedTuple):
    """The derivative along one direction."""

    value: float
    error: float  # how far off it may be
    low: float  # the slopes to both sides, in order
    high: float
    kink: bool  # whether they stay apart


class Entries(NamedTuple):
    """The derivative with respect to some entries of one input, by their flat positions."""

    positions: Tensor
    slopes: list[Slope]

    def tensor(self, field: str) -> Tensor:
        """Return one field of the slopes."""
        return torch.tensor([getattr(slope, field) for slope in self.slopes], dtype=torch.float64)


class Differences:
    """Finite differences of the outputs of one case, weighted with its upstream gradients."""

    def __init__(self, subject: Subject, case: Case, precision: float) -> None:
        self.subject, self.case, self.precision = subject, case, precision
        self.base = subject.outputs(case.arguments)
        weighted = [float((u * self.base[k]).double().norm()) for k, u in self._upstream()]
        self.size = math.fsum(weighted)

    def _upstream(self) -> Iterable[tuple[int, Tensor]]:
        return [(k, u) for k, u in enumerate(self.case.upstream) if u is not None]

    def _rise(self, directions: dict[int, Tensor], step: float) -> float:
        """Return by how much the weighted outputs rise ``step`` away along ``directions``; NaN where they fail."""
        arguments = tuple(
            x + (step * directions[i]).to(x.dtype) if i in directions else x for i, x in enumerate(self.case.arguments)
        )
        try:
            outputs = self.subject.outputs(arguments)
            return math.fsum(
                float((u.double() * (outputs[k].double() - self.base[k].double())).sum()) for k, u in self._upstream()
            )
        except Exception:
            return math.nan

    def along(self, directions: dict[int, Tensor]) -> Slope:
        """Return the derivative along ``directions``, one tensor an input, with the size of a sensible step."""
        best = Slope(math.nan, math.inf, -math.inf, math.inf, kink=False)
        for h in STEPS[self.precision]:
            rises = [self._rise(directions, step) for step in (h, -h, h / 2, -h / 2)]
            if not all(map(math.isfinite, rises)):
                continue
            ahead, behind, ahead2, behind2 = (rises[0] / h, -rises[1] / h, rises[2] * 2 / h, -rises[3] * 2 / h)
            coarse, fine = (ahead + behind) / 2, (ahead2 + behind2) / 2
            noise = 8 * self.precision * (self.size + abs(fine)) / h
            gap, gap2 = abs(ahead - behind), abs(ahead2 - behind2)
            kink = gap2 > 0.75 * gap and gap2 > max(20 * noise, 1e-3 * max(abs(ahead2), abs(behind2)))
            slope = Slope(
                (4 * fine - coarse) / 3, abs(fine - coarse) + noise, min(ahead2, behind2), max(ahead2, behind2), kink
            )
            if slope.error < best.error:
                best = slope
            if kink or best.error <= 2.0**-22 * abs(best.value):
                break
        return best

    def step_size(self, index: int) -> float:
        """Return the size of the entries of an input, 1 for one of zeros."""
        x = self.case.arguments[index]
        size = x.double().square().mean().sqrt().item() if x.numel() else 0.0
        return size if size and math.isfinite(size) else 1.0

    def entries(self, index: int, positions: Tensor) -> Entries:
        """Return the derivative with respect to the entries of input ``index`` at flat ``positions``."""
        x, size = self.case.arguments[index], self.step_size(index)
        slopes = []
        for position in positions.tolist():
            direction = torch.zeros(x.numel(), dtype=torch.float64, device=x.device)
            step = max(size, abs(float(x.reshape(-1)[position])))
            direction[position] = step
            value, error, low, high, kink = self.along({index: direction.reshape(x.shape)})
            slopes.append(Slope(value / step, error / step, low / step, high / step, kink))
        return Entries(positions, slopes)

    def some_entries(self, index: int) -> Entries:
        """Return the derivative with respect to all entries of an input, or `ENTRIES` random ones of them."""
        n = self.case.arguments[index].numel()
        generator = torch.Generator().manual_seed(self.subject.seed)
        positions = torch.arange(n) if n <= ENTRIES else torch.randperm(n, generator=generator)[:ENTRIES]
        return self.entries(index, positions)

    def random_direction(self, index: int, number: int) -> Tensor:
        """Return a dense direction of the size of the input."""
        x = self.case.arguments[index]
        generator = torch.Generator().manual_seed(self.subject.seed * 31 + number)
        return torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device) * self.step_size(index)
