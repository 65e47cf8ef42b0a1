"""Which value a tensor stands for: across writes in place, views of the same memory, and changes that nobody saw."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from handgrad.graph import Const, Graph, Step, Value
from handgrad.tracer.overlaps import geometry_of, overlap, overlay

KEPT_BYTES = 2**24  # larger tensors are kept only as long as the code itself keeps them
_WHOLE_UPDATES = frozenset({"__iadd__", "__isub__", "add_", "sub_"})


class Known:
    """What is known of a tensor object: its current value, and how far its memory's writes were seen."""

    __slots__ = ("hold", "memory", "seen", "value", "version")

    def __init__(self, hold: Any, value: Value, memory: int, seen: int, version: int) -> None:
        self.hold, self.value, self.memory, self.seen, self.version = hold, value, memory, seen, version


class Memory:
    """The values of tensors. An in-place write makes a new value of every tensor that shares the memory."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = Graph()
        self.time = 0  # grows with everything that is recorded
        self.updates = 0  # grows whenever the code trains
        self.rewrites = 0  # in-place additions to a whole tensor that was read before
        self._read: set[int] = set()  # the values that some operation read
        self._known: dict[int, Known] = {}
        self._writes: dict[int, list[tuple[int, Tensor, Value]]] = {}  # by memory: number, tensor, its new value
        self._write_count = 0
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
        ours = Counter(id(value.tensor) for value in self.graph.values)
        ours.update(id(known.hold) for known in self._known.values())
        ours.update(id(tensor) for writes in self._writes.values() for _, tensor, _ in writes)
        return ours

    def take_as_new(self, tensor: Tensor) -> None:
        """Forget what ``tensor`` stood for: it was changed unseen."""
        self._known.pop(id(tensor), None)

    def keep_only(self, values: set[Value]) -> None:
        """Forget what is known of all other values."""
        self._known = {number: known for number, known in self._known.items() if known.value in values}
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
                known.version = tensor._version
        if known.version != tensor._version:  # changed by something that is not seen here, such as an optimizer
            if known.value.is_parameter:
                self.updates += 1
            return self._leaf(tensor)
        return known.value

    def _overlay(self, tensor: Tensor, value: Value, written: Tensor, after: Value) -> Value:
        """``written`` was changed and shares memory with ``tensor``: make a step of what that does to it."""
        if not overlap(tensor, written):
            return value
        last = after.step
        assert last is not None
        args: list[Any] = [value, after, Const(geometry_of(tensor)), Const(geometry_of(written))]
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
        self._known[number] = Known(hold, value, memory, self._write_count, tensor._version)
        return value

    def _make(self, kept: Tensor, tensor: Tensor, step: Step | None) -> Value:
        self.time += 1
        value = Value(len(self.graph.values), kept, tuple(tensor.shape), tensor.dtype, step, time=self.time)
        if tensor.requires_grad:
            value.requires_grad = True  # so does a view of a parameter under no_grad, and is none
            value.is_parameter = tensor.grad_fn is None and not tensor._is_view()
        self.graph.values.append(value)
        size = tensor.numel() * tensor.element_size()
        if size <= KEPT_BYTES:
            self.made_bytes += size
        return value

    # -- writing

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

    def _sharing(self, memory: int) -> list[Known]:
        return [known for known in self._known.values() if known.memory == memory]

    def _preserve(self, tensor: Tensor) -> None:
        """Before a write: copy what was recorded of the memory that it may change."""
        memory = self._known[id(tensor)].memory
        for known in self._sharing(memory):
            value = known.value
            if value.tensor.untyped_storage().data_ptr() == memory:
                value.tensor = value.tensor.detach().clone()
