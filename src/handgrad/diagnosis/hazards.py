"""Mistakes between lines: memory that two names share, gradients read before they are complete, wrong references."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from handgrad.claims import Claim
from handgrad.diagnosis import Mistake
from handgrad.graph import Graph, Step, Value
from handgrad.source import Statement, enclosing

Located = tuple[Mistake, Statement]


def alias_hazards(
    graph: Graph, claims: Iterable[Claim], of: dict[Claim, Value]
) -> tuple[dict[Claim, Located], dict[Claim, str]]:
    """Return the claims that give a tensor a second name and change it, and those whose tensor that is.

    ``dhprebn = dbndiff`` gives the same tensor a second name; ``dhprebn += ...`` then changes ``dbndiff`` too. It
    counts where the first name is read afterwards.
    """
    found: dict[Claim, Located] = {}
    spoilt: dict[Claim, str] = {}
    everyone = list(claims)
    for claim in everyone:
        first = claim.events[0].bindings[0]
        step = first.value.step if first.value is not None else None
        if step is None or step.op != "alias":
            continue
        shared = next(step.inputs)
        owner = next((c for c in everyone if c is not claim and shared in c.values and _earlier(c, claim)), None)
        if owner is None or of.get(owner) is of.get(claim):
            continue
        for binding in list(claim.bindings)[1:]:
            step = binding.value.step if binding.value is not None else None
            if step is None or not any(before is first.value for before, _ in step.writes):
                continue
            statement = binding.statement
            is_compared = any(value is of.get(owner) for value, _ in claim.compared_with)
            if is_compared or _read_later(graph, owner.name, step, statement):
                message = (
                    f"it gives the tensor of `{owner.name}` a second name, so line {statement.line} changes "
                    f"`{owner.name}` too; take a copy: `{claim.name} = {owner.name}.clone()`"
                )
                fix = f"{claim.name} = {owner.name}.clone()"
                found[claim] = Mistake("alias", message, fix), first.statement
                spoilt[owner] = f"line {statement.line}"
            break
    for step in graph.steps:  # the second name may stand for a part: `da, db = dab[:, :3], dab[:, 3:]`
        if step.op != "overlay":
            continue
        changed, written = list(step.inputs)
        owner = next((c for c in everyone if changed in c.values), None)
        writer = next((c for c in everyone if written in c.values and c is not owner), None)
        if owner is not None and writer is not None and step.statement is not None:
            message = (
                f"it shares the memory of `{owner.name}`, so line {step.statement.line} changes `{owner.name}` too; "
                "take a copy with `.clone()`"
            )
            found.setdefault(writer, (Mistake("alias", message), writer.events[0].bindings[0].statement))
            spoilt.setdefault(owner, f"line {step.statement.line}")
    return found, spoilt


def _earlier(one: Claim, other: Claim) -> bool:
    return one.events[0].bindings[0].time < other.events[0].bindings[0].time


def _read_later(graph: Graph, name: str, step: Step, statement: Statement) -> bool:
    """Whether ``name`` is mentioned by something that runs after ``step``."""
    for later in graph.steps[step.index + 1 :]:
        its = later.statement
        if later.op == "alias":
            continue
        if its is not None and its is not statement and name in its.names:
            return True
    block = next((n for n in enclosing(statement.node) if isinstance(n, ast.FunctionDef)), statement.source.tree)
    reads = (n for n in ast.walk(block) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load) and n.id == name)
    return any(node.lineno > statement.line for node in reads)


def early_reads(claims: Iterable[Claim], given: dict[Value, Value]) -> dict[Claim, list[Located]]:
    """Return the claims that read a gradient to which something is added later."""
    found: dict[Claim, list[Located]] = {}
    everyone = list(claims)
    unfinished: dict[Value, tuple[Claim, Statement]] = {}
    for claim in everyone:
        last = claim.events[-1]
        if isinstance(last.statement.node, ast.For | ast.While):
            continue  # a loop that hands a gradient on from one step to the next
        for event in claim.events[:-1]:
            if event.after is not None and _builds_on(last.after, event.after):
                unfinished[event.after] = claim, last.last.statement
    for claim in everyone:
        for event in claim.events:
            for binding in event.bindings:
                for value in _direct_reads(binding.value, given):
                    other = unfinished.get(value)
                    if other is None or other[0] is claim:
                        continue
                    name, adds = other[0].name, other[1]
                    here = binding.statement
                    cell = "" if adds.source is here.source else f"cell {adds.source.cell}, "
                    message = f"it reads `{name}` before {cell}line {adds.line} adds to it: move it below that line"
                    item = (Mistake("read-too-early", message), here)
                    if item not in found.setdefault(claim, []):
                        found[claim].append(item)
    return found


def _builds_on(value: Value | None, on: Value) -> bool:
    stack, seen = [value], set()
    while stack:
        current = stack.pop()
        if current is on:
            return True
        if current is None or current in seen or current.time < on.time or current.step is None:
            continue
        seen.add(current)
        stack.extend(current.step.inputs)
    return False


def _direct_reads(value: Value | None, given: dict[Value, Value]) -> set[Value]:
    """Return the values of other gradients that ``value`` was computed from directly."""
    found: set[Value] = set()
    if value is None:
        return found
    own = given.get(value)
    stack, seen = [value], set()
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        if current in given and given[current] is not own:
            found.add(current)
        elif current.step is not None and (current is value or current not in given):
            stack.extend(current.step.inputs)
    return found


def wrong_references(claim: Claim, of: Value, graph: Graph) -> list[Located]:
    """Return the comparisons of ``claim`` with the gradient of something else."""
    others = [(value, step) for value, step in claim.compared_with if value is not of]
    if not others or any(value is of for value, _ in claim.compared_with):
        return []
    if others[0][0].base_name == of.base_name:
        return []
    value, step = others[0]
    statement = graph.outermost(step)
    message = f"`{claim.name}` is right for `{of.name}`, and is compared here with the gradient of `{value.name}`"
    return [(Mistake("wrong-reference", message), statement)] if statement else []
