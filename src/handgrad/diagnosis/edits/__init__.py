"""Small changes of a line, each with the kind of mistake that it would cure. Cheapest and likeliest first."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from handgrad.diagnosis.edits.around import changes_around
from handgrad.diagnosis.edits.edit import Change, Edit, Names, Path, holds_tensor, short
from handgrad.diagnosis.edits.functions import call_changes
from handgrad.diagnosis.edits.operands import constant_changes, name_changes, slice_changes
from handgrad.diagnosis.edits.operators import operation_changes
from handgrad.diagnosis.edits.statements import statement_changes
from handgrad.diagnosis.rewriting import copied

__all__ = ["Edit", "Names", "edits"]


def edits(statement: ast.stmt, names: Names) -> list[Edit]:
    """Return every single edit of ``statement``, cheapest first."""
    found: list[Edit] = []
    for path, node in _expressions(statement):
        for cost, kind, what, new in _changes(node, names, path):
            found.append(Edit(cost, kind, what, _replaced(statement, path, new), getattr(node, "lineno", 0)))
    for path, inner in _statements(statement):
        for cost, kind, what, new in statement_changes(inner):
            found.append(Edit(cost, kind, what, _replaced(statement, path, new), inner.lineno))
    found.sort(key=lambda edit: edit.cost)
    return found


def _expressions(statement: ast.stmt) -> list[tuple[Path, ast.expr]]:
    found: list[tuple[Path, ast.expr]] = []

    def walk(node: ast.AST, path: Path) -> None:
        for name, value in ast.iter_fields(node):
            items: list[tuple[int | None, Any]] = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
            for i, item in items:
                if isinstance(item, ast.AST):
                    here = (*path, (name, i))
                    is_target = name in ("target", "targets") and not isinstance(item, ast.Subscript)
                    if isinstance(item, ast.expr) and not isinstance(getattr(item, "ctx", None), ast.Store):
                        found.append((here, item))
                    if not is_target:
                        walk(item, here)

    walk(statement, ())
    return found


def _statements(statement: ast.stmt) -> Iterator[tuple[Path, ast.stmt]]:
    def walk(node: ast.AST, path: Path) -> Iterator[tuple[Path, ast.stmt]]:
        if isinstance(node, ast.stmt):
            yield path, node
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                for i, item in enumerate(value):
                    if isinstance(item, ast.stmt):
                        yield from walk(item, (*path, (name, i)))

    yield from walk(statement, ())


def _replaced(statement: ast.stmt, path: Path, new: ast.AST) -> ast.stmt:
    if not path:
        return ast.fix_missing_locations(ast.copy_location(new, statement))  # type: ignore[return-value]
    changed = copied(statement)
    node = changed
    for name, i in path[:-1]:
        node = getattr(node, name) if i is None else getattr(node, name)[i]
    name, i = path[-1]
    if i is None:
        setattr(node, name, new)
    else:
        getattr(node, name)[i] = new
    return ast.fix_missing_locations(changed)  # type: ignore[no-any-return]


def _changes(node: ast.expr, names: Names, path: Path) -> Iterator[Change]:
    in_index = any(name == "slice" for name, _ in path)
    if isinstance(node, ast.Constant):
        yield from constant_changes(node, names, in_index)
    elif isinstance(node, ast.Name):
        yield from name_changes(node, names, in_index)
    elif isinstance(node, ast.BinOp):
        yield from operation_changes(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield 1.0, "sign", f"without the minus of `{ast.unparse(node)}`", node.operand
        if isinstance(node.operand, ast.BinOp) and isinstance(node.operand.op, ast.Add | ast.Sub):
            inner = node.operand
            yield (
                1.8,
                "precedence",
                "minus for the first term alone",
                ast.BinOp(ast.UnaryOp(ast.USub(), inner.left), inner.op, inner.right),
            )
    elif isinstance(node, ast.Call):
        yield from call_changes(node)
    elif isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
        yield 1.1, "transposed", f"`{ast.unparse(node.value)}` not transposed", node.value
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for op in (ast.Gt, ast.GtE, ast.Lt, ast.LtE, ast.Eq, ast.NotEq):
            if not isinstance(node.ops[0], op):
                yield (
                    1.5,
                    "operator",
                    f"another comparison in `{ast.unparse(node)}`",
                    ast.Compare(node.left, [op()], node.comparators),
                )
    elif isinstance(node, ast.Tuple) and in_index and len(node.elts) == 2:
        yield 1.3, "wrong-index", "indices the other way round", ast.Tuple(list(reversed(node.elts)), ast.Load())
    elif isinstance(node, ast.Slice):
        yield from slice_changes(node)
    if isinstance(node, ast.BinOp | ast.UnaryOp) and not in_index and holds_tensor(node, names) and 1 < len(path) <= 3:
        term = node.operand if isinstance(node, ast.UnaryOp) else node
        for sign in (ast.Sub(), ast.Add()):
            what = f"`1 {'-' if isinstance(sign, ast.Sub) else '+'} {short(term)}`"
            yield 1.9, "constant", what, ast.BinOp(ast.Constant(1.0), sign, term)
    plain = not isinstance(node, ast.Slice | ast.Tuple | ast.Constant | ast.List | ast.keyword | ast.Starred)
    if plain and not in_index and not _is_callee(path):
        if not isinstance(node, ast.UnaryOp):
            cost = 1.0 if len(path) == 1 else 1.4 + 0.1 * len(path)
            yield cost, "sign", f"minus before `{short(node)}`", ast.UnaryOp(ast.USub(), node)
        yield from changes_around(node, names, path)


def _is_callee(path: Path) -> bool:
    return bool(path) and path[-1][0] == "func"
