"""The smallest change of a wrong line that makes it right: found at one point, confirmed at the other."""

from __future__ import annotations

import ast
import time
from typing import Any, NamedTuple

from torch import Tensor

from handgrad.claims import Event
from handgrad.diagnosis.edits import Edit, Names, edits
from handgrad.diagnosis.problem import Problem, WrongBlock, restored
from handgrad.diagnosis.rewriting import OWN, placeholder
from handgrad.graph import Const, Value
from handgrad.source import Statement

TRIES = 3000
SECONDS = 3.0
"""How long the search for one line may take, in time of the processor; what is found earlier does not depend on it."""


class Patience:
    """How long the searches for cures of one report may take together, and which of them have found nothing."""

    def __init__(self, seconds: float = 6.0) -> None:
        self.seconds = seconds
        self.hopeless: set[tuple[str, tuple[Statement, ...]]] = set()


class Cure(NamedTuple):
    """A verified correction."""

    kind: str
    what: str
    text: str  # the corrected line
    statement: Statement  # that line
    node: ast.stmt


def find_cure(problem: Problem, block: WrongBlock, last: ast.stmt | None = None) -> Cure | None:
    """Return the cheapest single edit of the lines of ``block`` that makes it right at both points, if there is one.

    With ``last``, that is what the last line is taken to be.
    """
    events = [e for e in block.events if e.bindings[0].visible]
    if len(events) != len(block.events) or not events:
        return None
    nodes = [problem.prepared(event) for event in events]
    if last is not None:
        nodes[-1] = problem.prepared(events[-1], last)
    searched = problem.claim.name, tuple(event.last.statement for event in events)
    if last is None and searched in problem.patience.hopeless:
        return None
    start = time.thread_time()
    try:
        cure = _searched(problem, events, nodes, start + min(SECONDS, problem.patience.seconds))
    finally:
        problem.patience.seconds -= time.thread_time() - start
    if cure is None and last is None:
        problem.patience.hopeless.add(searched)
    return cure


def _searched(problem: Problem, events: list[Event], nodes: list[ast.stmt], end: float) -> Cure | None:
    if _is_right(problem, events, nodes):
        return None  # once; what is wrong is that it runs more than once, or in other circumstances
    candidates: list[tuple[int, Edit]] = []
    for i, (event, node) in enumerate(zip(events, nodes, strict=True)):
        candidates += [(i, edit) for edit in edits(node, _names(problem, event))]
    candidates.sort(key=lambda c: c[1].cost)
    seen = {tuple(map(ast.dump, nodes))}
    spent = 0
    for i, edit in candidates:
        changed = [*nodes[:i], edit.node, *nodes[i + 1 :]]
        key = tuple(map(ast.dump, changed))
        if key in seen:
            continue
        seen.add(key)
        spent += 1
        if spent > TRIES or time.thread_time() > end:
            break
        first = problem.run(events, changed, 0)
        if first is None:
            continue
        reads = frozenset().union(*(problem.reads_in(e, n) for e, n in zip(events, changed, strict=True)))
        truth = problem.is_truth([first], reads)
        if truth is None:
            continue
        second = problem.run(events, changed, 1)
        if second is None or problem.is_truth([first, second], reads) is None:
            continue
        if truth[0] and not truth[0] & _covered_elsewhere(problem):
            return _cure(problem, events[i], edit)
    return None


def _is_right(problem: Problem, events: list[Event], nodes: list[ast.stmt]) -> bool:
    """Whether the statements, each run once, contribute what is right at both points."""
    found = [problem.run(events, nodes, i) for i in range(len(problem.check.points))]
    reads = frozenset().union(*(problem.reads_in(e, n) for e, n in zip(events, nodes, strict=True)))
    return all(f is not None for f in found) and problem.is_truth(found, reads) is not None


def repeated(problem: Problem, block: WrongBlock) -> Statement | None:
    """Return a statement of ``block`` that its line runs twice, if once would be right."""
    for event in block.events:
        statement = event.last.statement
        on_line = [s for s in statement.source.by_line.get(statement.line, ()) if s.text == statement.text]
        if len(on_line) > 1 and event.bindings[0].visible:
            nodes = [problem.prepared(e) for e in block.events]
            return statement if _is_right(problem, block.events, nodes) else None
    return None


def _covered_elsewhere(problem: Problem) -> set[Value]:
    return set().union(*(b.covers for b in problem.judged.blocks if b.status == "right"))


def _cure(problem: Problem, event: Event, edit: Edit) -> Cure:
    source = event.statement.source
    node = edit.node
    statement = event.statement
    if isinstance(statement.node, ast.For | ast.While):
        for original, changed in zip(ast.walk(statement.node), ast.walk(node), strict=False):
            if isinstance(original, ast.stmt) and original.lineno == edit.line and not hasattr(original, "body"):
                found = source.statement_at.get(original)
                lines = [n for n in ast.walk(node) if isinstance(n, ast.stmt) and n.lineno == edit.line]
                if found is not None and lines:
                    return Cure(edit.kind, edit.what, restored(problem, event, lines[-1]), found, node)
            del changed
    what = edit.what.replace(OWN, problem.claim.name)
    return Cure(edit.kind, what, restored(problem, event, node), event.last.statement, node)


def _names(problem: Problem, event: Event) -> Names:
    """Return what an edit of ``event`` may mention."""
    environment = problem.environment(event, 0)
    seen = event.bindings[0].visible
    given = problem.check.given
    shapes: dict[str, tuple[int, ...]] = {}
    gradients: set[str] = set()

    known: set[Value] = set()

    def add(name: str, value: Value) -> None:
        tensor = environment.get(name)
        if isinstance(tensor, Tensor) and value not in known:
            known.add(value)
            shapes[name] = tuple(tensor.shape)
            if value in given:
                gradients.add(name)

    for name, item in seen.items():
        if isinstance(item, Value) and name != problem.claim.name and not name.startswith("_"):
            add(name, item)
    for text, binding in problem.paths(event).items():
        if binding.value is not None:
            add(placeholder(text), binding.value)
    return Names(shapes, gradients, problem.integers, _small_constants(problem), problem.of.shape)


def _small_constants(problem: Problem) -> list[str]:
    found: set[str] = set()
    for step in problem.graph.steps:
        if step.op in ("add", "__add__", "__radd__", "clamp", "clamp_min", "max"):
            for argument in step.args:
                if isinstance(argument, Const) and isinstance(argument.value, float):
                    value: Any = argument.value
                    if value != 0 and (abs(value) < 1e-2 or abs(value) > 1e2):
                        found.add(repr(value))
    return sorted(found)[:4]
