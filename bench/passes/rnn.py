"""A recurrence of three steps (Elman 1990), its weights used at each, the middle state held small.

Shapes: n sequences, D inputs a step, H hidden, V classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Values(NamedTuple):
    """What `forward` computes, in its order."""

    a1: Tensor
    h1: Tensor
    a2: Tensor
    h2: Tensor
    a3: Tensor
    h3: Tensor
    logits: Tensor
    penalty: Tensor
    loss: Tensor


def inputs(seed: int) -> tuple[Tensor, ...]:
    """Return x1, x2, x3, h0, Wx, Wh, b, Wy, by and the targets Y."""
    g = torch.Generator().manual_seed(seed)
    shapes = ((5, 3), (5, 3), (5, 3), (5, 4), (3, 4), (4, 4), (4,), (4, 6), (6,))
    return *(torch.randn(shape, generator=g) for shape in shapes), torch.randint(0, 6, (5,), generator=g)


def forward(
    x1: Tensor, x2: Tensor, x3: Tensor, h0: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor, Wy: Tensor, by: Tensor, Y: Tensor
) -> Values:
    """Return every value from ``x1``, ``x2``, ``x3`` (n, D) to the scalar loss."""
    a1 = x1 @ Wx + h0 @ Wh + b  # (n, H)
    h1 = torch.tanh(a1)  # (n, H)
    a2 = x2 @ Wx + h1 @ Wh + b  # (n, H)
    h2 = torch.tanh(a2)  # (n, H)
    a3 = x3 @ Wx + h2 @ Wh + b  # (n, H)
    h3 = torch.tanh(a3)  # (n, H)
    logits = h3 @ Wy + by  # (n, V)
    penalty = 0.1 * (h2**2).sum()  # ()
    loss = F.cross_entropy(logits, Y) + penalty  # ()
    return Values(a1, h1, a2, h2, a3, h3, logits, penalty, loss)


def backward(
    x1: Tensor, x2: Tensor, x3: Tensor, h0: Tensor, Wx: Tensor, Wh: Tensor, Wy: Tensor, Y: Tensor, values: Values
) -> dict[str, Tensor]:
    """Return the gradients of the inputs."""
    _a1, h1, _a2, h2, _a3, h3, logits, penalty, _loss = values
    n, V = logits.shape
    dpenalty = torch.ones_like(penalty)  # ()
    dlogits = (F.softmax(logits, 1) - F.one_hot(Y, V)) / n  # (n, V)
    dWy = h3.T @ dlogits  # (H, V)
    dby = dlogits.sum(0)  # (V,)
    dh3 = dlogits @ Wy.T  # (n, H)
    da3 = dh3 * (1 - h3 * h3)  # (n, H)
    dWx = torch.zeros_like(Wx)  # (D, H)
    dWh = torch.zeros_like(Wh)  # (H, H)
    dWx += x3.T @ da3  # (D, H) the third step
    dWh += h2.T @ da3  # (H, H)
    dx3 = da3 @ Wx.T  # (n, D)
    dh2 = da3 @ Wh.T  # (n, H) the branch through a3
    dh2 += 0.2 * h2 * dpenalty  # (n, H) the branch through penalty
    da2 = dh2 * (1 - h2 * h2)  # (n, H)
    dWx += x2.T @ da2  # (D, H) the second step
    dWh += h1.T @ da2  # (H, H)
    dx2 = da2 @ Wx.T  # (n, D)
    dh1 = da2 @ Wh.T  # (n, H)
    da1 = dh1 * (1 - h1 * h1)  # (n, H)
    dWx += x1.T @ da1  # (D, H) the first step
    dWh += h0.T @ da1  # (H, H)
    db = (da1 + da2 + da3).sum(0)  # (H,)
    dx1 = da1 @ Wx.T  # (n, D)
    dh0 = da1 @ Wh.T  # (n, H)
    return {"x1": dx1, "x2": dx2, "x3": dx3, "h0": dh0, "Wx": dWx, "Wh": dWh, "b": db, "Wy": dWy, "by": dby}
