"""Embeddings beside products: the table is multiplied where that is less, with the same results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import handgrad
from handgrad.errors import CompileError
from handgrad.native.nests import Nest, nests_of
from handgrad.native.program import Scatter
from handgrad.native.tables import with_tables
from native_code import Lowered, case

Sizes = tuple[int, int, int, int, int]  # rows, rows of the table, places, numbers of a row, columns


def inputs(sizes: Sizes, seed: int = 0) -> list[Tensor]:
    """Return the table, weights, upstream gradients, and which rows of the table are read."""
    n, v, t, e, h = sizes
    g = torch.Generator().manual_seed(seed)
    C, W, G = (torch.randn(shape, generator=g, dtype=torch.float64) for shape in ((v, e), (t * e, h), (n, h)))
    return [C, W, G, torch.randint(0, v, (n, t), generator=g)]


def layer(C: Tensor, W: Tensor, G: Tensor, X: Tensor) -> list[Tensor]:
    """Return an embedding with a linear layer, and its gradients for ``G`` upstream."""
    embcat = C[X].flatten(1)  # (n, t*e)
    y = embcat @ W  # (n, h)
    dW = embcat.T @ G  # (t*e, h)
    dembcat = G @ W.T  # (n, t*e)
    dC = torch.zeros_like(C).index_add_(0, X.flatten(), dembcat.view(-1, C.shape[1]))  # (v, e)
    return [y.sin(), dW * 2, dC]


def by_autograd(C: Tensor, W: Tensor, G: Tensor, X: Tensor) -> list[Tensor]:
    C, W = C.clone().requires_grad_(), W.clone().requires_grad_()
    y = torch.nn.functional.embedding(X, C).flatten(1) @ W
    dC, dW = torch.autograd.grad((y * G).sum(), (C, W))
    return [y.detach().sin(), dW * 2, dC]


def nests(lowered: Lowered) -> list[Nest]:
    return nests_of(with_tables(lowered.program, lowered.arrays), lowered.arrays)


def rows_multiplied(lowered: Lowered) -> set[int]:
    """Return how many rows each product has, or how many terms its sums have."""
    products = [
        n.product
        for n in nests_of(with_tables(lowered.program, lowered.arrays), lowered.arrays)
        if n.product is not None
    ]
    return {size for p in products for size in (p.domain[-2].extent, p.k.extent)}


def assert_same(lowered: Lowered, wanted: list[Tensor]) -> None:
    for run in (lowered.by_numpy(), lowered.by_machine_code()):
        for found, right in zip(run, wanted, strict=True):
            np.testing.assert_allclose(found, right.numpy(), rtol=1e-10, atol=1e-10)


SIZES = st.tuples(st.integers(2, 90), st.integers(2, 12), st.integers(1, 9), st.integers(1, 9), st.integers(1, 70))


@settings(max_examples=30, deadline=None)
@given(SIZES, st.integers(0, 9))
def test_a_layer_of_any_size_has_autograds_gradients(sizes: Sizes, seed: int) -> None:
    given = inputs(sizes, seed)

    assert_same(Lowered(layer, *given), by_autograd(*given))


@pytest.mark.parametrize("places", [1, 3])
def test_a_large_batch_multiplies_the_table_and_not_its_rows(places: int) -> None:
    given = inputs((97, 7, places, 5, 40))

    lowered = Lowered(layer, *given)

    assert 97 not in rows_multiplied(lowered)
    assert_same(lowered, by_autograd(*given))


@pytest.mark.parametrize("sizes", [(13, 7, 3, 5, 40), (97, 7, 3, 3, 40), (97, 7, 9, 5, 40)], ids=str)
def test_where_it_would_take_longer_the_rows_are_multiplied(sizes: Sizes) -> None:
    given = inputs(sizes)

    lowered = Lowered(layer, *given)

    assert sizes[0] in rows_multiplied(lowered)
    assert_same(lowered, by_autograd(*given))


def kept_too(C: Tensor, W: Tensor, G: Tensor, X: Tensor) -> list[Tensor]:
    dembcat = G @ W.T
    return [dembcat, torch.zeros_like(C).index_add_(0, X.flatten(), dembcat.view(-1, C.shape[1]))]


def moved(C: Tensor, W: Tensor, G: Tensor, X: Tensor) -> list[Tensor]:
    """Return what adds each part one row further: not what an embedding does."""
    dembcat = (G @ W.T).roll(1, 0)
    return [torch.zeros_like(C).index_add_(0, X.flatten(), dembcat.view(-1, C.shape[1]))]


def by_column(C: Tensor, W: Tensor, _G: Tensor, X: Tensor) -> list[Tensor]:
    """Return a product of rows in another order of their numbers."""
    return [C[X].transpose(1, 2).flatten(1) @ W]


def flipped(C: Tensor, W: Tensor, _G: Tensor, X: Tensor) -> list[Tensor]:
    """Return a product of rows that are read from their end."""
    return [C[X].flip(2).flatten(1) @ W]


def from_several(C: Tensor, W: Tensor, _G: Tensor, X: Tensor) -> list[Tensor]:
    """Return a product of rows whose numbers are from different rows of the table."""
    e = torch.arange(C.shape[1])
    rows = torch.where(X[..., None] + e < len(C), X[..., None] + e, 0)  # (n, t, e)
    return [C[rows, e].flatten(1) @ W]


def onto_others(C: Tensor, W: Tensor, G: Tensor, X: Tensor) -> list[Tensor]:
    dembcat = G @ W.T
    return [(3 * C).index_add_(0, X.flatten(), dembcat.view(-1, C.shape[1]))]


def of_a_table_of_its_own(C: Tensor, W: Tensor, G: Tensor, X: Tensor) -> list[Tensor]:
    return [(C * 2).exp()[X].flatten(1) @ W, (C * 2).exp()[X].flatten(1).T @ (G * 3)]


@pytest.mark.parametrize(
    "function", [kept_too, moved, by_column, flipped, from_several, onto_others, of_a_table_of_its_own]
)
@pytest.mark.parametrize("places", [1, 3])
def test_what_only_looks_like_an_embedding_is_right_too(function: Any, places: int) -> None:
    given = inputs((64, 6, places, 5, 33))

    assert_same(Lowered(function, *given), function(*given))


def test_sums_are_made_once_for_both_gradients() -> None:
    lowered = Lowered(layer, *inputs((97, 7, 3, 5, 40)))

    scatters = [
        n.scatter
        for n in nests_of(with_tables(lowered.program, lowered.arrays), lowered.arrays)
        if n.scatter is not None
    ]

    assert [isinstance(s, Scatter) for s in scatters] == [True]


@pytest.mark.parametrize("way", ["by hand", "derived"])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_model_of_a_large_batch_is_as_exact_as_pytorch(way: str, threads: int) -> None:
    c = case("mlp", rows=64)
    generator = torch.Generator().manual_seed(5)
    parameters = c.model.initialise(11, n_embd=5, n_hidden=150, block_size=3, generator=generator)
    backward = c.model.backward if way == "by hand" else None
    step = handgrad.compile(c.model.forward, backward, params=parameters, batch=(c.X, c.Y), threads=threads)

    found = step.gradients(c.X, c.Y)

    truth = type(parameters)(*(p.double() for p in parameters))
    right = c.model.backward(truth, c.model.forward(truth, c.X, c.Y), c.X, c.Y)
    single = c.model.backward(parameters, c.model.forward(parameters, c.X, c.Y), c.X, c.Y)
    for name, its in found.items():
        error = np.sqrt(np.square(its - getattr(right, name).numpy()).mean())
        of_torch = (getattr(single, name) - getattr(right, name)).square().mean().sqrt()
        scale = float(getattr(right, name).abs().max())
        assert error <= 2 * float(of_torch) + 1e-7 * scale + 1e-9, name


def test_an_index_beyond_the_table_is_refused() -> None:
    c = case("mlp", rows=64)
    step = handgrad.compile(c.model.forward, c.model.backward, params=c.parameters, batch=(c.X, c.Y))
    c.X[5, 1] = 11

    with pytest.raises(CompileError, match="holds 11, which is out of range for an index below 11"):
        step.gradients(c.X, c.Y)
