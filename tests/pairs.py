"""Inputs for the hand-written pairs, and the same pairs with one line changed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from handgrad.models.mlp import Parameters, initialise


def pair_input(
    batch: int, block_size: int, n_embd: int, n_hidden: int, vocab: int, seed: int
) -> tuple[Parameters, Tensor, Tensor]:
    """Return parameters, contexts and targets, drawn from one seeded generator."""
    g = torch.Generator().manual_seed(seed)
    parameters = initialise(vocab, block_size, n_embd, n_hidden, generator=g)
    return (
        parameters,
        torch.randint(0, vocab, (batch, block_size), generator=g),
        torch.randint(0, vocab, (batch,), generator=g),
    )


def fixed_pair_input() -> tuple[Parameters, Tensor, Tensor]:
    return pair_input(batch=33, block_size=3, n_embd=5, n_hidden=17, vocab=11, seed=1)


def random_pair_input(max_batch: int = 40) -> st.SearchStrategy[tuple[Parameters, Tensor, Tensor]]:
    return st.builds(
        pair_input,
        batch=st.integers(2, max_batch),
        block_size=st.integers(1, 4),
        n_embd=st.integers(1, 10),
        n_hidden=st.integers(1, 70),
        vocab=st.integers(2, 30),
        seed=st.integers(0, 2**32),
    )


def with_line_changed(function: Callable[..., Any], old: str, new: str) -> Callable[..., Any]:
    """Return ``function`` with ``old`` replaced by ``new`` in its source; ``old`` must stand there once."""
    source = inspect.getsource(function)
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {function.__name__}"
    namespace: dict[str, Any] = dict(function.__globals__)
    exec(compile(source.replace(old, new), f"<{function.__name__} with {new!r}>", "exec"), namespace)  # noqa: S102
    changed: Callable[..., Any] = namespace[function.__name__]
    return changed
