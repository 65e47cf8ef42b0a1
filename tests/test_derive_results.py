"""Forwards with several results, and totals that a loop adds up."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

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


class Results(NamedTuple):
    h: Tensor
    loss: Tensor


class Weights(NamedTuple):
    W: Tensor
    b: Tensor


def layer(weights: Weights, x: Tensor) -> Results:
    W, b = weights
    h = torch.tanh(x @ W + b)
    loss = (h**2).mean()
    return Results(h, loss)


def test_the_result_that_is_called_loss_is_derived() -> None:
    backward = derive(layer, Weights(torch.randn(3, 4), torch.randn(4)), torch.randn(5, 3))

    assert "dh = 2 * h / " in str(backward)
    assert {"dW", "db", "dh", "dx"} <= set(backward.gradients)
    assert backward.verify() < 1e-12


def test_a_lambda_is_derived_in_the_names_that_it_can_see() -> None:
    weights = Weights(torch.randn(3, 4), torch.randn(4))

    direct = derive(lambda x, w: (x @ w).sum(), torch.randn(5, 3), torch.randn(3, 2))
    around = derive(lambda p, inputs: layer(p, inputs).loss, weights, torch.randn(5, 3))

    assert "dw = x.T @" in str(direct)
    assert "h = torch.tanh(inputs @ p.W + p.b)" in str(around)
    assert {"dW", "db"} <= set(around.gradients)


def inner(p: Tensor, b: Tensor, x: Tensor) -> Tensor:
    h = x @ p + b
    return (h**2).mean()


def of_a_tuple(w: Weights, x: Tensor) -> Tensor:
    return inner(*w, x)


def of_a_dict(p: dict[str, Tensor], x: Tensor) -> Tensor:
    return inner(*(p[name] for name in ("p", "b")), x)  # `p` is the dict, and one of its keys


W, b = torch.randn(3, 4), torch.randn(4)


@pytest.mark.parametrize(
    ("forward", "given", "name", "written"),
    [
        (of_a_tuple, Weights(W.clone(), b.clone()), "w", "x @ w.W + w.b"),
        (of_a_tuple, [W.clone(), b.clone()], "w", "x @ w[0] + w[1]"),
        (of_a_dict, {"p": W.clone(), "b": b.clone()}, "p", "x @ p['p'] + p['b']"),
    ],
)
def test_parameters_that_only_an_inner_function_has_touched_are_read_from_what_holds_them(
    forward: Any, given: Any, name: str, written: str
) -> None:
    x = torch.randn(5, 3)
    backward = derive(forward, given, x)

    assert f"h = {written}" in str(backward)
    assert backward.verify() < 1e-12
    space = {"torch": torch, "x": x, name: given}
    exec(str(backward), space)  # noqa: S102 as pasted below the forward
    h = x @ W + b
    torch.testing.assert_close(space["dx"], 2 * h / h.numel() @ W.T)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).square().mean()


def test_a_module_and_its_forward_are_derived_alike() -> None:
    net, x = Net(), torch.randn(5, 3)

    assert str(derive(net.forward, x)) == str(derive(net, x))
    assert "dfc_weight = " in str(derive(net, x))
