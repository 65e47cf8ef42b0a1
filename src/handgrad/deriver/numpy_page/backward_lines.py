"""The backward of a page: the shares of each gradient, in NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from handgrad.deriver.forward import CHEAP
from handgrad.deriver.loops import Loop
from handgrad.deriver.numpy_page.writer import Writer
from handgrad.deriver.page import shape_comment
from handgrad.deriver.shares import LoopShares, Share
from handgrad.expr import Expr, is_number, name, negate, raw, strip
from handgrad.graph import Value
from handgrad.printer import ATOM, precedence
from handgrad.source import Statement

PRODUCT = 20
_FRESH = frozenset(["mul", "add", "sub", "div", "pow", "matmul", "neg"])
_VIEWS = frozenset([
    "reshape", "transpose", "swapaxes", "squeeze", "np.expand_dims", "np.broadcast_to", "np.moveaxis", "np.split",
    "np.flip", "np.array_split", "np.diagonal", "np.fliplr", "np.flipud", "np.ravel", "np.positive",
])  # fmt: skip


class BackwardLines(Writer):
    """The lines of a backward."""

    def rows(self) -> list[str]:
        """Return the lines, under the lines of the forward that they reverse."""
        rows: list[str] = []
        self._before: Statement | None = None
        for share in self.names.backward.shares:
            rows += self._loop(share) if isinstance(share, LoopShares) else self._rows_of(share)
        return rows

    def _rows_of(self, share: Share) -> Iterator[str]:
        self.step = share.step
        code = self._code(share)
        code[-1] += shape_comment(self.forward.sizes.shape(share.value))
        statement = share.step.statement if share.step is not None else None
        if statement is not None and statement is not self._before:
            yield from (f"# {row}".rstrip() for row in statement.text.split("\n"))
        self._before = statement or self._before
        yield from self.helping
        self.helping = []
        yield from code

    def _code(self, share: Share) -> list[str]:
        value, target = share.value, self.gradient_name(share.value)
        if share.gradient.op == "scatter" and not value.shape:
            picked = self.resolved(share.gradient.args[0])
            return [f"{target} {'=' if share.first else '+='} np.sum({self.dialect.show(picked)})"]
        if share.gradient.op == "scatter":
            start = [f"{target} = {self._zeros(value)}"] if share.first else []
            return [*start, self._put(target, self.translated(share.gradient), "=" if share.first else "+=")]
        if share.gradient.op == "overwritten" and share.first:
            return self.statements(target, share.gradient)
        gradient = self.resolved(share.gradient)
        if gradient.op == "method" and gradient.data == "reshape" and (own := self._own(value)) is not None:
            gradient = Expr("method", (gradient.args[0], raw(f"{own}.shape")), gradient.shape, "reshape")
        if share.first:
            return [f"{target} = {self._assigned(share, gradient)}"]
        inner = strip(gradient)
        sign, inner = ("-", negate(inner)) if inner.op == "neg" else ("+", inner)
        return [f"{target} {sign}= {self.dialect.show(inner)}"]

    def _assigned(self, share: Share, gradient: Expr) -> str:
        value, inner, show = share.value, strip(gradient), self.dialect.show
        own = self._own(value)
        if gradient.op == "expand" or (is_number(gradient) and not value.shape):
            like = own if own is not None else None
            if _is_constant(inner):
                if like is None:
                    return f"np.full({tuple(map(int, value.shape))}, {show(inner)})"
                return f"np.ones_like({like})" if is_number(inner, 1) else f"np.full_like({like}, {show(inner)})"
            shape = f"{like}.shape" if like is not None else str(tuple(map(int, value.shape)))
            if share.more and like is not None:
                shown = show(inner) if precedence(inner) > PRODUCT else f"({show(inner)})"
                return f"np.ones_like({like}) * {shown}"
            return f"np.broadcast_to({show(inner)}, {shape})" + ".copy()" * share.more
        if share.more and not _is_fresh(gradient):
            return show(gradient, ATOM) + ".copy()"
        return show(gradient)

    def _zeros(self, value: Value) -> str:
        own = self._own(value)
        return f"np.zeros_like({own})" if own is not None else f"np.zeros({tuple(map(int, value.shape))})"

    def _own(self, value: Value) -> str | None:
        """Return the name of ``value`` if the page has it."""
        if self.loop is not None and value in self.loop.home:
            own = f"{self.scope.identifier(value)}{'_prev' * (self.loop.home[value][0] == 0)}"
            return own if own in self.stored[self.loop] else None
        if any(value in loop.home for loop in self.loops) or not self.names.has_line(value):
            return None
        return self.names.of(value)

    def _fits_inside(self, value: Value) -> bool:
        return self.depth(value) <= CHEAP

    # -- loops

    def _loop(self, shares: LoopShares) -> list[str]:
        loop, sizes = shares.loop, self.forward.sizes
        rows = [
            f"{self.gradient_name(value)} = {self._start(value)}{shape_comment(sizes.shape(value))}"
            for value in shares.starts
        ]
        self.loop, outside, self._helpers = loop, self._helpers, set()
        try:
            body = [row for share in shares.body for row in self._rows_of(share)]
        finally:
            self.loop, self._helpers = None, outside
        stored = list(self.stored[loop])
        rows.append(f"for {loop.target} in reversed({self.iterable(loop)}):")
        if stored:
            rows.append(f"    {', '.join(stored)} = {', '.join(f'{own}_at[{loop.target}]' for own in stored)}")
        rows += [f"    {row}" for row in body]
        for position in shares.carried:
            own = self.scope.identifier(loop.value(1, position))
            rows.append(f"    d{own} = d{own}_prev")
        return rows

    def _start(self, value: Value) -> str:
        own = self._own(value)
        if own is None and (home := next((loop for loop in self.loops if value in loop.home), None)) is not None:
            self.names.read.add(value)
            own = self._name_of_position(value, home)
        return f"np.zeros_like({own})" if own is not None else f"np.zeros({tuple(map(int, value.shape))})"

    def _in_loop(self, value: Value, leaf: Expr, loop: Loop) -> Expr:
        iteration, position = loop.home[value]
        if value.name is None and value not in self.names.lined:
            if iteration and self.depth(value) <= CHEAP:
                return self.resolved(self.definition(value))
            self._name_of_position(loop.value(1, position), loop)
        own = f"{self.scope.identifier(loop.value(1, position))}{'_prev' * (iteration == 0)}"
        self.stored[loop][own] = value
        self.names.read.update(loop.value(k, position) for k in range(len(loop.iterations)))
        return name(own, leaf.shape)


def _is_constant(expr: Expr) -> bool:
    return expr.op in ("number", "raw") or (expr.op in _FRESH and all(map(_is_constant, expr.args)))


def _is_fresh(expr: Expr) -> bool:
    """Whether the result is an array of its own, which may be added to."""
    return expr.op in _FRESH or (expr.op in ("method", "call") and expr.data not in _VIEWS)
