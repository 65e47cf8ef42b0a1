"""A line that is right but for a part of it, which another line has computed and given a name: ``tmp``, ``dhnext``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from handgrad.claims import Claim, Event
from handgrad.diagnosis.problem import Problem, Truth, WrongBlock
from handgrad.graph import Binding, Value

MOST_PARTS = 12


class Part(NamedTuple):
    """The line that is wrong, as a contribution of its own."""

    problem: Problem
    block: WrongBlock


def wrong_part(problem: Problem, block: WrongBlock) -> Part | None:
    """Return the part of ``block`` that makes it right when it is replaced by what it should be, if there is one."""
    own = problem.check.own_values(problem.claim, problem.of)
    for binding, value in _parts(problem, block):
        reads = problem.check.reads_of(value, problem.of, own)
        if not reads:
            continue  # a derivative such as `1 - h**2`, and not yet a contribution
        found = problem.check.evaluate(value, problem.of, own, {})
        for covers, truths in _candidates(problem, reads):
            if found is None or truths[0].shape != value.shape or _same(found, truths):
                continue
            whole = _with(problem, block, own, {value: truths})
            if whole is not None and problem.is_truth(whole, block.reads) is not None:
                event = Event(binding.statement, [binding], None, value)
                claim = Claim(str(binding.access), [problem.of], [event])
                return Part(problem.about(claim, {reads: [(covers, truths)]}), WrongBlock([event], found, reads))
    return None


def _parts(problem: Problem, block: WrongBlock) -> Iterator[tuple[Binding, Value]]:
    """Yield what went into ``block`` and has a name, but is nobody's gradient; the latest first."""
    forward, given = problem.check.points[0].forward_values, problem.check.given
    own = {binding.value for event in block.events for binding in event.bindings}
    seen: set[Value] = set()
    stack = [event.after for event in block.events if event.after is not None]
    starts = {event.before for event in block.events}
    while stack:
        value = stack.pop()
        stops = value in forward or (value in given and value not in own) or value in starts
        if value not in seen and not stops:
            seen.add(value)
            if value.step is not None:
                stack.extend(value.step.inputs)
    count = 0
    for binding in reversed(problem.graph.bindings):
        value_of = binding.value
        if value_of is None or value_of not in seen or value_of in own or not value_of.is_floating:
            continue
        if isinstance(binding.statement.node, ast.FunctionDef) or value_of.step is None:
            continue
        seen.discard(value_of)
        count += 1
        if count > MOST_PARTS:
            return
        yield binding, value_of


def _candidates(problem: Problem, reads: frozenset[Value]) -> Iterator[Truth]:
    """Yield what a part may be: what the gradients that it reads contribute, together or by one use of the value."""
    points, of = problem.check.points, problem.of
    yield from problem.check.candidates(of, reads)
    users = [v for v in points[0].forward_values if v.step is not None and of in v.step.inputs]
    if 1 < len(users) <= MOST_PARTS:
        for user in sorted(users, key=lambda v: v.id):
            without = frozenset({user})
            yield without, [p.through(of, reads) - p.through(of, reads, without) for p in points]


def _with(
    problem: Problem, block: WrongBlock, own: set[Value], given: dict[Value, list[Tensor]]
) -> list[Tensor] | None:
    """Return what ``block`` contributes where some values are other ones."""
    first, last = block.events[0].before, block.events[-1].after
    if last is None:
        return None
    if first is not None:
        given = {**given, first: [torch.zeros(first.shape, dtype=torch.float64) for _ in problem.check.points]}
    return problem.check.evaluate(last, problem.of, own, given)


def _same(found: list[Tensor], truths: list[Tensor]) -> bool:
    pairs = zip(found, truths, strict=True)
    return all(a.shape == b.shape and bool(torch.allclose(a, b, rtol=1e-8)) for a, b in pairs)
