"""The trained MLP on contexts that are no minibatch: batch norm with statistics of the training set."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from handgrad.models.mlp.parameters import Parameters
from handgrad.models.model import Predictor

ROWS_AT_A_TIME = 1 << 16  # bounds the memory for any length of X


class Statistics(NamedTuple):
    """Mean and variance (over N - 1) of ``hprebn`` over the N contexts of a training set."""

    bnmean: Tensor  # (1, H)
    bnvar: Tensor  # (1, H)


@torch.no_grad()
def calibrate(parameters: Parameters, X: Tensor) -> Statistics:
    """Measure the batch-norm statistics over all contexts ``X`` (N, T), int64; N must be 2 or more.

    The sums run in float64, in two passes; the result has the dtype of the parameters.
    """
    parts = [X[k : k + ROWS_AT_A_TIME] for k in range(0, len(X), ROWS_AT_A_TIME)]
    total = sum(_hprebn(parameters, part).double().sum(0, keepdim=True) for part in parts)
    bnmean = torch.as_tensor(total) / len(X)  # (1, H)
    squares = sum(((_hprebn(parameters, part) - bnmean) ** 2).sum(0, keepdim=True) for part in parts)
    bnvar = torch.as_tensor(squares) / (len(X) - 1)  # (1, H)
    return Statistics(bnmean.to(parameters.W1.dtype), bnvar.to(parameters.W1.dtype))


@torch.no_grad()
def logits(parameters: Parameters, statistics: Statistics, X: Tensor) -> Tensor:
    """Return the logits (N, V) of the contexts ``X`` (N, T), int64; no row depends on another."""
    bnraw = (_hprebn(parameters, X) - statistics.bnmean) * (statistics.bnvar + 1e-5) ** -0.5  # (N, H)
    h = torch.tanh(parameters.bngain * bnraw + parameters.bnbias)  # (N, H)
    return h @ parameters.W2 + parameters.b2  # (N, V)


def predictor(parameters: Parameters, X: Tensor) -> Predictor:
    """Return `logits` with the statistics of the training contexts ``X``."""
    return partial(logits, parameters, calibrate(parameters, X))


def _hprebn(parameters: Parameters, X: Tensor) -> Tensor:
    return parameters.C[X].flatten(1) @ parameters.W1 + parameters.b1  # (N, H)
