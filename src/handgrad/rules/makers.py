"""Inputs for the samples of rules."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Maker = Callable[[torch.Generator], Tensor]


def normal(*shape: int) -> Maker:
    """Return numbers of the normal distribution, float64, that want a gradient."""
    return lambda generator: torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def positive(*shape: int) -> Maker:
    """Return numbers between 0.5 and 2 that want a gradient."""
    return lambda g: (0.5 + 1.5 * torch.rand(shape, generator=g, dtype=torch.float64)).requires_grad_()


def unit(*shape: int) -> Maker:
    """Return numbers between -0.8 and 0.8 that want a gradient."""
    return lambda g: (1.6 * torch.rand(shape, generator=g, dtype=torch.float64) - 0.8).requires_grad_()


def away(*shape: int) -> Maker:
    """Return numbers at least 0.3 from zero, of either sign, that want a gradient."""

    def make(generator: torch.Generator) -> Tensor:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        return (drawn + 0.3 * drawn.sign()).requires_grad_()

    return make


def fixed(*shape: int) -> Maker:
    """Return numbers that want no gradient."""
    return lambda generator: torch.randn(shape, generator=generator, dtype=torch.float64)


def distinct(*shape: int) -> Maker:
    """Return numbers that all differ by 0.1 or more, in random order, that want a gradient."""

    def make(generator: torch.Generator) -> Tensor:
        count = 1
        for size in shape:
            count *= size
        order = torch.randperm(count, generator=generator).double()
        return (0.1 * order - 0.05 * count).reshape(shape).requires_grad_()

    return make


def integers(*shape: int, high: int, low: int = 0) -> Maker:
    """Return whole numbers from ``low`` to ``high - 1``, as indices and classes are; they repeat."""
    return lambda generator: torch.randint(low, high, shape, generator=generator)


def boolean(*shape: int) -> Maker:
    """Return a mask."""
    return lambda generator: torch.rand(shape, generator=generator) > 0.4


def tied(*shape: int) -> Maker:
    """Return numbers among which there are equal ones, that want a gradient."""
    return lambda g: torch.randint(0, 3, shape, generator=g).double().requires_grad_()
