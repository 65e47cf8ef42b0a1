"""Every single-edit mutant of a backward pass, each with where the mistake is and which explanations of it are right.

    for mutant in mutants(source, states, gradients):
        wrong = applied(source, mutant.edits)

Nothing here is shared with the search for explanations in `handgrad.diagnosis`: what makes the mistakes must not know
what finds them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mutants.expressions import expression_edits
from mutants.mutant import KINDS, Line, Mutant, Replacement, applied, loaded, stored
from mutants.statements import mutant_of, statement_edits

__all__ = ["KINDS", "Mutant", "applied", "loaded", "mutants", "stored"]


def mutants(source: str, states: dict[int, dict[str, Any]], gradients: frozenset[str]) -> list[Mutant]:
    """Return every mutant of the function in ``source``, in order of lines, without repetitions.

    ``states`` holds the names in scope before each line that runs, as a correct run has them (tensors for their
    shapes); lines that do not run are not mutated. ``gradients`` are the names that are judged.
    """
    lines = gradient_lines(source, states, gradients)
    found: dict[tuple[Replacement, ...], Mutant] = {}
    for line in lines:
        for mutant in _of_line(line, lines):
            if mutant.after == mutant.before:
                continue
            known = found.get(mutant.edits)
            if known is None:
                found[mutant.edits] = mutant
            else:  # one text, reached in two ways: either name for it is right
                found[mutant.edits] = replace(known, kinds=known.kinds | mutant.kinds)
    return list(found.values())


def gradient_lines(source: str, states: dict[int, dict[str, Any]], gradients: frozenset[str]) -> list[Line]:
    """Return the statements that ran and set one of ``gradients``."""
    found = []

    def visit(block: list[ast.stmt]) -> None:
        for node in block:
            if isinstance(node, ast.Assign | ast.AugAssign):
                targets = gradients & stored(node)
                if targets and node.lineno in states:
                    found.append(Line(node, states[node.lineno], targets, tuple(block), gradients))
            for inner in ("body", "orelse"):
                visit(getattr(node, inner, []))

    (function,) = ast.parse(source).body
    visit(function.body)
    return found


def _of_line(line: Line, lines: list[Line]) -> Iterator[Mutant]:
    node = line.node
    before = ast.unparse(node)
    for category, text in expression_edits(line):
        yield mutant_of(line, category, before, text)
    yield from statement_edits(line, lines, before)
