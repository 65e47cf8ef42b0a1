"""A linear layer, layer norm (Ba et al. 2016, arXiv:1607.06450), GELU by its tanh formula, a linear layer.

Shapes: n rows, D inputs, H hidden, K outputs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SCALE = (2 / torch.pi) ** 0.5


class Values(NamedTuple):
    """What `forward` computes, in its order."""

    z: Tensor
    zmean: Tensor
    zdiff: Tensor
    zvar: Tensor
    zstd_inv: Tensor
    zhat: Tensor
    a: Tensor
    inner: Tensor
    t: Tensor
    act: Tensor
    out: Tensor
    err: Tensor
    loss: Tensor


def inputs(seed: int) -> tuple[Tensor, ...]:
    """Return X, Y, W1, b1, gain, bias, W2, b2."""
    g = torch.Generator().manual_seed(seed)
    shapes = ((7, 4), (7, 3), (4, 6), (6,), (6,), (6,), (6, 3), (3,))
    return tuple(torch.randn(shape, generator=g) for shape in shapes)


def forward(X: Tensor, Y: Tensor, W1: Tensor, b1: Tensor, gain: Tensor, bias: Tensor, W2: Tensor, b2: Tensor) -> Values:
    """Return every value from ``X`` (n, D) to the mean squared error against ``Y`` (n, K)."""
    z = X @ W1 + b1  # (n, H)
    zmean = z.mean(1, keepdim=True)  # (n, 1)
    zdiff = z - zmean  # (n, H)
    zvar = (zdiff**2).mean(1, keepdim=True)  # (n, 1)
    zstd_inv = (zvar + 1e-5) ** -0.5  # (n, 1)
    zhat = zdiff * zstd_inv  # (n, H)
    a = gain * zhat + bias  # (n, H)
    inner = SCALE * (a + 0.044715 * a**3)  # (n, H)
    t = torch.tanh(inner)  # (n, H)
    act = 0.5 * a * (1.0 + t)  # (n, H)
    out = act @ W2 + b2  # (n, K)
    err = out - Y  # (n, K)
    loss = (err**2).mean()  # ()
    return Values(z, zmean, zdiff, zvar, zstd_inv, zhat, a, inner, t, act, out, err, loss)


def backward(X: Tensor, W1: Tensor, gain: Tensor, W2: Tensor, values: Values) -> dict[str, Tensor]:
    """Return the gradients of the inputs."""
    z, _zmean, zdiff, _zvar, zstd_inv, zhat, a, _inner, t, act, _out, err, _loss = values
    n, K = err.shape
    H = z.shape[1]
    derr = 2.0 * err / (n * K)  # (n, K)
    dout = derr.clone()  # (n, K)
    dact = dout @ W2.T  # (n, H)
    dW2 = act.T @ dout  # (H, K)
    db2 = dout.sum(0)  # (K,)
    dt = 0.5 * a * dact  # (n, H)
    da = 0.5 * (1.0 + t) * dact  # (n, H) the branch through act
    dinner = (1.0 - t**2) * dt  # (n, H)
    da += SCALE * (1.0 + 3 * 0.044715 * a**2) * dinner  # (n, H) the branch through inner
    dgain = (zhat * da).sum(0)  # (H,)
    dbias = da.sum(0)  # (H,)
    dzhat = gain * da  # (n, H)
    dzstd_inv = (zdiff * dzhat).sum(1, keepdim=True)  # (n, 1)
    dzvar = -0.5 * zstd_inv**3 * dzstd_inv  # (n, 1)
    dzdiff = zstd_inv * dzhat + 2.0 * zdiff / H * dzvar  # (n, H)
    dzmean = -dzdiff.sum(1, keepdim=True)  # (n, 1)
    dz = dzdiff + dzmean / H  # (n, H)
    dX = dz @ W1.T  # (n, D)
    dW1 = X.T @ dz  # (D, H)
    db1 = dz.sum(0)  # (H,)
    return {"X": dX, "W1": dW1, "b1": db1, "gain": dgain, "bias": dbias, "W2": dW2, "b2": db2}
