"""Exercise 4: the pair with which the model is trained, made of both closed forms.

It computes what `atomic` computes, in 7 lines forward and 12 backward. Shapes as there.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from handgrad.models.mlp import batch_norm, cross_entropy
from handgrad.models.mlp.parameters import Parameters


class Values(NamedTuple):
    """Every value that `forward` computes, in its order."""

    emb: Tensor
    embcat: Tensor
    hprebn: Tensor
    bnvar_inv: Tensor
    bnraw: Tensor
    hpreact: Tensor
    h: Tensor
    logits: Tensor
    loss: Tensor


class Gradients(NamedTuple):
    """The gradients that `backward` computes, in its order: six of values, seven of parameters."""

    dlogits: Tensor
    dh: Tensor
    dW2: Tensor
    db2: Tensor
    dhpreact: Tensor
    dhprebn: Tensor
    dbngain: Tensor
    dbnbias: Tensor
    dembcat: Tensor
    dW1: Tensor
    db1: Tensor
    demb: Tensor
    dC: Tensor


def forward(parameters: Parameters, Xb: Tensor, Yb: Tensor) -> Values:
    """Return the values from the contexts ``Xb`` (n, T) and targets ``Yb`` (n,), int64, to the scalar loss."""
    C, W1, b1, W2, b2, bngain, bnbias = parameters
    emb = C[Xb]  # (n, T, E)
    embcat = emb.flatten(1)  # (n, T*E)
    hprebn = embcat @ W1 + b1  # (n, H)
    hpreact, bnraw, bnvar_inv = batch_norm.forward(hprebn, bngain, bnbias)  # (n, H), (n, H), (1, H)
    h = torch.tanh(hpreact)  # (n, H)
    logits = h @ W2 + b2  # (n, V)
    loss = cross_entropy.forward(logits, Yb)  # ()
    return Values(emb, embcat, hprebn, bnvar_inv, bnraw, hpreact, h, logits, loss)


def backward(parameters: Parameters, values: Values, Xb: Tensor, Yb: Tensor) -> Gradients:
    """Return the gradients of all parameters, and those of values on the way to them."""
    C, W1, _b1, W2, _b2, bngain, _bnbias = parameters
    emb, embcat, _hprebn, bnvar_inv, bnraw, _hpreact, h, logits, _loss = values
    dlogits = cross_entropy.backward(logits, Yb)  # (n, V)
    dh = dlogits @ W2.T  # (n, H)
    dW2 = h.T @ dlogits  # (H, V)
    db2 = dlogits.sum(0)  # (V,)
    dhpreact = (1.0 - h**2) * dh  # (n, H)
    dhprebn, dbngain, dbnbias = batch_norm.backward(dhpreact, bngain, bnraw, bnvar_inv)
    dembcat = dhprebn @ W1.T  # (n, T*E)
    dW1 = embcat.T @ dhprebn  # (T*E, H)
    db1 = dhprebn.sum(0)  # (H,)
    demb = dembcat.view(emb.shape)  # (n, T, E)
    dC = torch.zeros_like(C).index_add_(0, Xb.flatten(), demb.flatten(0, 1))  # (V, E)
    return Gradients(
        dlogits, dh, dW2, db2, dhpreact, dhprebn, dbngain, dbnbias, dembcat, dW1, db1, demb, dC
    )  # fmt: skip
