"""Loops of a forward: the iterations of a traced graph, found again, so that their backward is a loop too.

A graph is unrolled: it holds each iteration's steps. They form a loop again if all iterations did the same operations
at the same places, on values of their own, of the iteration before, or from outside of the loop.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from handgrad.deriver.scope import Scope
from handgrad.deriver.spelling import spell, spell_key
from handgrad.graph import Const, Graph, Step, Value
from handgrad.rules.table import plain
from handgrad.source import Source, enclosing

FEWEST = 3  # shorter loops are written out


class NotALoopError(Exception):
    """The iterations differ: the loop is written out instead."""


Position = tuple[int, int]  # which step of an iteration, and which of the values that it made


@dataclass(eq=False)
class Loop:
    """A ``for`` statement whose iterations are alike."""

    node: ast.For
    source: Source
    iterations: list[list[Step]]
    counts: list[Any]  # what the target of the loop was in each
    carried: dict[Position, Value | Const] = field(default_factory=dict)  # what the first iteration read instead
    home: dict[Value, tuple[int, Position]] = field(default_factory=dict)  # where each value of the loop was made

    @property
    def target(self) -> str:
        """The name of the loop's variable."""
        return ast.unparse(self.node.target)

    @property
    def binds(self) -> set[str]:
        """The names that it gives a value each time it runs."""
        return {n.id for n in ast.walk(self.node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}

    @property
    def iterable(self) -> str:
        """What it runs over, as written."""
        return self.source.text_of(self.node.iter)

    @property
    def body(self) -> list[Step]:
        """The steps of an iteration that has one before and one after it."""
        return self.iterations[1]

    def value(self, iteration: int, position: Position) -> Value:
        """Return the value that an iteration made at ``position``."""
        return self.iterations[iteration][position[0]].made[position[1]]

    def is_bound_again(self, position: Position) -> bool:
        """Whether the same iteration gives the name of that value to another one later: `i = torch.sigmoid(i)`."""
        name = self.value(1, position).base_name
        return name is not None and any(
            later > position and self.value(1, later).base_name == name for later in self.positions()
        )

    def positions(self) -> Iterator[Position]:
        """Yield where the values of an iteration are made."""
        for j, step in enumerate(self.body):
            for m in range(len(step.made)):
                yield j, m


def find_loops(graph: Graph, scope: Scope) -> list[Loop]:
    """Return the loops of the outermost frame whose iterations are alike, in the order of the graph."""
    groups: dict[int, list[Step]] = {}
    nodes: dict[int, tuple[ast.For, Source]] = {}
    for step in graph.steps:
        statement = graph.outermost(step)
        node = outermost_loop(statement.node) if statement is not None else None
        if node is not None and statement is not None:
            groups.setdefault(id(node), []).append(step)
            nodes[id(node)] = node, statement.source
    loops = []
    for number, steps in groups.items():
        node, source = nodes[number]
        try:
            loops.append(_as_loop(scope, node, source, steps))
        except NotALoopError:
            continue
    return loops


def outermost_loop(node: ast.AST) -> ast.For | None:
    """Return the outermost ``for`` in the body of which ``node`` stands, within its function."""
    found, inner = None, node
    for outer in enclosing(node):
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            break
        if isinstance(outer, ast.For) and inner in outer.body:
            found = outer
        inner = outer
    return found


def _as_loop(scope: Scope, node: ast.For, source: Source, steps: list[Step]) -> Loop:
    if [step.index for step in steps] != list(range(steps[0].index, steps[0].index + len(steps))):
        raise NotALoopError("it ran more than once")
    if not isinstance(node.target, ast.Name) or node.orelse:
        raise NotALoopError("its target is not one name")
    try:
        counts = list(scope.evaluate(source.text_of(node.iter)))
    except Exception as error:  # what it runs over is the user's
        raise NotALoopError("what it runs over cannot be told") from error
    if not all(isinstance(count, int) for count in counts) or len(set(counts)) < FEWEST or len(steps) % len(counts):
        raise NotALoopError("it does not count")
    if any(step.is_random or step.generator_state is not None or step.writes or step.op == "overlay" for step in steps):
        raise NotALoopError("it draws at random, or writes in place")
    length = len(steps) // len(counts)
    iterations = [steps[k * length : (k + 1) * length] for k in range(len(counts))]
    keys = [[(step.op, id(step.site.code), step.site.instruction) for step in steps] for steps in iterations]
    if any(other != keys[0] for other in keys):
        raise NotALoopError("its iterations differ")
    loop = Loop(node, source, iterations, counts)
    for k, iteration in enumerate(iterations):
        for j, step in enumerate(iteration):
            for m, value in enumerate(step.made):
                loop.home[value] = k, (j, m)
    _check_arguments(loop, scope)
    _check_names(loop)
    return loop


def _check_arguments(loop: Loop, scope: Scope) -> None:
    """See that every iteration read the same, from itself, from the one before, or from outside."""
    for j, step in enumerate(loop.body):
        texts = spell(step, scope, {loop.target: loop.counts[1]})
        keys = spell_key(step, scope, {loop.target: loop.counts[1]}) if plain(step.op) == "getitem" else []
        middle = _sources(loop, 1, step)
        commutes = len(middle) == 2 and plain(step.op) in ("add", "mul")
        for k in range(2, len(loop.iterations)):
            here = _sources(loop, k, loop.iterations[k][j])
            for place, (a, b) in enumerate(zip(middle, here, strict=True)):
                if a != b and not (
                    isinstance(a, Const) and isinstance(b, Const) and _spelled(step, place, texts, keys)
                ):
                    raise NotALoopError(f"`{step.text}` reads something else in each iteration")
        first = _sources(loop, 0, loop.iterations[0][j])
        if commutes and isinstance(first[1], Const) and not any(isinstance(item, Const) for item in middle):
            first.reverse()  # `0.0 + x` was recorded as `x + 0.0`
        for place, (a, b) in enumerate(zip(first, middle, strict=True)):
            if isinstance(b, tuple) and b[0] == "before" and not (isinstance(a, tuple) and a[0] in ("own", "before")):
                known = loop.carried.setdefault(b[1], a)
                if known is not a and known != a:
                    raise NotALoopError("the first iteration reads two things in one place")
            elif a != b and not (isinstance(a, Const) and isinstance(b, Const) and _spelled(step, place, texts, keys)):
                raise NotALoopError(f"`{step.text}` reads something else at first")


def _spelled(step: Step, place: int, texts: dict[int | str, str], keys: list[str | None]) -> bool:
    if plain(step.op) == "getitem":
        return place == 0 or all(text is not None for text in keys)
    keywords = list(step.kwargs)
    name: int | str = place if place < len(step.args) else keywords[place - len(step.args)]
    return name in texts


def _sources(loop: Loop, k: int, step: Step) -> list[Any]:
    """Return where each argument of a step comes from."""

    def source_of(item: Any) -> Any:
        if isinstance(item, Value):
            if item not in loop.home:
                return item
            made, position = loop.home[item]
            if made == k:
                return "own", position
            if made == k - 1:
                return "before", position
            raise NotALoopError("an iteration reads what one long before it made")
        if isinstance(item, list | tuple) and not isinstance(item, Const):
            return [source_of(one) for one in item]
        return item

    return [source_of(item) for item in (*step.args, *step.kwargs.values())]


def _check_names(loop: Loop) -> None:
    for position in loop.positions():
        names = {loop.value(k, position).base_name for k in range(len(loop.iterations))}
        if len(names) > 1:
            raise NotALoopError("a value has another name in each iteration")
        if position in loop.carried and None in names:
            raise NotALoopError("a value without a name is carried")


def rerun(loop: Loop, names: set[str]) -> list[ast.stmt]:
    """Return the statements of the body that are needed to compute ``names`` in every iteration."""
    wanted, kept = set(names), set[int]()
    while True:
        before = len(wanted), len(kept)
        for number, statement in reversed(list(enumerate(loop.node.body))):
            made = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            if made & wanted:
                kept.add(number)
                wanted |= {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)}
        if (len(wanted), len(kept)) == before:
            return [statement for number, statement in enumerate(loop.node.body) if number in kept]
