"""The bigram baseline: the next symbol from the one before it, by counting."""

from __future__ import annotations

import torch
from torch import Tensor


def count(X: Tensor, Y: Tensor, vocab_size: int, *, smoothing: float = 1.0) -> Tensor:
    """Return the log-probabilities (V, V) of the next symbol (column) after the last symbol of a context (row).

    ``X`` (N, T) and ``Y`` (N,), int64. ``smoothing`` is added to every count, so that no pair has probability 0
    (Laplace).

    >>> logprobs = count(torch.tensor([[0], [0], [1]]), torch.tensor([1, 1, 0]), 2)
    >>> logprobs.exp()
    tensor([[0.2500, 0.7500],
            [0.6667, 0.3333]], dtype=torch.float64)
    """
    pairs = X[:, -1] * vocab_size + Y  # (N,)
    counts = torch.bincount(pairs, minlength=vocab_size**2).view(vocab_size, vocab_size)  # (V, V)
    smoothed = counts.double() + smoothing  # (V, V)
    return (smoothed / smoothed.sum(1, keepdim=True)).log()


def loss(logprobs: Tensor, X: Tensor, Y: Tensor) -> float:
    """Return the mean negative log-likelihood of the targets ``Y`` after the contexts ``X``, in nats."""
    return -logprobs[X[:, -1], Y].mean().item()
