"""Forwards with several results, and totals that a loop adds up."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from handgrad.deriver import derive


def both(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    a = x * w
    b = a.sum(0)
    return a, b


def test_a_result_that_another_one_was_computed_from_gets_more_of_its_gradient() -> None:
    backward = derive(both, torch.randn(3, 4), torch.randn(3, 4, requires_grad=True))

    assert "da += db" in str(backward)
    assert backward.verify() < 1e-12


def lstm_like(X: Tensor, W: Tensor, U: Tensor) -> Tensor:
    h = torch.zeros(3, 5)
    c = torch.zeros(3, 5)
    total = 0.0
    for t in range(4):
        gate = torch.sigmoid(X[:, t] @ W + h @ U)
        c = gate * c + (1 - gate)
        h = torch.tanh(c)
        total = total + (h**2).mean()
    return total / 4


def test_a_total_that_begins_as_a_number_is_derived() -> None:
    g = torch.Generator().manual_seed(0)
    W, U = torch.randn(2, 5, generator=g), torch.randn(5, 5, generator=g)

    backward = derive(lstm_like, torch.randn(3, 4, 2, generator=g), W.requires_grad_(), U.requires_grad_())

    assert {"dW", "dU"} <= set(backward.gradients)
    assert "for t in reversed(range(4)):" in str(backward)


@pytest.mark.parametrize("used", ["loss", "logp"])
def test_a_loss_that_is_read_again_keeps_its_own_gradient(used: str) -> None:
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        logp = (x * x).sum()
        loss = -logp if used == "logp" else logp * 3
        return logp, loss

    backward = derive(forward, torch.randn(4, requires_grad=True))

    assert backward.verify() < 1e-12
