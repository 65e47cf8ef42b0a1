"""Expressions of PyTorch to expressions of NumPy."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any

from handgrad.deriver.numpy_page.forms import FORMS, SAME, NoFormError, operation
from handgrad.deriver.numpy_page.functions import FUNCTIONS
from handgrad.expr import Expr, index, index_key

_SYMBOLS = {
    "add": "add", "sub": "sub", "mul": "mul", "div": "div", "pow": "pow", "matmul": "matmul", "mm": "matmul",
    "bmm": "matmul",
    "mv": "matmul", "dot": "matmul", "gt": "gt", "ge": "ge", "lt": "lt", "le": "le", "eq": "eq", "ne": "ne",
    "and": "and", "or": "or", "bitwise_and": "and", "bitwise_or": "or", "greater": "gt", "less": "lt",
}  # fmt: skip
_HALVES = {"values": 0, "indices": 1}
_KEYS = {"axis": "dim", "keepdims": "keepdim", "input": "x", "self": "x", "exponent": "p", "dims": "dim"}
_LEFT_OUT = frozenset(["dtype", "device", "requires_grad", "memory_format", "inplace", "layout", "non_blocking", "out"])


_WINDOWS = frozenset(["F.unfold"])  # a method has its name


class Translation:
    """Expressions of PyTorch to expressions of NumPy; ``evaluate`` tells what a text stands for."""

    def __init__(self, evaluate: Callable[[str], Any]) -> None:
        self.evaluate = evaluate

    def __call__(self, expr: Expr) -> Expr:
        """Return ``expr`` in NumPy.

        Raises:
            NoFormError: there is an operation in it that has no form.
        """
        if expr.op in ("index", "attribute") and (half := self._half_of_pair(expr)) is not None:
            return half
        args = [self(item) for item in expr.args]
        if expr.op in ("method", "call", "attribute"):
            return self._of_call(Expr(expr.op, args, expr.shape, expr.data))
        if all(old is new for old, new in zip(expr.args, args, strict=True)):
            return expr
        return Expr(expr.op, args, expr.shape, expr.data)

    def _half_of_pair(self, expr: Expr) -> Expr | None:
        """Return values or places of ``x.max(1)``, ``x.median(1)`` and the like, which come as a pair."""
        pair = expr.args[0]
        op = operation(pair) if pair.op in ("method", "call") else ""
        if expr.op == "attribute":
            place = _HALVES.get(str(expr.data))
        elif len(expr.args[1].args) == 1 and op in ("max", "min"):
            place = self.constant(expr.args[1].args[0])
        else:
            place = None
        if place is None or not op:
            return None
        args = [self(item) for item in pair.args]
        if op in ("max", "min"):
            return self._of_call(Expr("method", args, expr.shape, ("arg" if place else "a") + op))
        whole = self._of_call(Expr(pair.op, args, pair.shape, pair.data))
        return index(whole, index_key([place]), expr.shape)

    def _of_call(self, expr: Expr) -> Expr:
        op = operation(expr)
        if op in FORMS and expr.data not in _WINDOWS:
            return self._bound(op, FORMS[op], expr)
        if op in _SYMBOLS and len(expr.args) == 2 and expr.args[1].op != "keyword":
            return Expr(_SYMBOLS[op], expr.args, expr.shape)
        if op in SAME:
            given = [item for item in expr.args if not (item.op == "keyword" and item.data in _LEFT_OUT)]
            return Expr("call", given, expr.shape, f"np.{SAME[op]}")
        if op in FUNCTIONS:
            given = [item for item in expr.args if not (item.op == "keyword" and item.data in _LEFT_OUT)]
            self._check(op, given)
            return Expr("call", given, expr.shape, op)
        raise NoFormError(op)

    def _check(self, op: str, given: list[Expr]) -> None:
        named = {str(item.data): item for item in given if item.op == "keyword"}
        try:
            inspect.signature(FUNCTIONS[op]).bind(*(item for item in given if item.op != "keyword"), **named)
        except TypeError as error:
            raise NoFormError(f"{op} ({error})") from None

    def _bound(self, op: str, function: Callable[..., Expr], expr: Expr) -> Expr:
        parameters = list(inspect.signature(function).parameters.values())[1:]
        kinds = {p.name: str(p.annotation) for p in parameters}
        rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        given: dict[str, Any] = {}
        more: list[Any] = []
        for position, item in enumerate(expr.args):
            if item.op == "keyword":
                key = str(item.data) if item.data in kinds else _KEYS.get(str(item.data), str(item.data))
                if key in kinds:
                    given[key] = self._as(item.args[0], kinds[key])
                elif item.data not in _LEFT_OUT:
                    raise NoFormError(f"{op} with {item.data}")
            elif position < len(names):
                given[names[position]] = self._as(item, kinds[names[position]])
            elif rest is not None:
                more.append(self._as(item, kinds[rest]))
            else:
                raise NoFormError(f"{op} with {len(expr.args)} arguments")
        if more:
            return function(expr, *(given.pop(name) for name in names), *more, **given)
        try:
            return function(expr, **given)
        except TypeError:
            raise NoFormError(f"{op} as `{expr.data}` with {len(expr.args)} arguments") from None

    def _as(self, item: Expr, kind: str) -> Any:
        return item if kind.startswith("Expr") else self.constant(item)

    def constant(self, expr: Expr) -> Any:
        """Return what a constant argument stands for."""
        if expr.op == "number":
            return expr.data[0]
        if expr.op == "list":
            return [self.constant(item) for item in expr.args]
        if expr.op == "neg":
            return -self.constant(expr.args[0])
        if expr.op == "raw":
            try:
                return ast.literal_eval(expr.data)
            except (ValueError, SyntaxError):
                pass
            try:
                return self.evaluate(expr.data)
            except Exception:  # what the user wrote may be anything
                return expr.data
        raise NoFormError(f"an argument `{expr.op}` that is computed")
