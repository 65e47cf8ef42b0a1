"""Correct passes written by hand, from which `mutation.py` makes wrong ones.

``atomic``      26 gradients, a line each                                        the library's page
``fused``       the closed forms of cross-entropy and batch norm, as `fast` calls them  the library's pages
``fast``        the lines of the pair with which the model is trained             the library's page
``layer_norm``  layer norm and GELU by formula, squared error
``rnn``         a recurrence of three steps, weights used at each
``attention``   one causal head with a residual connection
``conv``        a convolution as a product with unfolded patches
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from handgrad.models.mlp import Parameters, atomic, batch_norm, cross_entropy, fast, initialise
from passes import attention, conv, layer_norm, rnn


class Pass(NamedTuple):
    """A forward, its backward, and inputs for both from a seed."""

    name: str
    forward: Callable[..., Any]  # returns a NamedTuple with `loss`
    backward: Callable[..., Any]
    inputs: Callable[[int], tuple[Any, ...]]
    mutated: tuple[str, ...] = ("backward",)  # what is mutated: names in the module of `backward`


def mlp_inputs(seed: int) -> tuple[Parameters, Tensor, Tensor]:
    """Return parameters, contexts (7, 3) and targets (7,): no two sizes are equal, and symbols repeat."""
    g = torch.Generator().manual_seed(seed)
    parameters = initialise(5, 3, 4, 6, generator=g)
    return parameters, torch.randint(0, 5, (7, 3), generator=g), torch.randint(0, 5, (7,), generator=g)


PASSES = {
    p.name: p
    for p in (
        Pass("atomic", atomic.forward, atomic.backward, mlp_inputs),
        Pass("fused", fast.forward, fast.backward, mlp_inputs, ("cross_entropy.backward", "batch_norm.backward")),
        Pass("fast", fast.forward, fast.backward, mlp_inputs),
        Pass("layer_norm", layer_norm.forward, layer_norm.backward, layer_norm.inputs),
        Pass("rnn", rnn.forward, rnn.backward, rnn.inputs),
        Pass("attention", attention.forward, attention.backward, attention.inputs),
        Pass("conv", conv.forward, conv.backward, conv.inputs),
    )
}

__all__ = ["PASSES", "Pass", "batch_norm", "cross_entropy"]
