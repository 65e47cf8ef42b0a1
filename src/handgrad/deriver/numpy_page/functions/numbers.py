"""Functions of each number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = Any


def erf(x: Array) -> Array:
    """Return the error function of each number."""
    return np.vectorize(math.erf, otypes=[float])(x)


def erfc(x: Array) -> Array:
    """Return 1 - erf(x)."""
    return np.vectorize(math.erfc, otypes=[float])(x)


def lgamma(x: Array) -> Array:
    """Return the logarithm of the gamma function of each number."""
    return np.vectorize(math.lgamma, otypes=[float])(x)


def digamma(x: Array) -> Array:
    """Return the derivative of lgamma: shifted above 6, then by its series there."""
    return polygamma(0, x)


def polygamma(n: int, x: Array) -> Array:
    """Return the derivative of order n + 1 of lgamma, x > 0: shifted above 20, then by its series there."""
    sign, z = (-1.0) ** (n + 1), np.array(x, dtype=float)
    total = np.zeros_like(z)
    for _ in range(20):
        total, z = total + math.factorial(n) * z ** (-n - 1), z + 1
    series = (
        -np.log(z) + 1 / (2 * z) if n == 0 else math.factorial(n - 1) * z**-n + math.factorial(n) * z ** (-n - 1) / 2
    )
    for k, bernoulli in enumerate([1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66], start=1):
        rising = math.factorial(2 * k + n - 1) / math.factorial(2 * k)
        series = series + bernoulli * rising * z ** (-2 * k - n)
    return sign * (total + series)


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)); nothing overflows."""
    return np.exp(-np.logaddexp(0, -x))


def softplus(x: Array, beta: float = 1, threshold: float = 20) -> Array:
    """Return log(1 + exp(beta * x)) / beta, and x above the threshold."""
    return np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta)


def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """Return x, and negative_slope * x where x is negative."""
    return np.where(x > 0, x, negative_slope * x)


def prelu(x: Array, weight: Array) -> Array:
    """Return x, and weight * x where x is negative; the weights belong to dim 1."""
    shaped = weight.reshape(-1, *[1] * (x.ndim - 2)) if x.ndim > 2 else weight
    return np.where(x > 0, x, shaped * x)


def elu(x: Array, alpha: float = 1.0) -> Array:
    """Return x, and alpha * (exp(x) - 1) where x is negative."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def celu(x: Array, alpha: float = 1.0) -> Array:
    """Return x, and alpha * (exp(x / alpha) - 1) where x is negative."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))


def selu(x: Array) -> Array:
    """Return scale * x, and scale * alpha * (exp(x) - 1) where x is negative."""
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def gelu(x: Array, approximate: str = "none") -> Array:
    """Return x times the normal distribution up to x."""
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def silu(x: Array) -> Array:
    """Return x * sigmoid(x)."""
    return x * sigmoid(x)


def mish(x: Array) -> Array:
    """Return x * tanh(log(1 + exp(x)))."""
    return x * np.tanh(np.logaddexp(0, x))


def softsign(x: Array) -> Array:
    """Return x / (1 + |x|)."""
    return x / (1 + np.abs(x))


def tanhshrink(x: Array) -> Array:
    """Return x - tanh(x)."""
    return x - np.tanh(x)


def hardshrink(x: Array, lambd: float = 0.5) -> Array:
    """Return x, and 0 where |x| is at most lambd."""
    return np.where(np.abs(x) > lambd, x, 0)


def softshrink(x: Array, lambd: float = 0.5) -> Array:
    """Return x, moved towards 0 by lambd."""
    return np.sign(x) * np.maximum(np.abs(x) - lambd, 0)


def hardsigmoid(x: Array) -> Array:
    """Return x / 6 + 1 / 2, cut off at 0 and 1; the sixth is rounded as PyTorch rounds it."""
    return np.clip(x + 3, 0, 6) * 0.1666666716


def hardswish(x: Array) -> Array:
    """Return x * (x + 3) / 6, 0 below -3 and x above 3."""
    return x * np.clip(x + 3, 0, 6) / 6


def threshold(x: Array, threshold: float, value: float) -> Array:
    """Return x where it is above the threshold, and the value elsewhere."""
    return np.where(x > threshold, x, value)


def logit(x: Array, eps: float | None = None) -> Array:
    """Return log(x / (1 - x)), of x cut off at eps and 1 - eps."""
    z = x if eps is None else np.clip(x, eps, 1 - eps)
    return np.log(z / (1 - z))


def xlogy(x: Array, y: Array) -> Array:
    """Return x * log(y), and 0 where x is 0."""
    return np.where(x == 0, 0, x * np.log(np.where(x == 0, 1, y)))
