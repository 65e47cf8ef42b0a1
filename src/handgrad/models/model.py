"""What training and evaluation need to know of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Model:
    """A model as its functions. ``P`` below is its NamedTuple of parameters, ``S`` that of its statistics."""

    name: str
    smallest_batch: int
    parameters: Callable[..., Any]  # (**tensors) -> P
    initialise: Callable[..., Any]  # (vocab_size, block_size, n_embd, n_hidden, *, generator) -> P
    forward: Callable[..., Any]  # (P, Xb, Yb) -> NamedTuple of values, the scalar loss among them
    backward: Callable[..., Any]  # (P, values, Xb, Yb) -> NamedTuple of gradients, each named d + its value
    calibrate: Callable[..., Any]  # (P, X) -> S
    logits: Callable[..., Tensor]  # (P, S, X) -> (N, vocab)
