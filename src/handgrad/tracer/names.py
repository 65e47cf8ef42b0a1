"""Which names the running code gives to values: Python's line events, and what its frames can see after each."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from handgrad import source
from handgrad.graph import Binding, Failure, FrameInfo, Scope, Value
from handgrad.source import Access, Statement
from handgrad.tracer.memory import Memory
from handgrad.tracer.objects import NOTHING, attribute_of, item_of

INSIDE = 64  # longer lists of tensors get no names for their items
VISIBLE_ITEMS = 256  # larger lists are not looked into
MOST_FAILURES = 32
QUIET_LINES = 3_000  # so many lines without a tensor, and a function is no longer watched line by line

_MAY_BE_GRADIENT = re.compile(r"d[A-Za-z_]|.*(grad|bar|delta)")


class Names(Memory):
    """The names of values, in the frames of code whose source is known."""

    def __init__(self, *, scopes: bool, kept_bytes: float, given_bytes: float) -> None:
        super().__init__(kept_bytes, given_bytes)
        self.scopes = scopes  # whether each binding keeps what its frame could see
        self.owners: dict[int, Any] = {}  # whose attributes and items have names
        self._frames: dict[int, FrameInfo] = {}
        self._call_count = 0
        self._pending: dict[int, list[Statement]] = {}
        self._bound: dict[tuple[Scope, str], Value | float | None] = {}
        self._quiet: dict[int, int] = {}
        self._calls = 0  # of PyTorch
        self._handled = 0  # how many there were when names were looked up
        self._previous_trace: Any = None

    def watch_lines(self) -> None:
        """Let Python tell of every line from here on."""
        self._previous_trace = sys.gettrace()
        sys.settrace(self.on_call)

    def unwatch_lines(self) -> None:
        """Let Python tell whoever was told before."""
        sys.settrace(self._previous_trace)

    @property
    def bound_names(self) -> set[str]:
        """Every name that stands for something that was seen."""
        return {name for _, name in self._bound}

    def forget_frames(self) -> None:
        """Forget frames and code, which are known by their ids, when they may be gone."""
        tables: list[dict[int, Any]] = [self._frames, self._pending, self._quiet]
        for table in tables:
            table.clear()

    def forget_owners(self, numbers: Iterable[int]) -> None:
        """Forget these of the ``owners`` and the names in them."""
        for number in numbers:
            del self.owners[number]
        self._bound = {k: v for k, v in self._bound.items() if k[0].kind != "object" or k[0].key in self.owners}

    def keep_only(self, values: set[Value]) -> None:
        """Forget what is known of all other values."""
        super().keep_only(values)
        self._bound = {k: v for k, v in self._bound.items() if not isinstance(v, Value) or v in values}

    # -- Python's events

    def on_call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        """Watch the lines of code whose source is known."""
        found = source.of_code(frame.f_code)
        if found is None:
            return None
        self.call_of(frame)
        if self._quiet.get(id(frame.f_code), 0) > QUIET_LINES:
            return None
        return self.on_line

    def on_line(self, frame: FrameType, event: str, _argument: Any) -> Any:
        """Look up the names of the statement that has just run."""
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
        return self.on_line

    def _on_exception(self, frame: FrameType, error: BaseException) -> None:
        """Note where an exception began; frames that it passes on its way out are not noted."""
        failures = self.graph.failures
        found = source.of_code(frame.f_code)
        statements = found.by_line.get(frame.f_lineno, ()) if found else ()
        if not statements or (failures and failures[-1].error is error) or isinstance(error, StopIteration):
            return
        self.time += 1
        info = self.call_of(frame)
        with torch._C.DisableTorchFunction():
            visible = self._visible(frame.f_locals, frame) if self.scopes else {}
        failures.append(Failure(self.time, error, statements[0], info.serial, info.scope, visible))
        del failures[:-MOST_FAILURES]

    def call_of(self, frame: FrameType) -> FrameInfo:
        """Return what is known of the call that ``frame`` runs."""
        info = self._frames.get(id(frame))
        if info is None:
            info = self._frames[id(frame)] = self.new_call(frame)
            if info.scope.kind == "frame":
                self._bind_arguments(frame, info)
        return info

    def new_call(self, frame: FrameType) -> FrameInfo:
        """Note that ``frame`` began to run."""
        caller, call_site, outer = None, None, frame.f_back
        while outer is not None and caller is None:
            known = self._frames.get(id(outer))
            if known is not None:
                found = source.of_code(outer.f_code)
                caller = known.serial
                call_site = next(iter(found.by_line.get(outer.f_lineno, ())), None) if found else None
            outer = outer.f_back
        serial = self._call_count
        self._call_count += 1
        at_module = frame.f_locals is frame.f_globals
        scope = Scope("module", id(frame.f_globals)) if at_module else Scope("frame", serial)
        self.owners[id(frame.f_globals)] = frame.f_globals
        function = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
        info = self.graph.frames[serial] = FrameInfo(serial, caller, function, scope, call_site)
        return info

    # -- what a name stands for

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
        current = names.get(access.root, NOTHING)
        if current is NOTHING:
            current = frame.f_globals.get(access.root, NOTHING)
            if current is NOTHING:
                return
            scope = Scope("module", id(frame.f_globals))
        else:
            scope = self.call_of(frame).scope
        name, done = access.root, 0
        for kind, key in access.parts:
            if isinstance(current, Tensor):
                break
            owner = current
            current = attribute_of(owner, key) if kind == "attribute" else item_of(owner, key)
            if current is NOTHING:
                return
            self.owners[id(owner)] = owner
            scope, name, done = Scope("object", id(owner)), str(key), done + 1
        if type(current) in (list, tuple, dict) or (isinstance(current, tuple) and hasattr(type(current), "_fields")):
            self._look_inside(current, access._replace(parts=access.parts[:done]), frame, statement, names)
            return
        if isinstance(current, Tensor):
            known = self._known.get(id(current))
            if known and known.seen == self._write_count and not self._is_from_function(current, known.value):
                value = known.value
            else:
                value = self._value_of(current)
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
        self.owners[id(container)] = container
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
        self.time += 1
        value = new if isinstance(new, Value) else None
        binding = Binding(self.time, scope, name, access, value, statement, self.call_of(frame).serial)
        binding.number = number
        if self.scopes and value is not None:
            binding.visible = self._visible(names, frame)
        self.graph.bindings.append(binding)

    def _bind_arguments(self, frame: FrameType, info: FrameInfo) -> None:
        code = frame.f_code
        found = source.of_code(code)
        statement = next(iter(found.by_line.get(code.co_firstlineno, ())), None) if found else None
        if statement is None or (code.co_name.startswith("<") and code.co_name != "<lambda>"):
            return
        with torch._C.DisableTorchFunction():
            names = frame.f_locals
            for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
                tensor = names.get(name)
                if isinstance(tensor, Tensor):
                    self.time += 1
                    value = self._value_of(tensor)
                    self._bound[info.scope, name] = value
                    binding = Binding(self.time, info.scope, name, Access(name), value, statement, info.serial)
                    if self.scopes:
                        binding.visible = self._visible(names, frame)
                    self.graph.bindings.append(binding)

    # -- what a frame can see

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


def _assigns(statement: Statement, access: Access) -> bool:
    node: Any = statement.node
    targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
    return any(target is not None and source.access_of(target) == access for target in targets)
