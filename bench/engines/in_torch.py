"""Engines in PyTorch: autograd as people write it, with library calls, compiled, and gradients by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.cases import LR, Case, Numbers
from handgrad.models import MODELS
from handgrad.models.mlp import atomic

Take = Callable[[Numbers], float]


def _library_mlp(p: Any, Xb: Tensor, Yb: Tensor) -> Tensor:
    hprebn = F.linear(p.C[Xb].flatten(1), p.W1.T, p.b1)
    h = torch.tanh(F.batch_norm(hprebn, None, None, p.bngain[0], p.bnbias[0], training=True))
    return F.cross_entropy(F.linear(h, p.W2.T, p.b2), Yb)


def _library_transformer(p: Any, Xb: Tensor, Yb: Tensor) -> Tensor:
    n, T = Xb.shape
    A, _, D = p.bq.shape
    E = A * D
    x = p.C[Xb] + p.P
    a = F.layer_norm(x, (E,), p.gain1, p.bias1)
    q, k, v = (F.linear(a, W.T, b.flatten()).view(n, T, A, D).transpose(1, 2)
               for W, b in ((p.Wq, p.bq), (p.Wk, p.bk), (p.Wv, p.bv)))  # fmt: skip
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(n, T, E)
    x = x + F.linear(y, p.Wo.T, p.bo)
    m = F.layer_norm(x, (E,), p.gain2, p.bias2)
    x = x + F.linear(F.gelu(F.linear(m, p.W1.T, p.b1)), p.W2.T, p.b2)
    f = F.layer_norm(x[:, -1], (E,), p.gain3, p.bias3)
    return F.cross_entropy(F.linear(f, p.W3.T, p.b3), Yb)


LIBRARY = {"mlp": _library_mlp, "transformer": _library_transformer}


def _plain(case: Case) -> Callable[..., Tensor]:
    forward = atomic.forward if case.model == "mlp" else MODELS[case.model].forward
    return lambda p, Xb, Yb: forward(p, Xb, Yb).loss


def _given(case: Case) -> tuple[Any, Tensor, Tensor]:
    X, Y = case.data()
    start = case.start()
    kind = type(MODELS[case.model].initialise(27, **case.sizes, block_size=case.block_size,
                                              generator=torch.Generator().manual_seed(0)))  # fmt: skip
    return kind(**{name: torch.from_numpy(x) for name, x in start.items()}), torch.from_numpy(X), torch.from_numpy(Y)


def _stepping(X: Tensor, Y: Tensor, step: Callable[[Tensor, Tensor], Tensor]) -> Take:
    def take(rows: Numbers) -> float:
        for ix in torch.from_numpy(rows):
            loss = step(X[ix], Y[ix])
        return loss.item()

    return take


def _autograd(case: Case, forward: Callable[..., Tensor]) -> Take:
    parameters, X, Y = _given(case)
    for p in parameters:
        p.requires_grad_()

    def step(Xb: Tensor, Yb: Tensor) -> Tensor:
        for p in parameters:
            p.grad = None
        loss = forward(parameters, Xb, Yb)
        loss.backward()
        for p in parameters:
            p.data += -LR * p.grad
        return loss.detach()

    return _stepping(X, Y, step)


def autograd(case: Case) -> Take:
    """Return the forward as people write it, `loss.backward()`, a loop over the parameters."""
    return _autograd(case, _plain(case))


def autograd_library(case: Case) -> Take:
    """Return the same with one library call for each layer."""
    return _autograd(case, LIBRARY[case.model])


def compiled_autograd(case: Case) -> Take:
    """Return the forward through `torch.compile`, which compiles its backward, too; the update is one fused call."""
    parameters, X, Y = _given(case)
    for p in parameters:
        p.requires_grad_()
    loss_of = torch.compile(_plain(case), fullgraph=True, dynamic=False)

    def step(Xb: Tensor, Yb: Tensor) -> Tensor:
        loss = loss_of(parameters, Xb, Yb)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            torch._foreach_add_(list(parameters), gradients, alpha=-LR)
        return loss.detach()

    return _stepping(X, Y, step)


def _by_hand_step(case: Case) -> Callable[..., Tensor]:
    model = MODELS[case.model]

    def step(parameters: Any, Xb: Tensor, Yb: Tensor) -> Tensor:
        values = model.forward(parameters, Xb, Yb)
        gradients = model.backward(parameters, values, Xb, Yb)
        for name, p in zip(parameters._fields, parameters, strict=True):
            p += -LR * getattr(gradients, f"d{name}")  # `add_(..., alpha=)` is miscompiled by torch.compile in 2.13
        return values.loss

    return step


def by_hand(case: Case) -> Take:
    """Return the gradients by hand, in eager PyTorch."""
    torch.set_grad_enabled(False)
    parameters, X, Y = _given(case)
    return _stepping(X, Y, partial(_by_hand_step(case), parameters))


def compiled_by_hand(case: Case) -> Take:
    """Return the gradients by hand through `torch.compile`: forward, backward and update in one graph."""
    torch.set_grad_enabled(False)
    parameters, X, Y = _given(case)
    step = torch.compile(_by_hand_step(case), fullgraph=True, dynamic=False)
    return _stepping(X, Y, partial(step, parameters))


__all__ = ["autograd", "autograd_library", "by_hand", "compiled_autograd", "compiled_by_hand"]
