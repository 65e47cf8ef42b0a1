"""Expressions as Python text: PyTorch as a person writes it, with no parenthesis too many."""

from __future__ import annotations

import ast

from handgrad.expr import Expr, is_number, strip, written

SUM, PRODUCT, SIGN, POWER, ATOM = 10, 20, 30, 40, 100
COMPARISON, BITS = 4, 6
_SYMBOLS = {
    "add": (" + ", SUM),
    "sub": (" - ", SUM),
    "mul": (" * ", PRODUCT),
    "div": (" / ", PRODUCT),
    "matmul": (" @ ", PRODUCT),
    "gt": (" > ", COMPARISON),
    "ge": (" >= ", COMPARISON),
    "lt": (" < ", COMPARISON),
    "le": (" <= ", COMPARISON),
    "eq": (" == ", COMPARISON),
    "ne": (" != ", COMPARISON),
    "and": (" & ", BITS),
    "or": (" | ", BITS),
}
_ASSOCIATIVE = {("add", "add"), ("add", "sub"), ("and", "and"), ("or", "or")}
_NUMBERS = {ast.Add: SUM, ast.Sub: SUM, ast.Mult: PRODUCT, ast.Div: PRODUCT, ast.FloorDiv: PRODUCT, ast.Mod: PRODUCT}


def text(expr: Expr, like: str | None = None) -> str:
    """Return ``expr`` as Python. ``like`` is the text of a tensor whose dtype numbers take where a tensor is needed."""
    return Printer(like).show(expr)


class Printer:
    """Prints PyTorch; a subclass prints what it has other methods for otherwise."""

    def __init__(self, like: str | None) -> None:
        self.like = like

    def show(self, expr: Expr, around: int = 0) -> str:
        """Return the text, in parentheses if what stands around it binds more tightly."""
        shown = self._text(expr)
        return f"({shown})" if precedence(expr) < around else shown

    def _text(self, expr: Expr) -> str:
        op, args = expr.op, expr.args
        if op in _SYMBOLS:
            symbol, level = _SYMBOLS[op]
            right_around = level if (op, args[1].op) in _ASSOCIATIVE or level <= COMPARISON else level + 1
            if op == "mul" and args[1].op == "neg":
                right_around = POWER
            return (
                self.show(args[0], level if level > COMPARISON else level + 1)
                + symbol
                + self.show(args[1], right_around if level > COMPARISON else level + 1)
            )
        make = getattr(self, f"_{op}", None)
        if make is None:
            raise NotImplementedError(f"no text for {op}")
        return str(make(expr))

    def _name(self, expr: Expr) -> str:
        return str(expr.data)

    def _number(self, expr: Expr) -> str:
        return str(expr.data[1])

    def _raw(self, expr: Expr) -> str:
        return str(expr.data)

    def _value(self, expr: Expr) -> str:
        return expr.data.name or f"({expr.data.step.text})"

    def _let(self, expr: Expr) -> str:
        return str(expr.data)

    def _gradient(self, expr: Expr) -> str:
        return f"d{expr.data.name or '?'}"

    def _keyword(self, expr: Expr) -> str:
        return f"{expr.data}={self.show(expr.args[0])}"

    def _list(self, expr: Expr) -> str:
        return f"[{', '.join(map(self.show, expr.args))}]"

    def _neg(self, expr: Expr) -> str:
        inner = first = expr.args[0]
        while first.op in ("mul", "div"):
            first = first.args[0]
        if precedence(first) <= BITS or first.op == "not":  # truth values have no minus: -((x > 0) * y)
            return f"-({self.show(inner)})"
        return "-" + self.show(inner, SIGN if inner.op != "mul" and inner.op != "div" else PRODUCT)

    def _not(self, expr: Expr) -> str:
        return "~" + self.show(expr.args[0], POWER)

    def _pow(self, expr: Expr) -> str:
        base, exponent = expr.args
        return f"{self.show(base, POWER + 1)}**{self.show(exponent, SIGN)}"

    def _T(self, expr: Expr) -> str:
        inner = self.show(expr.args[0], ATOM)
        return f"{inner}.T" if len(expr.shape) == 2 else f"{inner}.transpose(-2, -1)"

    def _method(self, expr: Expr) -> str:
        owner, *given = expr.args
        return f"{self.show(owner, ATOM)}.{expr.data}({', '.join(map(self.show, given))})"

    def _call(self, expr: Expr) -> str:
        return f"{expr.data}({', '.join(map(self.show, expr.args))})"

    def _attribute(self, expr: Expr) -> str:
        return f"{self.show(expr.args[0], ATOM)}.{expr.data}"

    def _key(self, expr: Expr) -> str:
        return ", ".join(map(self.show, expr.args)) or "()"

    def _index(self, expr: Expr) -> str:
        return f"{self.show(expr.args[0], ATOM)}[{self.show(expr.args[1])}]"

    def _expand(self, expr: Expr) -> str:
        inner = strip(expr)
        sizes = ", ".join(map(written, expr.shape))
        if inner.shape or not _is_constant(inner):
            return f"{self.show(inner, ATOM)}.expand({sizes})"
        like = self.like or "torch"
        if is_number(inner, 1) and self.like:
            return f"{like}.new_ones({sizes})"
        full = "new_full" if self.like else "full"
        return f"{like}.{full}({written(tuple(expr.shape))}, {self.show(inner)})"

    def _hole(self, _expr: Expr) -> str:
        return "_"

    def _overwritten(self, expr: Expr) -> str:
        x, place, value = map(self.show, expr.args)
        return f"{x} with {place} = {value}"

    def _scatter(self, expr: Expr) -> str:
        value, key = expr.args
        zeros = f"{self.like or 'torch'}.{'new_zeros' if self.like else 'zeros'}({written(tuple(expr.shape))})"
        keys = self.show(key) + ("," if len(key.args) == 1 else "")
        accumulate = ", accumulate=True" if expr.data else ""
        return f"{zeros}.index_put(({keys}), {self.show(value)}{accumulate})"


def _is_constant(expr: Expr) -> bool:
    return expr.op == "number" or (bool(expr.args) and all(map(_is_constant, expr.args)) and expr.op != "call")


def precedence(expr: Expr) -> int:
    """Return how tightly the outermost operation of the text binds."""
    if expr.op in _SYMBOLS:
        return _SYMBOLS[expr.op][1]
    if expr.op == "neg" and expr.args[0].op in ("mul", "div"):
        return PRODUCT  # `-a * b`
    if expr.op in ("neg", "not"):
        return SIGN
    if expr.op == "pow":
        return POWER
    if expr.op == "number":
        return _of_text(expr.data[1])
    return ATOM


def _of_text(written_number: str) -> int:
    node = ast.parse(written_number, mode="eval").body
    if isinstance(node, ast.BinOp):
        return _NUMBERS.get(type(node.op), POWER)
    if isinstance(node, ast.UnaryOp):
        return SIGN
    return ATOM if not isinstance(node, ast.Compare | ast.BoolOp | ast.IfExp) else 0
