"""Names that are bound twice, and gradients that share memory: what random forwards found in the deriver."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from handgrad.deriver import derive
from handgrad.errors import NotVerifiedError


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).requires_grad_()


def sizes_of_the_later(x: Tensor, y: Tensor, ix: Tensor) -> Tensor:
    h = torch.logaddexp(x, y)
    mixed = h - h.logsumexp(-2, keepdim=True)
    h = mixed.index_select(0, ix)
    return h.mean() + mixed.square().sum()


def test_a_size_is_not_read_from_a_name_that_an_earlier_value_takes_again() -> None:
    found = str(derive(sizes_of_the_later, drawn(2), drawn(4, 2), torch.tensor([1, 1])))

    assert "h_1 = h\nh = torch.logaddexp(x, y)" in found
    assert "1.0 / (h.shape[0]" not in found


def number_of_the_later(x: Tensor, o: Tensor, W: Tensor) -> Tensor:
    h = x.sigmoid()
    h = torch.hstack([h, o]) @ W
    z = torch.softmax(h @ h.mT / h.shape[-1] ** 0.5, -1) @ h
    return z.square().sum()


def test_a_number_is_not_read_from_a_name_that_an_earlier_value_takes_again() -> None:
    found = str(derive(number_of_the_later, drawn(5, 1), drawn(5, 1), drawn(2, 4)))

    assert "h = x.sigmoid()" in found
    assert "h_1 @ h_1.T / 2.0" in found


def test_what_is_added_to_a_gradient_does_not_reach_the_one_that_it_is_a_view_of() -> None:
    assert "dscores.diagonal(0, -2, -1).clone()" in str(derive(shared, drawn(3)))


def shared(x: Tensor) -> Tensor:
    z = torch.roll(x, 1)
    late = torch.expm1(z)
    scores = torch.diag_embed(z)
    return (scores**2).mean() + late.sum()


def one_row(x: Tensor) -> Tensor:
    h = torch.stack([r * 2 for r in x])
    z = h @ h.mT
    h = z.view(-1, 1)
    return h.sum()


def test_the_one_row_of_a_tensor_is_a_row() -> None:
    assert "h = torch.stack([2 * x[0]])" in str(derive(one_row, drawn(1, 3)))


def chosen(x: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(x[x > 0], target) + x.masked_select(x < 0.5).min(0)[0]


def test_a_forward_that_is_not_defined_nearby_is_compared_where_it_was_run() -> None:
    x = torch.tensor([1e-9, -1e-9, 0.5, 2.0], dtype=torch.float64, requires_grad=True)

    with warnings.catch_warnings(action="error"):
        backward = derive(chosen, x, torch.ones(3, dtype=torch.float64))

    assert backward.verify() < 1e-12


def flat(x: Tensor) -> Tensor:
    return (x * 0.0).std()


def test_a_formula_that_divides_by_zero_says_so() -> None:
    with pytest.raises(NotVerifiedError, match=r"dx is nan or infinite in 4 of 4 places.*divides by 0"):
        derive(flat, drawn(4))
