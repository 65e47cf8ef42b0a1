"""Norms, and what is normalised: over features, over the batch, over groups of channels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = Any


def normalize(x: Array, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Array:
    """Return x over its norm along dim."""
    size = (np.abs(x) ** p).sum(dim, keepdims=True) ** (1 / p)
    return x / np.maximum(size, eps)


def vector_norm(x: Array, p: float = 2, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Array:
    """Return (sum of |x|**p) ** (1/p) along dim; of p = inf the largest."""
    if p == math.inf:
        return np.abs(x).max(dim, keepdims=keepdim)
    return (np.abs(x) ** p).sum(dim, keepdims=keepdim) ** (1 / p)


def layer_norm(
    x: Array, normalized_shape: tuple[int, ...], weight: Array = None, bias: Array = None, eps: float = 1e-5
) -> Array:
    """Return x with mean 0 and variance 1 over its last dims, times weight, plus bias."""
    dims = tuple(range(-len(normalized_shape), 0))
    z = (x - x.mean(dims, keepdims=True)) / np.sqrt(x.var(dims, keepdims=True) + eps)
    z = z if weight is None else z * weight
    return z if bias is None else z + bias


def rms_norm(x: Array, normalized_shape: tuple[int, ...], weight: Array = None, eps: float | None = None) -> Array:
    """Return x over the root of its mean square over the last dims, times weight."""
    dims = tuple(range(-len(normalized_shape), 0))
    small = np.finfo(x.dtype).eps if eps is None else eps
    z = x / np.sqrt((x**2).mean(dims, keepdims=True) + small)
    return z if weight is None else z * weight


def var_mean(
    x: Array, dim: Any = None, unbiased: bool = True, keepdim: bool = False, correction: int | None = None
) -> tuple[Array, Array]:
    """Return the variance and the mean along dim."""
    less = int(unbiased) if correction is None else correction
    return x.var(dim, ddof=less, keepdims=keepdim), x.mean(dim, keepdims=keepdim)


def per_channel(x: Array, like: Array) -> Array:
    """Return x, one number for each channel, so that it broadcasts."""
    return x.reshape(-1, *[1] * (like.ndim - 2))


def affine(x: Array, weight: Array, bias: Array) -> Array:
    """Return x times weight plus bias, which have one number for each channel."""
    scaled = x if weight is None else x * per_channel(weight, x)
    return scaled if bias is None else scaled + per_channel(bias, x)


def normalised(x: Array, dims: tuple[int, ...], eps: float) -> Array:
    """Return x with mean 0 and variance 1 along dims."""
    return (x - x.mean(dims, keepdims=True)) / np.sqrt(x.var(dims, keepdims=True) + eps)


def batch_norm(
    x: Array,
    running_mean: Array,
    running_var: Array,
    weight: Array = None,
    bias: Array = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Array:
    """Return x normalised over all dims but the channels, or by the running statistics; these stay what they are."""
    if training:
        return affine(normalised(x, tuple(d for d in range(x.ndim) if d != 1), eps), weight, bias)
    z = (x - per_channel(running_mean, x)) / np.sqrt(per_channel(running_var, x) + eps)
    return affine(z, weight, bias)


def instance_norm(
    x: Array,
    running_mean: Array = None,
    running_var: Array = None,
    weight: Array = None,
    bias: Array = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Array:
    """Return x normalised within each channel of each example, or by the running statistics."""
    if use_input_stats:
        return affine(normalised(x, tuple(range(2, x.ndim)), eps), weight, bias)
    return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)


def group_norm(x: Array, num_groups: int, weight: Array = None, bias: Array = None, eps: float = 1e-5) -> Array:
    """Return x normalised within each group of channels of each example."""
    groups = x.reshape(x.shape[0], num_groups, -1)
    return affine(normalised(groups, (-1,), eps).reshape(x.shape), weight, bias)
