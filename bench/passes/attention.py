"""One head of causal attention (Vaswani et al. 2017, arXiv:1706.03762) with a residual connection.

Shapes: B sequences, T places, D features, A features of the head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Values(NamedTuple):
    """What `forward` computes, in its order."""

    q: Tensor
    k: Tensor
    v: Tensor
    scores: Tensor
    masked: Tensor
    att: Tensor
    ctx: Tensor
    out: Tensor
    res: Tensor
    err: Tensor
    loss: Tensor


def inputs(seed: int) -> tuple[Tensor, ...]:
    """Return x, Wq, Wk, Wv, Wo, target."""
    g = torch.Generator().manual_seed(seed)
    shapes = ((2, 4, 5), (5, 3), (5, 3), (5, 3), (3, 5), (2, 4, 5))
    return tuple(torch.randn(shape, generator=g) for shape in shapes)


def forward(x: Tensor, Wq: Tensor, Wk: Tensor, Wv: Tensor, Wo: Tensor, target: Tensor) -> Values:
    """Return every value from ``x`` (B, T, D) to the mean over places of the squared error."""
    B, T, _ = x.shape
    q = x @ Wq  # (B, T, A)
    k = x @ Wk  # (B, T, A)
    v = x @ Wv  # (B, T, A)
    scores = q @ k.transpose(1, 2) / q.shape[2] ** 0.5  # (B, T, T)
    future = torch.ones(T, T, dtype=torch.bool).triu(1)  # (T, T)
    masked = scores.masked_fill(future, float("-inf"))  # (B, T, T)
    att = masked.softmax(2)  # (B, T, T)
    ctx = att @ v  # (B, T, A)
    out = ctx @ Wo  # (B, T, D)
    res = x + out  # (B, T, D)
    err = res - target  # (B, T, D)
    loss = (err * err).sum() / (B * T)  # ()
    return Values(q, k, v, scores, masked, att, ctx, out, res, err, loss)


def backward(x: Tensor, Wq: Tensor, Wk: Tensor, Wv: Tensor, Wo: Tensor, values: Values) -> dict[str, Tensor]:
    """Return the gradients of the inputs but the target."""
    q, k, v, _scores, _masked, att, ctx, _out, _res, err, _loss = values
    B, T, A = q.shape
    future = torch.ones(T, T, dtype=torch.bool).triu(1)  # (T, T)
    derr = 2 * err / (B * T)  # (B, T, D)
    dres = derr.clone()  # (B, T, D)
    dout = dres.clone()  # (B, T, D)
    dctx = dout @ Wo.T  # (B, T, A)
    dWo = ctx.flatten(0, 1).T @ dout.flatten(0, 1)  # (A, D)
    datt = dctx @ v.transpose(1, 2)  # (B, T, T)
    dv = att.transpose(1, 2) @ dctx  # (B, T, A)
    dmasked = att * (datt - (datt * att).sum(2, keepdim=True))  # (B, T, T)
    dscores = dmasked.masked_fill(future, 0.0)  # (B, T, T)
    dq = dscores @ k / A**0.5  # (B, T, A)
    dk = dscores.transpose(1, 2) @ q / A**0.5  # (B, T, A)
    dWq = (x.transpose(1, 2) @ dq).sum(0)  # (D, A)
    dWk = (x.transpose(1, 2) @ dk).sum(0)  # (D, A)
    dWv = (x.transpose(1, 2) @ dv).sum(0)  # (D, A)
    dx = dres.clone()  # (B, T, D) the branch past the head
    dx += dq @ Wq.T  # (B, T, D)
    dx += dk @ Wk.T  # (B, T, D)
    dx += dv @ Wv.T  # (B, T, D)
    return {"x": dx, "Wq": dWq, "Wk": dWk, "Wv": dWv, "Wo": dWo}
