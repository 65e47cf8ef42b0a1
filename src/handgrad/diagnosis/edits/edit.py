"""What an edit is, and what it may mention."""

from __future__ import annotations

import ast
from typing import NamedTuple

from handgrad.diagnosis.rewriting import OWN

Shape = tuple[int, ...]


class Edit(NamedTuple):
    """A changed statement; ``kind`` is what the original was guilty of."""

    cost: float
    kind: str
    what: str
    node: ast.stmt
    line: int  # of the place that was changed


class Names(NamedTuple):
    """What the edits may use: the shapes of tensors in scope, of gradients among them, and whole numbers."""

    shapes: dict[str, Shape]
    gradients: set[str]
    integers: dict[str, int]
    small: list[str]  # constants of the forward such as 1e-5
    own: Shape = ()  # the shape of the gradient itself


Path = tuple[tuple[str, int | None], ...]


Change = tuple[float, str, str, ast.AST]


def code(text: str) -> ast.expr:
    """Return the expression that is written as ``text``."""
    return ast.parse(text, mode="eval").body


def short(node: ast.AST) -> str:
    """Return the text of a node, cut where it is long."""
    text = ast.unparse(node).replace(OWN, "it")
    return text if len(text) < 40 else text[:37] + "..."


def method(node: ast.expr, name: str, arguments: str) -> ast.expr:
    """Return a call of a method of ``node``."""
    call = code(f"_.{name}({arguments})")
    assert isinstance(call, ast.Call)
    assert isinstance(call.func, ast.Attribute)
    call.func.value = node
    return call


def holds_tensor(node: ast.expr, names: Names) -> bool:
    """Whether a tensor is mentioned."""
    return any(isinstance(n, ast.Name) and (n.id in names.shapes or n.id == OWN) for n in ast.walk(node))
