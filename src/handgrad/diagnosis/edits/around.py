"""What may stand around an expression: a sum, a factor, a transpose."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from handgrad.diagnosis.edits.edit import Change, Names, Path, code, holds_tensor, method


def changes_around(node: ast.expr, names: Names, path: Path) -> Iterator[Change]:
    """Yield changes around an expression: a sum, a factor, a transpose."""
    reduced = len(path) == 3 and [name for name, _ in path[-2:]] == ["func", "value"]
    top = len(path) == 1 or reduced or (len(path) <= 3 and path[-1][0] in ("left", "right", "operand"))
    if not top or not holds_tensor(node, names):
        return
    extra = 0.25 * (len(path) - 1)
    for dim in ("0", "1", "-1", "2", "(0, 1)"):
        for keep in (", keepdim=True", ""):
            yield 1.15 + extra, "missing-sum", f"`.sum({dim}{keep})`", method(node, "sum", f"{dim}{keep}")
    yield 1.3 + extra, "missing-sum", "`.sum()`", method(node, "sum", "")
    if len(path) == 1:
        yield 1.2, "transposed", "transposed", ast.Attribute(node, "T", ast.Load())
    for name in names.integers:
        for text, op in ((name, ast.Div), (name, ast.Mult), (f"({name} - 1)", ast.Div), (f"({name} - 1)", ast.Mult)):
            sign = "/" if op is ast.Div else "*"
            yield 1.7 + extra, "scale", f"`{sign} {text}`", ast.BinOp(node, op(), code(text))
        for text in (f"{name} / ({name} - 1)", f"({name} - 1) / {name}"):
            yield 1.9 + extra, "scale", f"`{text}`", ast.BinOp(code(text), ast.Mult(), node)
    for factor in ("2", "0.5", "3"):
        yield 1.7 + extra, "scale", f"`{factor} *`", ast.BinOp(code(factor), ast.Mult(), node)
    if len(path) == 1 or reduced:
        for name in names.shapes:
            if name not in names.gradients:
                for text in (f"(1 - {name}**2)", f"-{name}**-2", f"{name} * (1 - {name})", f"({name} > 0)"):
                    yield 2.3, "missing-factor", f"`* {text}`", ast.BinOp(node, ast.Mult(), code(f"({text})"))
    if len(path) <= 2 or reduced:
        for name in names.shapes:
            kind = "missing-factor"
            yield 1.6 + extra, kind, f"`* {name}`", ast.BinOp(node, ast.Mult(), code(name))
            if name not in names.gradients:
                yield 1.9 + extra, kind, f"`/ {name}`", ast.BinOp(node, ast.Div(), code(name))
                yield 2.0 + extra, kind, f"`* {name}**2`", ast.BinOp(node, ast.Mult(), code(f"{name}**2"))
                yield 2.1 + extra, kind, f"`* {name}.exp()`", ast.BinOp(node, ast.Mult(), code(f"{name}.exp()"))
