"""Long training loops are left after their first iterations; every other loop runs in full.

`for x in xs` becomes `for x in __handgrad_loop__(xs, site)`, and `while test` asks `__handgrad_again__(site)` first.
The nodes of the author keep their places. A loop that is left ends as if it had come to its end: its `else` runs.
"""

from __future__ import annotations

import ast
import builtins
import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import chain, islice
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from handgrad.report import Place

BUSY = 20  # operations that make an iteration more than bookkeeping
PASS = 40  # operations of an iteration that updates without autograd: a forward and a backward by hand
LONG = 5000  # iterations
LONG_UPDATES = 1000  # iterations of a loop that changes what it has read, as a descent without parameters does
SMALL_UPDATES = 200  # iterations that update with few operations, such as a loop over parameters by number
MOST_STEPS = 50_000  # operations in one loop of unknown length
UNSEEN = 32  # iterations that are watched one by one before several are taken at once
MOST_AT_ONCE = 16

LOOP, ENTER, AGAIN = "__handgrad_loop__", "__handgrad_enter__", "__handgrad_again__"


class Counts(Protocol):
    """What is asked of the tracer."""

    @property
    def updates(self) -> int:
        """Grows whenever the code trains."""

    @property
    def step_count(self) -> int:
        """Grows with every operation."""


class Site(NamedTuple):
    """A loop in the source."""

    source: str  # how a message names the file; empty for the one that is run
    place: Place

    def __str__(self) -> str:
        return f"{self.source}:{self.place.line}" if self.source else str(self.place)


class Loops:
    """Changes loops when code is compiled, and watches them when it runs; a context manager."""

    def __init__(self, tracer: Counts, iterations: int, note: Callable[[str], None]) -> None:
        self.tracer, self.iterations, self.note = tracer, iterations, note
        self.sites: list[Site] = []
        self._running: dict[tuple[int, int], _Watch] = {}  # while loops, by frame and site

    def __enter__(self) -> Loops:
        vars(builtins).update({LOOP: self._over, ENTER: self._enter, AGAIN: self._again})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name in (LOOP, ENTER, AGAIN):
            vars(builtins).pop(name, None)

    def watched(self, tree: ast.Module, source: str = "", cell: int | None = None) -> ast.Module:
        """Return ``tree`` with its loops watched. Places of the author's nodes stay as they are."""
        changed = _Transformer(self, source, cell).visit(tree)
        assert isinstance(changed, ast.Module)  # it is what it was
        return changed

    # -- what the changed code calls

    def _over(self, iterable: Iterable[Any], site: int) -> Iterator[Any]:
        watch = _Watch(self, site, _length(iterable))
        return chain.from_iterable(_chunks(iter(iterable), watch))

    def _enter(self, site: int) -> None:
        self._running[id(sys._getframe(1)), site] = _Watch(self, site, None)

    def _again(self, site: int) -> bool:
        watch = self._running[id(sys._getframe(1)), site]
        if watch.started and watch.is_over(1, None):
            watch.leave()
            return False
        watch.start()
        return True


class _Watch:
    """One run of one loop."""

    def __init__(self, loops: Loops, site: int, length: int | None) -> None:
        self.loops, self.tracer, self.site, self.length = loops, loops.tracer, site, length
        self.count = self.trained = self.busy = self.steps = self.rewritten = 0
        self.started = False

    def start(self) -> None:
        """Look at the tracer before an iteration."""
        self.started = True
        self.updates_before, self.steps_before = self.tracer.updates, self.tracer.step_count
        self.rewrites_before = getattr(self.tracer, "rewrites", 0)
        self.backward_before = _backward_calls(self.tracer)

    def is_over(self, count: int, item: Any) -> bool:
        """Tell whether ``count`` more iterations, the last of which had ``item``, are enough."""
        self.count += count
        steps = self.tracer.step_count - self.steps_before
        self.steps += steps
        enough = self.loops.iterations
        if self.tracer.updates != self.updates_before and not _is_parameter(item):
            self.trained += 1
            is_pass = steps >= PASS or _backward_calls(self.tracer) != self.backward_before
            return self.trained >= (enough if is_pass else max(enough, SMALL_UPDATES))
        if getattr(self.tracer, "rewrites", 0) != self.rewrites_before:
            self.rewritten += 1
            if self.length is not None and self.length > LONG_UPDATES and self.rewritten >= enough:
                return True
        if steps < BUSY * count:
            return False
        self.busy += count
        return self.steps >= MOST_STEPS or (self.length is not None and self.length > LONG and self.busy >= enough)

    def leave(self) -> None:
        """Note that the loop was left."""
        plural = "iteration" if self.count == 1 else "iterations"
        self.loops.note(f"{self.loops.sites[self.site]}: the loop was left after {self.count} {plural}")


def _chunks(iterator: Iterator[Any], watch: _Watch) -> Iterator[Iterable[Any]]:
    """Yield the items one by one; several at once where the first of them did nothing with tensors.

    Between two chunks the loop costs what it costs without us.
    """
    size, is_over = 1, False
    for item in iterator:
        if is_over:  # only now, since there is one more
            watch.leave()
            return
        watch.start()
        yield (item,) if size == 1 else chain((item,), islice(iterator, size - 1))
        is_over = watch.is_over(size, item)
        idle = watch.tracer.updates == watch.updates_before and watch.tracer.step_count == watch.steps_before
        size = min(2 * size, MOST_AT_ONCE) if idle and watch.count >= UNSEEN else 1


class _Transformer(ast.NodeTransformer):
    def __init__(self, loops: Loops, source: str, cell: int | None) -> None:
        self.loops, self.source, self.cell = loops, source, cell

    def visit_For(self, node: ast.For) -> ast.For:
        self.generic_visit(node)
        node.iter = self._call(LOOP, node, node.iter, node.iter)
        return node

    def visit_While(self, node: ast.While) -> list[ast.stmt]:
        self.generic_visit(node)
        again = self._call(AGAIN, node, node.test)
        enter = self._call(ENTER, node, node.test)
        enter.args = again.args  # the same site
        node.test = ast.copy_location(ast.BoolOp(ast.And(), [again, node.test]), node.test)
        return [ast.copy_location(ast.Expr(enter), node.test), node]

    def _call(self, name: str, loop: ast.stmt, where: ast.expr, *arguments: ast.expr) -> ast.Call:
        self.loops.sites.append(Site(self.source, Place(self.cell, loop.lineno)))
        site = ast.copy_location(ast.Constant(len(self.loops.sites) - 1), where)
        function = ast.copy_location(ast.Name(name, ast.Load()), where)
        return ast.copy_location(ast.Call(function, [*arguments, site], []), where)


def _length(iterable: Any) -> int | None:
    if not isinstance(iterable, Sized):
        return None
    try:
        return operator.length_hint(iterable)
    except Exception:  # the author's own `__len__` may fail in any way
        return None


def _backward_calls(tracer: Counts) -> int:
    return len(getattr(tracer, "backward_calls", ()))


def _is_parameter(item: Any) -> bool:
    """Tell whether a loop over such items is one over parameters or layers, which is no training loop."""
    if isinstance(item, tuple | list):
        return any(_is_parameter(part) for part in item[:8])
    if callable(getattr(type(item), "parameters", None)):
        return True
    return hasattr(type(item), "requires_grad") and bool(item.requires_grad and item.is_leaf)
