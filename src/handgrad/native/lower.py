"""From a capture to a program: each call through the table, and a decision what is kept in memory."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from handgrad.errors import NoLoweringError
from handgrad.native.arrays import Tensor, as_truth, variables_of
from handgrad.native.capture import Capture
from handgrad.native.lowering.pointwise import filled, kind_of
from handgrad.native.program import Program, entries_of, loads_of
from handgrad.native.scalars import FLOAT, TRUTH, WHOLE, index_value
from handgrad.native.table import LOWERINGS, find

SHARED_COST = 3  # what is used several times and costs as much is kept
VIEWS = frozenset(
    {"view", "permute", "t", "transpose", "unsqueeze", "squeeze", "expand", "slice", "select", "_unsafe_view"}
)
FORMULA_COST = 400  # a larger formula is kept even if it is used once


def given(program: Program, tensor: torch.Tensor, name: str, role: str) -> Tensor:
    """Add an array for a tensor that is there before the step; truth values are kept as 0 and 1."""
    return program.give(tuple(tensor.shape), FLOAT if tensor.is_floating_point() else WHOLE, name, role)


def lower(captured: Capture, program: Program, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Add a step's calls to ``program`` and return its results; ``inputs`` are what `given` made.

    Raises:
        NoLoweringError: an operation has no lowering.
    """
    made: dict[Node, Any] = {
        node: as_truth(x) if is_truth else x
        for node, x, is_truth in zip(captured.inputs, inputs, captured.truths, strict=True)
    }
    for node in captured.calls:
        made[node] = _kept_if_shared(program, node, _lowered(program, captured, node, made))
        if writes(node):  # a temporary of a decomposition, which `functionalize` has not seen
            changed = node.args[0]
            assert isinstance(changed, Node)
            if is_view(changed) or any(map(is_view, changed.users)):
                raise NoLoweringError(f"{captured.places.get(node, 'the step')}: {node.target} writes through a view")
            made[changed] = made[node]
    return [_argument(result, made) for result in captured.results]


def _lowered(program: Program, captured: Capture, node: Node, made: dict[Node, Any]) -> Any:
    args = [_argument(a, made) for a in node.args]
    named = {key: _argument(a, made) for key, a in node.kwargs.items() if key not in ("pin_memory", "device", "layout")}
    if node.target is operator.getitem:
        return args[0][args[1]]
    if node.op == "get_attr":
        return constant_of(program, captured, node)
    function = find(node.target)
    if function is None:
        raise NoLoweringError(
            f"{captured.places.get(node, 'the step')}: {node.target} has no native form; {len(set(LOWERINGS))} have one"
        )
    try:
        return function(program, *args, **named)
    except NoLoweringError as error:
        raise NoLoweringError(f"{captured.places.get(node, 'the step')}: {error.message}") from None


def constant_of(program: Program, captured: Capture, node: Node) -> Tensor:
    """Return a tensor that the code made of numbers."""
    value = captured.constants[str(node.target)]
    shape, kind = tuple(value.shape), kind_of(value.dtype)
    if value.numel() and bool((value == value.flatten()[0]).all()):
        return filled(shape, value.flatten()[0].item(), kind)
    if value.ndim == 1 and kind == WHOLE and torch.equal(value, torch.arange(len(value))):
        return Tensor(shape, lambda p: index_value(p[0]), WHOLE)
    if kind == TRUTH:
        return as_truth(program.constant(value.int().numpy(), WHOLE))
    return program.constant(value.numpy(), kind)


def _argument(given: Any, made: dict[Node, Any]) -> Any:
    if isinstance(given, Node):
        return made[given]
    if isinstance(given, (list, tuple)):
        return type(given)(_argument(g, made) for g in given) if type(given) is tuple else [
            _argument(g, made) for g in given]  # fmt: skip
    return given


def _kept_if_shared(program: Program, node: Node, found: Any) -> Any:
    if not isinstance(found, Tensor):
        return found
    body = found.at(variables_of(found.shape))
    gathers = body.op == "load" and any(True for _ in entries_of(body.position))
    shared = (gathers or body.costs >= SHARED_COST) and _uses(node) > 1
    if (shared or body.costs > FORMULA_COST) and any(True for _ in loads_of(body)):
        return program.realise(found)
    return found


def _uses(node: Node) -> int:
    """Count what reads a value, also through views of it."""
    return sum(_uses(user) if is_view(user) else 1 for user in node.users)


def writes(node: Node) -> bool:
    """Whether a call changes its first argument."""
    name = str(node.target).removeprefix("aten.").partition(".")[0]
    return name.endswith("_") and name.removesuffix("_") not in VIEWS


def is_view(node: Node) -> bool:
    """Whether a call gives the same numbers in another shape or order."""
    return str(node.target).removeprefix("aten.").partition(".")[0] in VIEWS
