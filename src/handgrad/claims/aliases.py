"""Two names of one tensor: the second one gets a value of its own."""

from __future__ import annotations

import ast
from typing import Any

from torch import Tensor

from handgrad.claims.names import operands
from handgrad.graph import Binding, Const, Graph, Step, Value
from handgrad.source import Site, access_of


def separate(graph: Graph, binding: Binding) -> None:
    """Give the second name of a tensor, as in ``dhpreact = dh``, a value of its own.

    What is read under the second name is then another gradient than what is read under the first.
    """
    value, node = binding.value, binding.statement.node
    if value is None or not isinstance(node, ast.Assign):
        return
    if not isinstance(node.value, ast.Name | ast.Attribute | ast.Subscript) or binding.access.parts:
        return
    first = next((b for b in graph.bindings if b.value is value), binding)
    if first is binding or first.name == binding.name or first.time >= binding.time:
        return
    step = Step(
        len(graph.steps), "alias", _itself, [value], {}, [], _site(binding, value), binding.frame,
        binding.time, True,
    )  # fmt: skip
    copy = Value(len(graph.values), value.tensor, value.shape, value.dtype, step, time=binding.time)
    step.outs.append(copy)
    graph.steps.append(step)
    graph.values.append(copy)
    other, own = str(first.access), str(binding.access)
    changed: set[Value] = set()  # what the tensor became by writes through the second name
    for later in graph.steps[:-1]:
        if later.time <= binding.time or later.statement is None:
            continue
        inputs = set(later.inputs)
        if not (value in inputs or changed & inputs):
            continue
        names = later.statement.names
        if own in names and other not in names:
            later.args = with_replaced(later.args, value, copy)
            later.kwargs = with_replaced(later.kwargs, value, copy)
            later.writes = [(copy if before is value else before, after) for before, after in later.writes]
            changed |= {after for before, after in later.writes if before is copy or before in changed}
        elif other in names and own not in names:  # it meant the first name, as it was
            for spoilt in changed & inputs:
                later.args, later.kwargs = (
                    with_replaced(later.args, spoilt, value),
                    with_replaced(later.kwargs, spoilt, value),
                )
        elif own in names and not later.writes:
            later.args = _renamed(later, value, copy, own, other)
    for later_binding in graph.bindings:
        if later_binding.time >= binding.time:
            if later_binding.visible.get(binding.name) is value:
                later_binding.visible[binding.name] = copy
            if later_binding.value is value and later_binding.name == binding.name:
                later_binding.value = copy


def _site(binding: Binding, value: Value) -> Site:
    if value.step is not None:
        return value.step.site
    source = binding.statement.source
    return Site(compile("0", source.filename, "eval"), 0, binding.statement.line, source)


def _itself(tensor: Tensor) -> Tensor:
    return tensor.clone()


def with_replaced(argument: Any, old: Value, new: Value) -> Any:
    """Return arguments of a step with one value replaced."""
    if argument is old:
        return new
    if isinstance(argument, dict):
        return {key: with_replaced(item, old, new) for key, item in argument.items()}
    if isinstance(argument, list | tuple) and not isinstance(argument, Const):
        return type(argument)(with_replaced(item, old, new) for item in argument)
    return argument


def _renamed(step: Step, value: Value, copy: Value, own: str, other: str) -> list[Any]:
    """Return the arguments of a step whose statement mentions both names, with ``copy`` where ``own`` is written."""
    texts = [str(access_of(node)) for node in operands(step.site.node)]
    if len(texts) > len(step.args):
        texts = texts[-len(step.args) :]  # `torch.mul(a, b)`
    if own not in texts:
        return step.args
    if other not in texts:
        return [copy if argument is value else argument for argument in step.args]
    return [copy if a is value and text == own else a for a, text in zip(step.args, texts, strict=False)]
