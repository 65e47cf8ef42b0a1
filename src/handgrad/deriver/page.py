"""Shares as source: the lines of a derived backward, in the names that the code below the forward can see."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from handgrad.deriver.forward import CHEAP, Forward
from handgrad.deriver.loops import Loop, NotALoopError, rerun
from handgrad.deriver.shares import LoopShares, Share
from handgrad.errors import DeriveError
from handgrad.expr import Expr, Size, cost, fill, is_number, name, negate, raw, replace, strip, transposed, walk
from handgrad.graph import Const, Step, Value
from handgrad.printer import ATOM, precedence, text
from handgrad.rules.table import plain
from handgrad.source import Statement

LONG = 10  # the cost of a line that computes a value again
_FRESH = frozenset(["mul", "add", "sub", "div", "pow", "matmul", "neg", "call", "scatter"])
_VIEWS = frozenset(
    [
        "reshape",
        "view",
        "transpose",
        "permute",
        "unsqueeze",
        "squeeze",
        "expand",
        "movedim",
        "flatten",
        "diagonal",
        "narrow",
        "select",
        "unbind",
        "split",
        "chunk",
        "unfold",
        "unflatten",
        "ravel",
        "view_as",
        "reshape_as",
        "expand_as",
        "broadcast_to",
        "swapaxes",
        "swapdims",
        "moveaxis",
        "t",
        "contiguous",
        "to",
        "type_as",
        "double",
        "float",
        "detach",
        "sum_to_size",
    ]
)  # methods whose result may be, or share, the memory of what they are called on


@dataclass
class Line:
    """A line of a derived backward (or two, where a gradient starts from zeros), or one that helps the next."""

    target: str  # dX
    of: Value | None  # X; None for what has a name only because the next lines read it
    code: list[str]
    gradient: Expr  # what is assigned or added, in names
    why: str
    shape: tuple[int, ...]
    step: Step | None
    first: bool = True  # `=`, not `+=`
    final: Value | None = None  # whose gradient the name holds when all has run

    @property
    def lines(self) -> list[Line]:
        """Itself, as a block of one line."""
        return [self]

    @property
    def handed(self) -> list[str]:
        """Nothing: it is no loop."""
        return []

    @property
    def statement(self) -> Statement | None:
        """The statement of the forward that it reverses."""
        return self.step.statement if self.step is not None else None

    def __str__(self) -> str:
        return "\n".join(self.code)


@dataclass
class LoopLines:
    """The lines of a loop: what begins before it, its head, its body, and what it hands on."""

    loop: Loop
    starts: list[Line]
    body: list[Line]
    opening: list[str]  # the loop of the forward again, which keeps what the body reads
    head: list[str]
    handed: list[str]

    @property
    def lines(self) -> list[Line]:
        """All of its lines."""
        return [*self.starts, *self.body]


@dataclass
class Page:
    """The lines of a backward, and before them what the forward computed and did not keep."""

    forward: Forward
    shares: list[Share | LoopShares]
    by_path: bool = True  # write `self.W`, not `W`
    blocks: list[Line | LoopLines] = field(default_factory=list)
    kept: dict[Value, list[str]] = field(default_factory=dict)  # lines that bring a value back, by value
    used: dict[Value, str] = field(default_factory=dict)  # every value that is read, and how it is written

    def __post_init__(self) -> None:
        self.scope = self.forward.scope
        self._loops = [share.loop for share in self.shares if isinstance(share, LoopShares)]
        self._patience = CHEAP
        self._inside: Loop | None = None
        self._stored: dict[str, Value] = {}  # in a loop: the names that the body reads from its iteration
        self._again_here: dict[Value, list[str]] = {}  # in a loop: what the body computes again
        self._helpers: dict[str, Line] = {}  # what has a name because it is read more than once
        for share in self.shares:
            self.blocks += [self._loop(share)] if isinstance(share, LoopShares) else self._lines(share)

    @property
    def lines(self) -> list[Line]:
        """The lines, in their order, those of loops among them."""
        return [line for block in self.blocks for line in block.lines]

    @property
    def prelude(self) -> list[str]:
        """The lines that bring back what the forward did not keep, in the order of the forward."""
        renamed = [value for value in self.kept if value in self.scope]
        again = sorted((value for value in self.kept if value not in self.scope), key=lambda value: value.id)
        rows = [row for value in (*renamed, *again) for row in self.kept[value]]
        for block in self.blocks:
            if isinstance(block, LoopLines):
                rows += block.opening
        return rows

    # -- names

    def write(self, value: Value) -> str:
        """Return how ``value`` is written, after whatever brings it back."""
        if self._inside is not None and value in self._inside.home:
            return self._write_inside(value, self._inside)
        if value not in self.used:
            self.used[value] = self._bring(value)
        return self.used[value]

    def _write_inside(self, value: Value, loop: Loop) -> str:
        iteration, position = loop.home[value]
        own = self.scope.identifier(value)
        if own is None or value.name is None or loop.is_bound_again(position):
            own = self.scope.name(value, own_name(value))
            if value not in self._again_here:
                self._again_here[value] = []
                self._again_here[value] = [f"{own} = {text(self._again_whole(value))}"]
            return own
        name_here = f"{own}_prev" if iteration == 0 else own
        self._stored[name_here] = value
        return name_here

    def _bring(self, value: Value) -> str:
        known, own = self.scope.text(value), self.scope.identifier(value)
        if known is not None and (known == own or not known.isidentifier()):
            if self.by_path or own is None:
                return known
            return f"{own}_itself" if self.scope.means_another(own, value) else own
        if known is None and any(value in loop.home for loop in self._loops):
            raise NotALoopError("the backward after the loop reads what one iteration made")
        if own is None:
            own = self.scope.name(value, own_name(value))
        if known is not None:
            self.kept[value] = [f"{own} = {known}"]
        else:
            code = text(self._again_whole(value))
            self.kept[value] = [f"{own} = {code}{shape_comment(self.forward.sizes.shape(value))}"]
        return own

    def _again_whole(self, value: Value) -> Expr:
        """Return the computation of ``value`` in one expression, with all that has no name inside it."""
        before, self._patience = self._patience, LONG
        try:
            return self.resolve(self.forward.definition(value))
        finally:
            self._patience = before

    def _gradient_name(self, value: Value) -> str:
        before = self._inside is not None and self._inside.home.get(value, (1,))[0] == 0
        return f"d{self.scope.identifier(value)}" + "_prev" * before

    def resolve(self, expr: Expr) -> Expr:
        """Return ``expr`` with names in place of values; short ones without a name are computed again."""

        def change(part: Expr) -> Expr | None:
            if part.op == "gradient":
                return name(self._gradient_name(part.data), part.shape)
            if part.op == "let":
                return self._help(part)
            if part.op == "T":
                return transposed(replace(part.args[0], change))
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
        return self.resolve(definition) if self._depth(definition) <= self._patience else None

    def _depth(self, expr: Expr) -> int:
        """Return the cost of ``expr`` with every unnamed value in it computed again."""
        whole = cost(expr)
        for part in walk(expr):
            if part.op == "value" and part.data.name is None and part.data not in self.scope:
                if part.data.step is None or part.data in self.used or whole > self._patience:
                    continue
                try:
                    whole += self._depth(self.forward.definition(part.data))
                except DeriveError:
                    return self._patience + 1
        return whole

    # -- lines

    def _lines(self, share: Share) -> list[Line]:
        """Return the line of a share, after those that it needs and that are not there yet."""
        known = len(self._helpers)
        line = self._line(share)
        helping = list(self._helpers.values())[known:]
        for helper in helping:
            helper.step = share.step
        return [*helping, line]

    def _help(self, let: Expr) -> Expr:
        target = self.scope.helper(let.key, let.data)
        if target not in self._helpers:
            definition = self.resolve(let.args[0])
            code = [f"{target} = {text(definition, self._like(let))}"]
            if definition.op == "overwritten":
                code = self._overwritten(target, definition, self._like(let))
            code[-1] += shape_comment(let.shape)
            self._helpers[target] = Line(target, None, code, definition, "", let.shape, None)
        return name(target, let.shape)

    def _line(self, share: Share) -> Line:
        value, gradient = share.value, self.resolve(share.gradient)
        if gradient.op == "method" and gradient.data == "reshape" and (own := self._own(value)) is not None:
            gradient = Expr("method", (gradient.args[0], raw(f"{own}.shape")), gradient.shape, "reshape")
        target = self._gradient_name(value)
        shape = self.forward.sizes.shape(value)
        if gradient.op == "scatter":
            code = self._scattered(target, share, gradient)
        elif gradient.op == "overwritten":
            code = self._overwritten(target, gradient, self._like(share.gradient, share.value))
        elif share.first:
            code = [f"{target} = {self._assigned(share, gradient)}"]
        else:
            inner = strip(gradient)
            sign, inner = ("-", negate(inner)) if inner.op == "neg" else ("+", inner)
            code = [f"{target} {sign}= {text(inner, self._like(share.gradient, share.value))}"]
        code[-1] += shape_comment(shape)
        return Line(target, value, code, gradient, share.why, shape, share.step, share.first, value)

    def _assigned(self, share: Share, gradient: Expr) -> str:
        value, inner = share.value, strip(gradient)
        own = self._own(value)
        if gradient.op == "expand" or (_is_constant(gradient) and not value.shape):
            if _is_constant(inner):
                if own is None and not value.shape:
                    like = self._like(share.gradient, share.value)
                    return f"{like}.new_tensor({text(inner)})" if like else f"torch.tensor({text(inner)})"
                if own is None:
                    return text(gradient, self._like(share.gradient, share.value))
                return f"torch.ones_like({own})" if is_number(inner, 1) else f"torch.full_like({own}, {text(inner)})"
            if own is None:
                return text(gradient, self._like(share.gradient, share.value)) + ".clone()" * share.more
            shown = text(inner)
            if share.more:
                return f"torch.ones_like({own}) * {shown if precedence(inner) > 20 else f'({shown})'}"
            return f"{shown if precedence(inner) >= ATOM else f'({shown})'}.expand_as({own})"
        shown = text(gradient, self._like(share.gradient, share.value))
        if share.more and not _is_fresh(gradient):
            return (shown if precedence(gradient) >= ATOM else f"({shown})") + ".clone()"
        return shown

    def _scattered(self, target: str, share: Share, gradient: Expr) -> list[str]:
        put, key = gradient.args
        own, keys = self._own(share.value), text(key)
        if own is None and self._inside is not None and share.value in self._inside.home:
            own = self.write(share.value)
        code = []
        if share.first:
            zeros = text(Expr("expand", (_ZERO,), gradient.shape), self._like(share.gradient, share.value))
            code.append(f"{target} = torch.zeros_like({own})" if own else f"{target} = {zeros}")
        if gradient.data:  # an index may repeat
            shown = text(put, self._like(share.gradient, share.value))
            if not put.shape and _is_constant(put):
                shown = f"torch.full_like({target}[{text(key)}], {shown})"
            code.append(_accumulated(target, key, put, shown))
        else:
            sign = "=" if share.first else "+="
            code.append(f"{target}[{keys}] {sign} {text(strip(put), self._like(share.gradient, share.value))}")
        return code

    def _overwritten(self, target: str, gradient: Expr, like: str | None) -> list[str]:
        """Return the statements that make a copy and write into it."""
        if gradient.op != "overwritten":
            shown = text(gradient, like)
            fresh = _is_fresh(gradient) and gradient.op != "expand"
            if not fresh:
                shown = f"{shown if precedence(gradient) >= ATOM else f'({shown})'}.clone()"
            return [f"{target} = {shown}"]
        inner, place, value = gradient.args
        code = self._overwritten(target, inner, like)
        if place.op == "index" and place.args[0].op == "hole":
            return [*code, f"{target}[{text(place.args[1])}] = {text(strip(value), like)}"]
        shown = text(fill(place, name(target, gradient.shape)))
        return [*code, f"{shown}.zero_()" if is_number(value, 0) else f"{shown}.copy_({text(value, like)})"]

    def _own(self, value: Value) -> str | None:
        """Return how the value is written if it is at hand without more ado."""
        if self._inside is not None and value in self._inside.home:
            own = f"{self.scope.identifier(value)}{'_prev' * (self._inside.home[value][0] == 0)}"
            return own if own in self._stored else None
        return self.write(value) if value in self.scope or value in self.used else None

    def _like(self, expr: Expr, value: Value | None = None) -> str | None:
        own = self._own(value) if value is not None else None
        if own is not None:
            return own
        for part in walk(expr):
            if part.op == "gradient":
                return self._gradient_name(part.data)
        for part in walk(expr):
            if part.op == "value" and part.data.is_floating and part.data in self.scope:
                return self.write(part.data)
        known = next((v for v in self.scope.known if v.is_floating and v.requires_grad), None)
        return self.write(known) if known is not None else None

    # -- loops

    def _loop(self, shares: LoopShares) -> LoopLines:
        loop = shares.loop
        starts = [self._start(value) for value in shares.starts]
        self._inside, self._stored, self._again_here = loop, {}, {}
        outside, self._helpers = self._helpers, {}
        self.forward.extra = {loop.target: loop.counts[1]}
        try:
            body = [line for share in shares.body for line in self._lines(share)]
        finally:
            self._inside = self.forward.extra = None
            self._helpers = outside
        carried = {loop.value(k, position) for position in loop.carried for k in (0, 1, -1)}
        for line in body:
            if line.of in carried:
                line.final = None
            elif line.of in loop.home:
                line.final = loop.value(0, loop.home[line.of][1])  # the iteration that runs last
        for line in starts:
            line.final = None if line.of in loop.home else line.of
        read = list(self._stored)
        head = [f"{', '.join(read)} = {', '.join(f'{n}_at[{loop.target}]' for n in read)}"] if read else []
        again = sorted(self._again_here, key=lambda value: value.id)
        head += [row for value in again for row in self._again_here[value]]
        handed = [
            f"d{self.scope.identifier(loop.value(1, p))} = d{self.scope.identifier(loop.value(1, p))}_prev"
            for p in shares.carried
        ]
        return LoopLines(loop, starts, body, self._opening_of(loop), head, handed)

    def _start(self, value: Value) -> Line:
        own = self._own(value)
        target, shape = self._gradient_name(value), self.forward.sizes.shape(value)
        zeros = Expr("expand", (_ZERO,), shape)
        code = f"{target} = " + (f"torch.zeros_like({own})" if own else text(zeros, None))
        if own is None:
            code = f"{target} = torch.zeros_like({self.write(value)})"
        return Line(target, value, [code + shape_comment(shape)], zeros, "the loop adds to it", shape, None)

    def _opening_of(self, loop: Loop) -> list[str]:
        """Return the loop of the forward again, with what keeps the values that the body reads."""
        if not self._stored:
            return []
        before = {n: v for n, v in self._stored.items() if loop.home[v][0] == 0}
        names = {n: str(v.base_name) for n, v in self._stored.items()}
        statements = rerun(loop, set(names.values()))
        touched = {str(loop.value(1, position).base_name): position for position in loop.carried}
        read = {word for statement in statements for word in _words(statement)} | set(names.values())
        rows = ["# the loop again, to keep what its backward reads"]
        rows += [f"{', '.join(f'{n}_at' for n in names)} = {', '.join(['{}'] * len(names))}"]
        for base, position in touched.items():
            if base in read:
                start = self._start_of(loop.carried[position], loop.value(0, position))
                rows.append(f"{base} = {start}")
        rows.append(f"for {loop.target} in {loop.iterable}:")
        rows += [f"    {n}_at[{loop.target}] = {names[n]}" for n in before]
        for statement in statements:
            rows += [f"    {row}" for row in loop.source.text_of(statement).split("\n")]
        rows += [f"    {n}_at[{loop.target}] = {names[n]}" for n in names if n not in before]
        return rows

    def _start_of(self, start: Value | Const, later: Value) -> str:
        if isinstance(start, Const):
            return repr(start)
        at_hand = start in self.scope or start in self.used
        expr = name(self.write(start), start.shape) if at_hand else self.resolve(self.forward.definition(start))
        if start.shape != later.shape:  # every iteration shall read the same shape
            expr = Expr("expand", (expr,), self.forward.sizes.shape(later))
        return text(expr)

    # -- the source

    def source(self, *, reasons: bool = False, only: set[str] | None = None, needed: bool = True) -> str:
        """Return the page: blocks in reverse order, each under the line of the forward that it reverses.

        With ``only`` it holds those gradients, and what they are ``needed`` from.
        """
        blocks = self.blocks
        if only is not None:
            blocks = _blocks_for(blocks, only, needed)
        rows = list(self._opening())
        before: list[Statement | None] = [None]
        for block in blocks:
            if isinstance(block, Line):
                rows += _rows(block, before, reasons)
                continue
            for line in block.starts:
                rows += _rows(line, before, reasons)
            rows += [f"for {block.loop.target} in reversed({block.loop.iterable}):", *(f"    {r}" for r in block.head)]
            for line in block.body:
                rows += [f"    {row}" for row in _rows(line, before, reasons)]
            rows += [f"    {row}" for row in block.handed]
        return "\n".join([*self._imports(rows), *rows]) + "\n"

    def _imports(self, rows: list[str]) -> list[str]:
        """Return the imports of modules that ``rows`` use and that the forward cannot see."""
        code = "\n".join(row for row in rows if not row.lstrip().startswith("#"))
        lines = [
            line for module, line in _IMPORTS.items()
            if self.scope.names and module not in self.scope.names and re.search(rf"(?<![\w.]){module}\.", code)
        ]  # fmt: skip
        return [*lines, ""] if lines else []

    def _opening(self) -> Iterator[str]:
        if rows := self.prelude:
            if self.kept:
                yield "# what the forward computed and did not keep"
            yield from rows
            yield ""


_IMPORTS = {"math": "import math", "torch": "import torch", "F": "import torch.nn.functional as F"}
_ZERO = Expr("number", (), (), (0, "0"))


def _rows(line: Line, before: list[Statement | None], reasons: bool) -> Iterator[str]:
    statement = line.statement
    if statement is not None and statement is not before[0]:
        yield from (f"# {row}".rstrip() for row in statement.text.split("\n"))
    before[0] = statement or before[0]
    if reasons and line.why:
        yield f"#   {line.why}"
    yield from line.code


def _blocks_for(blocks: list[Line | LoopLines], only: set[str], needed: bool) -> list[Line | LoopLines]:
    """Return the blocks of the gradients ``only``, with their helping lines, and those that they depend on."""
    wanted, kept = set(only), list[Line | LoopLines]()
    helping = {line.target for block in blocks for line in block.lines if line.of is None}
    for block in reversed(blocks):
        if any(line.target in wanted for line in block.lines):
            kept.append(block)
            for line in block.lines:
                read = {str(part.data) for part in walk(line.gradient) if part.op == "name"}
                wanted |= read if needed else read & helping
    return kept[::-1]


def _accumulated(target: str, key: Expr, put: Expr, shown: str) -> str:
    """Return the statement that adds ``put`` at indices that may repeat."""
    if all(item.op not in ("raw", "number", "list") for item in key.args):
        return f"{target}.index_put_(({text(key)}{',' * (len(key.args) == 1)}), {shown}, accumulate=True)"
    arrays = [d for d, item in enumerate(key.args) if item.op != "raw"]
    rest = [str(item.data) if item.op == "raw" else ":" for item in key.args]
    if len(arrays) == 1 and len(key.args[arrays[0]].shape) == 1 and all(":" in item or item == "..." for item in rest):
        dim = arrays[0] - len(rest) if "..." in rest[: arrays[0]] else arrays[0]
        part = "" if all(item in (":", "...") for item in rest) else f"[{', '.join(rest)}]"
        return f"{target}{part}.index_add_({dim}, {text(key.args[arrays[0]])}, {shown})"
    places = f"torch.arange({target}.numel()).view_as({target})[{text(key)}].flatten()"
    flat = f"{shown if precedence(put) >= ATOM else f'({shown})'}.flatten()"
    return f"{target}.view(-1).index_add_(0, {places}, {flat})"


def _words(statement: object) -> set[str]:
    import ast

    assert isinstance(statement, ast.AST)
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _is_constant(expr: Expr) -> bool:
    return expr.op in ("number", "raw") or (
        expr.op in ("add", "sub", "mul", "div", "neg", "pow") and all(map(_is_constant, expr.args))
    )


def _is_fresh(expr: Expr) -> bool:
    return expr.op in _FRESH or (expr.op == "method" and expr.data not in _VIEWS)


def own_name(value: Value) -> str:
    """Return a name for a value that the user gave none.

    Raises:
        DeriveError: it was given to the forward without a name, so that nothing can be written for it.
    """
    if value.step is None:
        size = ", ".join(map(str, value.shape))
        raise DeriveError(f"a tensor of shape ({size}) that the backward reads has no name here: give it one")
    return f"{plain(value.step.op)}_out"


def shape_comment(shape: tuple[int, ...]) -> str:
    """Return ``  # (n, 27)``."""
    names = [_short(size) for size in shape]
    return f"  # ({', '.join(names)}{',' * (len(names) == 1)})"


def _short(size: int) -> str:
    called = size.text if isinstance(size, Size) else None
    return called if called is not None and called.isidentifier() else str(int(size))
