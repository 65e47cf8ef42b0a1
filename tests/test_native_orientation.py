"""Matrices that lie transposed and products that are computed transposed: the same results, whichever they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import handgrad
from handgrad.models import MODELS
from handgrad.native import planning
from handgrad.native.arrays import Array
from handgrad.native.calling import Parameters, flat
from handgrad.native.llvm.objects import vector_bytes
from handgrad.native.orientation import Costs, oriented, turned
from handgrad.native.program import Program
from native_code import Case, Lowered, case

LANES = 16


def wide(rows: int = 8, n_hidden: int = 200, vocabulary: int = 27) -> Case:
    """Return a names model whose last layer has fewer columns than two vectors have lanes."""
    model, generator = MODELS["mlp"], torch.Generator().manual_seed(3)
    parameters = model.initialise(vocabulary, n_embd=5, n_hidden=n_hidden, block_size=3, generator=generator)
    X = torch.randint(0, vocabulary, (rows, 3), generator=generator)
    return Case(model, parameters, X, torch.randint(0, vocabulary, (rows,), generator=generator))


def lowered(name: str) -> Lowered:
    c = case(name, dtype=torch.float64)
    parameters = Parameters(c.parameters)
    both = flat(c.model.forward, c.model.backward, parameters, (c.X[:7], c.Y[:7]))
    return Lowered(both, *parameters.tensors, c.X[:7], c.Y[:7])


def shapes_of(program: Program) -> list[tuple[int, ...]]:
    """Return the shapes of everything with two dimensions that is computed."""
    return sorted({tuple(v.extent for v in d.domain) for d in program.definitions if len(d.domain) == 2})


LOWERED = {name: lowered(name) for name in MODELS if name != "bigram"}


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(LOWERED)), st.data())
def test_whichever_shapes_are_turned_the_results_are_the_same(name: str, data: st.DataObject) -> None:
    step = LOWERED[name]
    shapes = frozenset(data.draw(st.sets(st.sampled_from(shapes_of(step.program)))))

    def turn(program: Program, lanes: int) -> tuple[Program, dict[Array, Array]]:
        return turned(program, shapes, Costs(program.definitions, lanes))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "oriented", turn)
        found = step.by_machine_code()

    for one, right in zip(found, step.by_numpy(), strict=True):
        np.testing.assert_allclose(one, right, rtol=1e-9, atol=1e-9)


def layer(x: Tensor, w: Tensor, v: Tensor) -> list[Tensor]:
    h = torch.tanh(x @ w)  # (n, h)
    return [h @ v, h.sum(0)]


def turned_shapes(lowered: Lowered) -> set[tuple[int, ...]]:
    _, arrays = oriented(lowered.program, LANES)
    return {a.shape for a in arrays}


def test_a_product_that_wastes_lanes_is_turned_with_its_parameter() -> None:
    c = wide(32)
    parameters = Parameters(c.parameters)
    both = flat(c.model.forward, c.model.backward, parameters, (c.X, c.Y))

    assert turned_shapes(Lowered(both, *parameters.tensors, c.X, c.Y)) >= {(32, 27), (200, 27)}


@pytest.mark.parametrize("columns", [16, 32, 64])
def test_what_fills_its_vectors_stays_as_it_is(columns: int) -> None:
    x, w, v = torch.randn(32, 16), torch.randn(16, 64), torch.randn(64, columns)

    assert not turned_shapes(Lowered(layer, x, w, v))


def test_a_copy_that_costs_more_than_the_lanes_is_not_made() -> None:
    x, w, v = torch.randn(16, 16), torch.randn(16, 640), torch.randn(640, 31)

    assert not turned_shapes(Lowered(layer, x, w, v))


def test_parameters_and_states_that_lie_transposed_are_read_and_written_as_they_are_given() -> None:
    c = wide()
    parameters, others = (type(c.parameters)(*(p.double() for p in c.parameters)) for _ in range(2))
    step = handgrad.compile(c.model.forward, c.model.backward, params=parameters, batch=(c.X, c.Y),
                            update=handgrad.SGD(lr=0.1, momentum=0.9), fallback=False)  # fmt: skip
    places = {place.name: place for place in (*step._training.plan.parameters, *step._training.plan.states)}

    for _ in range(2):  # between both the parameters are taken out and in
        step.run(10, c.X, c.Y, rows=torch.arange(8).expand(10, 8))

    sgd = torch.optim.SGD([p.requires_grad_() for p in others], lr=0.1, momentum=0.9)
    for _ in range(20):
        sgd.zero_grad()
        c.model.forward(others, c.X, c.Y).loss.backward()
        sgd.step()
    for found, right in zip(parameters, others, strict=True):
        torch.testing.assert_close(found, right.detach(), atol=1e-9, rtol=1e-9)
    strides = [place.strides for place in places.values() if place.shape == (200, 27)]
    assert len(strides) == 2  # of the parameter, and of its velocity
    if vector_bytes()[0] == 64:
        assert [first for first, _ in strides] == [1, 1]


def test_gradients_that_lie_transposed_are_read_as_they_are() -> None:
    c = wide()
    step = handgrad.compile(c.model.forward, c.model.backward, params=c.parameters, batch=(c.X, c.Y), fallback=False)

    found = step.gradients(c.X, c.Y)

    truth = type(c.parameters)(*(p.double() for p in c.parameters))
    right = c.model.backward(truth, c.model.forward(truth, c.X, c.Y), c.X, c.Y)
    for name, its in found.items():
        np.testing.assert_allclose(its, getattr(right, name).numpy(), atol=1e-5)
