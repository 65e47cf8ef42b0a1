"""Other statements: `+=` for `=`, an accumulating write for one that overwrites."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from handgrad.diagnosis.edits.edit import Change
from handgrad.diagnosis.rewriting import copied


def statement_changes(node: ast.stmt) -> Iterator[Change]:
    """Yield other ways to set the gradient."""
    if isinstance(node, ast.AugAssign):
        if isinstance(node.op, ast.Add | ast.Sub):
            other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            yield (
                1.0,
                "sign",
                "`-=` for `+=`" if isinstance(node.op, ast.Add) else "`+=` for `-=`",
                ast.AugAssign(node.target, other, node.value),
            )
        for operator in (ast.Mult, ast.Div, ast.Add):
            if not isinstance(node.op, operator):
                changed = ast.AugAssign(node.target, operator(), node.value)
                yield 1.4, "operator", "another operator before `=`", changed
        target = _loaded(node.target)
        if isinstance(node.target, ast.Subscript):
            index = node.target.slice
            indices = index if isinstance(index, ast.Tuple) else ast.Tuple([index], ast.Load())
            for values in (node.value, ast.UnaryOp(ast.USub(), node.value)):
                call = ast.Call(
                    ast.Attribute(_loaded(node.target.value), "index_put_", ast.Load()),
                    [ast.Call(ast.Name("tuple", ast.Load()), [ast.List(list(indices.elts), ast.Load())], []), values],
                    [ast.keyword("accumulate", ast.Constant(True))],
                )
                yield 0.9, "lost-accumulation", "`index_put_(..., accumulate=True)`", ast.Expr(call)
        yield 1.6, "overwritten", "`=`", ast.Assign([node.target], node.value) if target else node
    elif isinstance(node, ast.Assign) and len(node.targets) == 1:
        for op, kind in ((ast.Add, "overwritten"), (ast.Sub, "overwritten")):
            yield (
                1.1,
                kind,
                "`+=` for `=`" if op is ast.Add else "`-=` for `=`",
                ast.AugAssign(node.targets[0], op(), node.value),  # type: ignore[arg-type]
            )
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        call = node.value
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("index_put_", "scatter_", "index_copy_"):
            if call.func.attr == "index_put_":
                new = copied(call)
                new.keywords = [ast.keyword("accumulate", ast.Constant(True))]
                yield 0.9, "lost-accumulation", "`accumulate=True`", ast.Expr(new)
            else:
                new = copied(call)
                new.func.attr = {"scatter_": "scatter_add_", "index_copy_": "index_add_"}[call.func.attr]
                yield 0.9, "lost-accumulation", f"`{new.func.attr}`", ast.Expr(new)


def _loaded(node: ast.expr) -> Any:
    new = copied(node)
    for inner in ast.walk(new):
        if isinstance(inner, ast.Name | ast.Attribute | ast.Subscript) and inner is new:
            inner.ctx = ast.Load()
    return new
