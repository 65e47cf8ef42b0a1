"""The exercises, and every model's page, on a real minibatch: gradients by hand beside autograd's, a table for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from handgrad.checker import Comparison, compare_pass
from handgrad.data import Dataset
from handgrad.errors import InvalidOptionError
from handgrad.models import Model
from handgrad.models.mlp import Parameters, atomic, batch_norm, cross_entropy, fast, initialise
from handgrad.passes import using_threads


@dataclass(frozen=True)
class Exercise:
    """One table."""

    title: str
    comparisons: list[Comparison]


class _Dlogits(NamedTuple):
    dlogits: Tensor


class _Dhprebn(NamedTuple):
    dhprebn: Tensor


def run_exercises(
    dataset: Dataset,
    *,
    n_embd: int = 10,
    n_hidden: int = 64,
    batch_size: int = 32,
    seed: int = 2147483647,
    spelling: atomic.Spelling = "exact",
) -> list[Exercise]:
    """Compare exercises 1 to 4 with autograd on one minibatch of ``dataset``'s training rows.

    The parameters and the minibatch are drawn from one generator, seeded with ``seed``. One thread computes both sides,
    since with more of them autograd's own bits vary from run to run on large minibatches.

    Raises:
        InvalidOptionError: a size is less than 1, ``batch_size`` less than 2, or the spelling unknown.
    """
    _check_options(seed, n_embd=(n_embd, 1), n_hidden=(n_hidden, 1), batch_size=(batch_size, 2))
    if spelling not in ("plain", "exact"):
        raise InvalidOptionError(f"--spelling {spelling} must be `plain` or `exact`")
    g = torch.Generator().manual_seed(seed)
    parameters = initialise(len(dataset.vocabulary), dataset.block_size, n_embd, n_hidden, generator=g)
    batch = _minibatch(dataset, batch_size, g)
    pairs: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "Exercise 1: every gradient by hand": (atomic.forward, partial(atomic.backward, spelling=spelling)),
        "Exercise 2: cross-entropy in one line": (atomic.forward, _cross_entropy_backward),
        "Exercise 3: batch norm in one line": (atomic.forward, _batch_norm_backward),
        "Exercise 4: the pair for training, made of both": (fast.forward, fast.backward),
    }
    with using_threads(1):
        return [Exercise(title, compare_pass(*pair, parameters, *batch)) for title, pair in pairs.items()]


def run_page(
    dataset: Dataset,
    model: Model,
    *,
    n_embd: int = 10,
    n_hidden: int = 64,
    n_head: int = 2,
    batch_size: int = 32,
    seed: int = 2147483647,
) -> list[Exercise]:
    """Compare the pair with which ``model`` is trained with autograd, as `run_exercises` does; a single table.

    Raises:
        InvalidOptionError: a size is too small for the model, or ``n_head`` does not divide ``n_embd``.
    """
    least = model.smallest_batch
    _check_options(seed, n_embd=(n_embd, 1), n_hidden=(n_hidden, 1), n_head=(n_head, 1), batch_size=(batch_size, least))
    given = {"block_size": dataset.block_size, "n_embd": n_embd, "n_hidden": n_hidden, "n_head": n_head}
    g = torch.Generator().manual_seed(seed)
    sizes = {name: given[name] for name in model.sizes}
    parameters = model.initialise(len(dataset.vocabulary), **sizes, generator=g)
    batch = _minibatch(dataset, batch_size, g)
    with using_threads(1):
        comparisons = compare_pass(model.forward, model.backward, parameters, *batch)
    return [Exercise(f"{model.title}: every gradient by hand", comparisons)]


def _check_options(seed: int, **sizes: tuple[int, int]) -> None:
    for name, (size, least) in sizes.items():
        option = "--" + name.replace("_", "-")
        if size < least:
            raise InvalidOptionError(f"{option} {size} must be {least} or more")
        if size >= 2**63:
            raise InvalidOptionError(f"{option} {size} is too large")
    if not 0 <= seed < 2**63:
        raise InvalidOptionError(f"--seed {seed} must lie between 0 and 2**63 - 1")


def _minibatch(dataset: Dataset, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    X, Y = (torch.from_numpy(data) for data in dataset.train)
    ix = torch.randint(0, X.shape[0], (batch_size,), generator=generator)  # (n,)
    return X[ix], Y[ix]


def _cross_entropy_backward(_parameters: Parameters, values: atomic.Values, _Xb: Tensor, Yb: Tensor) -> _Dlogits:
    return _Dlogits(cross_entropy.backward(values.logits, Yb))


def _batch_norm_backward(parameters: Parameters, values: atomic.Values, Xb: Tensor, Yb: Tensor) -> _Dhprebn:
    dhpreact = atomic.backward(parameters, values, Xb, Yb, spelling="exact").dhpreact
    gradients = batch_norm.backward(dhpreact, parameters.bngain, values.bnraw, values.bnvar_inv)
    return _Dhprebn(gradients.dhprebn)
