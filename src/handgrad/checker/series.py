"""Names that a loop gives a new value each time round."""

from __future__ import annotations

import ast

from handgrad.claims import Claim
from handgrad.graph import Binding, Value


def is_series(claim: Claim) -> bool:
    """Whether a loop sets the name anew."""
    return len(ends_of_series(claim)) > 1


def ends_of_series(claim: Claim) -> list[Value]:
    """Return what the name stood for at the end of each iteration of a loop that sets it anew."""
    ends: list[Value] = []
    for event in claim.events:
        previous: Value | None = None
        count = 0
        for binding in event.bindings:
            value = binding.value
            if value is None:
                continue
            if previous is not None and (_is_anew(binding) or not depends(value, previous)):
                ends.append(previous)
                count += 1
            previous = value
        if count and previous is not None:
            ends.append(previous)
    return ends


def _is_anew(binding: Binding) -> bool:
    """Whether the statement sets the name without reading it: it may depend on what it was all the same, over time."""
    node = binding.statement.node
    if not isinstance(node, ast.Assign) or any(isinstance(target, ast.Subscript) for target in node.targets):
        return False
    return not any(isinstance(part, ast.Name) and part.id == binding.access.root for part in ast.walk(node.value))


def depends(value: Value, on: Value) -> bool:
    """Whether ``value`` was computed from ``on``."""
    stack, seen = [value], set()
    while stack:
        current = stack.pop()
        if current is on:
            return True
        if current in seen or current.time < on.time:
            continue
        seen.add(current)
        if current.step is not None:
            stack.extend(current.step.inputs)
    return False
