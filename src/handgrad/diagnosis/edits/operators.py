"""Other operators, other orders, other parentheses."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from handgrad.diagnosis.edits.edit import Change, code, short
from handgrad.diagnosis.rewriting import copied

REDUCTIONS = ("sum", "mean")


def operation_changes(node: ast.BinOp) -> Iterator[Change]:
    """Yield other operators, the operands swapped or alone, and other parentheses."""
    left, op, right = node.left, node.op, node.right
    swaps: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
        ast.Mult: (ast.Div, ast.Add, ast.Sub, ast.MatMult, ast.Pow),
        ast.Div: (ast.Mult, ast.Sub, ast.Add),
        ast.Add: (ast.Sub, ast.Mult, ast.Div),
        ast.Sub: (ast.Add, ast.Mult, ast.Div),
        ast.MatMult: (ast.Mult,),
        ast.Pow: (ast.Mult,),
    }
    for i, new in enumerate(swaps.get(type(op), ())):
        signs = isinstance(op, ast.Add | ast.Sub) and new in (ast.Add, ast.Sub)
        yield (
            1.1 + 0.3 * i,
            "sign" if signs else "operator",
            f"another operator in `{short(node)}`",
            ast.BinOp(left, new(), right),
        )
    if isinstance(op, ast.MatMult):
        yield 1.2, "transposed", "factors of @ the other way round", ast.BinOp(right, op, left)
        yield 1.4, "transposed", "both factors transposed", ast.BinOp(_t(left), op, _t(right))
        yield 1.5, "transposed", "swapped and transposed", ast.BinOp(_t(right), op, _t(left))
        yield 1.6, "transposed", "swapped and one transposed", ast.BinOp(_t(right), op, left)
        yield 1.6, "transposed", "swapped and one transposed", ast.BinOp(right, op, _t(left))
    for operand in (right, left):
        if (
            isinstance(operand, ast.Call)
            and isinstance(operand.func, ast.Attribute)
            and operand.func.attr in REDUCTIONS
        ):
            inner = operand.func.value
            moved = copied(operand)
            moved.func.value = ast.BinOp(left, op, inner) if operand is right else ast.BinOp(inner, op, right)
            yield 1.2, "precedence", f"`.{operand.func.attr}(...)` of the whole", moved
    if isinstance(op, ast.Sub | ast.Div):
        yield (
            1.2,
            "sign" if isinstance(op, ast.Sub) else "operator",
            f"`{short(node)}` the other way round",
            ast.BinOp(right, op, left),
        )
    if isinstance(op, ast.Mult | ast.Div):
        yield 1.5, "extra-factor", f"without `{short(right)}`", left
        if isinstance(op, ast.Mult):
            yield 1.5, "extra-factor", f"without `{short(left)}`", right
        else:
            yield 1.7, "extra-factor", f"without `{short(left)}`", ast.BinOp(code("1.0"), ast.Div(), right)
    if isinstance(op, ast.Pow):
        yield 1.5, "extra-factor", f"without the power of `{short(left)}`", left
        if isinstance(left, ast.BinOp):
            inner = left
            yield (
                1.6,
                "precedence",
                "the power of the second operand alone",
                ast.BinOp(inner.left, inner.op, ast.BinOp(inner.right, op, right)),
            )
    if isinstance(op, ast.Add | ast.Sub):
        yield 1.7, "extra-factor", f"without `{short(right)}`", left
        yield (
            1.7,
            "extra-factor",
            f"without `{short(left)}`",
            right if isinstance(op, ast.Add) else ast.UnaryOp(ast.USub(), right),
        )
    yield from _regroup(node)


def _t(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Attribute) and node.attr == "T":
        return node.value
    return ast.Attribute(node, "T", ast.Load())


def _regroup(node: ast.BinOp) -> Iterator[Change]:
    """Yield the same operands with other parentheses."""
    left, op, right = node.left, node.op, node.right
    if isinstance(left, ast.BinOp):
        yield (
            1.5,
            "precedence",
            f"other parentheses in `{short(node)}`",
            ast.BinOp(left.left, left.op, ast.BinOp(left.right, op, right)),
        )
        inner = left.right
        if isinstance(inner, ast.BinOp):  # a - b * c - d
            deep = ast.BinOp(inner.left, inner.op, ast.BinOp(inner.right, op, right))
            yield (
                1.6,
                "precedence",
                f"other parentheses in `{short(node)}`",
                ast.BinOp(left.left, left.op, deep),
            )
    if isinstance(right, ast.BinOp):
        yield (
            1.5,
            "precedence",
            f"other parentheses in `{short(node)}`",
            ast.BinOp(ast.BinOp(left, op, right.left), right.op, right.right),
        )
    if isinstance(left, ast.UnaryOp) and isinstance(left.op, ast.USub):
        yield 1.9, "precedence", "the minus for the whole", ast.UnaryOp(ast.USub(), ast.BinOp(left.operand, op, right))
