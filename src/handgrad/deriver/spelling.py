"""How the user wrote the arguments of a step: ``1/(n-1)``, ``range(n)``, ``-1``."""

from __future__ import annotations

import ast
import inspect
from typing import Any

from handgrad.deriver.scope import Scope
from handgrad.graph import Const, Step


def spell(step: Step, scope: Scope, extra: dict[str, Any] | None = None) -> dict[int | str, str]:
    """Return the text of the constant arguments of ``step``, by position or keyword, where it can be told.

    A text is given only if it stands for the same value at the end of the forward. Keys of an index are given for
    each item, as ``(1, position)``.
    """
    node = step.site.node
    texts: dict[int | str, str] = {}
    for place, expression in _written(step, node):
        found = step.args[place] if isinstance(place, int) and place < len(step.args) else step.kwargs.get(str(place))
        text = ast.unparse(expression) if expression is not None else ""
        text = step.site.source.text_of(expression) or text if expression is not None else text
        if isinstance(found, Const) and _is_plain(text) and scope.means(text, found.value, extra):
            texts[place] = text
    return texts


def spell_key(step: Step, scope: Scope, extra: dict[str, Any] | None = None) -> list[str | None]:
    """Return the texts of the items of an index, None where an item has to be written anew."""
    node = step.site.node
    if isinstance(node, ast.Assign | ast.AugAssign):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        node = target
    if not isinstance(node, ast.Subscript):
        return []
    items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    key = step.args[1]
    values = key if isinstance(key, tuple | list) else [key]
    if isinstance(key, Const):
        values = [Const(item) for item in key.value] if isinstance(key.value, tuple) else [key]
    texts: list[str | None] = []
    for item, found in zip(items, values, strict=False):
        text = step.site.source.text_of(item)
        if isinstance(found, Const) and isinstance(item, ast.Slice):
            ends = [(item.lower, found.value.start), (item.upper, found.value.stop), (item.step, found.value.step)]
            good = all(e is None or scope.means(step.site.source.text_of(e), v, extra) for e, v in ends)
        else:
            good = isinstance(found, Const) and scope.means(text, found.value, extra)
        texts.append(text if good and _is_plain(text) else None)
    return texts


def _is_plain(text: str) -> bool:
    return bool(text) and len(text) <= 60 and "\n" not in text and "#" not in text


def _written(step: Step, node: ast.AST | None) -> list[tuple[int | str, ast.expr | None]]:
    if isinstance(node, ast.BinOp):
        left, right = node.left, node.right
    elif isinstance(node, ast.AugAssign):
        left, right = node.target, node.value
    elif isinstance(node, ast.Call):
        return _of_call(step, node)
    else:
        return []
    sides: list[tuple[int | str, ast.expr | None]] = [(0, left), (1, right)]
    if step.op.startswith("__r") and step.op != "__rshift__":
        sides = [(0, right), (1, left)]
    elif isinstance(step.args[1] if len(step.args) > 1 else None, Const) and step.op in ("mul", "add", "__mul__"):
        return [(1, right), (1, left)]  # `2 * x` comes as mul(x, 2): whichever side stands for the number
    return sides


def _of_call(step: Step, node: ast.Call) -> list[tuple[int | str, ast.expr | None]]:
    given: list[ast.expr] = list(node.args)
    if any(isinstance(item, ast.Starred) for item in given):
        return []
    kind = type(step.func).__name__
    if isinstance(node.func, ast.Attribute) and (kind == "method_descriptor" or "Tensor." in _qualname(step.func)):
        given.insert(0, node.func.value)
    found: list[tuple[int | str, ast.expr | None]] = [(position, item) for position, item in enumerate(given)]
    found += [(item.arg, item.value) for item in node.keywords if item.arg is not None]
    try:
        names = list(inspect.signature(step.func).parameters)
    except (TypeError, ValueError):
        names = []
    found += [(name, item) for name, item in zip(names, given, strict=False) if name in step.kwargs]
    return found


def _qualname(function: Any) -> str:
    return str(getattr(function, "__qualname__", ""))
