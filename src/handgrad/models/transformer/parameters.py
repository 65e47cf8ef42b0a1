"""What the Transformer learns, and how it starts."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from handgrad.errors import InvalidOptionError


class Parameters(NamedTuple):
    """The 22 trained tensors, in the order in which they are drawn; float32 from `initialise`.

    The shape of ``bq`` says how many heads there are, and how wide one is.
    """

    C: Tensor  # (vocab, n_embd) the embedding of symbols: one row for each
    P: Tensor  # (block_size, n_embd) the embedding of positions
    gain1: Tensor  # (n_embd,) layer norm 1
    bias1: Tensor  # (n_embd,)
    Wq: Tensor  # (n_embd, n_embd) queries; the columns are those of head 1, then of head 2, and so on
    bq: Tensor  # (n_head, 1, n_embd / n_head)
    Wk: Tensor  # (n_embd, n_embd) keys
    bk: Tensor  # (n_head, 1, n_embd / n_head) softmax subtracts it again: its true gradient is zero
    Wv: Tensor  # (n_embd, n_embd) values
    bv: Tensor  # (n_head, 1, n_embd / n_head)
    Wo: Tensor  # (n_embd, n_embd) the way out of all heads
    bo: Tensor  # (n_embd,)
    gain2: Tensor  # (n_embd,) layer norm 2
    bias2: Tensor  # (n_embd,)
    W1: Tensor  # (n_embd, n_hidden) the MLP
    b1: Tensor  # (n_hidden,)
    W2: Tensor  # (n_hidden, n_embd)
    b2: Tensor  # (n_embd,)
    gain3: Tensor  # (n_embd,) the last layer norm
    bias3: Tensor  # (n_embd,)
    W3: Tensor  # (n_embd, vocab) the output layer
    b3: Tensor  # (vocab,)


def initialise(
    vocab_size: int, block_size: int, n_embd: int, n_hidden: int, n_head: int, *, generator: torch.Generator
) -> Parameters:
    """Draw the parameters, every one of them from ``generator``.

    A column of a matrix has length one, so that what goes in with variance one comes out with it; those that write
    into the residual stream (``Wo`` and ``W2``) are half as large. Biases and gains are random numbers beside zero and
    one, and not zero and one, since a backward pass with a mistake can look right there.

    Raises:
        InvalidOptionError: the heads cannot share ``n_embd`` columns alike.

    >>> import torch
    >>> g = torch.Generator().manual_seed(2147483647)
    >>> parameters = initialise(27, 8, n_embd=32, n_hidden=128, n_head=4, generator=g)
    >>> sum(p.nelement() for p in parameters)
    14779
    """
    if n_embd % n_head:
        raise InvalidOptionError(
            f"--n-head {n_head} does not divide --n-embd {n_embd}: each head takes as many of its columns as the others"
        )
    g = generator

    def matrix(fan_in: int, fan_out: int, scale: float = 1.0) -> Tensor:
        return torch.randn((fan_in, fan_out), generator=g) * (scale / math.sqrt(fan_in))

    def bias(*size: int) -> Tensor:
        return torch.randn(size, generator=g) * 0.1

    def gain() -> Tensor:
        return torch.randn(n_embd, generator=g) * 0.1 + 1.0

    head = n_embd // n_head
    return Parameters(
        C=torch.randn((vocab_size, n_embd), generator=g),
        P=torch.randn((block_size, n_embd), generator=g),
        gain1=gain(),
        bias1=bias(n_embd),
        Wq=matrix(n_embd, n_embd),
        bq=bias(n_head, 1, head),
        Wk=matrix(n_embd, n_embd),
        bk=bias(n_head, 1, head),
        Wv=matrix(n_embd, n_embd),
        bv=bias(n_head, 1, head),
        Wo=matrix(n_embd, n_embd, scale=0.5),
        bo=bias(n_embd),
        gain2=gain(),
        bias2=bias(n_embd),
        W1=matrix(n_embd, n_hidden),
        b1=bias(n_hidden),
        W2=matrix(n_hidden, n_embd, scale=0.5),
        b2=bias(n_embd),
        gain3=gain(),
        bias3=bias(n_embd),
        W3=torch.randn((n_embd, vocab_size), generator=g) * 0.1,
        b3=bias(vocab_size),
    )
