"""A run of somebody's PyTorch code becomes a `Graph`: every operation, every name, every place.

Two things are watched. A `TorchFunctionMode` sees each call of PyTorch as it was written, with its real arguments; the
running frame says which expression that is. And Python's own line events tell when a statement has run, so that the
names it mentions can be looked up: this is how ``dlogits = dnorm_logits``, which is no operation, is seen.

An in-place write makes a new value. Other tensors that share the memory get one too, as soon as they are read again.
"""

from __future__ import annotations

import inspect
import re
import sys
import weakref
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from handgrad import source
from handgrad.errors import TraceError
from handgrad.graph import Binding, Const, Escape, Failure, FrameInfo, Graph, Scope, Step, Value
from handgrad.source import Access, Site, Statement

KEPT_BYTES = 2**24  # larger tensors are kept only as long as the code itself keeps them
INSIDE = 64  # longer lists of tensors get no names for their items
VISIBLE_ITEMS = 256  # larger lists are not looked into
MOST_FAILURES = 32
QUIET_LINES = 3_000  # so many lines without a tensor, and a function is no longer watched line by line

_ESCAPES = {
    "item": "item",
    "tolist": "tolist",
    "numpy": "numpy",
    "__array__": "numpy",
    "__bool__": "bool",
    "__float__": "item",
    "__int__": "item",
    "__index__": "item",
    "__complex__": "item",
}
_RANDOM = frozenset({
    "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "normal", "bernoulli",
    "multinomial", "poisson", "rrelu", "normal_", "uniform_", "random_", "exponential_", "bernoulli_", "geometric_",
    "log_normal_", "cauchy_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_normal_",
    "xavier_uniform_",
})  # fmt: skip
_DROPOUTS = frozenset(["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"])
_WHOLE_UPDATES = frozenset({"__iadd__", "__isub__", "add_", "sub_"})
_COMPARISONS = frozenset({"allclose", "equal"})
_TRAINING = frozenset({"backward", "grad"})


_MAY_BE_GRADIENT = re.compile(r"d[A-Za-z_]|.*(grad|bar|delta)")


class _Known:
    """What is known of a tensor object: its current value, and how far its memory's writes were seen."""

    __slots__ = ("hold", "memory", "seen", "value", "version")

    def __init__(self, hold: Any, value: Value, memory: int, seen: int, version: int) -> None:
        self.hold, self.value, self.memory, self.seen, self.version = hold, value, memory, seen, version


class Tracer(TorchFunctionMode):
    """A context manager that records what runs inside it; ``recording`` is the `Graph`.

    ``updates`` grows whenever the code trains: at `backward()`, at a step of an optimizer, at a write into a parameter.
    ``step_count`` grows with every operation.
    """

    def __init__(self, *, scopes: bool = True) -> None:
        super().__init__()
        self.scopes = scopes  # whether each binding keeps what its frame could see
        self.graph = Graph()
        self.updates = 0
        self.rewrites = 0  # in-place additions to a whole tensor that was read before
        self._read: set[int] = set()  # the values that some operation read
        self.backward_calls: list[tuple[int, Value]] = []
        self._time = 0
        self._known: dict[int, _Known] = {}
        self._writes: dict[int, list[tuple[int, Tensor, Value]]] = {}  # by memory: number, tensor, its new value
        self._write_count = 0
        self._frames: dict[int, FrameInfo] = {}
        self._frame_count = 0
        self._pending: dict[int, list[Statement]] = {}
        self._bound: dict[tuple[Scope, str], Value | float | None] = {}
        self._quiet: dict[int, int] = {}
        self._handled = 0
        self._owners: dict[int, Any] = {}
        self._calls = 0
        self._previous_trace: Any = None
        self._first_seed = torch.initial_seed()

    @property
    def step_count(self) -> int:
        """How many operations were recorded."""
        return len(self.graph.steps)

    @property
    def recording(self) -> Graph:
        """What was recorded so far, with names."""
        _name_values(self.graph)
        return self.graph

    def value_of(self, tensor: Tensor) -> Value:
        """Return the current value of ``tensor``; whatever was not seen yet becomes a leaf."""
        with torch._C.DisableTorchFunction():
            return self._value_of(tensor)

    def tensor_of(self, value: Value) -> Tensor | None:
        """Return the very tensor that ``value`` was recorded from, while it holds that value."""
        for known in self._known.values():
            if known.value is value:
                return known.hold() if isinstance(known.hold, weakref.ref) else known.hold
        return None

    # -- entering and leaving

    def __enter__(self) -> Tracer:
        super().__enter__()  # type: ignore[no-untyped-call]
        self._previous_trace = sys.gettrace()
        sys.settrace(self._on_call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sys.settrace(self._previous_trace)
        super().__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]

    # -- Python's events: names

    def _on_call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        found = source.of_code(frame.f_code)
        if found is None:
            return None
        self._enter(frame)
        if self._quiet.get(id(frame.f_code), 0) > QUIET_LINES:
            return None
        return self._on_line

    def _enter(self, frame: FrameType) -> FrameInfo:
        info = self._frames.get(id(frame))
        if info is None:
            caller, call_site, outer = None, None, frame.f_back
            while outer is not None and caller is None:
                known = self._frames.get(id(outer))
                if known is not None:
                    found = source.of_code(outer.f_code)
                    caller, call_site = (
                        known.serial,
                        next(iter(found.by_line.get(outer.f_lineno, ())), None) if found else None,
                    )
                outer = outer.f_back
            serial = self._frame_count
            self._frame_count += 1
            at_module = frame.f_locals is frame.f_globals
            scope = Scope("module", id(frame.f_globals)) if at_module else Scope("frame", serial)
            self._owners[id(frame.f_globals)] = frame.f_globals
            info = FrameInfo(
                serial, caller, getattr(frame.f_code, "co_qualname", frame.f_code.co_name), scope, call_site
            )
            self._frames[id(frame)] = self.graph.frames[serial] = info
            if not at_module:
                self._bind_arguments(frame, info)
        return info

    def _on_line(self, frame: FrameType, event: str, _argument: Any) -> Any:
        code, pending = frame.f_code, self._pending.get(id(frame))
        if pending:
            if self._handled != self._calls:
                self._quiet[id(code)] = 0
                self._handle(frame, pending)
            elif any(statement.may_alias for statement in pending):
                self._handle(frame, pending)
        if event == "exception":
            self._on_exception(frame, _argument[1])
        elif event == "line":
            quiet = self._quiet[id(code)] = self._quiet.get(id(code), 0) + 1
            if quiet > QUIET_LINES:
                self._pending.pop(id(frame), None)
                return None
            found = source.of_code(code)
            self._pending[id(frame)] = found.by_line.get(frame.f_lineno, []) if found else []
        elif event == "return":
            self._pending.pop(id(frame), None)
            if not code.co_flags & inspect.CO_GENERATOR:
                self._frames.pop(id(frame), None)
        return self._on_line

    def _on_exception(self, frame: FrameType, error: BaseException) -> None:
        """Note where an exception began; frames that it passes on its way out are not noted."""
        failures = self.graph.failures
        found = source.of_code(frame.f_code)
        statements = found.by_line.get(frame.f_lineno, ()) if found else ()
        if not statements or (failures and failures[-1].error is error) or isinstance(error, StopIteration):
            return
        self._time += 1
        info = self._enter(frame)
        with torch._C.DisableTorchFunction():
            visible = self._visible(frame.f_locals, frame) if self.scopes else {}
        failures.append(Failure(self._time, error, statements[0], info.serial, info.scope, visible))
        del failures[:-MOST_FAILURES]

    def _handle(self, frame: FrameType, statements: list[Statement]) -> None:
        """Note every name that ``statements`` mention and that now stands for another value."""
        self._handled = self._calls
        with torch._C.DisableTorchFunction():
            names: dict[str, Any] | None = None
            for statement in statements:
                for access in statement.mentions:
                    if names is None:
                        names = frame.f_locals
                    self._look(access, frame, names, statement)

    def _look(self, access: Access, frame: FrameType, names: dict[str, Any], statement: Statement) -> None:
        current = names.get(access.root, _NOTHING)
        if current is _NOTHING:
            current = frame.f_globals.get(access.root, _NOTHING)
            if current is _NOTHING:
                return
            scope = Scope("module", id(frame.f_globals))
        else:
            scope = self._enter(frame).scope
        name, done = access.root, 0
        for kind, key in access.parts:
            if isinstance(current, Tensor):
                break
            owner = current
            current = _attribute(owner, key) if kind == "attribute" else _item(owner, key)
            if current is _NOTHING:
                return
            self._owners[id(owner)] = owner
            scope, name, done = Scope("object", id(owner)), str(key), done + 1
        if type(current) in (list, tuple, dict) or (isinstance(current, tuple) and hasattr(type(current), "_fields")):
            self._look_inside(current, access._replace(parts=access.parts[:done]), frame, statement, names)
            return
        if isinstance(current, Tensor):
            known = self._known.get(id(current))
            value = known.value if known and known.seen == self._write_count else self._value_of(current)
            new: Value | float | None = value
        elif (current is None or isinstance(current, int | float)) and _MAY_BE_GRADIENT.match(name):
            value, new = None, current
        else:
            return
        if value is None and not _assigns(statement, access):
            return
        short = access._replace(parts=access.parts[:done])
        number = float(current) if value is None and isinstance(current, int | float) else None
        self._bind(scope, name, short, new, statement, frame, names, number)

    def _look_inside(
        self, container: Any, access: Access, frame: FrameType, statement: Statement, names: dict[str, Any]
    ) -> None:
        """Note the tensors that a list, a tuple or a dict holds: ``Ws[0]``, ``grads["W1"]``."""
        if not container or len(container) > INSIDE:
            return
        if isinstance(container, dict):
            items = [(key, str(key), item) for key, item in container.items()]
        else:
            fields = getattr(container, "_fields", None)
            items = [(i, fields[i] if fields else f"{access}[{i}]", item) for i, item in enumerate(container)]
        if not any(isinstance(item, Tensor) for _, _, item in items):
            return
        self._owners[id(container)] = container
        scope = Scope("object", id(container))
        for key, name, item in items:
            if isinstance(item, Tensor):
                part = ("attribute", name) if hasattr(container, "_fields") else ("item", key)
                inner = access._replace(parts=(*access.parts, part))
                self._bind(scope, name, inner, self._value_of(item), statement, frame, names)

    def _bind(
        self,
        scope: Scope,
        name: str,
        access: Access,
        new: Value | float | None,
        statement: Statement,
        frame: FrameType,
        names: dict[str, Any],
        number: float | None = None,
    ) -> None:
        key = scope, name
        if key in self._bound and self._bound[key] is new:
            return
        self._bound[key] = new
        self._time += 1
        value = new if isinstance(new, Value) else None
        binding = Binding(self._time, scope, name, access, value, statement, self._enter(frame).serial)
        binding.number = number
        if self.scopes and value is not None:
            binding.visible = self._visible(names, frame)
        self.graph.bindings.append(binding)

    def _bind_arguments(self, frame: FrameType, info: FrameInfo) -> None:
        code = frame.f_code
        found = source.of_code(code)
        statement = next(iter(found.by_line.get(code.co_firstlineno, ())), None) if found else None
        if statement is None or code.co_name.startswith("<"):
            return
        with torch._C.DisableTorchFunction():
            names = frame.f_locals
            for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
                tensor = names.get(name)
                if isinstance(tensor, Tensor):
                    self._time += 1
                    value = self._value_of(tensor)
                    self._bound[info.scope, name] = value
                    self.graph.bindings.append(
                        Binding(self._time, info.scope, name, Access(name), value, statement, info.serial)
                    )

    def _visible(self, names: dict[str, Any], frame: FrameType) -> dict[str, Any]:
        """Return what the frame can see now, with tensors as values."""
        seen = dict(names)
        if names is not frame.f_globals:
            seen = frame.f_globals | seen
        for name, item in seen.items():
            if isinstance(item, Tensor | list | tuple | dict):
                seen[name] = self._as_values(item)
        return seen

    def _as_values(self, item: Any) -> Any:
        """Return ``item`` with the tensors in it as values."""
        if isinstance(item, Tensor):
            known = self._known.get(id(item))
            return known.value if known is not None else item
        if type(item) in (list, tuple, dict) and 0 < len(item) <= VISIBLE_ITEMS:
            entries = item.values() if isinstance(item, dict) else item
            if any(isinstance(entry, Tensor) for entry in entries):
                if isinstance(item, dict):
                    return {key: self._as_values(entry) for key, entry in item.items()}
                return type(item)(self._as_values(entry) for entry in item)
        return item

    # -- PyTorch's calls: steps

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self._calls += 1
        op = getattr(func, "__name__", "")
        if op in ("__get__", "__set__"):
            owner = getattr(func, "__self__", None)
            op = getattr(owner, "__name__", "")
            if func.__name__ == "__set__":
                return self._on_set(op, func, args, kwargs)
            if op == "grad":
                return self._on_grad(func, args, kwargs)
            if op not in ("T", "mT", "H", "mH", "data", "real", "imag"):
                return func(*args, **kwargs)
        frame = sys._getframe(1)
        code = frame.f_code
        found = source.of_code(code)
        while found is None:
            outer = frame.f_back
            if outer is None:
                return func(*args, **kwargs)
            frame, code = outer, outer.f_code
            found = source.of_code(code)
        if frame.f_trace is None and sys.gettrace() is not None:  # its lines were quiet for long
            self._quiet[id(code)] = 0
            frame.f_trace = self._on_line
        site = Site(code, frame.f_lasti, frame.f_lineno, found)
        if op in _ESCAPES:
            result = func(*args, **kwargs)
            self._on_escape(op, args, result, site)
            return result
        if op in _TRAINING:
            self._on_training(args)
            return func(*args, **kwargs)
        if op in ("retain_grad", "requires_grad_"):
            result = func(*args, **kwargs)
            value = self._value_of(args[0])
            value.retained |= op == "retain_grad"
            self._mark(value, args[0])
            return result
        watching = sys.gettrace()
        sys.settrace(None)  # no events for our own calls, which would cost as much as all the rest
        try:
            return self._on_step(op, func, args, kwargs, site, frame)
        finally:
            sys.settrace(watching)

    def _on_step(
        self, op: str, func: Callable[..., Any], args: Any, kwargs: dict[str, Any], site: Site, frame: FrameType
    ) -> Any:
        given: list[Tensor] = []

        def record(argument: Any) -> Any:
            if isinstance(argument, Tensor):
                given.append(argument)
                return self._value_of(argument)
            if isinstance(argument, list | tuple) and _holds_tensor(argument):
                items = [record(item) for item in argument]
                return tuple(items) if isinstance(argument, tuple) else items
            return Const(argument)

        step_args = [record(argument) for argument in args]
        step_kwargs = {key: record(argument) for key, argument in kwargs.items()}
        may_write = op[-1:] == "_" or op == "__setitem__" or "out" in kwargs
        if may_write:
            for tensor in given:
                self._preserve(tensor)
        versions = [tensor._version for tensor in given] if may_write else ()
        before = [self._known[id(tensor)].value for tensor in given] if may_write else ()
        state = torch.get_rng_state() if op in _DROPOUTS else None
        grad_enabled = torch.is_grad_enabled()
        result = func(*args, **kwargs)
        tensors = _tensors_of(result)
        changed = [i for i, version in enumerate(versions) if given[i]._version != version]
        if not tensors and not changed:
            if op in _COMPARISONS:
                serial = self._enter(frame).serial
                self.graph.comparisons.append(
                    Step(-1, op, func, step_args, step_kwargs, [], site, serial, self._time, grad_enabled)
                )
            return result
        if not changed and all(any(t is g for g in given) for t in tensors):
            return result  # `contiguous()`, `to()`: the argument itself
        graph = self.graph
        self._time += 1
        step = Step(
            len(graph.steps),
            op,
            func,
            step_args,
            step_kwargs,
            [],
            site,
            self._enter(frame).serial,
            self._time,
            grad_enabled,
            is_random=op in _RANDOM or state is not None,
            unseeded=op in _RANDOM and kwargs.get("generator") is None and torch.initial_seed() == self._first_seed,
            generator_state=state,
        )
        graph.steps.append(step)
        for i in changed:
            if all(given[i] is not given[k] for k in changed if k < i):
                after = self._write(given[i], before[i], step)
                step.writes.append((before[i], after))
        if not changed:
            self._read.update(value.id for value in step.inputs)
        for tensor in tensors:
            known = self._known.get(id(tensor))
            if known is not None and any(tensor is g for g in given):
                step.outs.append(known.value)
            else:
                step.outs.append(self._new_value(tensor, step))
        return result

    def _write(self, tensor: Tensor, before: Value, step: Step) -> Value:
        """``tensor`` was changed in place: it has a new value, and its memory has one more write."""
        known = self._known[id(tensor)]
        after = self._new_value(tensor, step)
        fresh = self._known[id(tensor)]
        self._write_count += 1
        self._writes.setdefault(known.memory, []).append((self._write_count, tensor, after))
        fresh.seen = self._write_count
        after.retained = before.retained
        if before.id in self._read and step.op in _WHOLE_UPDATES:
            self.rewrites += 1
        if before.is_parameter or (
            step.op != "__setitem__"
            and any(other.value.is_parameter and other.memory == known.memory for other in self._sharing(known.memory))
        ):
            self.updates += 1
        return after

    def _sharing(self, memory: int) -> list[_Known]:
        return [known for known in self._known.values() if known.memory == memory]

    def _preserve(self, tensor: Tensor) -> None:
        """Before a write: copy what was recorded of the memory that it may change."""
        memory = self._known[id(tensor)].memory
        for known in self._sharing(memory):
            value = known.value
            if value.tensor.untyped_storage().data_ptr() == memory:
                value.tensor = value.tensor.detach().clone()

    def _on_set(self, op: str, func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        tensor = args[0]
        value = self._value_of(tensor)
        if op == "data":
            self._preserve(tensor)
        result = func(*args, **kwargs)
        if op == "requires_grad":
            self._mark(value, tensor)
        elif op == "data":  # another memory from here on
            if value.is_parameter:
                self.updates += 1
            self._new_value(tensor, None)
        return result

    def _on_grad(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            of = self._value_of(args[0])
            known = self._known.get(id(result))
            if known is None or known.version != result._version:
                self._new_value(result, None).grad_of = of
            else:
                known.value.grad_of = of
        return result

    def _on_escape(self, op: str, args: Any, result: Any, site: Site) -> None:
        if isinstance(args[0], Tensor) and (args[0].dtype.is_floating_point or _ESCAPES[op] == "bool"):
            self._time += 1
            value = self._value_of(args[0])
            self.graph.escapes.append(Escape(self._time, value, _ESCAPES[op], result, site))

    def _on_training(self, args: Any) -> None:
        self.updates += 1
        tensor = args[0][0] if isinstance(args[0], list | tuple) and args[0] else args[0]
        if isinstance(tensor, Tensor):
            self.backward_calls.append((self._time, self._value_of(tensor)))

    # -- values

    def _value_of(self, tensor: Tensor) -> Value:
        """Return the current value of ``tensor``; whatever is not known yet is a leaf."""
        known = self._known.get(id(tensor))
        if known is None:
            return self._leaf(tensor)
        if known.seen != self._write_count:
            writes = [w for w in self._writes.get(known.memory, ()) if w[0] > known.seen]
            known.seen = self._write_count
            for _, written, after in writes:
                known.value = self._overlay(tensor, known.value, written, after)
            if writes:
                known.version = tensor._version
        if known.version != tensor._version:  # changed by something that is not seen here, such as an optimizer
            if known.value.is_parameter:
                self.updates += 1
            return self._leaf(tensor)
        return known.value

    def _overlay(self, tensor: Tensor, value: Value, written: Tensor, after: Value) -> Value:
        """``written`` was changed and shares memory with ``tensor``: make a step of what that does to it."""
        if not _overlap(tensor, written):
            return value
        last = after.step
        assert last is not None
        args: list[Any] = [value, after, Const(_geometry(tensor)), Const(_geometry(written))]
        self._time += 1
        step = Step(
            len(self.graph.steps),
            "overlay",
            overlay,
            args,
            {},
            [],
            last.site,
            last.frame,
            self._time,
            last.grad_enabled,
        )
        self.graph.steps.append(step)
        hold = self._known[id(tensor)]
        new = self._make(tensor.detach().clone(), tensor, step)
        hold.value = new
        step.outs.append(new)
        return new

    def _leaf(self, tensor: Tensor) -> Value:
        value = self._new_value(tensor, None)
        if tensor.numel() * tensor.element_size() <= 4 * KEPT_BYTES and tensor.layout == torch.strided:
            value.tensor = tensor.detach().clone()
        self._mark(value, tensor)
        value.made_elsewhere = tensor.grad_fn is not None
        return value

    def _mark(self, value: Value, tensor: Tensor) -> None:
        value.requires_grad = tensor.requires_grad
        value.is_parameter = tensor.requires_grad and tensor.grad_fn is None

    def _new_value(self, tensor: Tensor, step: Step | None) -> Value:
        value = self._make(tensor, tensor, step)
        number = id(tensor)
        if tensor.numel() * tensor.element_size() <= KEPT_BYTES:
            hold: Any = tensor
        else:
            hold = weakref.ref(tensor, lambda _: self._known.pop(number, None))
        try:
            memory = tensor.untyped_storage().data_ptr()
        except (RuntimeError, NotImplementedError):
            memory = -number  # sparse tensors have none
        self._known[number] = _Known(hold, value, memory, self._write_count, tensor._version)
        return value

    def _make(self, kept: Tensor, tensor: Tensor, step: Step | None) -> Value:
        self._time += 1
        value = Value(len(self.graph.values), kept, tuple(tensor.shape), tensor.dtype, step, time=self._time)
        if tensor.requires_grad:
            value.requires_grad = True  # so does a view of a parameter under no_grad, and is none
            value.is_parameter = tensor.grad_fn is None and not tensor._is_view()
        self.graph.values.append(value)
        return value


def _tensors_of(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, list | tuple):
        return [tensor for item in result for tensor in _tensors_of(item)]
    return []


def _holds_tensor(items: Any) -> bool:
    return any(isinstance(i, Tensor) or (isinstance(i, list | tuple) and _holds_tensor(i)) for i in items)


_NOTHING = object()


def _attribute(owner: Any, key: str) -> Any:
    """Return an attribute that is only stored, never one that is computed."""
    if isinstance(owner, torch.nn.Module):
        for table in (owner._parameters, owner._buffers, owner._modules):
            if key in table:
                return table[key]
    if isinstance(owner, tuple) and key in getattr(owner, "_fields", ()):
        return getattr(owner, key)
    slots = getattr(type(owner), "__slots__", ())
    if key in slots:
        return getattr(owner, key, _NOTHING)
    return getattr(owner, "__dict__", {}).get(key, _NOTHING)


def _item(owner: Any, key: Any) -> Any:
    if type(owner) is dict or isinstance(owner, dict):
        return dict.get(owner, key, _NOTHING)
    if isinstance(owner, list | tuple) and isinstance(key, int) and -len(owner) <= key < len(owner):
        return owner[key]
    return _NOTHING


def _assigns(statement: Statement, access: Access) -> bool:
    node: Any = statement.node
    targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
    return any(target is not None and source.access_of(target) == access for target in targets)


def _geometry(tensor: Tensor) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    return tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset())


def _overlap(a: Tensor, b: Tensor) -> bool:
    if not a.numel() or not b.numel():
        return False
    ends = []
    for tensor in (a, b):
        first = tensor.storage_offset()
        last = first + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        ends.append((first, last))
    return ends[0][0] <= ends[1][1] and ends[1][0] <= ends[0][1]


Geometry = tuple[tuple[int, ...], tuple[int, ...], int]


def overlay(tensor: Tensor, written: Tensor, shape: Geometry, written_shape: Geometry) -> Tensor:
    """Return ``tensor`` as it is after ``written``, a view of the same memory, was changed."""
    length = 1 + max(
        offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
        for sizes, strides, offset in (shape, written_shape)
    )
    memory = tensor.new_zeros(length)
    memory.as_strided(*shape).copy_(tensor)
    memory.as_strided(*written_shape).copy_(written)
    return memory.as_strided(*shape).clone()


def _name_values(graph: Graph) -> None:
    """Give each value the name of its outermost binding; a name that is used again is numbered."""
    depth = dict.fromkeys(graph.frames, 0)
    for serial, info in graph.frames.items():
        depth[serial] = 0 if info.caller is None else depth[info.caller] + 1
    best: dict[Value, tuple[int, int, str]] = {}
    for binding in graph.bindings:
        if binding.value is not None and not binding.name.startswith("_"):
            rank = (depth[binding.frame], binding.time, str(binding.access))
            if binding.value not in best or rank < best[binding.value]:
                best[binding.value] = rank
    used: dict[str, int] = {}
    for value in graph.values:
        if value in best:
            base = best[value][2]
            number = used[base] = used.get(base, -1) + 1
            value.base_name, value.name = base, f"{base}_{number}" if number else base


def trace(forward: Callable[..., Any], *inputs: Any, scopes: bool = False) -> Graph:
    """Run ``forward(*inputs)`` and return the graph of what it did: steps, values, names.

    ``forward`` is any function, method or `nn.Module` of plain PyTorch. Values carry the names that the code gives
    them; a name bound again is ``h_1``. No derivative is taken. With ``scopes`` each binding keeps what its frame could
    see.

    Raises:
        TraceError: ``forward`` cannot be called, or no operation of PyTorch was seen in code whose source is known.

    >>> import torch
    >>> def forward(x, w):
    ...     h = torch.tanh(x @ w)
    ...     loss = h.mean()
    ...     return loss
    >>> graph = trace(forward, torch.ones(2, 3), torch.ones(3, 4))
    >>> print(graph)
    h     (2, 4)  h = torch.tanh(x @ w)
    loss  ()      loss = h.mean()
    """
    if not callable(forward):
        raise TraceError(f"trace(forward, *inputs): {type(forward).__name__} cannot be called")
    tracer = Tracer(scopes=scopes)
    with tracer:
        result = forward(*inputs)
    graph = tracer.recording
    _name_parameters(tracer, forward, inputs)
    if not graph.steps:
        raise TraceError(
            f"{getattr(forward, '__name__', forward)} did nothing with tensors that could be seen: "
            "its source must be in a file or a notebook, and its operations PyTorch's"
        )
    graph.outputs = [tracer._known[id(t)].value for t in _tensors_of(_flatten(result)) if id(t) in tracer._known]
    return graph


def _flatten(result: Any) -> Any:
    if isinstance(result, dict):
        return [_flatten(item) for item in result.values()]
    if isinstance(result, list | tuple):
        return [_flatten(item) for item in result]
    return result


def _name_parameters(tracer: Tracer, forward: Any, inputs: Any) -> None:
    """Name the parameters of modules that only library code has touched."""
    if all(value.name for value in tracer.graph.values if value.is_parameter):
        return
    name_modules(tracer, {"": forward} if isinstance(forward, torch.nn.Module) else {})
    name_modules(tracer, {f"input{i}": item for i, item in enumerate(inputs)})
    closure = inspect.getclosurevars(forward) if inspect.isfunction(forward) else None
    if closure:
        name_modules(tracer, {**closure.globals, **closure.nonlocals})


def name_modules(tracer: Tracer, namespace: dict[str, Any]) -> None:
    """Name values that are parameters or buffers of the `nn.Module`s in ``namespace``: ``net.fc1.weight``."""
    used = {value.name for value in tracer.graph.values}
    for name, module in namespace.items():
        if not isinstance(module, torch.nn.Module):
            continue
        for path, tensor in [*module.named_parameters(), *module.named_buffers()]:
            known = tracer._known.get(id(tensor))
            full = f"{name}.{path}" if name else path
            if known is not None and known.value.name is None and full not in used:
                known.value.name = known.value.base_name = full
