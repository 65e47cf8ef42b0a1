"""Exercise 3: batch norm in one line, forward and backward.

The seven lines of `atomic` from ``bnmeani`` to ``hpreact`` fold into the normalisation that everybody knows
(Ioffe and Szegedy 2015, arXiv:1502.03167, here with the variance over n - 1), and the gradients of five values
into the one of ``hprebn``.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Values(NamedTuple):
    """What `forward` returns: the output, and the two values that `backward` reads."""

    hpreact: Tensor
    bnraw: Tensor
    bnvar_inv: Tensor


class Gradients(NamedTuple):
    """What `backward` returns."""

    dhprebn: Tensor
    dbngain: Tensor
    dbnbias: Tensor


def forward(hprebn: Tensor, bngain: Tensor, bnbias: Tensor) -> Values:
    """Normalise every column of ``hprebn`` (n, H) over the minibatch; ``bngain`` and ``bnbias`` are (1, H)."""
    bnvar_inv = (hprebn.var(0, keepdim=True) + 1e-5) ** -0.5  # (1, H)
    bnraw = (hprebn - hprebn.mean(0, keepdim=True)) * bnvar_inv  # (n, H)
    hpreact = bngain * bnraw + bnbias  # (n, H)
    return Values(hpreact, bnraw, bnvar_inv)


def backward(dhpreact: Tensor, bngain: Tensor, bnraw: Tensor, bnvar_inv: Tensor) -> Gradients:
    """Return dhprebn (n, H), dbngain (1, H) and dbnbias (1, H) from the upstream gradient ``dhpreact`` (n, H)."""
    n = dhpreact.shape[0]
    dbngain = (bnraw * dhpreact).sum(0, keepdim=True)  # (1, H)
    dbnbias = dhpreact.sum(0, keepdim=True)  # (1, H)
    dhprebn = bngain * bnvar_inv / n * (n * dhpreact - dbnbias - n / (n - 1) * bnraw * dbngain)  # (n, H)
    return Gradients(dhprebn, dbngain, dbnbias)
