"""Which value a tensor stands for: across writes in place, views of the same memory, and changes that nobody saw."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

from handgrad.graph import Const, Graph, Step, Value, Weak, version_of
from handgrad.tracer.overlaps import Geometry, geometry_of, overlap, overlay
from handgrad.tracer.shelf import Place, Shelf, memory_of

KEPT_BYTES = 2**29  # of the latest tensors; older ones are computed again when they are asked for
GIVEN_BYTES = 2**30  # of the latest that cannot be; older ones are there as long as the code holds them
LARGE_BYTES = 2**24  # a tensor that is not copied before a write that can be made again
MOST_COPIED_BYTES = 2**26  # a larger one that comes from elsewhere is not copied
LIGHT_BYTES = 2**12  # so small that it is kept for ever
_WHOLE_UPDATES = frozenset({"__iadd__", "__isub__", "add_", "sub_"})


class Known:
    """What is known of a tensor object: its current value, and how far its memory's writes were seen."""

    __slots__ = ("hold", "memory", "seen", "value", "version")

    def __init__(self, hold: Any, value: Value, memory: int, seen: int, version: int) -> None:
        self.hold, self.value, self.memory, self.seen, self.version = hold, value, memory, seen, version


class Memory:
    """The values of tensors. An in-place write makes a new value of every tensor that shares the memory."""

    def __init__(self, kept_bytes: float, given_bytes: float) -> None:
        """Keep so much of what was computed, and of what was drawn or given and cannot be computed again."""
        super().__init__()
        self._computed, self._given = Shelf(kept_bytes), Shelf(given_bytes)
        self.graph = Graph()
        self.time = 0  # grows with everything that is recorded
        self.updates = 0  # grows whenever the code trains
        self.rewrites = 0  # in-place additions to a whole tensor that was read before
        self._read: set[int] = set()  # the values that some operation read
        self._known: dict[int, Known] = {}
        self._writes: dict[
            int, list[tuple[int, Geometry, Value]]
        ] = {}  # by memory: number, what part of it, its new value
        self._write_count = 0
        self._nodes: dict[tuple[int, int], Value] = {}  # by autograd's number of what made it, and of the output
        self.made_bytes = 0  # of all tensors that were recorded, but for large ones

    def value_of(self, tensor: Tensor) -> Value:
        """Return the current value of ``tensor``; whatever was not seen yet becomes a leaf."""
        with torch._C.DisableTorchFunction():
            return self._value_of(tensor)

    def tensor_of(self, value: Value) -> Tensor | None:
        """Return the very tensor that ``value`` was recorded from, while it holds that value."""
        return next((tensor for tensor, its_value in self.tensors() if its_value is value), None)

    def known_value(self, tensor: Tensor) -> Value | None:
        """Return the value that ``tensor`` had when it was last seen."""
        known = self._known.get(id(tensor))
        return None if known is None else known.value

    def tensors(self) -> Iterator[tuple[Tensor, Value]]:
        """Yield every tensor that was seen and still exists, with its value."""
        for known in list(self._known.values()):
            tensor = known.hold() if isinstance(known.hold, weakref.ref) else known.hold
            if tensor is not None:
                yield tensor, known.value

    def references(self) -> Counter[int]:
        """Count the references that are held here, by the id of the tensor."""
        ours = Counter(id(value.kept) for value in self.graph.values)
        ours.update(id(known.hold) for known in self._known.values())
        return ours

    def take_as_new(self, tensor: Tensor) -> None:
        """Forget what ``tensor`` stood for: it was changed unseen."""
        self._known.pop(id(tensor), None)

    def keep_only(self, values: set[Value]) -> None:
        """Forget what is known of all other values."""
        self._known = {number: known for number, known in self._known.items() if known.value in values}
        self._computed.keep_only(values)
        self._given.keep_only(values)
        self._nodes = {number: value for number, value in self._nodes.items() if value in values}
        memories = {known.memory for known in self._known.values()}
        self._writes = {m: [w for w in writes if w[2] in values] for m, writes in self._writes.items() if m in memories}

    # -- reading

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
                known.version = version_of(tensor)
        if known.version != version_of(tensor):  # changed by something that is not seen here, such as an optimizer
            if known.value.is_parameter:
                self.updates += 1
            return self._leaf(tensor)
        return self._leaf(tensor) if self._is_from_function(tensor, known.value) else known.value

    @staticmethod
    def _is_from_function(tensor: Tensor, value: Value) -> bool:
        """Whether a custom Function has returned ``tensor``, of which only what its forward did was seen."""
        if value.step is None or value.step.grad_enabled or not tensor.requires_grad:
            return False
        return isinstance(tensor.grad_fn, BackwardCFunction)

    def _overlay(self, tensor: Tensor, value: Value, written: Geometry, after: Value) -> Value:
        """Make a step of what the write into ``written``, a part of the memory of ``tensor``, does to it."""
        geometry = geometry_of(tensor)
        if not overlap(geometry, written):
            return value
        last = after.step
        assert last is not None
        args: list[Any] = [value, after, Const(geometry), Const(written)]
        self.time += 1
        step = Step(
            len(self.graph.steps),
            "overlay",
            overlay,
            args,
            {},
            [],
            last.site,
            last.frame,
            self.time,
            last.grad_enabled,
        )
        self.graph.steps.append(step)
        hold = self._known[id(tensor)]
        new = self._made(tensor.detach().clone(), tensor, step)
        hold.value = new
        step.outs.append(new)
        self._keep(new, tensor)
        return new

    def _leaf(self, tensor: Tensor) -> Value:
        is_copied = tensor.numel() * tensor.element_size() <= MOST_COPIED_BYTES and tensor.layout == torch.strided
        value = self._new_value(tensor, None, tensor.detach().clone() if is_copied else tensor)
        self._mark(value, tensor)
        if tensor.grad_fn is not None:
            value.made_elsewhere = True
            value.behind = self._behind(tensor.grad_fn)
        return value

    def _behind(self, made_by: Node) -> list[Value]:
        """Return the values that something unseen was computed from, as autograd remembers it: the nearest ones."""
        found: dict[Value, None] = {}
        passed = {made_by}
        stack = list(made_by.next_functions)
        while stack:
            node, output = stack.pop()
            if node is None:
                continue
            known = self._nodes.get((node._sequence_nr(), output))
            if known is not None:
                found[known] = None
            elif isinstance(variable := getattr(node, "variable", None), Tensor):
                found[self._value_of(variable)] = None
            elif node not in passed:
                passed.add(node)
                stack.extend(node.next_functions)
        return sorted(found, key=lambda value: value.id)

    def _mark(self, value: Value, tensor: Tensor) -> None:
        value.requires_grad = tensor.requires_grad
        value.is_parameter = tensor.requires_grad and tensor.grad_fn is None

    def _new_value(self, tensor: Tensor, step: Step | None, kept: Tensor | None = None) -> Value:
        value = self._made(tensor if kept is None else kept, tensor, step)
        is_large = tensor.numel() * tensor.element_size() > LARGE_BYTES
        hold = self._weakly(tensor) if is_large else tensor
        self._known[id(tensor)] = Known(hold, value, memory_of(tensor)[0], self._write_count, version_of(tensor))
        self._keep(value, tensor)
        return value

    def _weakly(self, tensor: Tensor) -> weakref.ref[Tensor]:
        """Hold ``tensor`` only as long as the code does, and then forget it."""
        number = id(tensor)
        return weakref.ref(tensor, lambda _: self._known.pop(number, None))

    def _made(self, kept: Tensor, tensor: Tensor, step: Step | None) -> Value:
        self.time += 1
        value = Value(len(self.graph.values), kept, tuple(tensor.shape), tensor.dtype, step, time=self.time)
        if tensor.requires_grad:
            value.requires_grad = True  # so does a view of a parameter under no_grad, and is none
            made_by = tensor.grad_fn
            value.is_parameter = made_by is None and not tensor._is_view()
            if made_by is not None:
                self._nodes[made_by._sequence_nr(), tensor.output_nr] = value
        self.graph.values.append(value)
        size = tensor.numel() * tensor.element_size()
        if size <= LARGE_BYTES:
            self.made_bytes += size
        return value

    # -- keeping

    def _keep(self, value: Value, tensor: Tensor) -> None:
        """Keep the numbers of ``value``, and let go of older ones if there are too many."""
        shelf = self._computed if value.is_computed else self._given
        for place in shelf.put(value, id(tensor)):
            self._let_go(place)

    def _let_go(self, place: Place) -> None:
        """Hold what is old only as long as the code does; small numbers lose only what autograd keeps with them."""
        kept = place.value.kept
        assert isinstance(kept, Tensor)
        known = self._known.get(place.number)
        hold = None if known is None else known.hold() if isinstance(known.hold, weakref.ref) else known.hold
        if place.size <= LIGHT_BYTES:
            place.value.kept = kept.detach()
        elif known is not None and hold is not None and known.value is place.value:
            place.value.kept = Weak(hold) if version_of(hold) == known.version else None
        else:
            place.value.kept = None
        if known is not None and isinstance(known.hold, Tensor):
            known.hold = self._weakly(known.hold)

    # -- writing

    def _write(self, tensor: Tensor, before: Value, step: Step) -> Value:
        """``tensor`` was changed in place: it has a new value, and its memory has one more write."""
        known = self._known[id(tensor)]
        after = self._new_value(tensor, step)
        fresh = self._known[id(tensor)]
        self._write_count += 1
        self._writes.setdefault(known.memory, []).append((self._write_count, geometry_of(tensor), after))
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

    def _sharing(self, memory: int) -> list[Known]:
        return [known for known in self._known.values() if known.memory == memory]

    def _preserve(self, tensor: Tensor) -> None:
        """Before a write: copy what was recorded of the memory that it may change."""
        memory = self._known[id(tensor)].memory
        for known in self._sharing(memory):
            value = known.value
            kept = value.kept() if isinstance(value.kept, Weak) else value.kept
            if kept is None or memory_of(kept)[0] != memory:
                continue
            if value.is_computed and (isinstance(value.kept, Weak) or self._is_too_large(kept)):
                value.kept = None
            else:
                value.kept = kept.detach().clone()
                self._keep(value, tensor)

    def _is_too_large(self, tensor: Tensor) -> bool:
        return self._computed.limit < float("inf") and tensor.numel() * tensor.element_size() > LARGE_BYTES
