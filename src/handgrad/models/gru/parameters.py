"""What the GRU learns, and how it starts."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Parameters(NamedTuple):
    """The 13 trained tensors, in the order in which they are drawn; float32 from `initialise`.

    In `Wxz` the x is what the matrix reads, and the z is the gate for which it reads it.
    """

    C: Tensor  # (vocab, n_embd) the embedding: one row for each symbol
    h0: Tensor  # (1, n_hidden) the state before the first symbol
    Wxz: Tensor  # (n_embd, n_hidden) the update gate
    Whz: Tensor  # (n_hidden, n_hidden)
    bz: Tensor  # (n_hidden,)
    Wxr: Tensor  # (n_embd, n_hidden) the reset gate
    Whr: Tensor  # (n_hidden, n_hidden)
    br: Tensor  # (n_hidden,)
    Wxc: Tensor  # (n_embd, n_hidden) the candidate
    Whc: Tensor  # (n_hidden, n_hidden)
    bc: Tensor  # (n_hidden,)
    Wy: Tensor  # (n_hidden, vocab) the output layer
    by: Tensor  # (vocab,)


def initialise(vocab_size: int, n_embd: int, n_hidden: int, *, generator: torch.Generator) -> Parameters:
    """Draw the parameters, every one of them from ``generator``.

    A row of ``x @ Wx + h @ Wh`` has a variance of about one, so that neither gate nor candidate starts where it is
    flat. Biases are small random numbers and not zeros, since a backward pass with a mistake can look right at zero.

    >>> import torch
    >>> parameters = initialise(27, n_embd=32, n_hidden=64, generator=torch.Generator().manual_seed(2147483647))
    >>> sum(p.nelement() for p in parameters)
    21307
    """
    g = generator

    def matrix(fan_in: int, fan_out: int) -> Tensor:
        return torch.randn((fan_in, fan_out), generator=g) / math.sqrt(fan_in)

    def bias(size: int) -> Tensor:
        return torch.randn(size, generator=g) * 0.1

    return Parameters(
        C=torch.randn((vocab_size, n_embd), generator=g),
        h0=torch.randn((1, n_hidden), generator=g) * 0.1,
        Wxz=matrix(n_embd, n_hidden),
        Whz=matrix(n_hidden, n_hidden),
        bz=bias(n_hidden),
        Wxr=matrix(n_embd, n_hidden),
        Whr=matrix(n_hidden, n_hidden),
        br=bias(n_hidden),
        Wxc=matrix(n_embd, n_hidden),
        Whc=matrix(n_hidden, n_hidden),
        bc=bias(n_hidden),
        Wy=torch.randn((n_hidden, vocab_size), generator=g) * 0.1,
        by=bias(vocab_size),
    )
