"""What a report says beside the gradients: the forward, and what nobody computes."""

from __future__ import annotations

from collections.abc import Iterable

from handgrad.claims import ClaimedPass
from handgrad.graph import Graph, Value
from handgrad.report import ForwardLine, Gradient


def forward_lines(graph: Graph, loss: Value) -> tuple[ForwardLine, ...]:
    """Return the named values that ``loss`` was computed from."""
    lines = []
    for value in sorted(graph.ancestors(loss), key=lambda v: v.id):
        if not value.name or not value.is_floating:
            continue
        binding = next((b for b in graph.bindings if b.value is value), None)
        if binding is None:
            lines.append(ForwardLine(value.name, None, None, "", value.shape))
            continue
        statement = binding.statement
        text = statement.text.split("\n")[0] if value.step is not None else ""
        lines.append(ForwardLine(value.name, statement.source.cell, statement.line, text, value.shape))
    return tuple(lines)


def add_missing(
    graph: Graph, judged: list[tuple[ClaimedPass, list[Gradient]]], expected: Iterable[Value] | None
) -> None:
    """Say which gradients nobody computes, in the pass about the loss that they belong to."""
    for loss in dict.fromkeys(claimed.loss for claimed, _ in judged):
        group = [(claimed, gradients) for claimed, gradients in judged if claimed.loss is loss]
        names = {claim.name for claimed, _ in group for claim in claimed.claims}
        done = {of for claimed, _ in judged for claim in claimed.claims for of in claim.candidates}
        done_names = {v.base_name for v in done} | {g.of for _, gradients in judged for g in gradients}
        ancestors = graph.ancestors(loss)  # of what is used out of sight alone nobody can say that it is missing
        if expected is not None:
            wanted = list(expected)
        else:
            wanted = [v for v in ancestors if v.is_floating and v.is_parameter and v.name]
            if any(v not in done and v.base_name not in done_names for v in wanted) or not wanted:
                wanted += [v for v in ancestors if v.is_floating and v.retained]
        missing = [
            v
            for v in wanted
            if v in ancestors and v.name and v not in done and v.base_name not in done_names and v is not loss
        ]
        prefix = "d" if any(name.startswith("d") for name in names) else "grad of "
        group[0][1].extend(
            Gradient(f"{prefix}{v.name}", str(v.name), "missing", expected_shape=v.shape)
            for v in sorted(missing, key=lambda v: -v.id)
        )
