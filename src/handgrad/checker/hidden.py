"""Gradients of values that have no name of their own: ``dz2`` of ``h1 @ W2 + b2``, ``dhraw`` of each time step.

Nobody claims them, so they are judged only where something that is made of them is wrong. Of which value a name is
the gradient is found by its numbers: the first times round a loop are right, or what is read from it would be.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from handgrad.checker.lines import Judged, Lines
from handgrad.checker.series import depends
from handgrad.checker.truth import WidePoint
from handgrad.claims import Claim, Event, names_of_gradient
from handgrad.graph import Binding, Graph, Scope, Value
from handgrad.source import enclosing

MOST_TURNS = 64
MOST_NAMES = 24
SECONDS = 3.0
"""How long the search for the values of names may take, in time of the processor."""


@dataclass(eq=False)
class Series:
    """A name without a value of that name: what it stood for, each time round its loop, or once."""

    name: str
    turns: list[list[Binding]]
    of: list[Value] | None = None

    @property
    def ends(self) -> list[Value]:
        """What it was at the end of each turn."""
        return [turn[-1].value for turn in self.turns if turn[-1].value is not None]

    def values(self, turn: int) -> set[Value]:
        """Return all that it stood for in a turn."""
        return {binding.value for binding in self.turns[turn] if binding.value is not None}

    @property
    def probes(self) -> list[int]:
        """The turns that are looked at: the first ones and the last."""
        return sorted({k for k in (0, 1, 2, len(self.turns) - 1) if k < len(self.turns)})


class Hidden:
    """The gradients that nobody claims, each with the values that it belongs to."""

    def __init__(self, graph: Graph, lines: Lines, wrong: list[tuple[Claim, Value]]) -> None:
        self.graph, self.wrong = graph, wrong
        self.lines = Lines(graph, lines.points, dict(lines.given))
        self.lines.finals = set(lines.finals)
        self.series = self._find()
        groups = self._groups()
        end = time.thread_time() + SECONDS
        for series in self.series:
            if time.thread_time() < end:
                self._assign(series, groups)
        self.series = [series for series in self.series if series.of is not None]
        self.lines.points = [WidePoint(p, [v for s in self.series for v in s.of or ()]) for p in self.lines.points]

    # -- which names, and which values

    def _find(self) -> list[Series]:
        """Return the names that something wrong is made of, in the order in which they were bound first."""
        forward, given = self.lines.points[0].forward_values, self.lines.given
        read = self.graph.ancestors(*(claim.final for claim, _ in self.wrong if claim.final is not None))
        loss = self.lines.points[0].loss
        by_name: dict[tuple[Scope, ast.AST | None, str], list[Binding]] = {}
        for binding in self.graph.bindings:
            value = binding.value
            if value is None or value not in read or value in forward or value in given or value.step is None:
                continue
            if not value.is_floating or value.time < loss.time or isinstance(binding.statement.node, ast.FunctionDef):
                continue
            by_name.setdefault(
                (self.graph.frames[binding.frame].scope, _loop(binding), str(binding.access)), []
            ).append(binding)
        found = []
        for (_, loop, name), bindings in by_name.items():
            if loop is None:
                found += [Series(name, [chain]) for chain in _chains(bindings)]
                continue
            series = Series(name, list(_turns(bindings)))
            if len(series.turns) <= MOST_TURNS:
                found.append(series)
        return found[:MOST_NAMES]

    def _groups(self) -> list[list[Value]]:
        """Return the values of the forward that nobody claims; those of one place in a loop together."""
        by_site: dict[object, list[Value]] = {}
        claimed = set(self.lines.given.values()) | set(self.lines.points[0].claimed)
        stop = self.lines.points[0].stop
        for value in sorted(self.lines.points[0].forward_values, key=lambda v: v.id):
            if value.step is None or not value.is_floating or value in claimed or stop(value):
                continue
            site = value.step.site
            by_site.setdefault((site.code, site.instruction, value.step.op), []).append(value)
        return list(by_site.values())

    def _assign(self, series: Series, groups: list[list[Value]]) -> None:
        """Find the values of which ``series`` is the gradient: those that it fits, or those that its readers need."""
        best: tuple[int, int, list[Value]] | None = None
        fitting = [
            list(order)
            for group in groups
            if len(group) == len(series.turns) and group[0].shape == series.ends[0].shape
            for order in ([group[::-1], group] if len(group) > 1 else [group])
        ]
        for values in fitting:
            count = self._fitting(series, values)
            if count and (best is None or (count, values[0].id) > best[:2]):
                best = count, values[0].id, values
        if best is None and any(names_of_gradient(series.turns[0][0])):
            for values in fitting:
                count = self._cured(series, values)
                if count and (best is None or (count, values[0].id) > best[:2]):
                    best = count, values[0].id, values
        if best is not None:
            series.of = best[2]
            self._give(series, self.lines.given)

    @staticmethod
    def _give(series: Series, given: dict[Value, Value]) -> None:
        for turn, of in enumerate(series.of or ()):
            given.update(dict.fromkeys(series.values(turn), of))

    def _fitting(self, series: Series, values: list[Value]) -> int:
        """Return how many of the first turns fit, all of them counting most."""
        count = 0
        for turn in series.probes:
            if not self.lines.fits(series.ends[turn], values[turn], series.values(turn)):
                return count
            count += 1
        return count

    def _cured(self, series: Series, values: list[Value]) -> int:
        """Return how many wrong gradients would be right if ``series`` were the gradient of ``values``."""
        before = self.lines.given
        self.lines.given = dict(before)
        try:
            self._give(Series(series.name, series.turns, values), self.lines.given)
            readers = [(claim, of) for claim, of in self.wrong if claim.final is not None]
            return sum(
                self.lines.fits(claim.final, of, self.lines.own_values(claim, of))
                for claim, of in readers
                if claim.final is not None
            )
        finally:
            self.lines.given = before

    # -- verdicts

    def claims(self) -> list[Claim]:
        """Return every turn of every series as a claim of its own."""
        return [claim for series in self.series for claim, _, _ in self._turns_of(series)]

    def wrong_lines(self) -> Iterator[tuple[Series, Judged]]:
        """Yield the series that are wrong by themselves, each at the first turn where it is."""
        for series in self.series:
            for claim, of, turn in self._turns_of(series):
                if turn in series.probes:
                    judged = self.lines.judge(claim, of)
                    if judged is not None and not judged.is_right:
                        yield series, judged
                        break

    @staticmethod
    def _turns_of(series: Series) -> Iterator[tuple[Claim, Value, int]]:
        for turn, (bindings, of) in enumerate(zip(series.turns, series.of or (), strict=True)):
            claim = Claim(series.name, [of])
            last: Value | None = None
            for binding in bindings:
                claim.events.append(Event(binding.statement, [binding], last, binding.value))
                last = binding.value
            yield claim, of, turn


def apart(claim: Claim) -> Claim:
    """Return ``claim`` with every line of a loop as an event of its own, each time round."""
    made = Claim(claim.name, claim.candidates, [], claim.compared_with, claim.failure, claim.carried)
    for event in claim.events:
        last = event.before
        for binding in event.bindings:
            made.events.append(Event(binding.statement, [binding], last, binding.value))
            last = binding.value
    return made


def _loop(binding: Binding) -> ast.AST | None:
    """Return the innermost loop around the statement, in its function."""
    for node in enclosing(binding.statement.node):
        if isinstance(node, ast.FunctionDef | ast.Lambda | ast.AsyncFunctionDef):
            return None
        if isinstance(node, ast.For | ast.While):
            return node
    return None


def _turns(bindings: Iterable[Binding]) -> Iterator[list[Binding]]:
    """Divide the bindings of a name in a loop into those of each time round."""
    turn: list[Binding] = []
    for binding in bindings:
        if turn and binding.statement.line <= turn[-1].statement.line:
            yield turn
            turn = []
        turn.append(binding)
    if turn:
        yield turn


def _chains(bindings: Iterable[Binding]) -> Iterator[list[Binding]]:
    """Divide the bindings of a name outside loops where it stands for something new."""
    chain: list[Binding] = []
    for binding in bindings:
        assert binding.value is not None
        if chain and chain[-1].value is not None and not depends(binding.value, chain[-1].value):
            yield chain
            chain = []
        chain.append(binding)
    if chain:
        yield chain
