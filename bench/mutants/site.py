"""An expression, where it stands, and what it is in a correct run."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mutants.mutant import Line, loaded


@dataclass(frozen=True)
class Site:
    """An expression, where it stands, and what is in scope."""

    node: ast.expr
    line: Line
    parent: ast.AST | None
    role: str  # "value", "index" (in a subscript), "argument" (of a call: a dim, say) or "power"

    def value(self, node: ast.expr | None = None) -> Any:
        """Return what the expression is in a correct run."""
        return evaluated(node or self.node, self.line.state)

    def is_scalar(self, node: ast.expr) -> bool:
        """Whether ``node`` is one number."""
        value = self.value(node)
        return isinstance(value, int | float) or (isinstance(value, Tensor) and value.dim() == 0)


def evaluated(node: ast.expr, state: dict[str, Any]) -> Any:
    """Return what an expression is in a correct run, None if it cannot be computed alone."""
    copies = {k: state[k].clone() if isinstance(state[k], Tensor) else state[k] for k in loaded(node) if k in state}
    try:
        return eval(ast.unparse(node), {"range": range}, copies)  # noqa: S307
    except Exception:
        return None


def text_of(node: ast.AST) -> str:
    """Return the text of ``node``, in parentheses where it may need them."""
    text = ast.unparse(node)
    atomic = isinstance(node, ast.Name | ast.Call | ast.Attribute | ast.Subscript)
    is_number = isinstance(node, ast.Constant)
    return text if atomic or is_number else f"({text})"


def is_operation(node: ast.AST | None, *operators: type[ast.operator]) -> bool:
    """Whether it is one of these operations."""
    return isinstance(node, ast.BinOp) and isinstance(node.op, operators)


def transposed(node: ast.expr) -> ast.expr | None:
    """Return what ``node`` is the transpose of."""
    if isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
        return node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "transpose":
        return node.func.value
    return None
