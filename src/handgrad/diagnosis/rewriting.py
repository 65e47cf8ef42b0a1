"""The text of a line, and the names that it reads, made ready to be run with other numbers."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from handgrad.graph import Value
from handgrad.source import access_of

OWN = "__handgrad_own__"


class Lent:
    """Copies of the tensors of an environment, and whether code has changed one of them in place."""

    def __init__(self, environment: dict[str, Any]) -> None:
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}
        self.names = {name: self._copied(item) for name, item in environment.items()}
        self._versions = [copy._version for _, copy in self._copies.values()]

    @property
    def is_spoilt(self) -> bool:
        """Whether a tensor is not what it was."""
        return self._versions != [copy._version for _, copy in self._copies.values()]

    def _copied(self, item: Any) -> Any:
        if isinstance(item, Tensor):
            if id(item) not in self._copies:
                self._copies[id(item)] = item, item.detach().clone()
            return self._copies[id(item)][1]
        if type(item) in (list, tuple) and any(isinstance(i, Tensor) for i in item):
            return type(item)(map(self._copied, item))
        if type(item) is dict and any(isinstance(i, Tensor) for i in item.values()):
            return {key: self._copied(i) for key, i in item.items()}
        return item


def values_of(item: Any) -> Iterable[Value]:
    """Yield the values in what a name stands for."""
    if isinstance(item, Value):
        yield item
    elif isinstance(item, list | tuple):
        for inner in item:
            yield from values_of(inner)
    elif type(item) is dict and len(item) < 1000:
        for inner in item.values():
            if isinstance(inner, Value):
                yield inner


def real(item: Any, tensors: dict[Value, Tensor]) -> Any:
    """Return what a name stands for, with tensors in place of values."""
    if isinstance(item, Value):
        return tensors.get(item, item.value)
    if isinstance(item, list) and any(isinstance(i, Value) for i in item):
        return [real(i, tensors) for i in item]
    if type(item) is tuple and any(isinstance(i, Value) for i in item):
        return tuple(real(i, tensors) for i in item)
    if type(item) is dict and any(isinstance(i, Value) for i in item.values()):
        return {key: real(i, tensors) for key, i in item.items()}
    return item


def placeholder(text: str) -> str:
    """Return a plain name for an attribute path or an item."""
    return "__handgrad_" + "".join(c if c.isalnum() else "_" for c in text)


def copied(node: Any) -> Any:
    """Return a deep copy of a node, without its surroundings."""
    if isinstance(node, list):
        return [copied(item) for item in node]
    if not isinstance(node, ast.AST):
        return node
    new = type(node)(**{name: copied(value) for name, value in ast.iter_fields(node)})
    return ast.copy_location(new, node) if hasattr(node, "lineno") else new


class PlainNames(ast.NodeTransformer):
    """Writes the gradient itself, and attribute paths, as plain names."""

    def __init__(self, own: str, paths: set[str]) -> None:
        self.own, self.paths = own, paths

    def _replace(self, node: Any) -> Any:
        access = access_of(node)
        text = str(access) if access else ""
        if text == self.own and _is_whole(node, access):
            return ast.Name(OWN, node.ctx)
        if text in self.paths and _is_whole(node, access):
            return ast.Name(placeholder(text), node.ctx)
        return self.generic_visit(node)

    def visit(self, node: ast.AST) -> Any:
        """Replace what is an access, and look into the rest."""
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
            return self._replace(node)
        return self.generic_visit(node)


def _is_whole(node: Any, access: Any) -> bool:
    """Whether ``node`` is the access itself, not something below it such as an index with a tensor."""
    depth, inner = 0, node
    while isinstance(inner, ast.Attribute | ast.Subscript):
        depth, inner = depth + 1, inner.value
    return depth == len(access.parts)
