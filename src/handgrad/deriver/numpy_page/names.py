"""What the page calls things: values, numbers, and the texts that the user wrote, which may say `self.W.shape[1]`."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from handgrad.deriver.derivation import Backward
from handgrad.deriver.loops import Loop, NotALoopError
from handgrad.deriver.page import own_name
from handgrad.errors import DeriveError
from handgrad.expr import Expr, written
from handgrad.graph import Value
from handgrad.source import enclosing

_CALLS = frozenset(["len", "range", "float", "int", "abs", "min", "max", "round", "slice", "list", "tuple", "sum"])
_DATA = frozenset(["tensor", "as_tensor", "from_numpy"])
_PLAIN = (int, float, str, bool, slice, range, type(None), type(Ellipsis))
_LEAVES = (ast.Constant, ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.expr_context)
_INNER = (ast.BinOp, ast.UnaryOp, ast.Tuple, ast.List, ast.Slice, ast.Compare, ast.IfExp, ast.BoolOp, ast.Starred)


class Names:
    """The names of one page: arguments, values with a line, numbers, and what a text means in them."""

    def __init__(self, backward: Backward) -> None:
        self.backward, self.graph, self.scope = backward, backward.graph, backward.scope
        self.forward = backward.forward
        self.lined: set[Value] = set()  # values without a name of the user's that have a line
        self.read: set[Value] = set()  # values that a line reads
        self.numbers: dict[str, Any] = {}  # names of numbers that a line reads
        self._paths = {str(self.scope.text(value)): value for value in self.scope.known}
        self._defined: dict[str, tuple[str, float]] = {}
        self._helpers: dict[object, str] = {}

    # -- values

    def is_argument(self, value: Value) -> bool:
        """Whether the page takes ``value`` as an argument.

        No step made it, or the gradient ends there, or it was drawn at random, or it is data that a script spells out.
        """
        step = value.step
        if step is None or value in self.backward.walk.wrt:
            return True
        if step.op in _DATA and self.graph.frames[step.frame].scope.kind == "module":
            return True
        return step.is_random and step.generator_state is None and not step.writes

    def ancestors(self, *values: Value) -> set[Value]:
        """Return ``values`` and what they are computed from, up to the arguments."""
        seen: set[Value] = set()
        stack = list(values)
        while stack:
            value = stack.pop()
            if value not in seen:
                seen.add(value)
                if value.step is not None and not self.is_argument(value):
                    stack.extend(value.step.inputs)
        return seen

    def has_line(self, value: Value) -> bool:
        """Whether there is a name for ``value`` on the page."""
        return value.name is not None or value in self.lined or self.is_argument(value)

    def of(self, value: Value) -> str:
        """Return the name of ``value``, and see that it is there."""
        self.read.add(value)
        if self.scope.identifier(value) is None:
            wish = "given" if self.is_argument(value) else own_name(value)
            return self.scope.name(value, wish)
        return str(self.scope.identifier(value))

    def give_line(self, value: Value) -> None:
        """Let ``value`` have a line, though the user gave it no name."""
        self.lined.add(value)

    def helper(self, key: object, wish: str) -> str:
        """Return the name of what ``key`` stands for, an expression that has a line of its own: like ``wish``."""
        if key not in self._helpers:
            taken = {*self.scope.names, *self._helpers.values(), *map(self.scope.identifier, self.graph.values)}
            name, number = wish, 0
            while name in taken:
                number += 1
                name = f"{wish}_{number}"
            self._helpers[key] = name
        return self._helpers[key]

    # -- texts of the user

    def text(self, text: str, now: float, loop: Loop | None = None, *, torch: bool = False) -> str | None:
        """Return ``text`` in the names of the page, when values before ``now`` are known; None: write it anew."""
        try:
            tree: ast.AST = ast.parse(f"_[{text}]", mode="eval").body.slice  # type: ignore[attr-defined]
        except SyntaxError:
            return None
        reader = _Reader(self, now, loop, torch)
        try:
            made = reader.visit(tree)
        except _UnknownError:
            return None
        if not reader.changed:
            return text
        return (
            ast.unparse(made).removeprefix("(").removesuffix(")") if isinstance(made, ast.Tuple) else ast.unparse(made)
        )

    def constant(self, text: str, loop: Loop | None) -> str:
        """Return what ``text`` stands for, written anew.

        Raises:
            NotALoopError: it is something else in each iteration.
            DeriveError: it is no number.
        """
        if loop is not None and loop.target in {
            n.id for n in ast.walk(ast.parse(f"_[{text}]")) if isinstance(n, ast.Name)
        }:
            raise NotALoopError(f"`{text}` cannot be written in a loop")
        try:
            found = self.scope.evaluate(text)
        except Exception:  # what the user wrote may be anything
            raise DeriveError(f"`{text}` cannot be written without PyTorch: give the number a name") from None
        if isinstance(found, tuple | list) and all(isinstance(item, _PLAIN) for item in found):
            return written(tuple(found) if isinstance(found, tuple) else found)
        if isinstance(found, _PLAIN):
            return written(found)
        raise DeriveError(f"`{text}` cannot be written without PyTorch: give the number a name")

    def translated(self, part: Expr, now: float, loop: Loop | None, *, torch: bool = False) -> Expr:
        """Return a number or a raw text in the names of the page."""
        text = str(part.data[1] if part.op == "number" else part.data)
        known = self.text(text, now, loop, torch=torch)
        if known is None and part.op == "number":
            if loop is not None and loop.target in text:
                known = self.constant(text, loop)
            known = written(part.data[0])
        elif known is None:
            known = self.constant(text, loop)
        if known == text:
            return part
        return Expr(part.op, (), part.shape, (part.data[0], known) if part.op == "number" else known)

    # -- numbers

    def definitions(self) -> list[tuple[float, str]]:
        """Return the lines that define the numbers, each with the moment from which on it can stand."""
        rows: list[tuple[float, str]] = []
        done: set[str] = set()

        def add(name: str) -> float:
            text, when = self.definition(name)
            if name in done:
                return when
            done.add(name)
            for other in [n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)]:
                if other in self.numbers:
                    when = max(when, add(other))
            rows.append((when, f"{name} = {text}"))
            return when

        for name in list(self.numbers):
            add(name)
        return rows

    def with_numbers(self, rows: list[tuple[float, str]]) -> list[str]:
        """Return the lines of a forward, each with the moment when it is done, and those that define its numbers."""
        numbers = self.definitions()
        made = [row for _, row in rows]
        for when, row in reversed([number for number in numbers if number[0] >= 0]):
            place = next((i for i, (moment, _) in enumerate(rows) if moment > when), len(rows))
            made.insert(place, row)
        return [*(row for when, row in numbers if when < 0), *made]

    def definition(self, name: str) -> tuple[str, float]:
        """Return how the user defined a number, or the number, and the value that must be known before."""
        if name not in self._defined:
            value = self.scope.names[name]
            self._defined[name] = written(value), -1
            found: list[tuple[str, float]] = []
            for text in self._assigned(name):
                if self.scope.means(text, value) and self._is_arithmetic(text, name):
                    reader = _Reader(self, float("inf"), None, False)
                    try:
                        made = reader.visit(ast.parse(text, mode="eval").body)
                    except _UnknownError:
                        continue
                    found.append((ast.unparse(made) if reader.changed else text, reader.latest))
            if found:
                self._defined[name] = min(found, key=lambda one: one[1])
        return self._defined[name]

    def _is_arithmetic(self, text: str, name: str) -> bool:
        """Whether ``text`` computes with sizes and other numbers, and so tells more than the number."""
        words = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        owners = {path.split(".")[0] for path in self._paths}
        return name not in words and bool(words & (owners | set(self.scope.names)))

    def _assigned(self, name: str) -> list[str]:
        """Return what the code that ran assigned to ``name``, as text."""
        statements = [step.statement for step in self.graph.steps]
        functions = {_function(statement.node) for statement in statements if statement is not None}
        sources = dict.fromkeys(statement.source for statement in statements if statement is not None)
        found = []
        for source in sources:
            for node in ast.walk(source.tree):
                if isinstance(node, ast.Assign) and len(node.targets) == 1 and _function(node) in functions | {None}:
                    pairs = _pairs(node.targets[0], node.value, source.text_of)
                    found += [text for target, text in pairs if target == name]
        return found


def _function(node: ast.AST) -> ast.AST | None:
    return next((outer for outer in enclosing(node) if isinstance(outer, ast.FunctionDef | ast.Lambda)), None)


def _pairs(target: ast.expr, given: ast.expr, text_of: Callable[[ast.AST], str]) -> list[tuple[str, str]]:
    if isinstance(target, ast.Name):
        return [(target.id, text_of(given))]
    if isinstance(target, ast.Tuple) and isinstance(given, ast.Tuple) and len(target.elts) == len(given.elts):
        return [pair for one, item in zip(target.elts, given.elts, strict=True) for pair in _pairs(one, item, text_of)]
    if isinstance(target, ast.Tuple) and isinstance(given, ast.Attribute) and given.attr == "shape":
        return [(one.id, f"{text_of(given)}[{i}]") for i, one in enumerate(target.elts) if isinstance(one, ast.Name)]
    return []


class _UnknownError(Exception):
    """A text says something that the page does not know."""


class _Reader(ast.NodeTransformer):
    """Rewrites a text of the user's in the names of the page."""

    def __init__(self, names: Names, now: float, loop: Loop | None, torch: bool) -> None:
        self.names, self.now, self.loop, self.torch = names, now, loop, torch
        self.changed, self.latest = False, -1.0

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, _LEAVES):
            return node
        if isinstance(node, _INNER):
            return super().generic_visit(node)
        raise _UnknownError

    def _value(self, value: Value, text: str) -> ast.AST:
        if value.id >= self.now or not self.names.has_line(value) or self._in_loop(value):
            raise _UnknownError
        self.latest = max(self.latest, value.id if not self.names.is_argument(value) else -1)
        name = self.names.of(value)
        self.changed = self.changed or name != text
        return ast.Name(name, ast.Load())

    def _in_loop(self, value: Value) -> bool:
        from handgrad.deriver.shares import LoopShares

        return any(value in s.loop.home for s in self.names.backward.shares if isinstance(s, LoopShares))

    def visit_Name(self, node: ast.Name) -> ast.AST:
        found = self.names.scope.names.get(node.id)
        if self.loop is not None and node.id == self.loop.target:
            return node
        if isinstance(found, Value):
            return self._value(found, node.id)
        if isinstance(found, int | float) and not isinstance(found, bool):
            when = self.names.definition(node.id)[1] if self.now != float("inf") else -1.0
            if when >= self.now or node.id in self._taken():
                raise _UnknownError
            self.latest = max(self.latest, when)
            self.names.numbers.setdefault(node.id, found)
            return node
        if found is None and node.id in ("float", "int", "bool"):
            return node
        if node.id == "math" or (self.torch and node.id == "torch"):
            return node
        raise _UnknownError

    def _taken(self) -> set[str]:
        scope = self.names.scope
        return {str(scope.identifier(value)) for value in self.names.read}

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        path = ast.unparse(node)
        if path in self.names._paths:
            return self._value(self.names._paths[path], path)
        owner = node.value
        if node.attr in ("shape", "ndim"):
            return ast.Attribute(self.visit(owner), node.attr, ast.Load())
        if isinstance(owner, ast.Name) and (owner.id == "math" or (self.torch and owner.id == "torch")):
            self.visit(owner)
            return node
        raise _UnknownError

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        path = ast.unparse(node)
        if path in self.names._paths:
            return self._value(self.names._paths[path], path)
        if isinstance(node.value, ast.Attribute) and node.value.attr == "shape":
            return ast.Subscript(self.visit(node.value), self.visit(node.slice), ast.Load())
        raise _UnknownError

    def visit_Call(self, node: ast.Call) -> ast.AST:
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == "size" and len(node.args) <= 1:
            self.changed = True
            shape = ast.Attribute(self.visit(function.value), "shape", ast.Load())
            return ast.Subscript(shape, self.visit(node.args[0]), ast.Load()) if node.args else shape
        if node.keywords:
            raise _UnknownError
        if isinstance(function, ast.Name) and function.id in _CALLS:
            return ast.Call(function, [self.visit(item) for item in node.args], [])
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "math":
            return ast.Call(self.visit(function), [self.visit(item) for item in node.args], [])
        raise _UnknownError
