"""Shares as source: the lines of a derived backward, in the names that the code below the forward can see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from handgrad.deriver.forward import CHEAP, Forward
from handgrad.deriver.walk import Share
from handgrad.errors import DeriveError
from handgrad.expr import Expr, Size, cost, is_number, name, negate, raw, replace, strip, walk
from handgrad.graph import Step, Value
from handgrad.printer import ATOM, precedence, text
from handgrad.rules.table import plain
from handgrad.source import Statement

_FRESH = frozenset(["mul", "add", "sub", "div", "pow", "matmul", "neg", "call", "scatter"])
_VIEWS = frozenset(["reshape", "view", "transpose", "permute", "unsqueeze", "squeeze", "expand", "movedim", "flatten"])


@dataclass
class Line:
    """A line of a derived backward (or two, where a gradient starts from zeros)."""

    target: str  # dX
    of: Value
    code: list[str]
    gradient: Expr  # what is assigned or added, in names
    why: str
    shape: tuple[int, ...]
    step: Step | None
    first: bool = True  # `=`, not `+=`

    @property
    def statement(self) -> Statement | None:
        """The statement of the forward that it reverses."""
        return self.step.statement if self.step is not None else None

    def __str__(self) -> str:
        return "\n".join(self.code)


@dataclass
class Page:
    """The lines of a backward, and before them what the forward computed and did not keep."""

    forward: Forward
    shares: list[Share]
    by_path: bool = True  # write `self.W`, not `W`
    lines: list[Line] = field(default_factory=list)
    kept: dict[Value, list[str]] = field(default_factory=dict)  # lines that bring a value back, by value
    used: dict[Value, str] = field(default_factory=dict)  # every value that is read, and how it is written

    def __post_init__(self) -> None:
        self.scope = self.forward.scope
        for share in self.shares:
            self.lines.append(self._line(share))

    @property
    def prelude(self) -> list[str]:
        """The lines that bring back what the forward did not keep, in the order of the forward."""
        renamed = [value for value in self.kept if value in self.scope]
        again = sorted((value for value in self.kept if value not in self.scope), key=lambda value: value.id)
        return [row for value in (*renamed, *again) for row in self.kept[value]]

    # -- names

    def write(self, value: Value) -> str:
        """Return how ``value`` is written, after whatever brings it back."""
        if value not in self.used:
            self.used[value] = self._bring(value)
        return self.used[value]

    def _bring(self, value: Value) -> str:
        known, own = self.scope.text(value), self.scope.identifier(value)
        if known is not None and (known == own or not known.isidentifier()):
            return known if self.by_path or own is None else own
        if own is None:
            own = self.scope.name(value, _own_name(value))
        if known is not None:
            self.kept[value] = [f"{own} = {known}"]
        else:
            code = text(self.resolve(self.forward.definition(value)))
            self.kept[value] = [f"{own} = {code}{_shape_comment(self.forward.sizes.shape(value))}"]
        return own

    def resolve(self, expr: Expr) -> Expr:
        """Return ``expr`` with names in place of values; short ones without a name are computed again."""

        def change(part: Expr) -> Expr | None:
            if part.op == "gradient":
                return name(f"d{self.scope.identifier(part.data)}", part.shape)
            if part.op != "value":
                return None
            value: Value = part.data
            if value.name is None and value not in self.scope and value not in self.used and value.step is not None:
                again = self._again(value)
                if again is not None:
                    return again
            return name(self.write(value), part.shape)

        return replace(expr, change)

    def _again(self, value: Value) -> Expr | None:
        try:
            definition = self.forward.definition(value)
        except DeriveError:
            return None
        depth = self._depth(definition)
        return self.resolve(definition) if depth <= CHEAP else None

    def _depth(self, expr: Expr) -> int:
        """Return the cost of ``expr`` with every unnamed value in it computed again."""
        whole = cost(expr)
        for part in walk(expr):
            if part.op == "value" and part.data.name is None and part.data not in self.scope:
                if part.data.step is None or part.data in self.used or whole > CHEAP:
                    continue
                try:
                    whole += self._depth(self.forward.definition(part.data))
                except DeriveError:
                    return CHEAP + 1
        return whole

    # -- lines

    def _line(self, share: Share) -> Line:
        value, gradient = share.value, self.resolve(share.gradient)
        if gradient.op == "method" and gradient.data == "reshape" and (own := self._own(value)) is not None:
            gradient = Expr("method", (gradient.args[0], raw(f"{own}.shape")), gradient.shape, "reshape")
        target = f"d{self.scope.identifier(value)}"
        shape = self.forward.sizes.shape(value)
        if gradient.op == "scatter":
            code = self._scattered(target, share, gradient)
        elif share.first:
            code = [f"{target} = {self._assigned(share, gradient)}"]
        else:
            inner = strip(gradient)
            sign, inner = ("-", negate(inner)) if inner.op == "neg" else ("+", inner)
            code = [f"{target} {sign}= {text(inner, self._like(share))}"]
        code[-1] += _shape_comment(shape)
        return Line(target, value, code, gradient, share.why, shape, share.step, share.first)

    def _assigned(self, share: Share, gradient: Expr) -> str:
        value, inner = share.value, strip(gradient)
        own = self._own(value)
        if gradient.op == "expand" or (is_number(gradient) and not value.shape):
            if _is_constant(inner):
                if own is None:
                    return text(gradient, self._like(share))
                return f"torch.ones_like({own})" if is_number(inner, 1) else f"torch.full_like({own}, {text(inner)})"
            if own is None:
                return text(gradient, self._like(share)) + ".clone()" * share.more
            if share.more:
                shown = text(inner)
                return f"torch.ones_like({own}) * {shown if precedence(inner) > 20 else f'({shown})'}"
            shown = text(inner)
            return f"{shown if precedence(inner) >= ATOM else f'({shown})'}.expand_as({own})"
        shown = text(gradient, self._like(share))
        if share.more and not _is_fresh(gradient):
            return (shown if precedence(gradient) >= ATOM else f"({shown})") + ".clone()"
        return shown

    def _scattered(self, target: str, share: Share, gradient: Expr) -> list[str]:
        put, key = gradient.args
        own, keys = self._own(share.value), text(key)
        code = []
        if share.first:
            zeros = Expr("expand", (_ZERO,), gradient.shape)
            code.append(
                f"{target} = torch.zeros_like({own})" if own else f"{target} = {text(zeros, self._like(share))}"
            )
        if gradient.data:  # an index may repeat
            keys += "," * (len(key.args) == 1)
            shown = text(put, self._like(share))
            if not put.shape and _is_constant(put):
                shown = f"torch.full_like({target}[{text(key)}], {shown})"
            code.append(f"{target}.index_put_(({keys}), {shown}, accumulate=True)")
        else:
            inner = strip(put)
            sign = "=" if share.first else "+="
            code.append(f"{target}[{keys}] {sign} {text(inner, self._like(share))}")
        return code

    def _own(self, value: Value) -> str | None:
        """Return how the value is written if it is at hand without more ado."""
        return self.write(value) if value in self.scope or value in self.used else None

    def _like(self, share: Share) -> str | None:
        own = self._own(share.value)
        if own is not None:
            return own
        for part in walk(share.gradient):
            if part.op == "gradient":
                return f"d{self.scope.identifier(part.data)}"
        for part in walk(share.gradient):
            if part.op == "value" and part.data.is_floating and part.data in self.scope:
                return self.write(part.data)
        return None

    # -- the source

    def source(self, *, reasons: bool = False, only: set[str] | None = None) -> str:
        """Return the page: blocks in reverse order, each under the line of the forward that it reverses."""
        return "\n".join([*self._opening(), *self._blocks(reasons, only)]) + "\n"

    def _opening(self) -> Iterator[str]:
        if self.kept:
            yield "# what the forward computed and did not keep"
            yield from self.prelude
            yield ""

    def _blocks(self, reasons: bool, only: set[str] | None) -> Iterator[str]:
        lines = self.lines if only is None else _needed_for(self.lines, only)
        before: Statement | None = None
        for line in lines:
            statement = line.statement
            if statement is not None and statement is not before:
                yield from (f"# {row}".rstrip() for row in _head(statement).split("\n"))
            before = statement
            if reasons:
                yield f"#   {line.why}"
            yield from line.code


_ZERO = Expr("number", (), (), (0, "0"))


def _head(statement: Statement) -> str:
    return statement.text


def _needed_for(lines: list[Line], only: set[str]) -> list[Line]:
    """Return the lines that the gradients ``only`` depend on, themselves included."""
    wanted, kept = set(only), []
    for line in reversed(lines):
        if line.target in wanted:
            kept.append(line)
            wanted |= {str(part.data) for part in walk(line.gradient) if part.op == "name"}
    return kept[::-1]


def _is_constant(expr: Expr) -> bool:
    return expr.op in ("number", "raw") or (
        expr.op in ("add", "sub", "mul", "div", "neg", "pow") and all(map(_is_constant, expr.args))
    )


def _is_fresh(expr: Expr) -> bool:
    return expr.op in _FRESH or (expr.op == "method" and expr.data not in _VIEWS)


def _own_name(value: Value) -> str:
    assert value.step is not None
    return f"{plain(value.step.op)}_out"


def _shape_comment(shape: tuple[int, ...]) -> str:
    names = [
        size.text if isinstance(size, Size) and (size.text or "").isidentifier() else str(int(size)) for size in shape
    ]
    return f"  # ({', '.join(map(str, names))}{',' * (len(names) == 1)})"
