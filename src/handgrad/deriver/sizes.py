"""What the sizes of a graph are called: ``n`` rather than 32.

Dimensions that must be equal, because the values meet in an operation, form one class. A class takes its name from the
code: ``n = x.shape[0]``, ``B, T = x.shape``, ``view(n, -1)``, ``range(n)``. Where a class has none, a size is written
as the size of a value, ``logits.shape[1]``, which is right whatever the numbers are.
"""

from __future__ import annotations

import ast
from typing import Any

import torch

from handgrad.deriver.equal_sizes import equal_sizes
from handgrad.deriver.scope import Scope
from handgrad.expr import Shape, Size
from handgrad.graph import Const, Graph, Step, Value
from handgrad.rules.table import plain
from handgrad.source import access_of

Place = tuple[Value, int]

_REDUCTIONS = frozenset([
    "sum", "mean", "var", "std", "prod", "max", "min", "amax", "amin", "logsumexp", "norm", "argmax", "argmin",
    "median", "all", "any",
])  # fmt: skip
_MADE = frozenset(["zeros", "ones", "randn", "rand", "empty", "full", "randint", "view", "reshape", "expand", "tile"])


class Sizes:
    """The name of every dimension of every value."""

    def __init__(self, graph: Graph, scope: Scope) -> None:
        self.graph, self.scope = graph, scope
        self._parent: dict[Place, Place] = {}
        self._names: dict[Place, str] = {}
        for step in graph.steps:
            self._unite_step(step)
        self._name_from_source()
        for step in graph.steps:
            self._name_from_arguments(step)
        self._classes_of: dict[int, set[Place]] = {}
        for value in graph.values:
            for d, size in enumerate(value.shape):
                self._classes_of.setdefault(size, set()).add(self._root((value, d)))
        self._name_from_numbers()
        self._member: dict[Place, str] = {}
        for value in graph.values:
            text = scope.steady(value)
            if text is not None:
                for d in range(len(value.shape)):
                    self._member.setdefault(self._root((value, d)), f"{text}.shape[{d}]")

    def shape(self, value: Value) -> Shape:
        """Return the shape of ``value``, each size with its name."""
        return tuple(self._size(value, d) for d in range(len(value.shape)))

    def _size(self, value: Value, d: int) -> Size:
        size = value.shape[d]
        root = self._root((value, d))
        name = self._names.get(root)
        if name is None:
            text = self.scope.steady(value)
            name = f"{text}.shape[{d}]" if text is not None else self._member.get(root)
        return Size(size, name if size != 1 else None)

    def member(self, value: Value, d: int) -> str | None:
        """Return the one text of a size that can be written as that of several values: ``logits.shape[1]``."""
        root = self._root((value, d))
        return self._names.get(root) or self._member.get(root)

    # -- classes

    def _root(self, place: Place) -> Place:
        while (parent := self._parent.get(place)) is not None:
            place = parent
        return place

    def _unite(self, a: Value, i: int, b: Value, j: int) -> None:
        if a.shape[i] != b.shape[j]:
            return
        one, other = self._root((a, i % len(a.shape))), self._root((b, j % len(b.shape)))
        if one != other:
            self._parent[other] = one

    def _unite_step(self, step: Step) -> None:
        op, inputs = plain(step.op), list(step.inputs)
        if not inputs or not step.made:
            return
        out, x = step.made[0], inputs[0]
        pairs = equal_sizes(step)
        if pairs is not None:
            for (a, i), (b, j) in pairs:
                self._unite(a, i, b, j)
        elif op in ("matmul", "mm", "bmm") and len(inputs) == 2:
            self._unite_matmul(out, x, inputs[1])
        elif op in _REDUCTIONS:
            self._unite_reduction(step, out, x)
        elif op in ("T", "mT", "t", "transpose"):
            self._unite_transpose(step, out, x)
        elif op in ("getitem", "setitem"):
            self._unite_index(step, out, x)
        elif op == "embedding" and len(inputs) == 2:
            for d in range(len(inputs[0].shape)):
                self._unite(inputs[0], d, out, d)
            self._unite(inputs[1], 1, out, len(out.shape) - 1)
        elif op in ("view", "reshape", "flatten", "unflatten"):
            self._unite_view(out, x)
        elif op in ("unsqueeze", "squeeze", "cat", "permute", "one_hot", "cross_entropy"):
            self._unite_front(op, step, out, inputs)
        else:
            self._unite_broadcast(step, inputs)

    def _unite_broadcast(self, step: Step, inputs: list[Value]) -> None:
        for out in step.made:
            for x in inputs:
                lead = len(out.shape) - len(x.shape)
                if lead >= 0 and all(s in (1, o) for s, o in zip(x.shape, out.shape[lead:], strict=True)):
                    for d in range(len(x.shape)):
                        self._unite(x, d, out, lead + d)

    def _unite_matmul(self, out: Value, a: Value, b: Value) -> None:
        if len(a.shape) > 1 and len(b.shape) > 1:
            self._unite(a, -1, b, -2)
            self._unite(a, len(a.shape) - 2, out, len(out.shape) - 2)
            self._unite(b, len(b.shape) - 1, out, len(out.shape) - 1)
            for x in (a, b):
                for d in range(len(x.shape) - 2):
                    self._unite(x, d, out, len(out.shape) - len(x.shape) + d)

    def _unite_reduction(self, step: Step, out: Value, x: Value) -> None:
        dim = step.kwargs.get("dim", step.args[1] if len(step.args) > 1 else None)
        chosen = dim.value if isinstance(dim, Const) else None
        if isinstance(chosen, bool) or not isinstance(chosen, int | tuple | list):
            return
        dims = {d % len(x.shape) for d in ([chosen] if isinstance(chosen, int) else chosen)}
        keep = len(out.shape) == len(x.shape)
        position = 0
        for d in range(len(x.shape)):
            if d not in dims:
                for made in step.made:
                    self._unite(x, d, made, d if keep else position)
                position += 1

    def _unite_transpose(self, step: Step, out: Value, x: Value) -> None:
        order = list(range(len(x.shape)))
        numbers = [a.value for a in step.args[1:] if isinstance(a, Const)]
        if len(order) < 2:
            return
        i, j = numbers if len(numbers) == 2 else (-2, -1)
        order[i], order[j] = order[j], order[i]
        for d, source in enumerate(order):
            self._unite(x, source, out, d)

    def _unite_index(self, step: Step, out: Value, x: Value) -> None:
        key = step.args[1]
        items: list[Any] = list(key) if isinstance(key, list | tuple) and not isinstance(key, Const) else [key]
        if isinstance(key, Const):
            items = list(key.value) if isinstance(key.value, tuple) else [key.value]
        items = [item.value if isinstance(item, Const) else item for item in items]
        if plain(step.op) == "setitem":
            for made in step.made:
                if made.shape == x.shape:
                    for d in range(len(x.shape)):
                        self._unite(x, d, made, d)
            return
        if any(isinstance(item, Value) and item.dtype == torch.bool for item in items):
            return
        if len(items) == 1 and isinstance(items[0], Value):
            for d in range(len(items[0].shape)):
                self._unite(items[0], d, out, d)
            rest = len(x.shape) - 1
            for d in range(rest):
                self._unite(x, 1 + d, out, len(out.shape) - rest + d)
            return
        if any(isinstance(item, Value | list | range) for item in items):
            tensors = [item for item in items if isinstance(item, Value) and len(item.shape) == 1]
            if tensors and out.shape:
                self._unite(tensors[0], 0, out, 0)
            return
        d = position = 0
        for item in items:
            if item is None:
                position += 1
            elif item is Ellipsis:
                skip = len(x.shape) - sum(1 for i in items if i is not None and i is not Ellipsis)
                for _ in range(skip):
                    self._unite(x, d, out, position)
                    d, position = d + 1, position + 1
            elif isinstance(item, slice):
                if item == slice(None):
                    self._unite(x, d, out, position)
                d, position = d + 1, position + 1
            else:
                d += 1
        while d < len(x.shape) and position < len(out.shape):
            self._unite(x, d, out, position)
            d, position = d + 1, position + 1

    def _unite_view(self, out: Value, x: Value) -> None:
        """Dimensions at the front and at the back that stand alone in both shapes stay what they were."""
        for d, (a, b) in enumerate(zip(x.shape, out.shape, strict=False)):
            if a != b:
                break
            self._unite(x, d, out, d)
        for d, (a, b) in enumerate(zip(reversed(x.shape), reversed(out.shape), strict=False), start=1):
            if a != b:
                break
            self._unite(x, len(x.shape) - d, out, len(out.shape) - d)

    def _unite_front(self, op: str, step: Step, out: Value, inputs: list[Value]) -> None:
        x = inputs[0]
        if op == "permute":
            order = [a.value for a in step.args[1:] if isinstance(a, Const)]
            order = list(order[0]) if len(order) == 1 and isinstance(order[0], tuple | list) else order
            for d, source in enumerate(order):
                self._unite(x, source, out, d)
        elif op in ("unsqueeze", "squeeze") and len(step.args) > 1 and isinstance(step.args[1], Const):
            at = step.args[1].value
            longer, shorter = (out, x) if op == "unsqueeze" else (x, out)
            if isinstance(at, int) and len(longer.shape) > len(shorter.shape):
                rest = [d for d in range(len(longer.shape)) if d != at % len(longer.shape)]
                for d, own in enumerate(rest):
                    self._unite(longer, own, shorter, d)
        elif op == "cat":
            for item in inputs:
                for d in range(len(out.shape)):
                    if item.shape[d] == out.shape[d]:
                        self._unite(item, d, out, d)
        elif op == "one_hot":
            for d in range(len(x.shape)):
                self._unite(x, d, out, d)
        elif op == "cross_entropy" and len(inputs) > 1 and len(inputs[1].shape) == 1:
            self._unite(x, 0, inputs[1], 0)

    # -- names

    def _give(self, place: Place, name: str) -> None:
        self._names.setdefault(self._root(place), name)

    def _name_from_source(self) -> None:
        """Read ``n = x.shape[0]``, ``B, T = x.shape``, ``n = len(x)`` and ``n = x.size(0)`` in the user's code."""
        values: dict[str, Value | None] = {str(b.access): b.value for b in self.graph.bindings}
        seen = set()
        for step in self.graph.steps:
            seen.add(step.site.source)
        for source in seen:
            for node in ast.walk(source.tree):
                if isinstance(node, ast.Assign) and len(node.targets) == 1:
                    self._read_assignment(node.targets[0], node.value, values)

    def _read_assignment(self, target: ast.expr, given: ast.expr, values: dict[str, Value | None]) -> None:
        if isinstance(target, ast.Tuple) and isinstance(given, ast.Attribute) and given.attr == "shape":
            value = values.get(str(access_of(given.value)))
            if value is not None and len(value.shape) == len(target.elts):
                for d, name in enumerate(target.elts):
                    self._consider(name, (value, d))
        elif isinstance(target, ast.Tuple) and isinstance(given, ast.Tuple):
            for one, item in zip(target.elts, given.elts, strict=False):
                self._read_assignment(one, item, values)
        elif isinstance(target, ast.Name):
            place = self._place_of(given, values)
            if place is not None:
                self._consider(target, place)

    def _place_of(self, node: ast.expr, values: dict[str, Value | None]) -> Place | None:
        owner: ast.expr | None = None
        number: Any = None
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "shape":
            owner, number = node.value.value, node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "size":
            owner, number = node.func.value, node.args[0] if node.args else None
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len" and node.args:
            owner, number = node.args[0], ast.Constant(0)
        if owner is None or number is None:
            return None
        try:
            d = ast.literal_eval(number)
        except ValueError:
            return None
        value = values.get(str(access_of(owner)))
        if value is None or not isinstance(d, int) or not -len(value.shape) <= d < len(value.shape):
            return None
        return value, d % len(value.shape)

    def _consider(self, name: ast.expr, place: Place) -> None:
        if isinstance(name, ast.Name) and self._stands_for(name.id, place[0].shape[place[1]]):
            self._give(place, name.id)

    def _stands_for(self, name: str, size: int) -> bool:
        found = self.scope.names.get(name)
        return type(found) is int and found == size

    def _name_from_arguments(self, step: Step) -> None:
        """Read ``torch.zeros(B, H)``, ``view(n, -1)`` and ``x[range(n), y]``."""
        node, op = step.site.node, plain(step.op)
        out = step.made[0] if step.made else None
        if out is None:
            return
        if isinstance(node, ast.Call) and op in _MADE:
            given = list(node.args)
            if len(given) == 1 and isinstance(given[0], ast.Tuple | ast.List):
                given = list(given[0].elts)
            elif op == "randint":
                given = next((list(a.elts) for a in given if isinstance(a, ast.Tuple | ast.List)), [])
            if len(given) == len(out.shape):
                for d, item in enumerate(given):
                    self._consider(item, (out, d))
        elif isinstance(node, ast.Call) and op in ("split", "chunk"):
            whole = next(step.inputs).shape
            dim = next((d for d, (part, size) in enumerate(zip(out.shape, whole, strict=True)) if part != size), 0)
            for item in node.args[:2]:
                self._consider(item, (out, dim))
                for other in step.outs[1:]:
                    if other.shape == out.shape:
                        self._unite(out, dim, other, dim)
        elif isinstance(node, ast.Call) and op == "arange" and len(node.args) == 1:
            self._consider(node.args[0], (out, 0))
        elif isinstance(node, ast.Subscript) and op == "getitem" and out.shape:
            items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            first = items[0]
            if isinstance(first, ast.Call) and isinstance(first.func, ast.Name) and first.func.id == "range":
                self._consider(first.args[-1], (out, 0))

    def _name_from_numbers(self) -> None:
        """Give a class the one name whose number is its size, where no other class has that size."""
        sources = {step.site.source for step in self.graph.steps}
        loops = [node for source in sources for node in ast.walk(source.tree) if isinstance(node, ast.For)]
        counters = {n.id for loop in loops for n in ast.walk(loop.target) if isinstance(n, ast.Name)}
        numbers: dict[int, list[str]] = {}
        for name, found in self.scope.names.items():
            if type(found) is int and found > 1 and not name.startswith("_") and name not in counters:
                numbers.setdefault(found, []).append(name)
        for size, names in numbers.items():
            classes = self._classes_of.get(size, set())
            if len(names) == 1 and len(classes) == 1:
                self._give(next(iter(classes)), names[0])
