"""Claims about one loss that belong together: where one pass ends and the next begins."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from handgrad.claims.claim import Claim, ClaimedPass, Event, Made
from handgrad.graph import Binding, Failure, Graph, Scope, Step, Value
from handgrad.source import Statement, enclosing

Item = tuple[Binding, list[Value]]


class Division:
    """Divides what was made into passes."""

    def __init__(
        self, graph: Graph, pairs: dict[Value, list[tuple[Value, Step]]], failure_of: dict[Binding, Failure]
    ) -> None:
        self.steps, self.pairs, self.failure_of = graph.steps, pairs, failure_of

    def passes(self, made: list[Made]) -> list[ClaimedPass]:
        """Return the passes, each with its claims."""
        passes: list[ClaimedPass] = []
        open_claims: dict[tuple[Scope, str], list[Item]] = {}
        groups: list[tuple[Value, dict[tuple[Scope, str], list[Item]]]] = []
        loss_now: Value | None = None
        read: set[Value] = set()
        read_until = 0
        values: set[Value] = set()
        for binding, candidates, loss in made:
            key = (binding.scope, binding.name)
            so_far = open_claims.get(key, [])
            if so_far and _hands_on(binding, candidates, so_far[0][1], open_claims):
                continue
            again = False
            if so_far and binding.value is not None and loss is loss_now:
                past = {b.value for b, _ in so_far if b.value is not None}
                fresh = not (past & self._near_ancestors(binding.value, past))
                repeated = any(b.statement is binding.statement for b, _ in so_far)
                if fresh and not repeated:
                    other_cell = so_far[-1][0].statement.source is not binding.statement.source
                    for step in self.steps[read_until:]:
                        if step.time > binding.time:
                            break
                        read_until = step.index + 1
                        if not any(out in past for out in step.made):
                            read.update(step.inputs)
                    again = other_cell or (bool(past & read) and self._consumed(past, binding, values))
            if loss is not loss_now or again:
                open_claims, loss_now = {}, loss
                groups.append((loss, open_claims))
                values = set()
            if binding.value is not None:
                values.add(binding.value)
            open_claims.setdefault(key, []).append((binding, candidates))
        last_values: dict[tuple[Scope, str], Value | None] = {}
        for loss, claims in groups:
            claimed = ClaimedPass(loss)
            statements = levels(b for items in claims.values() for b, _ in items)
            for items in claims.values():
                claimed.claims.append(self._claim(items, statements, last_values.get(self._key(items))))
            for items in claims.values():
                last_values[self._key(items)] = items[-1][0].value
            passes.append(claimed)
        return without_copies(passes)

    def _consumed(self, past: set[Value], binding: Binding, values: set[Value]) -> bool:
        """Whether another gradient of the pass was computed from ``past`` before ``binding``."""
        others = [v for v in values if v not in past and v is not binding.value]
        return any(past & self._near_ancestors(value, past) for value in others if value.step is not None)

    def _near_ancestors(self, value: Value, stop: set[Value]) -> set[Value]:
        """Return what ``value`` was computed from, not looking behind ``stop``."""
        seen: set[Value] = set()
        stack = [value]
        oldest = min((v.time for v in stop), default=0)
        while stack:
            current = stack.pop()
            if current in seen or current.time < oldest:
                continue
            seen.add(current)
            if current not in stop and current.step is not None:
                stack.extend(current.step.inputs)
        return seen

    @staticmethod
    def _key(items: list[Item]) -> tuple[Scope, str]:
        return items[0][0].scope, items[0][0].name

    def _claim(self, items: list[Item], level: dict[Binding, Statement], past: Value | None) -> Claim:
        first = items[0][0]
        claim = Claim(str(first.access), items[-1][1])
        last: Value | None = None
        value = items[0][0].value
        if past is not None and value is not None and past in self._near_ancestors(value, {past}):
            claim.carried = last = past
        for binding, _ in items:
            statement = level[binding]
            if claim.events and claim.events[-1].statement is statement:
                claim.events[-1].bindings.append(binding)
                claim.events[-1].after = binding.value
            else:
                claim.events.append(Event(statement, [binding], last, binding.value))
            claim.failure = self.failure_of.get(binding)
            last = binding.value
        for value in claim.values:
            claim.compared_with += self.pairs.get(value, [])
        return claim


def _hands_on(
    binding: Binding, candidates: list[Value], first: list[Value], claims: dict[tuple[Scope, str], list[Item]]
) -> bool:
    """Whether a name is only handed on, as `dh = dhprev` at the end of a turn: it stands for another value's now.

    ``hprev`` and ``h`` were one value then, and ``dh`` was the gradient of the ``h`` after it before.
    """
    step = binding.value.step if binding.value is not None else None
    if step is None or step.op != "alias" or not first:
        return False
    source = next(step.inputs)
    for items in claims.values():
        for other, of in items:
            if other.value is source and other.name != binding.name:
                return first[0] not in of and bool(set(of) & set(candidates))
    return False


def levels(bindings: Iterable[Binding]) -> dict[Binding, Statement]:
    """Return for each binding the statement that counts as one event: its own, or the loop that repeats it."""
    items = list(bindings)
    times: dict[tuple[int, Statement], set[int]] = {}
    per_key: dict[tuple[int, Statement, str], int] = {}
    for binding in items:
        key = (binding.frame, binding.statement, str(binding.access))
        per_key[key] = per_key.get(key, 0) + 1
        times.setdefault((binding.frame, binding.statement), set()).add(binding.time)
    repeated = {(frame, statement) for (frame, statement, _), count in per_key.items() if count > 1}
    loops = set()
    for frame, statement in repeated:
        for node in enclosing(statement.node):
            if isinstance(node, ast.For | ast.While):
                loops.add((frame, node))
                break
    level = {}
    for binding in items:
        chosen = binding.statement
        for node in enclosing(binding.statement.node):
            if isinstance(node, ast.FunctionDef | ast.Lambda | ast.AsyncFunctionDef):
                break
            if (binding.frame, node) in loops and isinstance(node, ast.stmt):
                chosen = binding.statement.source.statement_at[node]
        level[binding] = chosen
    return level


def without_copies(passes: list[ClaimedPass]) -> list[ClaimedPass]:
    """Drop claims that only hand on what another claim computed: ``self.dW1 = dW1``, ``a, b = f()``."""
    for claimed in passes:
        kept: list[Claim] = []
        for claim in sorted(claimed.claims, key=lambda c: c.events[0].bindings[0].time):
            twin = next((k for k in kept if k.final is not None and k.final is claim.final and k.of is claim.of), None)
            if twin is not None and len(claim.events) == 1:
                twin.compared_with += [pair for pair in claim.compared_with if pair not in twin.compared_with]
            else:
                kept.append(claim)
        claimed.claims = kept
    return [claimed for claimed in passes if claimed.claims]
