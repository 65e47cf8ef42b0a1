"""What the code below a forward can see: names, the values behind them, and the numbers."""

from __future__ import annotations

import builtins
import contextlib
import keyword
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from handgrad.deriver.memory import outdated
from handgrad.graph import Binding, Graph, Value
from handgrad.tracer.names import VISIBLE_ITEMS

_WORDS = frozenset([*keyword.kwlist, *dir(builtins)])


class Scope:
    """The names of one frame of a graph, the outermost unless given, as they are at ``until``, or at its end.

    ``text`` is how a value can be written there; ``evaluate`` gives what a text stands for.
    """

    def __init__(self, graph: Graph, frame: int | None = None, until: int | None = None) -> None:
        self.graph = graph
        root = None if frame is None else graph.frames[frame].scope
        here = {n for n, info in graph.frames.items() if (info.caller is None if root is None else info.scope == root)}
        self.frames = here
        last: dict[str, Binding] = {}
        self.names: dict[str, Any] = {}
        for binding in graph.bindings:
            if binding.frame in here and (until is None or binding.time <= until):
                last[str(binding.access)] = binding
                if binding.visible:
                    self.names = binding.visible
        self._text: dict[Value, str] = {}
        self._alive = set(graph.objects.values())
        gone = outdated(graph, until)
        for text, binding in last.items():
            if binding.value is not None and binding.value not in gone and self._is_there(text, binding.value):
                known = self._text.get(binding.value)
                if known is None or _rank(text, binding.value) > _rank(known, binding.value):
                    self._text[binding.value] = text
        for value in graph.named:
            is_leaf = value.step is None or value.is_parameter  # a module draws its parameters
            if value not in self._text and is_leaf and (path := self._path(value)) is not None:
                self._text[value] = path
        self._used: dict[str, Value | None] = {}
        self._ident: dict[Value, str] = {}
        self._helpers: dict[object, str] = {}
        self.passed_on: frozenset[str] = frozenset()  # names that the page gives back to an earlier value
        self.unsteady: frozenset[str] = frozenset()  # names that the backward's own loops bind again
        for value in graph.named:
            wish, at_hand = str(value.name), self._text.get(value, "")
            if not wish.isidentifier() and at_hand.isidentifier():
                wish = at_hand  # `W1`, which is `parameters[0]`, too
            elif at_hand != wish and isinstance(self.names.get(wish), Mapping | list | tuple):
                wish = at_hand or f"{wish}_in"  # not `p`, where `p['p']` and `p['x']` are to be read
            self._ident[value] = self._free(_identifier(wish), value)

    def _is_there(self, text: str, value: Value) -> bool:
        """Whether a path such as ``kept[2]`` still leads to ``value``: `kept` may be another list by now."""
        if text.isidentifier():
            return True
        try:
            found = self.evaluate(text)
        except Exception:  # there is no such object any more
            return False
        if isinstance(found, Value):
            return found is value
        return isinstance(found, Tensor) and found.shape == value.shape

    def _path(self, value: Value) -> str | None:
        """Return how a parameter is written that only other code has touched: of a module, or of a tuple."""
        for path in (str(value.name), f"self.{value.name}"):
            found = None
            with contextlib.suppress(Exception):  # there may be no such object here
                found = self.evaluate(path)
            if self._is(found, value):
                return path
        for name, item in self.names.items():
            for path, part in _parts(name, item):
                if part is value or self._is(part, value):
                    return path
        end = str(value.name).removeprefix("self.")
        modules = [(name, item) for name, item in self.names.items() if isinstance(item, torch.nn.Module)]
        paths = {
            id(found): re.sub(r"\.(\d+)(?=\.)", r"[\1]", f"{name}.{path}")  # `blocks[0].weight`
            for name, module in modules
            for path, found in [*module.named_parameters(), *module.named_buffers()]
            if f".{name}.{path}".endswith(f".{end}") and self._is(found, value)
        }
        return next(iter(paths.values())) if len(paths) == 1 else None

    def _is(self, found: object, value: Value) -> bool:
        """Whether what a path leads to is ``value``: the same tensor, or an equal one if that is gone."""
        if not isinstance(found, Tensor) or found.shape != value.shape:
            return False
        if value in self._alive:
            return self.graph.objects.get(id(found)) is value
        return torch.equal(found.detach(), value.value)

    @property
    def known(self) -> list[Value]:
        """The values that a name stands for."""
        return list(self._text)

    def __contains__(self, value: Value) -> bool:
        return value in self._text

    def text(self, value: Value) -> str | None:
        """Return how ``value`` is written, None if no name stands for it any more."""
        return self._text.get(value)

    def steady(self, value: Value) -> str | None:
        """Return how ``value`` is written whatever the page brings back: not `h` if an earlier `h` takes that name."""
        text = self._text.get(value)
        return None if text in self.passed_on and text != self._ident.get(value) else text

    def identifier(self, value: Value) -> str | None:
        """Return the name of ``value`` as an identifier: ``h_1``, ``fc1_weight``; None if it has none."""
        return self._ident.get(value)

    def means_another(self, text: str, value: Value) -> bool:
        """Whether ``text`` stands for another value than ``value``: `y`, for the last of them, not for `path[0]`."""
        return any(known == text and other is not value for other, known in self._text.items())

    def given_back(self, values: Iterable[Value]) -> frozenset[str]:
        """Return the names that mean another value once ``values`` are brought back."""
        owners = {text: value for value, text in self._text.items()}
        return frozenset(own for v in values if (own := self._ident.get(v)) in owners and owners[own] is not v)

    def name(self, value: Value, wish: str) -> str:
        """Give ``value`` a name that is not taken, like ``wish``."""
        if value not in self._ident:
            self._ident[value] = self._free(_identifier(wish), value)
        return self._ident[value]

    def unite(self, values: list[Value], wish: str, instead_of: Value | None = None) -> str:
        """Give all of ``values``, which a loop binds to one name in turn, that name; who has it now takes another."""
        name = _identifier(wish)
        owner = self._used.get(name)
        if owner is not None and owner not in values:
            if owner is not instead_of:
                return ""
            self._ident[owner] = self._free(f"{name}_start", owner)
        for value in values:
            if self._used.get(self._ident[value]) is value:
                del self._used[self._ident[value]]  # as `i` of the first iteration, where `i_in` is meant
            self._ident[value] = name
        self._used[name] = values[0]
        return name

    def reserve(self, read: set[Value]) -> None:
        """Name values anew whose gradients would be called like what the forward reads: ``dt`` beside ``t``."""
        taken = {text for value, text in self._text.items() if value in read}
        taken |= {name for name, item in self.names.items() if type(item) in (int, float)}
        for value, own in list(self._ident.items()):
            number = 0
            while f"d{self._ident[value]}" in taken:
                number += 1
                self._ident[value] = self._free(f"{own}_{number}", value)

    def helper(self, key: object, wish: str) -> str:
        """Return the name of what ``key`` stands for, an expression that has a line of its own: like ``wish``."""
        if key not in self._helpers:
            name, number = wish, 0
            while name in self.names or name in self._used or (name[0] == "d" and self._used.get(name[1:])):
                number += 1
                name = f"{wish}_{number}"
            self._helpers[key], self._used[name] = name, None
        return self._helpers[key]

    def _free(self, wish: str, value: Value | None) -> str:
        name, number = wish, 0
        while name in self._used or (number and name in self.names):
            number += 1
            name = f"{wish}_{number}"
        self._used[name] = value
        return name

    def evaluate(self, text: str, extra: dict[str, Any] | None = None) -> Any:
        """Return what ``text`` stands for, such as ``1 / (n - 1)``; raises whatever Python raises."""
        known = self.names if extra is None else {**self.names, **extra}
        code = compile(text, "<text>", "eval")
        return eval(code, {"__builtins__": _HARMLESS}, known)  # noqa: S307 it ran when the forward did

    def means(self, text: str, value: Any, extra: dict[str, Any] | None = None) -> bool:
        """Whether ``text`` stands for ``value`` here, and does so wherever the backward may write it."""
        words = set(re.findall(r"\w+", text))
        if not self.unsteady.difference(extra or ()).isdisjoint(words) or not self.passed_on.isdisjoint(words):
            return False
        try:
            found = self.evaluate(text, extra)
        except Exception:  # what the user wrote may call anything
            return False
        return type(found) is type(value) and bool(found == value)


class ScopeOfAll(Scope):
    """A scope for lines that are run and not read: all that was given to the forward has a name there."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        for value in graph.leaves:
            if value not in self._text:
                self._text[value] = self.name(value, "given")


_HARMLESS = {
    name: getattr(builtins, name) for name in ("len", "range", "float", "int", "slice", "list", "tuple", "abs")
}


def _parts(name: str, item: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a tuple, list or dict holds, and how it is written: ``p.W1``, ``weights[0]``, ``params['W1']``."""
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        yield from ((f"{name}.{field}", part) for field, part in zip(item._fields, item, strict=True))
    elif type(item) in (tuple, list) and len(item) <= VISIBLE_ITEMS:
        yield from ((f"{name}[{k}]", part) for k, part in enumerate(item))
    elif type(item) is dict and len(item) <= VISIBLE_ITEMS:
        yield from ((f"{name}[{key!r}]", part) for key, part in item.items() if isinstance(key, str | int))


def _rank(text: str, value: Value) -> tuple[bool, bool]:
    return text == value.name and text.isidentifier(), text.isidentifier()


def _identifier(name: str) -> str:
    plain = re.sub(r"_+", "_", re.sub(r"\W", "_", name.removeprefix("self."))).strip("_") or "x"
    if plain[0].isdigit():
        plain = f"x{plain}"
    return f"{plain}_" if plain in _WORDS else plain
