"""A wrong gradient as the diagnosis sees it: what was computed, what would have been right, and how to try a cure."""

from __future__ import annotations

import ast
import contextlib
import io
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from handgrad.claims import Claim, Event, same_names
from handgrad.diagnosis.rewriting import OWN, Lent, PlainNames, copied, placeholder, real, values_of
from handgrad.graph import Graph, Value
from handgrad.precision import FEW_DIGITS, close
from handgrad.source import Statement

Truth = tuple[frozenset[Value], list[Tensor]]
"""The uses of a value that a contribution accounts for, and what it is at each point."""


class Patience(Protocol):
    """How long the search for cures may still take, and where it has found nothing."""

    seconds: float
    hopeless: set[tuple[str, tuple[Statement, ...]]]


class LocalCheck(Protocol):
    """What the diagnosis asks the checker."""

    graph: Graph
    points: list[Any]
    given: dict[Value, Value]

    def candidates(self, of: Value, reads: frozenset[Value]) -> list[Truth]:
        """Return what a correct contribution may be."""

    def reads_of(self, value: Value, of: Value, own: set[Value]) -> frozenset[Value]:
        """Return which gradients a value was computed from."""

    def evaluate_many(self, values: Iterable[Value], of: Value, own: set[Value], point: int) -> dict[Value, Tensor]:
        """Return what values are at a point."""

    def evaluate(
        self, value: Value, of: Value, own: set[Value], before: dict[Value, list[Tensor]]
    ) -> list[Tensor] | None:
        """Return a value at each point, with what is in ``before`` given; None if it cannot be computed."""

    def own_values(self, claim: Claim, of: Value) -> set[Value]:
        """Return the values that are the own ones of a claim."""

    def match(self, block: Any, of: Value) -> None:
        """Find out which uses a block accounts for."""


@dataclass(eq=False)
class WrongBlock:
    """A contribution that is not right."""

    events: list[Event]
    deltas: list[Tensor] | None
    reads: frozenset[Value]


@dataclass(eq=False)
class Problem:
    """One wrong gradient."""

    graph: Graph
    check: LocalCheck
    claim: Claim
    of: Value
    judged: Any
    names: dict[Value, str]  # of forward values, as the user calls them
    gradient_names: dict[Value, str]  # of a forward value: how the user calls its gradient
    patience: Patience
    _environments: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    _lent: dict[tuple[int, int], Lent] = field(default_factory=dict)
    _reads: dict[int, dict[str, frozenset[Value]]] = field(default_factory=dict)
    _truths: dict[frozenset[Value], list[Truth]] = field(default_factory=dict)

    @classmethod
    def of_claim(
        cls,
        graph: Graph,
        check: LocalCheck,
        judged: Any,
        of: dict[Claim, Value],
        claims: Iterable[Claim],
        patience: Patience,
    ) -> Problem:
        """Return the problem of ``judged``."""
        names = {v: v.name for v in graph.values if v.name}
        gradients = {of[c]: c.name for c in claims if c in of}
        return cls(graph, check, judged.claim, judged.of, judged, names, gradients, patience)

    def about(self, claim: Claim, truths: dict[frozenset[Value], list[Truth]] | None = None) -> Problem:
        """Return the same problem, as the one of a claim that is made elsewhere; ``truths`` are what it may be."""
        known = self._truths if truths is None else truths
        return replace(self, claim=claim, _environments={}, _lent={}, _reads={}, _truths=known)

    # -- words

    def name(self, value: Value) -> str:
        """Return what the user calls a forward value."""
        if value in self.names or value.step is None:
            return self.names.get(value, "an unnamed value")
        return " ".join(value.step.text.split())

    def listing(self, values: Iterable[Value]) -> str:
        """Return the names of values, in the order of the forward."""
        ordered = [f"`{self.name(v)}`" for v in sorted(values, key=lambda v: v.id)]
        if len(ordered) < 2:
            return "".join(ordered)
        return ", ".join(ordered[:-1]) + " and " + ordered[-1]

    @property
    def statement(self) -> Statement:
        """Where the gradient is computed, for lack of a better place."""
        return self.claim.events[-1].last.statement

    @property
    def integers(self) -> dict[str, int]:
        """Whole numbers that the user has a name for, such as ``n``."""
        seen = self.claim.events[-1].last.visible
        return {
            name: number
            for name, number in seen.items()
            if type(number) is int and 1 < number < 10**7 and not name.startswith("_")
        }

    # -- truths

    def truths(self, reads: frozenset[Value]) -> list[Truth]:
        """Return what a correct contribution that reads ``reads`` can be, those that nothing else covers first."""
        if reads not in self._truths:
            covered: set[Value] = set().union(*(block.covers for block in self.judged.blocks))
            found = self.check.candidates(self.of, reads)
            self._truths[reads] = sorted(found, key=lambda t: (bool(t[0] & covered), -len(t[0])))
        return self._truths[reads]

    def is_truth(self, found: Sequence[Tensor | None], reads: frozenset[Value]) -> Truth | None:
        """Return the truth that ``found`` equals at every point it was computed at."""
        for covers, truths in self.truths(reads):
            pairs = list(zip(found, truths, strict=False))
            if all(a is not None and (close(a, b) or close(a, b, FEW_DIGITS)) for a, b in pairs):
                return covers, truths
        return None

    # -- trying a cure

    def environment(self, event: Event, point: int) -> dict[str, Any]:
        """Return the names that ``event`` could see, with what they are at the point."""
        key = id(event), point
        if key not in self._environments:
            own = self.check.own_values(self.claim, self.of)
            seen = event.bindings[0].visible
            values = {v for item in seen.values() for v in values_of(item)}
            values |= {b.value for b in self.paths(event).values() if b.value is not None}
            tensors = self.check.evaluate_many(values, self.of, own, point)
            self._environments[key] = {
                name: real(item, tensors) for name, item in seen.items() if not name.startswith("__handgrad")
            }
            for text, binding in self.paths(event).items():
                if binding.value in tensors:
                    self._environments[key][placeholder(text)] = tensors[binding.value]
        return self._environments[key]

    def _borrowed(self, event: Event, point: int) -> dict[str, Any]:
        """Return the environment with tensors that code may change: they are copied again once it has."""
        key = id(event), point
        lent = self._lent.get(key)
        if lent is None or lent.is_spoilt:
            lent = self._lent[key] = Lent(self.environment(event, point))
        return dict(lent.names)

    def paths(self, event: Event) -> dict[str, Any]:
        """Return what attribute paths and items stood for when ``event`` ran."""
        frame = event.bindings[0].frame
        found = {}
        for binding in self.graph.bindings:
            if binding.time > event.last.time:
                break
            if not binding.access.parts or str(binding.access) == self.claim.name:
                continue
            if same_names(self.graph, binding.frame, frame):
                found[str(binding.access)] = binding
        return found

    def reads_in(self, event: Event, node: ast.AST) -> frozenset[Value]:
        """Return the gradients that the code of ``node`` would read."""
        table = self._reads.get(id(event))
        if table is None:
            own = self.check.own_values(self.claim, self.of)
            table = {}
            for name, item in event.bindings[0].visible.items():
                values = list(values_of(item))
                if values and name != self.claim.name:
                    table[name] = frozenset().union(*(self.check.reads_of(v, self.of, own) for v in values))
            for text, binding in self.paths(event).items():
                if binding.value is not None:
                    table[placeholder(text)] = self.check.reads_of(binding.value, self.of, own)
            self._reads[id(event)] = table
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in table}
        return frozenset().union(*(table[name] for name in names)) if names else frozenset()

    def prepared(self, event: Event, node: ast.stmt | None = None) -> ast.stmt:
        """Return a copy of the statement, with the gradient itself and attribute paths as plain names.

        Of ``node`` instead, if it is given.
        """
        node = copied(event.statement.node if node is None else node)
        prepared: ast.stmt = ast.fix_missing_locations(PlainNames(self.claim.name, set(self.paths(event))).visit(node))
        return prepared

    def is_right_as_written(self, event: Event) -> bool:
        """Whether the statement computes a right contribution when all that it reads is as it should be."""
        if not event.last.visible:
            return False
        node = self.prepared(event)
        found = [self.run([event], [node], i) for i in range(len(self.check.points))]
        return all(f is not None for f in found) and self.is_truth(found, self.reads_in(event, node)) is not None

    def run(self, events: list[Event], nodes: list[ast.stmt], point: int) -> Tensor | None:
        """Run the statements in place of those of ``events``; return what they contribute."""
        environment = self._borrowed(events[0], point)
        before = events[0].before
        starts_anew = not any(
            isinstance(n, ast.Name) and n.id == OWN and isinstance(n.ctx, ast.Load) for n in ast.walk(nodes[0])
        )
        environment.pop(OWN, None)
        if before is not None and not (starts_anew and isinstance(nodes[0], ast.Assign)):
            environment[OWN] = torch.zeros(self.of.shape, dtype=torch.float64)
        standard = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            quiet = contextlib.redirect_stdout(io.StringIO())
            with torch.no_grad(), quiet, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                code = compile(ast.Module(nodes, []), "<cure>", "exec")
                exec(code, environment)  # noqa: S102  (the user's own line, changed in one place)
        except Exception:
            return None
        finally:
            torch.set_default_dtype(standard)
        result = environment.get(OWN)
        return result.double() if isinstance(result, Tensor) else None


def restored(problem: Problem, event: Event, node: ast.AST) -> str:
    """Return the text of a cure, with the names that the user gave."""
    text = ast.unparse(node).replace(OWN, problem.claim.name)
    for path in sorted(problem.paths(event), key=len, reverse=True):
        text = text.replace(placeholder(path), path)
    return text
