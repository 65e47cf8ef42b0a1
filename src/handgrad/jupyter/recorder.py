"""The trace of a session that goes on for hours: it stops at training loops, forgets, and never breaks a cell."""

from __future__ import annotations

import contextlib
import linecache
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType, NoneType, SimpleNamespace, TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack

from handgrad import claims
from handgrad.graph import Binding, FrameInfo, Graph, Scope, Value
from handgrad.source import Statement
from handgrad.tracer import GIVEN_BYTES, KEPT_BYTES, Tracer, name_modules, name_values

ITERATIONS = 3  # of a training loop, before tracing is suspended
LOSSES = 8  # iterations of a loop that computes losses and gradients, and changes no parameter that we know
MOST_STEPS = 10_000  # operations in one cell: one or two seconds of tracing
MOST_BYTES = 2**30  # tensors in one cell, and in all that is remembered


class Recorder(Tracer):
    """A tracer that is entered and left once a cell.

    Between two entries tensors may change unseen. A parameter that did is taken as new.
    """

    def __init__(self, first_seed: int | None = None) -> None:
        """``first_seed`` is the one that PyTorch began with, None where nobody knows: nothing is unseeded then."""
        super().__init__(kept_bytes=KEPT_BYTES, given_bytes=GIVEN_BYTES)
        self.first_seed = first_seed
        self.why_suspended: str | None = None
        self.has_failed = False
        self.is_on = False
        self.began = self._first_step = self._first_update = 0  # what they were when the cell began
        self._is_passive = False  # on the stack of modes, and doing nothing
        self._rounds = self._first_byte = 0
        self._seen_updates = self._seen_calls = self._seen_bindings = 0
        self._fresh: list[Binding] = []  # since the last iteration
        self._losses: set[tuple[Statement, str]] = set()
        self._cell_frames: dict[Scope, FrameInfo] = {}
        self._parameters: list[tuple[Tensor, Tensor]] = []  # as they were when tracing stopped

    # -- a cell begins and ends

    def start(self) -> None:
        """Trace from here on: a new cell."""
        self.began, self._first_step, self._first_update = self.time, len(self.graph.steps), self.updates
        self.why_suspended, self.has_failed = None, False
        self._rounds, self._first_byte = 0, self.made_bytes
        self._seen_updates, self._seen_calls = self.updates, len(self.backward_calls)
        self._fresh, self._losses = [], set()
        self._seen_bindings = len(self.graph.bindings)
        self.resume()

    def resume(self) -> None:
        """Trace again, if tracing was not suspended in this cell."""
        if self.is_on or self.why_suspended:
            return
        self.forget_frames()
        self._cell_frames.clear()
        for tensor, before in self._parameters:
            if tensor.shape != before.shape or not torch.equal(tensor.detach(), before):
                self.take_as_new(tensor)
        self._parameters = []
        self._is_passive, self.is_on = False, True
        self.__enter__()

    def stop(self) -> None:
        """Trace no more."""
        self._is_passive = True
        modes = _modes()
        if modes and modes[-1] is self:
            self.__exit__(None, None, None)
        elif self.is_on:  # someone else's mode lies above, or a call is under way: this mode stays and does nothing
            self.unwatch_lines()
        if self.is_on:
            self.is_on = False
            with torch._C.DisableTorchFunction():
                self._parameters = [(t, t.detach().clone()) for t, value in self.tensors() if value.is_parameter]

    def suspend(self, why: str) -> None:
        """Trace no more in this cell."""
        self.why_suspended = self.why_suspended or why
        self._is_passive = True  # the next line leaves the mode: inside of a call it cannot be left

    def _fail(self, error: Exception) -> None:
        self.has_failed = True
        self.suspend(f"handgrad itself failed ({type(error).__name__}: {error})")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Do not trace what runs inside, such as the judge."""
        was_on = self.is_on
        self.stop()
        try:
            yield
        finally:
            if was_on:
                self.resume()

    def __enter__(self) -> Recorder:
        if not any(mode is self for mode in _modes()):
            super().__enter__()
        else:
            self.watch_lines()
        return self

    # -- what is watched, with a limit

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._is_passive:
            return func(*args, **(kwargs or {}))
        try:
            result = super().__torch_function__(func, types, args, kwargs)
        except Exception as error:
            done = _done_before(error)
            if done is None:
                raise
            self._fail(error)
            return done[0] if done else func(*args, **(kwargs or {}))
        if self.updates != self._seen_updates or len(self.graph.bindings) != self._seen_bindings:
            self._on_bindings()
        if len(self.graph.steps) - self._first_step > MOST_STEPS:
            self.suspend(f"tracing stopped after {MOST_STEPS:,} operations")
        if self.made_bytes - self._first_byte > MOST_BYTES:
            self.suspend(f"tracing stopped after {MOST_BYTES / 2**30:g} GiB of tensors")
        return result

    def on_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Watch the lines of code whose source is known, as long as this is on."""
        return self._quietly(super().on_call, frame, event, argument)

    def on_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Look up the names of the statement that has just run, as long as this is on."""
        return self._quietly(super().on_line, frame, event, argument)

    def _quietly(self, watch: Callable[..., Any], *arguments: Any) -> Any:
        if self._is_passive:
            self.stop()
            return None
        try:
            return watch(*arguments)
        except Exception as error:  # a mistake of ours is nothing to the cell
            self._fail(error)
            return None

    def new_call(self, frame: FrameType) -> FrameInfo:
        """Let the statements of a cell, each of which IPython runs in a frame of its own, share one."""
        info = super().new_call(frame)
        if info.scope.kind == "module" and info.caller is None:
            return self._cell_frames.setdefault(info.scope, info)
        return info

    def _on_bindings(self) -> None:
        """Count an iteration of training: a loss is computed again, or a parameter changed, after a new gradient."""
        fresh = self.graph.bindings[self._seen_bindings :]
        again = self.updates != self._seen_updates
        for binding in fresh:
            if binding.value is not None and not binding.value.shape and _is_loss(binding.name):
                place = (binding.statement, binding.name)
                again |= place in self._losses
                self._losses.add(place)
        self._seen_updates = self.updates
        self._fresh += fresh
        self._seen_bindings = len(self.graph.bindings)
        if again:
            self._rounds += len(self.backward_calls) > self._seen_calls or bool(self.gradients(self._fresh))
            self._fresh, self._seen_calls = [], len(self.backward_calls)
        if self._rounds > (LOSSES if self.updates == self._first_update else ITERATIONS):
            self.suspend(f"a training loop: tracing stopped after {self._rounds - 1} iterations")

    # -- what is remembered

    def gradients(self, bindings: list[Binding], names: Iterable[str] = ()) -> list[Binding]:
        """Return those that give a name to something computed that may be the gradient of a value with a name.

        ``names`` are names of tensors, beside those that were traced.
        """
        names = self.bound_names.union(names)
        return [
            binding
            for binding in bindings
            if _is_computed(binding)
            and any(name.rpartition(".")[2] in names for name in claims.names_of_gradient(binding))
        ]

    def has_seen(self, tensor: Tensor) -> bool:
        """Whether the operation that made ``tensor`` was traced."""
        value = self.known_value(tensor)
        return value is not None and value.step is not None

    @property
    def new(self) -> list[Binding]:
        """The bindings of this cell."""
        return [binding for binding in self.graph.bindings if binding.time > self.began]

    def seen_by_cell(self, namespace: dict[str, Any], *, others: bool = False) -> Graph:
        """Return the graph with the gradients of this cell and, of the ``others``, those that it read, or all.

        What only locals of functions that earlier cells called, or earlier values of a name, stand for is left out.
        """
        new = set(self.new)
        read = self.graph.ancestors(*_values_of(new))
        known = self.graph.ancestors(*read, *_values_of(b for b in self._last() if b.scope.kind != "frame"))
        foreign = set() if others else set(self.gradients(self.graph.bindings)) - new
        bindings = [
            b
            for b in self.graph.bindings
            if b in new or b.value in read or (b not in foreign and (b.value is None or b.value in known))
        ]
        graph = self.named(bindings, namespace)
        graph.failures = [failure for failure in graph.failures if failure.time > self.began]
        return graph

    def named(self, bindings: list[Binding], namespace: dict[str, Any]) -> Graph:
        """Return the graph with these bindings, its values named by them."""
        for value in self.graph.values:
            value.name = value.base_name = None
        graph = replace(self.graph, bindings=bindings)
        name_values(graph)
        name_modules(self, namespace)
        return graph

    def forget(self) -> None:
        """Drop what no name, no object and no later value of the session needs any more.

        Kept are the last value of each name, the locals of the last call of each function, every tensor that somebody
        else still holds, and what these were computed from.
        """
        for binding in self.graph.bindings:
            if binding.time <= self.began:
                binding.visible = {name: item for name, item in binding.visible.items() if isinstance(item, _LIGHT)}
        self._forget_owners()
        last = self._last()
        kept = self.graph.ancestors(*_values_of([*last, *self.new]), *self._held_by_others())
        graph = self.graph
        graph.values[:] = [value for value in graph.values if value in kept]
        graph.steps[:] = [step for step in graph.steps if any(value in kept for value in step.made)]
        for index, step in enumerate(graph.steps):
            step.index = index
        graph.bindings[:] = [b for b in graph.bindings if b.value in kept or (b.value is None and b in last)]
        for binding in graph.bindings:
            if binding.time <= self.began:
                binding.visible = {n: v for n, v in binding.visible.items() if not isinstance(v, Value) or v in kept}
        graph.escapes[:] = [escape for escape in graph.escapes if escape.value in kept]
        graph.failures[:] = [failure for failure in graph.failures if failure.time > self.began]
        graph.made.clear()
        frames = {b.frame for b in graph.bindings} | {step.frame for step in graph.steps}
        for serial in list(frames):
            while (info := graph.frames.get(serial)) is not None and info.caller is not None:
                serial = info.caller
                frames.add(serial)
        for serial in [serial for serial in graph.frames if serial not in frames]:
            del graph.frames[serial]
        self.keep_only(kept)

    @property
    def has_compared(self) -> bool:
        """Whether this cell did something with a gradient of autograd's, or ended in a line that failed."""
        steps = (step for step in self.graph.steps if step.time > self.began)
        return bool(self.graph.failures) or any(v.grad_of is not None for step in steps for v in step.inputs)

    @property
    def size(self) -> int:
        """The bytes of the tensors that are remembered."""
        memories = {}
        with torch._C.DisableTorchFunction():
            for value in self.graph.values:
                if isinstance(value.kept, Tensor) and value.kept.layout == torch.strided:
                    storage = value.kept.untyped_storage()
                    memories[storage.data_ptr()] = storage.nbytes()
        return sum(memories.values())

    def _last(self) -> set[Binding]:
        """Return the last binding of each name; for locals, of the last call of each function."""
        last: dict[Any, Binding] = {}
        for binding in self.graph.bindings:
            scope, statement = binding.scope, binding.statement
            place = (statement.source.filename, statement.line) if scope.kind == "frame" else scope
            if scope.kind != "object" or scope.key in self.owners:
                last[place, binding.name] = binding
        return set(last.values())

    def _forget_owners(self) -> None:
        """Drop the objects that only we still hold."""
        while dead := [n for n in self.owners if _references(self.owners[n]) - _NOBODY <= 1]:
            self.forget_owners(dead)

    def _held_by_others(self) -> Iterator[Value]:
        """Yield the values of tensors that somebody else holds: a list, an object, a closure."""
        ours = self.references()
        ours.update(id(tensor) for tensor, _ in self._parameters)
        for tensor, value in list(self.tensors()):
            others = _references(tensor) - _IN_LOOP - ours[id(tensor)]
            if _PYTORCH_COUNTS and tensor._use_count() > 1:  # type: ignore[attr-defined]
                others -= 1  # a graph of autograd that saved it: nobody can reach it there
            if others > 0:
                yield value


def _modes() -> list[Any]:
    return _get_current_function_mode_stack()  # type: ignore[no-untyped-call, no-any-return]


def _values_of(bindings: Iterable[Binding]) -> list[Value]:
    return [binding.value for binding in bindings if binding.value is not None]


def _references(item: Any) -> int:
    return sys.getrefcount(item)


def _pytorch_counts() -> bool:
    """Tell whether a tensor that only PyTorch holds counts as one more reference, as newer versions do."""
    probe = SimpleNamespace(hold=torch.zeros(1))
    before = _references(probe.hold)
    saved = torch.ones(1, requires_grad=True) * probe.hold
    return saved.requires_grad and _references(probe.hold) > before


_PROBE = SimpleNamespace(hold=object())
_NOBODY = _references(_PROBE.hold) - 1  # what is counted for something that nobody holds
_IN_LOOP = next(_references(item) for item, _ in [(object(), None)])  # and that a loop over pairs stands at
_PYTORCH_COUNTS = _pytorch_counts()
_LIGHT = (Value, int, float, str, ModuleType, FunctionType, BuiltinFunctionType, type, NoneType)


def _is_loss(name: str) -> bool:
    return name in claims.LOSS_NAMES or name.startswith("loss")


def _is_computed(binding: Binding) -> bool:
    value = binding.value
    if claims.is_argument(binding):
        return False
    if value is None:
        return binding.number is None
    return value.step is not None and value.is_floating and value.grad_of is None


def _done_before(error: Exception) -> tuple[Any, ...] | None:
    """Say whose mistake ``error`` is, that came out of a traced call.

    None: the user's, raised by the call itself. Else the tracer's own: what the call had returned before, or nothing
    if it had not been made yet.
    """
    frames: list[TracebackType] = []
    at = error.__traceback__
    while at is not None:
        frames.append(at)
        at = at.tb_next
    last = frames[-1].tb_frame
    module = last.f_globals.get("__name__", "")
    if not module.startswith("handgrad.") or module.startswith("handgrad.models"):
        return None
    if "func(*args, **kwargs)" in linecache.getline(last.f_code.co_filename, frames[-1].tb_lineno):
        return None
    for one in frames:
        if one.tb_frame.f_code.co_name.startswith(("_on_", "__torch")) and "result" in one.tb_frame.f_locals:
            return (one.tb_frame.f_locals["result"],)
    return ()
