"""The forward of a page, a line for each value that has a name."""

from __future__ import annotations

from handgrad.deriver.loops import Loop, NotALoopError
from handgrad.deriver.numpy_page.names import Names
from handgrad.deriver.numpy_page.writer import Dialect, Writer
from handgrad.deriver.page import shape_comment
from handgrad.expr import Expr, cost, expand, name
from handgrad.graph import Const, Step, Value

Row = tuple[float, str]  # when what it defines is known, and its text


class ForwardLines(Writer):
    """The lines of a forward, and of its loops, which keep what the backward reads."""

    def __init__(
        self, names: Names, dialect: Dialect, stored: dict[Loop, dict[str, Value]], read_back: set[Value]
    ) -> None:
        super().__init__(names, dialect, stored)
        outputs = names.backward.outputs
        self.needed = names.ancestors(*outputs, *names.read)
        self.readers: dict[Value, list[Step]] = {}
        for step in self.graph.steps:
            if any(value in self.needed and not names.is_argument(value) for value in step.made):
                for value in dict.fromkeys(step.inputs):
                    self.readers.setdefault(value, []).append(step)
        self._fold_starts({*outputs, *read_back})

    def _fold_starts(self, kept: set[Value]) -> None:
        for loop in self.loops:
            for position, start in loop.carried.items():
                if isinstance(start, Value) and not self.names.is_argument(start) and start not in kept:
                    own = self.scope.identifier(loop.value(0, position))
                    inside = all(step in loop.iterations[0] for step in self.readers.get(start, []))
                    if own and inside and start.name is not None and start.shape == loop.value(0, position).shape:
                        self.folded[start] = own

    def rows(self) -> list[Row]:
        """Return the lines, each with the last value that it needs to be there."""
        rows: list[Row] = []
        first = {loop.iterations[0][0].index: loop for loop in self.loops}
        inside = {step.index for loop in self.loops for steps in loop.iterations for step in steps}
        for step in self.graph.steps:
            if step.index in first:
                rows += self._loop(first[step.index])
            elif step.index not in inside:
                rows += self._rows_of_step(step)
        return rows

    def _rows_of_step(self, step: Step) -> list[Row]:
        named = all(value in self.needed and self.names.has_line(value) for value in step.outs)
        if len(step.outs) < 2 or not named or step.writes or self.names.is_argument(step.outs[0]):
            return [row for value in step.made for row in self._rows_of(value, step)]
        self.step, self.now = step, step.outs[0].id
        whole = self.translated(self.definition(step.outs[0]))
        if whole.op != "index" or whole.args[0].op not in ("call", "method"):  # its parts are made one by one
            return [row for value in step.made for row in self._rows_of(value, step)]
        targets = ", ".join(map(self.names.of, step.outs))
        made = f"{targets} = {self._shown(whole.args[0])}{shape_comment(self.forward.sizes.shape(step.outs[0]))}"
        helping, self.helping = self.helping, []
        return [(step.outs[-1].id, row) for row in (*helping, made)]

    def _rows_of(self, value: Value, step: Step) -> list[Row]:
        if value not in self.needed or self.names.is_argument(value):
            return []
        if not self.names.has_line(value) and len(self.readers.get(value, ())) > 1:
            self.step, self.now = step, value.id
            if cost(self.definition(value)):
                self.names.give_line(value)
        if not self.names.has_line(value):
            return []
        self.step, self.now = step, value.id
        target = self.folded.get(value) or self.names.of(value)
        made = self.statements(target, self.definition(value))
        made[-1] += shape_comment(self.forward.sizes.shape(value))
        helping, self.helping = self.helping, []
        return [(value.id, row) for row in (*helping, *made)]

    def _fits_inside(self, value: Value) -> bool:  # noqa: ARG002 the forward is written as it was
        return True

    # -- loops

    def _loop(self, loop: Loop) -> list[Row]:
        here = [
            p for p in loop.positions() if any(loop.value(k, p) in self.needed for k in range(len(loop.iterations)))
        ]
        if not here:
            return []
        before_loop, after = loop.iterations[0][0].made[0].id, float(loop.value(-1, here[-1]).id)
        starts: list[str] = []
        for position, start in loop.carried.items():
            if position in here and not (isinstance(start, Value) and start in self.folded):
                starts.append(self._start(loop.value(0, position), start))
        body: list[str] = []
        for position in here:
            value = loop.value(1, position)
            if self.names.has_line(value):
                self.loop, self.step, self.now = loop, value.step, value.id
                try:
                    made = self.statements(self.names.of(value), self.definition(value))
                finally:
                    self.loop = None
                made[-1] += shape_comment(self.forward.sizes.shape(value))
                body += [*self.helping, *made]
                self.helping = []
        stored = self.stored[loop]
        names_at = {own: own.removesuffix("_prev") if loop.home[v][0] == 0 else own for own, v in stored.items()}
        early = [
            f"{own}_at[{loop.target}] = {plain}" for own, plain in names_at.items() if loop.home[stored[own]][0] == 0
        ]
        late = [
            f"{own}_at[{loop.target}] = {plain}" for own, plain in names_at.items() if loop.home[stored[own]][0] == 1
        ]
        rows = [*starts]
        if stored:
            rows.append(f"{', '.join(f'{own}_at' for own in stored)} = {', '.join(['{}'] * len(stored))}")
        self.now = before_loop
        rows.append(f"for {loop.target} in {self.iterable(loop)}:")
        rows += [f"    {row}" for row in (*early, *body, *late)]
        return [(after, row) for row in rows]

    def _start(self, later: Value, start: Value | Const) -> str:
        own = str(self.scope.identifier(later))
        if isinstance(start, Const):
            return f"{own} = {start.value!r}"
        self.step, self.now = later.step, later.id
        leaf = self.forward.leaf(start)
        return self.statements(own, leaf if start.shape == later.shape else expand(leaf, tuple(later.shape)))[0]

    def _in_loop(self, value: Value, leaf: Expr, loop: Loop) -> Expr:
        iteration, position = loop.home[value]
        known = self.names.has_line(loop.value(1, position))
        if iteration == 0 and (not known or (self.step is not None and self._is_over(loop, position))):
            raise NotALoopError("an iteration reads what the one before it made, after it made its own")
        if not known:
            return self.resolved(self.definition(value))
        return name(self.names.of(loop.value(1, position)), leaf.shape)

    def _is_over(self, loop: Loop, position: tuple[int, int]) -> bool:
        here = next((j for j, step in enumerate(loop.body) if step is self.step), 0)
        return position[0] < here
