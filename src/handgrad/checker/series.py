"""Names that a loop gives a new value each time round."""

from __future__ import annotations

from handgrad.claims import Claim
from handgrad.graph import Value


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
            if previous is not None and not depends(value, previous):
                ends.append(previous)
                count += 1
            previous = value
        if count and previous is not None:
            ends.append(previous)
    return ends


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
