"""Numbers and sizes as the user writes them: ``1/(n-1)`` in normal form, one text for each size."""

from __future__ import annotations

import ast
from fractions import Fraction

from handgrad.deriver.forward import Forward
from handgrad.expr import Expr, number
from handgrad.graph import Value
from handgrad.simplifier.algebra import power, times
from handgrad.simplifier.arguments import UnreadableError
from handgrad.simplifier.normal_form import Leaf, Poly

LONG = 14  # characters; nobody writes a longer number


class Sizes:
    """The numbers of a forward. Sizes without a name are written as those of ``head``, where they can be.

    With ``plain``, sizes are numbers and have no names: so a user's ``/ 32`` and a sum over 32 rows cancel.
    ``literals`` are the whole numbers met that a size may stand behind.
    """

    def __init__(self, forward: Forward, head: Value, *, plain: bool = False) -> None:
        self.scope, self.sizes, self.head, self.plain = forward.scope, forward.sizes, head, plain
        self.literals: set[int] = set()
        self.written = {self.scope.text(value): value for value in self.scope.known}

    def number(self, expr: Expr) -> Poly:
        """Return a number as the user wrote it, in normal form."""
        value, text = expr.data
        try:
            found = self._arithmetic(ast.parse(text, mode="eval").body)
        except (SyntaxError, ZeroDivisionError):
            found = None
        if found is not None:
            return found
        if isinstance(value, bool) or value != value or value in (float("inf"), float("-inf")):
            raise UnreadableError(text)
        if text == repr(value):
            return self._constant(value)
        return Poly.of(Leaf("size", text, (), expr, positive=value > 0))

    def _constant(self, value: float) -> Poly:
        exact = Fraction(repr(value))
        if len(repr(value)) > LONG and float(near := exact.limit_denominator(10**6)) == value:
            exact = near  # 0.03225806451612903 is what is left of 1/31
        self.literals |= {exact.numerator, exact.denominator}
        return Poly.number(exact)

    def _arithmetic(self, node: ast.expr) -> Poly | None:
        """Return a number as the user wrote it: ``1/(n-1)``; None where that cannot be told."""
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and type(node.value) is not bool:
            return self._constant(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            inner = self._arithmetic(node.operand)
            return None if inner is None else -inner
        if isinstance(node, ast.BinOp):
            a, b = self._arithmetic(node.left), self._arithmetic(node.right)
            if a is None or b is None:
                return None
            exponent = b.value
            if isinstance(node.op, ast.Add | ast.Sub):
                return a + b if isinstance(node.op, ast.Add) else a - b
            if isinstance(node.op, ast.Mult):
                return times(a, b)
            if isinstance(node.op, ast.Div):
                return times(a, power(b, Fraction(-1)))
            return power(a, exponent) if isinstance(node.op, ast.Pow) and exponent is not None else None
        return self._symbol(ast.unparse(node))

    def _symbol(self, text: str) -> Poly | None:
        try:
            value = self.scope.evaluate(text)
        except Exception:  # what the user wrote may call anything
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        if self.plain and isinstance(value, int):
            return Poly.number(value)
        text = self.one_text(text)
        return Poly.of(Leaf("size", text, (), number(value, text), positive=value > 0))

    def one_text(self, text: str) -> str:
        """Return the one text of a size that can be written as that of several values: ``logits.shape[1]``."""
        owner, _, rest = text.rpartition(".shape[")
        if owner in self.written and rest.rstrip("]").isdigit():
            text = self.sizes.member(self.written[owner], int(rest.rstrip("]"))) or text
        if ".shape[" in text and (own := self.scope.text(self.head)) is not None:
            same = (d for d in range(len(self.head.shape)) if self.sizes.member(self.head, d) == text)
            text = next((f"{own}.shape[{d}]" for d in same), text)
        return text

    def size(self, size: int) -> Poly:
        """Return the size of a dimension, by its name if it has one."""
        text = getattr(size, "text", None)
        return (text and self._symbol(text)) or Poly.number(int(size))
