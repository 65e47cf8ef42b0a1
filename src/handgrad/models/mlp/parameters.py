"""What the MLP learns, and how it starts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Parameters(NamedTuple):
    """The seven trained tensors, in the order in which they are drawn; float32 from `initialise`."""

    C: Tensor  # (vocab, n_embd) the embedding: one row for each symbol
    W1: Tensor  # (block_size * n_embd, n_hidden)
    b1: Tensor  # (n_hidden,) batch norm subtracts it again: its true gradient is zero
    W2: Tensor  # (n_hidden, vocab)
    b2: Tensor  # (vocab,)
    bngain: Tensor  # (1, n_hidden)
    bnbias: Tensor  # (1, n_hidden)


def initialise(
    vocab_size: int, block_size: int, n_embd: int, n_hidden: int, *, generator: torch.Generator
) -> Parameters:
    """Draw the parameters, every one of them from ``generator``.

    Biases and batch-norm parameters are small random numbers and not zeros or ones, since a backward pass
    with a mistake can look right at zero. The factor (5/3) / sqrt(fan_in) of ``W1`` is the Kaiming
    initialisation for tanh (He et al. 2015, arXiv:1502.01852).

    >>> import torch
    >>> g = torch.Generator().manual_seed(2147483647)
    >>> parameters = initialise(27, 3, n_embd=10, n_hidden=64, generator=g)
    >>> sum(p.nelement() for p in parameters)
    4137
    """
    fan_in = block_size * n_embd
    g = generator
    return Parameters(
        C=torch.randn((vocab_size, n_embd), generator=g),
        W1=torch.randn((fan_in, n_hidden), generator=g) * (5 / 3) / fan_in**0.5,
        b1=torch.randn(n_hidden, generator=g) * 0.1,
        W2=torch.randn((n_hidden, vocab_size), generator=g) * 0.1,
        b2=torch.randn(vocab_size, generator=g) * 0.1,
        bngain=torch.randn((1, n_hidden), generator=g) * 0.1 + 1.0,
        bnbias=torch.randn((1, n_hidden), generator=g) * 0.1,
    )
