"""Functions of a row: softmax, order, attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from handgrad.deriver.numpy_page.functions.numbers import sigmoid

Array = Any


def softmax(x: Array, dim: int) -> Array:
    """Return exp(x) over its sum along dim."""
    powers = np.exp(x - x.max(dim, keepdims=True))
    return powers / powers.sum(dim, keepdims=True)


def log_softmax(x: Array, dim: int) -> Array:
    """Return the logarithm of the softmax along dim."""
    below = x - x.max(dim, keepdims=True)
    return below - np.log(np.exp(below).sum(dim, keepdims=True))


def softmin(x: Array, dim: int) -> Array:
    """Return the softmax of -x along dim."""
    return softmax(-x, dim)


def logsumexp(x: Array, dim: int | tuple[int, ...], keepdim: bool = False) -> Array:
    """Return log(sum(exp(x))) along dim."""
    largest = x.max(dim, keepdims=True)
    total = largest + np.log(np.exp(x - largest).sum(dim, keepdims=True))
    return total if keepdim else total.squeeze(dim)


def glu(x: Array, dim: int = -1) -> Array:
    """Return a * sigmoid(b), a and b the halves of x."""
    a, b = np.split(x, 2, axis=dim)
    return a * sigmoid(b)


def sort(x: Array, dim: int = -1, descending: bool = False) -> tuple[Array, Array]:
    """Return x in order along dim, and where each number was."""
    places = np.argsort(-x if descending else x, axis=dim, kind="stable")
    return np.take_along_axis(x, places, axis=dim), places


def topk(x: Array, k: int, dim: int = -1, largest: bool = True) -> tuple[Array, Array]:
    """Return the k largest numbers along dim, and where they were."""
    order = np.argsort(-x if largest else x, axis=dim, kind="stable")
    places = np.take(order, range(k), axis=dim)
    return np.take_along_axis(x, places, axis=dim), places


def median(x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """Return the lower one of the two in the middle; along dim, and where it was."""
    if dim is None:
        return np.sort(x, axis=None)[(x.size - 1) // 2]
    order = np.argsort(x, axis=dim, kind="stable")
    places = np.take(order, [(x.shape[dim] - 1) // 2], axis=dim)
    values = np.take_along_axis(x, places, axis=dim)
    return (values, places) if keepdim else (values.squeeze(dim), places.squeeze(dim))


def scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Array:
    """Return softmax(query @ key.T * scale) @ value; without a scale it is 1 / sqrt(size of a query)."""
    scores = query @ key.swapaxes(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        scores = np.where(np.tril(np.ones(scores.shape[-2:], dtype=bool)), scores, -np.inf)
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == bool else scores + attn_mask
    return softmax(scores, -1) @ value


def embedding_bag(places: Array, weight: Array, mode: str = "mean", per_sample_weights: Array = None) -> Array:
    """Return the mean, the sum or the maximum of the rows of weight that each row of places picks."""
    rows = weight[places]
    if per_sample_weights is not None:
        rows = rows * per_sample_weights[..., None]
    return rows.mean(1) if mode == "mean" else rows.sum(1) if mode == "sum" else rows.max(1)
