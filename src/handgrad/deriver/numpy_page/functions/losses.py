"""Losses; the classes are dim 1."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from handgrad.deriver.numpy_page.functions.numbers import xlogy
from handgrad.deriver.numpy_page.functions.rows import log_softmax

Array = Any


def reduced(losses: Array, reduction: str) -> Array:
    """Return the mean of the losses, their sum, or all."""
    return losses.mean() if reduction == "mean" else losses.sum() if reduction == "sum" else losses


def nll_loss(x: Array, target: Array, weight: Array = None, ignore_index: int = -100, reduction: str = "mean") -> Array:
    """Return minus the log-probability of each target; the classes are dim 1."""
    dim, counted = min(1, x.ndim - 1), target != ignore_index
    index = np.where(counted, target, 0)
    share = counted * (1.0 if weight is None else weight[index])
    losses = -share * np.take_along_axis(x, np.expand_dims(index, dim), axis=dim).squeeze(dim)
    return losses.sum() / share.sum() if reduction == "mean" else reduced(losses, reduction)


def cross_entropy(
    x: Array,
    target: Array,
    weight: Array = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Return minus the log-probability of each target, a class or probabilities; the classes are dim 1."""
    dim = min(1, x.ndim - 1)
    count, logs = x.shape[dim], log_softmax(x, dim)
    scale = np.ones(count) if weight is None else weight
    scaled = logs * scale.reshape(-1, *[1] * (x.ndim - 1 - dim))
    if target.ndim == x.ndim:
        losses = -((1 - label_smoothing) * target + label_smoothing / count) * scaled
        return losses.sum() / (x.size / count) if reduction == "mean" else reduced(losses.sum(dim), reduction)
    counted = target != ignore_index
    whole = counted.sum() if weight is None else (counted * weight[np.where(counted, target, 0)]).sum()
    sharp = nll_loss(logs, target, weight, ignore_index, "none")
    losses = (1 - label_smoothing) * sharp - label_smoothing / count * counted * scaled.sum(dim)
    return losses.sum() / whole if reduction == "mean" else reduced(losses, reduction)


def mse_loss(x: Array, target: Array, reduction: str = "mean", weight: Array = None) -> Array:
    """Return the squared differences."""
    losses = (x - target) ** 2
    if weight is not None and reduction == "mean":
        return (weight * losses).sum() / weight.sum()
    return reduced(losses if weight is None else weight * losses, reduction)


def l1_loss(x: Array, target: Array, reduction: str = "mean") -> Array:
    """Return the absolute differences."""
    return reduced(np.abs(x - target), reduction)


def smooth_l1_loss(x: Array, target: Array, reduction: str = "mean", beta: float = 1.0) -> Array:
    """Return the differences: squared over 2 * beta below beta, absolute less beta / 2 above."""
    size = np.abs(x - target)
    return reduced(np.where(size < beta, size**2 / (2 * (beta or 1.0)), size - beta / 2), reduction)


def huber_loss(x: Array, target: Array, reduction: str = "mean", delta: float = 1.0, weight: Array = 1) -> Array:
    """Return the differences: squared over 2 up to delta, then a line."""
    size = np.abs(x - target)
    return reduced(weight * np.where(size <= delta, size**2 / 2, delta * (size - delta / 2)), reduction)


def kl_div(x: Array, target: Array, reduction: str = "mean", log_target: bool = False) -> Array:
    """Return the divergence of the target from the log-probabilities x."""
    losses = np.exp(target) * (target - x) if log_target else xlogy(target, target) - target * x
    return losses.sum() / x.shape[0] if reduction == "batchmean" else reduced(losses, reduction)


def binary_cross_entropy(x: Array, target: Array, weight: Array = 1, reduction: str = "mean") -> Array:
    """Return minus the log-probability of each target, of probabilities x."""
    return reduced(-weight * (target * np.log(x) + (1 - target) * np.log(1 - x)), reduction)


def binary_cross_entropy_with_logits(
    x: Array, target: Array, weight: Array = 1, pos_weight: Array = 1, reduction: str = "mean"
) -> Array:
    """Return minus the log-probability of each target, of probabilities sigmoid(x)."""
    falling = (1 + (pos_weight - 1) * target) * np.logaddexp(0, -x)
    return reduced(weight * ((1 - target) * x + falling), reduction)


def poisson_nll_loss(
    x: Array, target: Array, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean"
) -> Array:
    """Return minus the log-probability of counts whose mean is exp(x), or x."""
    losses = np.exp(x) - target * x if log_input else x - target * np.log(x + eps)
    if full:
        large = np.maximum(target, 1)
        stirling = large * np.log(large) - large + 0.5 * np.log(2 * math.pi * large)
        losses = losses + np.where(target > 1, stirling, 0)
    return reduced(losses, reduction)


def gaussian_nll_loss(
    x: Array, target: Array, var: Array, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Array:
    """Return minus the log-probability of a normal distribution with mean x and variance var."""
    spread = np.maximum(var if np.ndim(var) in (0, x.ndim) else np.expand_dims(var, -1), eps)
    losses = 0.5 * (np.log(spread) + (x - target) ** 2 / spread)
    return reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


def soft_margin_loss(x: Array, target: Array, reduction: str = "mean") -> Array:
    """Return log(1 + exp(-target * x))."""
    return reduced(np.logaddexp(0, -target * x), reduction)


def hinge_embedding_loss(x: Array, target: Array, margin: float = 1.0, reduction: str = "mean") -> Array:
    """Return x where the target is 1, and what it lacks to the margin where it is -1."""
    return reduced(np.where(target == 1, x, np.maximum(margin - x, 0)), reduction)


def margin_ranking_loss(a: Array, b: Array, target: Array, margin: float = 0.0, reduction: str = "mean") -> Array:
    """Return what target * (a - b) lacks to the margin."""
    return reduced(np.maximum(margin - target * (a - b), 0), reduction)


def cosine_similarity(a: Array, b: Array, dim: int = 1, eps: float = 1e-8) -> Array:
    """Return the cosine of the angle between a and b along dim."""
    sizes = [np.maximum(np.sqrt((x**2).sum(dim, keepdims=True)), eps) for x in (a, b)]
    return (a / sizes[0] * (b / sizes[1])).sum(dim)


def pairwise_distance(a: Array, b: Array, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Array:
    """Return the norm of a - b + eps along the last dim."""
    return (np.abs(a - b + eps) ** p).sum(-1, keepdims=keepdim) ** (1 / p)


def cosine_embedding_loss(a: Array, b: Array, target: Array, margin: float = 0.0, reduction: str = "mean") -> Array:
    """Return 1 - cosine where the target is 1, and the cosine above the margin where it is -1."""
    cosine = cosine_similarity(a, b, -1)
    return reduced(np.where(target == 1, 1 - cosine, np.maximum(cosine - margin, 0)), reduction)


def triplet_margin_loss(
    anchor: Array,
    positive: Array,
    negative: Array,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Array:
    """Return by how much the positive is too far from the anchor, beside the negative."""
    far = pairwise_distance(anchor, negative, p, eps)
    far = np.minimum(far, pairwise_distance(positive, negative, p, eps)) if swap else far
    return reduced(np.maximum(margin + pairwise_distance(anchor, positive, p, eps) - far, 0), reduction)


def cdist(a: Array, b: Array, p: float = 2.0) -> Array:
    """Return the distance of each row of a to each row of b."""
    return (np.abs(a[..., :, None, :] - b[..., None, :, :]) ** p).sum(-1) ** (1 / p)
