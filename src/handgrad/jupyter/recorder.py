"""The trace of a session that goes on for hours: it stops at training loops, forgets, and never breaks a cell."""

from __future__ import annotations

import contextlib
import linecache
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType, NoneType, SimpleNamespace, TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack

from handgrad import claims
from handgrad.graph import Binding, Graph, Value
from handgrad.tracer import KEPT_BYTES, Tracer, _name_values, name_modules

ITERATIONS = 3  # of a training loop, before tracing is suspended
MOST_STEPS = 20_000  # operations in one cell
MOST_BYTES = 2**30  # tensors in one cell, and in all that is remembered


class Recorder(Tracer):
    """A tracer that is entered and left once a cell.

    Between two entries tensors may change unseen. A parameter that did is taken as new.
    """

    def __init__(self) -> None:
        super().__init__()
        self.why_suspended: str | None = None
        self.is_on = False
        self.began = self._first_step = 0  # the time and the step at which the cell began
        self._is_passive = False  # on the stack of modes, and doing nothing
        self._rounds = self._bytes = 0
        self._seen_updates = self._seen_calls = self._seen_bindings = 0
        self._parameters: list[tuple[Tensor, Tensor]] = []  # as they were when tracing stopped

    # -- a cell begins and ends

    def start(self) -> None:
        """Trace from here on: a new cell."""
        self.began, self._first_step = self._time, len(self.graph.steps)
        self.why_suspended = None
        self._rounds = self._bytes = 0
        self._seen_updates, self._seen_calls = self.updates, len(self.backward_calls)
        self._seen_bindings = len(self.graph.bindings)
        self.resume()

    def resume(self) -> None:
        """Trace again, if tracing was not suspended in this cell."""
        if self.is_on or self.why_suspended:
            return
        for table in (self._frames, self._pending, self._quiet):
            table.clear()  # by the ids of frames and code that may be gone
        for tensor, before in self._parameters:
            if tensor.shape != before.shape or not torch.equal(tensor.detach(), before):
                self._known.pop(id(tensor), None)
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
            sys.settrace(self._previous_trace)
        if self.is_on:
            self.is_on = False
            held = {id(k.hold): k.hold for k in self._known.values() if k.value.is_parameter}
            with torch._C.DisableTorchFunction():
                self._parameters = [(t, t.detach().clone()) for t in held.values() if isinstance(t, Tensor)]

    def suspend(self, why: str) -> None:
        """Trace no more in this cell."""
        self.why_suspended = self.why_suspended or why
        self._is_passive = True  # the next line leaves the mode: inside of a call it cannot be left

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
            self._previous_trace = sys.gettrace()
            sys.settrace(self._on_call)
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
            self.suspend(f"handgrad itself failed ({type(error).__name__}: {error})")
            return done[0] if done else func(*args, **(kwargs or {}))
        if self.updates != self._seen_updates:
            self._on_update()
        if len(self.graph.steps) - self._first_step > MOST_STEPS:
            self.suspend(f"tracing stopped after {MOST_STEPS:,} operations")
        return result

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._quietly(super()._on_call, frame, event, argument)

    def _on_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._quietly(super()._on_line, frame, event, argument)

    def _quietly(self, watch: Callable[..., Any], *arguments: Any) -> Any:
        if self._is_passive:
            self.stop()
            return None
        try:
            return watch(*arguments)
        except Exception as error:  # a mistake of ours is nothing to the cell
            self.suspend(f"handgrad itself failed ({type(error).__name__}: {error})")
            return None

    def _on_update(self) -> None:
        """Count an iteration of training: a parameter changed or `backward()` ran, and there is a new gradient."""
        self._seen_updates = self.updates
        fresh = self.graph.bindings[self._seen_bindings :]
        if len(self.backward_calls) > self._seen_calls or self.gradients(fresh):
            self._rounds += 1
        self._seen_calls, self._seen_bindings = len(self.backward_calls), len(self.graph.bindings)
        if self._rounds > ITERATIONS:
            self.suspend(f"a training loop: tracing stopped after {ITERATIONS} iterations")

    def _make(self, kept: Tensor, tensor: Tensor, step: Any) -> Value:
        value = super()._make(kept, tensor, step)
        size = tensor.numel() * tensor.element_size()
        self._bytes += size if size <= KEPT_BYTES else 0
        if self._bytes > MOST_BYTES:
            self.suspend(f"tracing stopped after {MOST_BYTES / 2**30:g} GiB of tensors")
        return value

    # -- what is remembered

    def gradients(self, bindings: list[Binding], names: Iterable[str] = ()) -> list[Binding]:
        """Return those that give a name to something computed that may be the gradient of a value with a name.

        ``names`` are names of tensors, beside those that were traced.
        """
        names = {name for _, name in self._bound}.union(names)
        return [
            binding
            for binding in bindings
            if _is_computed(binding)
            and any(name.rpartition(".")[2] in names for name in claims.names_of_gradient(binding))
        ]

    def has_seen(self, tensor: Tensor) -> bool:
        """Whether the operation that made ``tensor`` was traced."""
        known = self._known.get(id(tensor))
        return known is not None and known.value.step is not None

    @property
    def new(self) -> list[Binding]:
        """The bindings of this cell."""
        return [binding for binding in self.graph.bindings if binding.time > self.began]

    def seen_by_cell(self, namespace: dict[str, Any]) -> Graph:
        """Return the graph without the gradients of other cells, but for those that this cell read."""
        new = self.new
        read = self.graph.ancestors(*(binding.value for binding in new if binding.value is not None))
        others = set(self.gradients(self.graph.bindings)) - set(new)
        return self.named([b for b in self.graph.bindings if b not in others or b.value in read], namespace)

    def named(self, bindings: list[Binding], namespace: dict[str, Any]) -> Graph:
        """Return the graph with these bindings, its values named by them."""
        for value in self.graph.values:
            value.name = value.base_name = None
        graph = replace(self.graph, bindings=bindings)
        _name_values(graph)
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
        roots = [binding.value for binding in (*last, *self.new) if binding.value is not None]
        kept = self.graph.ancestors(*roots, *self._held_by_others())
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
        graph.made.clear()
        frames = {b.frame for b in graph.bindings} | {step.frame for step in graph.steps}
        for serial in list(frames):
            while (info := graph.frames.get(serial)) is not None and info.caller is not None:
                serial = info.caller
                frames.add(serial)
        for serial in [serial for serial in graph.frames if serial not in frames]:
            del graph.frames[serial]
        self._known = {number: known for number, known in self._known.items() if known.value in kept}
        memories = {known.memory for known in self._known.values()}
        self._writes = {m: [w for w in writes if w[2] in kept] for m, writes in self._writes.items() if m in memories}
        self._bound = {
            key: value for key, value in self._bound.items() if not isinstance(value, Value) or value in kept
        }
        self.backward_calls[:] = [call for call in self.backward_calls if call[1] in kept]

    @property
    def size(self) -> int:
        """The bytes of the tensors that are remembered."""
        memories = {}
        with torch._C.DisableTorchFunction():
            for value in self.graph.values:
                if value.tensor.layout == torch.strided:
                    storage = value.tensor.untyped_storage()
                    memories[storage.data_ptr()] = storage.nbytes()
        return sum(memories.values())

    def _last(self) -> set[Binding]:
        """Return the last binding of each name; for locals, of the last call of each function."""
        last: dict[Any, Binding] = {}
        for binding in self.graph.bindings:
            place: Any = binding.scope
            if place.kind == "frame":
                place = (binding.statement.source.filename, binding.statement.line)
            if place.kind != "object" or place.key in self._owners:
                last[place, binding.name] = binding
        return set(last.values())

    def _forget_owners(self) -> None:
        """Drop the objects that only we still hold."""
        while dead := [n for n in self._owners if _references(self._owners[n]) - _NOBODY <= 1]:
            for number in dead:
                del self._owners[number]
        self._bound = {
            key: value for key, value in self._bound.items() if key[0].kind != "object" or key[0].key in self._owners
        }

    def _held_by_others(self) -> Iterator[Value]:
        """Yield the values of tensors that somebody else holds: a list, an object, a closure."""
        ours = Counter(id(value.tensor) for value in self.graph.values)
        ours.update(id(known.hold) for known in self._known.values())
        ours.update(id(tensor) for writes in self._writes.values() for _, tensor, _ in writes)
        ours.update(id(tensor) for tensor, _ in self._parameters)
        for known in self._known.values():
            if isinstance(known.hold, Tensor) and _references(known.hold) - _NOBODY > ours[id(known.hold)]:
                yield known.value


def _modes() -> list[Any]:
    return _get_current_function_mode_stack()  # type: ignore[no-untyped-call, no-any-return]


def _references(item: Any) -> int:
    return sys.getrefcount(item)


_PROBE = SimpleNamespace(hold=object())
_NOBODY = _references(_PROBE.hold) - 1  # what is counted for something that nobody holds
_LIGHT = (Value, int, float, str, ModuleType, FunctionType, BuiltinFunctionType, type, NoneType)


def _is_computed(binding: Binding) -> bool:
    value = binding.value
    if claims._is_argument(binding):
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
