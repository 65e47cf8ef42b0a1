"""A convolution as a product with unfolded patches, ReLU, the mean over places, a linear layer.

Shapes: B images of 5 by 6, P = 9 numbers a patch, F filters, L = 12 places, V classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Values(NamedTuple):
    """What `forward` computes, in its order."""

    cols: Tensor
    pre: Tensor
    act: Tensor
    pool: Tensor
    logits: Tensor
    logprobs: Tensor
    loss: Tensor


def inputs(seed: int) -> tuple[Tensor, ...]:
    """Return images, kernel, bias, W, c and the targets Y."""
    g = torch.Generator().manual_seed(seed)
    shapes = ((4, 1, 5, 6), (3, 9), (3, 1), (3, 2), (2,))
    return *(torch.randn(shape, generator=g) for shape in shapes), torch.randint(0, 2, (4,), generator=g)


def forward(images: Tensor, kernel: Tensor, bias: Tensor, W: Tensor, c: Tensor, Y: Tensor) -> Values:
    """Return every value from ``images`` (B, 1, 5, 6) to the scalar loss."""
    B = images.shape[0]
    cols = functional.unfold(images, 3)  # (B, P, L)
    pre = kernel @ cols + bias  # (B, F, L)
    act = pre.clamp(min=0)  # (B, F, L)
    pool = act.mean(2)  # (B, F)
    logits = pool @ W + c  # (B, V)
    logprobs = logits.log_softmax(1)  # (B, V)
    loss = -logprobs[torch.arange(B), Y].sum() / B  # ()
    return Values(cols, pre, act, pool, logits, logprobs, loss)


def backward(images: Tensor, kernel: Tensor, W: Tensor, Y: Tensor, values: Values) -> dict[str, Tensor]:
    """Return the gradients of the images and the parameters."""
    cols, pre, act, pool, _logits, logprobs, _loss = values
    B, L = images.shape[0], act.shape[2]
    dlogprobs = torch.zeros_like(logprobs)
    dlogprobs[torch.arange(B), Y] = -1 / B  # (B, V)
    dlogits = dlogprobs - logprobs.exp() * dlogprobs.sum(1, keepdim=True)  # (B, V)
    dpool = dlogits @ W.T  # (B, F)
    dW = pool.T @ dlogits  # (F, V)
    dc = dlogits.sum(0)  # (V,)
    dact = dpool[:, :, None].expand_as(act) / L  # (B, F, L)
    dpre = dact * (pre > 0)  # (B, F, L)
    dkernel = (dpre @ cols.transpose(1, 2)).sum(0)  # (F, P)
    dbias = dpre.sum((0, 2))[:, None]  # (F, 1)
    dcols = kernel.T @ dpre  # (B, P, L)
    dimages = functional.fold(dcols, images.shape[2:], 3)  # (B, 1, 5, 6)
    return {"images": dimages, "kernel": dkernel, "bias": dbias, "W": dW, "c": dc}
