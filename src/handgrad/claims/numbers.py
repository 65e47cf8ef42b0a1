"""Numbers and masks that are bound where a gradient is meant."""

from __future__ import annotations

import torch

from handgrad.claims.claim import Made
from handgrad.claims.names import operands, same_names
from handgrad.graph import Binding, Const, Failure, Graph, Value
from handgrad.source import access_of


def meant_as_gradients(graph: Graph, doubtful: list[Made], made: list[Made]) -> list[Made]:
    """Return those numbers and masks that are meant as gradients: ``derr = 2.0 / n``, but no ``dh = 64``.

    They are the only claim about their value, and a gradient further up is made from them.
    """
    claimed = {of for _, candidates, _ in made for of in candidates}
    found = []
    for binding, candidates, loss in doubtful:
        number, value = binding.number, binding.value
        if claimed.intersection(candidates) or (number is not None and number.is_integer()):
            continue
        if value is not None and value.shape != candidates[0].shape:
            continue
        name, above = str(binding.access), graph.ancestors(candidates[0]) - {candidates[0]}
        readers = [
            other
            for other, of, _ in made
            if other.time > binding.time and same_names(graph, other.frame, binding.frame)
                and name in other.statement.names and other.name != binding.name and above.intersection(of)
        ]  # fmt: skip
        if readers:
            if number is not None:
                _as_value(graph, binding, number, candidates[0])
            found.append(Made(binding, candidates, loss))
    return found


def _as_value(graph: Graph, binding: Binding, number: float, of: Value) -> None:
    """Let a number that is meant as a gradient be a value, wherever it is read."""
    value = Value(
        len(graph.values), torch.tensor(number, dtype=of.dtype), (), of.dtype, time=binding.time,
        name=binding.name, base_name=binding.name,
    )  # fmt: skip
    graph.values.append(value)
    binding.value = value
    own = str(binding.access)
    for step in graph.steps:
        if step.time > binding.time and same_names(graph, step.frame, binding.frame):
            texts = [str(access_of(node)) for node in operands(step.site.node)]
            if own in texts:
                step.args = [value if isinstance(a, Const) and a.value == number else a for a in step.args]
    seen: list[Binding | Failure] = [*graph.bindings, *graph.failures]
    for later in seen:
        if later.time > binding.time and same_names(graph, later.frame, binding.frame) and later.visible:
            later.visible[own] = value
            binding.visible = binding.visible or later.visible
