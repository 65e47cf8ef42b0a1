"""What training and evaluation need to know of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from handgrad.models.catalogue import Card

Predictor = Callable[[Tensor], Tensor]
"""From contexts (N, T) to logits (N, V); no row depends on another."""


@dataclass(frozen=True)
class Model(Card):
    """A model as its functions. ``P`` below is its NamedTuple of parameters."""

    parameters: Callable[..., Any]  # (**tensors) -> P
    initialise: Callable[..., Any]  # (vocab_size, **sizes, generator) -> P
    forward: Callable[..., Any]  # (P, Xb, Yb) -> NamedTuple of values, the scalar loss among them
    backward: Callable[..., Any]  # (P, values, Xb, Yb) -> NamedTuple of gradients, each named d + its value
    predictor: Callable[[Any, Tensor], Predictor]  # (P, contexts of the training set) -> Predictor


def predictor_of(forward: Callable[..., Any], *, rows_at_a_time: int) -> Callable[[Any, Tensor], Predictor]:
    """Return the predictor of a model that predicts as it trains: ``forward``, in chunks that bound the memory.

    Nothing is measured on the training set. The targets that ``forward`` asks for reach the loss alone, so the
    marker stands in for them.
    """

    def predictor(parameters: Any, _X: Tensor) -> Predictor:
        @torch.no_grad()
        def logits(X: Tensor) -> Tensor:
            parts = [X[k : k + rows_at_a_time] for k in range(0, len(X), rows_at_a_time)]
            return torch.cat([forward(parameters, part, part.new_zeros(len(part))).logits for part in parts])

        return logits

    return predictor
