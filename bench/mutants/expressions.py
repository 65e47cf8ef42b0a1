"""Every edit of an expression of a line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from mutants.arithmetic import factors, numbers, regroupings, sums, terms
from mutants.mutant import Line
from mutants.site import Site, evaluated
from mutants.tensors import comparisons, dims, indices, names, products


def expression_edits(line: Line) -> Iterator[tuple[str, str]]:
    """Yield each edit of an expression of the line: its category, and the line with it."""
    statement = line.node
    for site in _sites(line):
        for category, text in _edits(site):
            new = ast.parse(text, mode="eval").body
            yield category, ast.unparse(ast.fix_missing_locations(swapped(statement, site.node, new)))


def swapped(tree: Any, old: ast.AST, new: ast.AST) -> Any:
    """Return a copy of ``tree`` with ``new`` in place of ``old``."""
    if tree is old:
        return new
    if isinstance(tree, list):
        return [swapped(item, old, new) for item in tree]
    if not isinstance(tree, ast.AST):
        return tree
    return type(tree)(**{name: swapped(value, old, new) for name, value in ast.iter_fields(tree)})


def _sites(line: Line) -> Iterator[Site]:
    def walk(node: ast.AST, parent: ast.AST | None, role: str) -> Iterator[Site]:
        if isinstance(node, ast.expr):
            yield Site(node, line, parent, role)
        if isinstance(node, ast.Subscript):
            yield from walk(node.value, node, role)
            yield from walk(node.slice, node, "index")
        elif isinstance(node, ast.Call):
            yield from walk(node.func, node, role)
            for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                value = evaluated(argument, line.state)
                is_float = isinstance(value, Tensor) and value.is_floating_point()
                yield from walk(argument, node, "value" if is_float else "argument")
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            yield from walk(node.left, node, role)
            yield from walk(node.right, node, "power")
        else:
            for child in ast.iter_child_nodes(node):
                yield from walk(child, node, role)

    node = line.node
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    if isinstance(target, ast.Subscript):
        yield from walk(target.slice, target, "index")
    yield from walk(node.value, None, "value")


def _edits(site: Site) -> Iterator[tuple[str, str]]:
    for family in (
        sums, numbers, terms, factors, names, products, comparisons, indices, dims, regroupings,
    ):  # fmt: skip
        yield from family(site)
