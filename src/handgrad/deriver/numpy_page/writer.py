"""What the forward and the backward of a page have in common: expressions in the names of the page, as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from handgrad.deriver.forward import CHEAP
from handgrad.deriver.loops import Loop, NotALoopError
from handgrad.deriver.memory import _place, _views, sharing, writes_itself
from handgrad.deriver.numpy_page.forms import NoFormError
from handgrad.deriver.numpy_page.names import Names
from handgrad.deriver.numpy_page.translation import Translation
from handgrad.deriver.page import own_name
from handgrad.deriver.shares import LoopShares
from handgrad.errors import DeriveError
from handgrad.expr import (
    Expr,
    cost,
    fill,
    hole,
    index,
    keyword,
    name,
    overwritten,
    raw,
    replace,
    transposed,
    walk,
    written,
)
from handgrad.graph import Step, Value
from handgrad.printer import ATOM, Printer
from handgrad.rules.table import plain

END = 1e18  # a moment when the whole forward is known


class NumpyPrinter(Printer):
    """Prints what the forms in `forms.py` and `shapes.py` make."""

    def __init__(self) -> None:
        super().__init__(None)

    def _T(self, expr: Expr) -> str:
        inner = self.show(expr.args[0], ATOM)
        return f"{inner}.T" if len(expr.shape) == 2 else f"{inner}.swapaxes(-2, -1)"

    def _expand(self, expr: Expr) -> str:
        return f"np.broadcast_to({self.show(expr.args[0])}, {written(tuple(expr.shape))})"

    def _tuple(self, expr: Expr) -> str:
        inside = ", ".join(map(self.show, expr.args))
        return f"({inside},)" if len(expr.args) == 1 else f"({inside})"


class Dialect:
    """NumPy or PyTorch: how an expression of PyTorch becomes text."""

    def __init__(self, names: Names, *, torch: bool = False) -> None:
        self.torch = torch
        self.translate: Callable[[Expr], Expr] = _doubled if torch else Translation(names.scope.evaluate)
        self.show = Printer("torch").show if torch else NumpyPrinter().show
        self.copy = "clone" if torch else "copy"


def _doubled(expr: Expr) -> Expr:
    """Return ``expr`` with casts to a floating type as casts to float64, which a test computes in."""

    def change(part: Expr) -> Expr | None:
        if part.op == "method" and part.data in ("float", "half", "bfloat16"):
            return replace(part.args[0], change).method("double")
        if part.op == "raw" and part.data in ("torch.float32", "torch.float16", "torch.bfloat16"):
            return raw("torch.float64")
        return None

    return replace(expr, change)


class Writer:
    """Writes expressions with the names of a page."""

    def __init__(self, names: Names, dialect: Dialect, stored: dict[Loop, dict[str, Value]]) -> None:
        self.names, self.dialect, self.stored = names, dialect, stored
        self.forward, self.scope, self.graph = names.forward, names.scope, names.graph
        self.loops = [s.loop for s in names.backward.shares if isinstance(s, LoopShares)]
        self.loop: Loop | None = None  # in whose body the line stands
        self.now: float = END
        self.step: Step | None = None
        self.folded: dict[Value, str] = {}  # values before a loop that have the loop's name from the start
        self.helping: list[str] = []  # lines that the next one needs
        self._helpers: set[str] = set()

    # -- expressions

    def resolved(self, expr: Expr) -> Expr:
        """Return ``expr`` in the page's language, with the page's names."""
        return self._named(self.translated(expr))

    def translated(self, expr: Expr) -> Expr:
        """Return ``expr`` in the page's language.

        Raises:
            DeriveError: there is an operation without a form in that language.
        """
        try:
            return self.dialect.translate(expr)
        except NoFormError as error:
            place = f"{self.step.site}: `{self.step.text}`: " if self.step is not None else ""
            raise DeriveError(f"{place}`{error}` has no NumPy form: write it with other operations") from None

    def _named(self, expr: Expr) -> Expr:
        return replace(self._sizes_translated(expr), self._change)

    def _shown(self, expr: Expr, around: int = 0) -> str:
        return self.dialect.show(self._named(expr), around)

    def _sizes_translated(self, expr: Expr) -> Expr:
        """Return ``expr`` with the shapes of what is repeated as numbers."""

        def change(part: Expr) -> Expr | None:
            if part.op != "expand":
                return None
            return Expr("expand", map(self._sizes_translated, part.args), tuple(map(int, part.shape)))

        return replace(expr, change)

    def _change(self, part: Expr) -> Expr | None:
        if part.op in ("number", "raw"):
            return self.names.translated(part, self.now, self.loop, torch=self.dialect.torch)
        if part.op == "gradient":
            return name(self.gradient_name(part.data), part.shape)
        if part.op == "T":
            return transposed(replace(part.args[0], self._change))
        if part.op == "let":
            return self._help(part, part.args[0], str(part.data))
        if part.op in ("scatter", "overwritten"):
            return self._help(part, part, "placed" if part.op == "scatter" else "changed")
        if part.op == "list" and (united := self._each_iteration(part.args)) is not None:
            return united
        return self._value(part.data, part) if part.op == "value" else None

    def _help(self, part: Expr, definition: Expr, wish: str) -> Expr:
        target = self.names.helper(part.key, wish)
        if target not in self._helpers:
            rows = self._placed(target, definition)
            self._helpers.add(target)
            self.helping += rows
        return name(target, part.shape)

    def statements(self, target: str, expr: Expr) -> list[str]:
        """Return the statements that give ``target`` the value ``expr``."""
        return self._placed(target, self.translated(expr))

    def _placed(self, target: str, expr: Expr) -> list[str]:
        if expr.op == "overwritten":
            x, place, value = expr.args
            if place.data == "np.diagonal" and place.args[0].op == "hole":  # a view that cannot be written
                given = (x, value, *place.args[1:])
                return [f"{target} = {self._shown(Expr('call', given, expr.shape, 'diagonal_scatter'))}"]
            start = f"{target} = {self._shown(x, ATOM)}.{self.dialect.copy}()"
            part = self._shown(fill(place, name(target, expr.shape)), ATOM)
            return [start, f"{part if place.op == 'index' else f'{part}[...]'} = {self._shown(value)}"]
        if expr.op == "scatter":
            return [f"{target} = np.zeros({written(tuple(map(int, expr.shape)))})", self._put(target, expr, "=")]
        return [f"{target} = {self._shown(expr)}"]

    def _put(self, target: str, scatter: Expr, sign: str) -> str:
        value, key = scatter.args
        items = [self._shown(item) for item in key.args]
        keys, shown = ", ".join(items), self._shown(value.args[0] if value.op == "expand" else value)
        if not scatter.data:
            return f"{target}[{keys}] {sign} {shown}"
        if any(item.op == "raw" and ":" in item.data for item in key.args):
            keys = f"np.s_[{keys}]"
        elif len(items) > 1:
            keys = f"({keys})"
        return f"np.add.at({target}, {keys}, {shown})"

    # -- values

    def gradient_name(self, value: Value) -> str:
        """Return the name of the gradient of ``value``."""
        before = self.loop is not None and self.loop.home.get(value, (1,))[0] == 0
        return f"d{self.scope.identifier(value)}" + "_prev" * before

    def _value(self, value: Value, leaf: Expr) -> Expr:
        home = next((loop for loop in self.loops if value in loop.home), None)
        if home is not None and home is self.loop:
            return self._in_loop(value, leaf, home)
        if home is not None:
            if home.home[value][0] != len(home.iterations) - 1:
                raise NotALoopError("what one iteration made is read after the loop")
            self._name_of_position(value, home)
        elif not self.names.has_line(value) and self._fits_inside(value):
            return self.resolved(self.definition(value))
        elif not self.names.has_line(value):
            self.names.give_line(value)
        return name(self.folded.get(value) or self.names.of(value), leaf.shape)

    def _name_of_position(self, value: Value, loop: Loop) -> str:
        """Return the name that all iterations have for ``value``, which has one from now on."""
        one = loop.value(1, loop.home[value][1])
        if value.name is None:
            self.names.give_line(one)
            own = self.scope.name(one, own_name(one))
            self.names.give_line(value)
            self.scope.unite([loop.value(k, loop.home[value][1]) for k in range(len(loop.iterations))], own, one)
        self.names.read.add(value)
        return self.names.of(one)

    def _in_loop(self, value: Value, leaf: Expr, loop: Loop) -> Expr:
        raise NotImplementedError

    def _fits_inside(self, value: Value) -> bool:
        raise NotImplementedError

    def _each_iteration(self, items: Sequence[Expr]) -> Expr | None:
        """Return ``[h_at[t] for t in range(T)]`` for a list of what each iteration of a loop made."""
        first = items[0].data if items and items[0].op == "value" else None
        loop = next((loop for loop in self.loops if first in loop.home), None)
        if loop is None or loop is self.loop or first is None:
            return None
        position = loop.home[first][1]
        values = [loop.value(k, position) for k in range(len(loop.iterations))]
        if [item.data for item in items] != values:
            raise NotALoopError("some iterations are read after the loop")
        own = self._name_of_position(first, loop)
        self.names.read.update(values)
        self.stored[loop][own] = loop.value(1, position)
        return raw(f"[{own}_at[{loop.target}] for {loop.target} in {self.iterable(loop)}]")

    def iterable(self, loop: Loop) -> str:
        """Return what a loop runs over."""
        text = self.names.text(loop.iterable, END, torch=self.dialect.torch)
        return text if text is not None else self.names.constant(loop.iterable, None)

    # -- what made a value

    def definition(self, value: Value) -> Expr:
        """Return the step that made ``value`` as an expression; a change in place as a changed copy.

        Raises:
            DeriveError: nothing can make it again.
        """
        step = value.step
        self.forward.extra = {self.loop.target: self.loop.counts[1]} if self.loop is not None else None
        try:
            if step is not None and step.op == "overlay":
                return self._overlaid(step)
            if step is not None and step.generator_state is not None:
                raise DeriveError(f"{step.site}: `{step.text}`: NumPy draws other numbers: draw the mask yourself, "
                                  "and multiply by it")  # fmt: skip
            if step is not None and step.writes and not step.is_random:
                before = next((before for before, after in step.writes if after is value), None)
                if before is not None and writes_itself(step):
                    return self.forward.leaf(before)
                if before is not None and plain(step.op) == "setitem":
                    shape = tuple(map(int, value.shape))
                    convert = self.forward.convert(step)
                    place = index(hole(shape), self.forward.key(step), ())
                    return overwritten(self.forward.leaf(before), place, convert(step.args[2], "Expr"))
                if before is not None and step.op.endswith("_") and not step.op.startswith("__"):
                    convert = self.forward.convert(step)
                    given = [self.forward._argument(item, convert) for item in step.args]
                    given += [keyword(key, self.forward._argument(item, convert)) for key, item in step.kwargs.items()]
                    if self.dialect.torch:
                        given[0] = given[0].method("clone")
                    return Expr("method", given, value.shape, step.op if self.dialect.torch else plain(step.op))
            return self.forward.definition(value)
        finally:
            self.forward.extra = None

    def _overlaid(self, step: Step) -> Expr:
        """Return a tensor after another one, which shares memory with it, was written."""
        before, written = (self.forward.leaf(item) for item in step.args[:2])
        shared = sharing(step, self.forward)
        if shared.kind == "apart":
            return before
        if shared.kind == "same":
            return written
        place = shared.place
        if place is not None:
            return overwritten(before, place, written)
        if shared.kind == "around" and (outward := _views(step.args[0], step.args[1])) is not None:
            return fill(_place(outward, step.args[1], self.forward), written)
        raise DeriveError(f"{step.site}: `{step.text}` changes a tensor that another one shares memory with: "
                          "write into a clone")  # fmt: skip

    def depth(self, value: Value) -> int:
        """Return the cost of ``value`` with every unnamed value in it computed inside; more than CHEAP is not told."""
        try:
            expr = self.definition(value)
        except DeriveError:
            return CHEAP + 1
        whole = cost(expr)
        for part in walk(expr):
            if part.op == "value" and whole <= CHEAP and not self.names.has_line(part.data):
                whole += self.depth(part.data)
        return whole
