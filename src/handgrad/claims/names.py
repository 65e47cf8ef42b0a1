"""Which names are those of gradients, and what a statement gives a name to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from handgrad.graph import Binding, Graph
from handgrad.source import Access, Statement, access_of

CONVENTIONS = [
    re.compile(pattern)
    for pattern in (
        r"d[lL](?:oss)?_?d_?(?P<of>.+)",
        r"d(?:elta)?_(?P<of>.+)",
        r"grad(?:ient)?_?(?:of_|wrt_)?(?P<of>.+)",
        r"g_(?P<of>.+)",
        r"(?P<of>.+?)_?(?:grad|gradient)",
        r"(?P<of>.+)_(?:bar|g|d|delta)",
        r"d(?P<of>.+)",
    )
]


CONTAINER = re.compile(
    r"_?(d|dp|grads?|gradients?|dparams|dparameters|param_grads|g|dcache|ders?|derivatives)\Z", re.IGNORECASE
)


def names_of_gradient(binding: Binding) -> Iterator[str]:
    """Yield the names of which ``binding`` may be the gradient, by its own name; most likely first."""
    name = binding.name
    if in_container(binding):
        yield name
    seen = []
    for convention in CONVENTIONS:
        match = convention.fullmatch(name)
        if match and match["of"] not in seen:
            seen.append(match["of"])
            yield match["of"]


def in_container(binding: Binding) -> bool:
    """Whether it is an item of ``grads`` or the like."""
    parts = binding.access.parts
    owner = str(parts[-2][1]) if len(parts) > 1 else binding.access.root
    return bool(parts) and bool(CONTAINER.match(owner))


def assigned(statement: Statement) -> list[Access]:
    """Return what a statement assigns to: names, attributes and constant items."""
    node = statement.node
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = [t for target in node.targets for t in (target.elts if isinstance(target, ast.Tuple) else [target])]
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        targets = [node.target]
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        targets = [node.value.func.value] if node.value.func.attr.endswith("_") else []
    return [access for target in targets if (access := access_of(target)) is not None]


def is_argument(binding: Binding) -> bool:
    """Whether the name is only a function's parameter: the gradient was made by whoever called it."""
    node = binding.statement.node
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def operands(node: ast.AST | None) -> list[ast.expr]:
    """Return the expressions that an operation computes with, in order."""
    if isinstance(node, ast.BinOp):
        return [node.left, node.right]
    if isinstance(node, ast.UnaryOp):
        return [node.operand]
    if isinstance(node, ast.Call):
        return [*([node.func.value] if isinstance(node.func, ast.Attribute) else []), *node.args]
    return []


def same_names(graph: Graph, frame: int, other: int) -> bool:
    """Whether two frames share their names: cells of a notebook run in frames of their own."""
    return frame == other or graph.frames[frame].scope == graph.frames[other].scope
