"""A marimo file as the statements of its cells, in the order in which they depend on each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

_CELL_DECORATORS = frozenset({"cell", "function", "class_definition"})


class MarimoCell(NamedTuple):
    """The statements of a cell, with their places in the file, and the names it takes and gives."""

    body: list[ast.stmt]
    line: int
    takes: frozenset[str]
    gives: frozenset[str]


def is_marimo(tree: ast.Module) -> bool:
    """Tell whether the file is a marimo notebook: `app = marimo.App()` and functions under `@app.cell`."""
    made = any(
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) in ("marimo.App", "mo.App", "App")
        for node in tree.body
    )
    return made and any(_decorator(node) for node in tree.body)


def cells_of(tree: ast.Module) -> tuple[list[MarimoCell], list[int]]:
    """Return the cells in an order in which they can run, and the lines of those that are switched off."""
    cells: list[MarimoCell] = []
    disabled: list[int] = []
    for node in tree.body:
        if isinstance(node, ast.With) and ast.unparse(node.items[0].context_expr).startswith("app.setup"):
            cells.append(MarimoCell(node.body, node.lineno, frozenset(), _bound(node.body)))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and (kind := _decorator(node)):
            if _is_disabled(node):
                disabled.append(node.lineno)
            elif kind != "cell" or isinstance(node, ast.ClassDef):
                node.decorator_list.clear()
                cells.append(MarimoCell([node], node.lineno, _read([node]), frozenset({node.name})))
            else:
                body = [statement for statement in node.body if not isinstance(statement, ast.Return)]
                takes = frozenset(argument.arg for argument in node.args.args)
                cells.append(MarimoCell(body, node.lineno, takes, _bound(body)))
    return list(_ordered(cells)), disabled


def _ordered(cells: list[MarimoCell]) -> Iterator[MarimoCell]:
    """Yield each cell after those it takes names from, else in the order of the file."""
    waiting = list(cells)
    while waiting:
        missing = [frozenset().union(*(c.gives for c in waiting if c is not cell)) for cell in waiting]
        ready = next((i for i, cell in enumerate(waiting) if not cell.takes & missing[i]), 0)
        yield waiting.pop(ready)


def _decorator(node: ast.stmt) -> str | None:
    for decorator in getattr(node, "decorator_list", ()):
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(target, ast.Attribute) and target.attr in _CELL_DECORATORS and ast.unparse(target.value) == "app":
            return target.attr
    return None


def _is_disabled(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    return any(
        keyword.arg == "disabled" and isinstance(keyword.value, ast.Constant) and bool(keyword.value.value)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call)
        for keyword in decorator.keywords
    )


def _bound(body: list[ast.stmt]) -> frozenset[str]:
    """Return the names that ``body`` gives to others: marimo keeps those with an underscore to the cell."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
        if not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            waiting += ast.iter_child_nodes(node)
    return frozenset(name for name in found if not name.startswith("_"))


def _read(body: list[ast.stmt]) -> frozenset[str]:
    names = (node for statement in body for node in ast.walk(statement) if isinstance(node, ast.Name))
    return frozenset(node.id for node in names if isinstance(node.ctx, ast.Load))
