"""A run becomes a graph: names, places, versions; and the graph runs again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn import functional as F

import handgrad
from handgrad.errors import ReplayError, TraceError
from handgrad.models.mlp import atomic
from pairs import random_pair_input


def forward(x: Tensor, w: Tensor) -> Tensor:
    h = torch.tanh(x @ w)
    h = h + 1.0 / 3
    loss = h.mean()
    return loss  # noqa: RET504  (a value of the forward has a name)


def xw() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(4, 3, generator=g), torch.randn(3, 2, generator=g).requires_grad_()


def test_a_name_that_is_bound_again_is_numbered() -> None:
    graph = handgrad.trace(forward, *xw())

    assert [v.name for v in graph.named] == ["x", "w", "h", "h_1", "loss"]
    assert graph["h"].shape == (4, 2)
    assert graph.loss is graph["loss"]


def test_a_step_knows_its_expression_its_statement_and_its_line() -> None:
    graph = handgrad.trace(forward, *xw())

    assert [step.text for step in graph.steps] == ["x @ w", "torch.tanh(x @ w)", "h + 1.0 / 3", "h.mean()"]
    statement = graph.steps[1].statement
    assert statement is not None
    assert statement.text == "h = torch.tanh(x @ w)"
    assert statement.line == forward.__code__.co_firstlineno + 1


def test_printing_a_graph_shows_the_forward() -> None:
    assert "h     (4, 2)  h = torch.tanh(x @ w)" in str(handgrad.trace(forward, *xw()))


def test_an_example_traces_and_derives_nothing() -> None:
    inputs = xw()

    graph = handgrad.trace(forward, *inputs)

    assert inputs[1].grad is None
    assert all(value.grad_of is None for value in graph.values)


@settings(max_examples=20, deadline=None)
@given(inputs=random_pair_input())
def test_the_replay_of_the_names_model_is_bit_exact(inputs: tuple[Any, ...]) -> None:
    graph = handgrad.trace(atomic.forward, *inputs)

    again = graph.replay()
    assert all(torch.equal(again[str(v.name)], v.value) for v in graph.named)


def test_a_replay_in_float64_and_at_other_leaves_is_the_function_itself() -> None:
    x, w = xw()
    graph = handgrad.trace(forward, x, w)
    other = torch.randn(3, 2, dtype=torch.float64)

    again = graph.replay({"w": other}, dtype=torch.float64)

    assert again["loss"].dtype == torch.float64
    torch.testing.assert_close(again["loss"], forward(x.double(), other), rtol=1e-12, atol=0)


def test_a_cut_value_is_a_leaf_of_autograd() -> None:
    x, w = xw()
    again = handgrad.trace(forward, x, w).replay(cut=["h"])

    (gradient,) = torch.autograd.grad(again["loss"], again["h"])

    torch.testing.assert_close(gradient, torch.full((4, 2), 1 / 8))


def test_a_write_through_a_view_that_is_read_later_is_seen() -> None:
    def writes(x: Tensor) -> Tensor:
        y = x * 2
        row = y[0]
        row += 1
        y[1] = x[0]
        z = y.flatten()
        z.mul_(3)
        return (y * y).sum()

    x = torch.randn(3, 4, requires_grad=True)
    graph = handgrad.trace(writes, x)
    other = torch.randn(3, 4, dtype=torch.float64)

    assert torch.equal(graph.replay()["x"], x)
    again = graph.replay({"x": other}, dtype=torch.float64)
    last = graph.outputs[-1]
    from handgrad.graph import Replay

    replay = Replay(graph, given={graph["x"]: other}, dtype=torch.float64)
    torch.testing.assert_close(replay[last], writes(other.clone()), rtol=1e-12, atol=0)
    assert again["x"] is not None


def test_a_branch_that_would_go_the_other_way_is_refused_with_its_place() -> None:
    def branches(x: Tensor) -> Tensor:
        if x.sum() > 0:
            return (x * 2).sum()
        return (x * 3).sum()

    graph = handgrad.trace(branches, torch.ones(2))

    graph.replay({"x": torch.full((2,), 5.0)})
    with pytest.raises(ReplayError, match=r"test_tracer.py:\d+: `x.sum\(\) > 0` took a number out"):
        graph.replay({"x": -torch.ones(2)})


def test_modules_helpers_loops_comprehensions_and_no_grad_are_traced() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)
            self.norm = nn.LayerNorm(4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.norm(self.fc(x))
            for _ in range(2):
                h = F.silu(h)
            parts = [p.sum() for p in h.unbind(0)]
            with torch.no_grad():
                scale = h.abs().max()
            loss = torch.stack(parts).sum() / scale
            return loss  # noqa: RET504

    graph = handgrad.trace(Net(), torch.randn(2, 3))

    names = {value.name for value in graph.named}
    assert {"h", "h_1", "h_2", "scale", "loss", "fc.weight", "norm.bias"} <= names
    assert not next(v.step for v in graph.named if v.name == "scale" and v.step).grad_enabled


def test_dropout_replays_with_the_mask_that_was_drawn() -> None:
    def drops(x: Tensor) -> Tensor:
        y = F.dropout(x, 0.5)
        return y.sum()

    graph = handgrad.trace(drops, torch.ones(100))

    torch.testing.assert_close(graph.replay(dtype=torch.float64)["y"], graph["y"].value.double())


def test_a_second_name_for_one_tensor_is_seen_without_an_operation() -> None:
    def names(x: Tensor) -> Tensor:
        y = x.exp()
        z = y
        return z.sum()

    graph = handgrad.trace(names, torch.ones(2))

    assert [b.name for b in graph.bindings if b.value is graph["y"]] == ["y", "z"]


def test_what_cannot_be_traced_is_said() -> None:
    with pytest.raises(TraceError, match="int cannot be called"):
        handgrad.trace(3)  # type: ignore[arg-type]
    with pytest.raises(TraceError, match="did nothing with tensors"):
        handgrad.trace(lambda: None)
    with pytest.raises(ReplayError, match="no value nothing; there are x, w, h"):
        handgrad.trace(forward, *xw()).replay({"nothing": torch.ones(1)})


def test_a_debugger_or_coverage_that_watches_lines_is_put_back() -> None:
    import sys

    before = sys.gettrace()
    handgrad.trace(forward, *xw())

    assert sys.gettrace() is before
