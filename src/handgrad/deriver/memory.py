"""Tensors that share memory: where a write to one shows in another, and which writes hide nothing.

A slice, a transpose or a view is the tensor itself, seen otherwise. Written in place, it changes what it was taken
from; the trace says so with a step called ``overlay``. Here the views between the two are found again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from handgrad.errors import DeriveError
from handgrad.expr import Expr, fill, hole, replace
from handgrad.graph import Const, Graph, Step, Value
from handgrad.rules.memory import Sharing
from handgrad.rules.table import bind, find, plain

if TYPE_CHECKING:
    from handgrad.deriver.forward import Forward

VIEWS = frozenset([
    "getitem", "select", "narrow", "view", "reshape", "flatten", "unflatten", "ravel", "view_as", "reshape_as", "T",
    "mT", "H", "mH", "t", "adjoint", "transpose", "permute", "movedim", "moveaxis", "squeeze", "unsqueeze", "diagonal",
    "unfold", "unbind", "split", "chunk", "tensor_split", "atleast_1d", "atleast_2d", "atleast_3d", "expand",
])  # fmt: skip


def changes(step: Step) -> list[tuple[Value, Value]]:
    """Return the values whose numbers a step changes, before and after: those it writes to, or what shares them."""
    return [(step.args[0], step.outs[0])] if step.op == "overlay" else step.writes


def origin(value: Value) -> Value:
    """Return what the tensor of ``value`` stood for before all writes."""
    while value.step is not None:
        before = [old for old, new in changes(value.step) if new is value]
        if not before:
            break
        value = before[0]
    return value


def sharing(step: Step, forward: Forward) -> Sharing:
    """Return what the two tensors of an ``overlay`` have to do with each other."""
    tensor, written = step.args[:2]
    here, there = (_places(item) for item in step.args[2:])
    known, changed = set(here.flatten().tolist()), set(there.flatten().tolist())
    if not known & changed:
        return Sharing("apart")
    if here.shape == there.shape and bool((here == there).all()):
        return Sharing("same" if _origins(tensor) & _origins(written) else "unknown")
    whole = known <= changed
    inward = _views(written, tensor)
    if inward is not None:
        return Sharing("whole" if whole else "inside", _place(inward, tensor, forward))
    outward = _views(tensor, written)
    if outward is not None and whole:
        return Sharing("around", back=lambda g: _back(g, outward, forward))
    return Sharing("unknown")


def _places(geometry: Const) -> Tensor:
    """Return the number of each element in its memory."""
    sizes, strides, first = geometry.value
    last = first + sum((n - 1) * stride for n, stride in zip(sizes, strides, strict=True))
    return torch.arange(last + 1).as_strided(sizes, strides, first)


def _views(view: Value, base: Value) -> list[tuple[Step, Value]] | None:
    """Return the steps that lead from ``base`` to ``view``, a part of it; None if there are no such."""
    steps: list[tuple[Step, Value]] = []
    current, end = origin(view), origin(base)
    while current is not end:
        step = current.step
        if step is None or plain(step.op) not in VIEWS or not step.grad_enabled:
            return None
        steps.insert(0, (step, current))
        current = origin(step.args[0])
    return steps


def _origins(value: Value) -> set[Value]:
    """Return what a tensor is a view of, as far as autograd follows, and itself."""
    found = {origin(value)}
    current = origin(value)
    while (step := current.step) is not None and plain(step.op) in VIEWS and step.grad_enabled:
        current = origin(step.args[0])
        found.add(current)
    return found


def _place(steps: list[tuple[Step, Value]], base: Value, forward: Forward) -> Expr:
    """Return where in ``base`` the view at the end of ``steps`` is."""
    place = hole(forward.sizes.shape(base))
    for step, made in steps:
        parent = step.args[0]
        if plain(step.op) == "getitem":
            place = Expr("index", (place, forward.key(step)), forward.sizes.shape(made))
            continue

        def change(part: Expr, parent: Value = parent) -> Expr | None:
            return hole(part.shape) if part.op == "value" and part.data is parent else None

        place = fill(replace(forward.definition(made), change), place)
    return place


def _back(g: Expr, steps: list[tuple[Step, Value]], forward: Forward) -> Expr:
    """Return what a tensor gets if ``g`` is the gradient of the view of it at the end of ``steps``."""
    for step, made in reversed(steps):
        rule = find(step.op, str(step.site))
        if rule is None or rule.many or g.op == "scatter":
            raise NotImplementedError("a view of a view was read after its memory was written: index once")
        given, named = bind(rule, step.args, step.kwargs, forward.convert(step))
        terms = list(rule.function(g, forward.leaf(made), *given, **named))
        g = next(term.gradient for term in terms if term.target.data is step.args[0])
    return g


# -- names that stand for something else by now


def outdated(graph: Graph, until: int | None = None) -> set[Value]:
    """Return the values whose numbers are gone at the time ``until``, or at the end: their memory was written."""
    gone: set[Value] = set()
    writes: dict[Value, list[tuple[int, Value]]] = {}
    for step in graph.steps:
        if until is None or step.time <= until:
            gone.update(before for before, _ in changes(step))
            for _, after in step.writes:
                writes.setdefault(_root(after)[0], []).append((step.index, after))
    if not writes:
        return gone
    for value in graph.named:
        made = -1 if value.step is None else value.step.index
        for index, after in writes.get(_root(value)[0], ()):
            if index > made and origin(after) is not origin(value) and _meet(value, after):
                gone.add(value)
    return gone


def _root(value: Value) -> tuple[Value, list[Step]]:
    """Return the tensor that holds the memory of ``value``, and the views that lead from there."""
    steps: list[Step] = []
    current = origin(value)
    while (step := current.step) is not None and plain(step.op) in VIEWS | _ALIASES and step.args:
        steps.insert(0, step)
        current = origin(step.args[0])
    return current, steps


def _meet(one: Value, other: Value) -> bool:
    """Whether two views of one tensor may share an element."""
    places = []
    for value in (one, other):
        root, steps = _root(value)
        seen: Any = torch.arange(torch.Size(root.shape).numel()).reshape(root.shape)
        for step in steps:
            if plain(step.op) in _ALIASES:
                continue
            if len(step.outs) != 1:
                return True
            given = [item.value if isinstance(item, Const | Value) else item for item in step.args[1:]]
            more = {key: item.value if isinstance(item, Const | Value) else item for key, item in step.kwargs.items()}
            try:
                seen = step.func(seen, *given, **more)
            except (TypeError, RuntimeError, IndexError):
                return True
        places.append(set(seen.flatten().tolist()))
    return bool(places[0] & places[1])


_ALIASES = frozenset(["detach", "data", "alias"])


# -- writes that hide nothing


def writes_itself(step: Step) -> bool:
    """Whether an assignment writes what stands there already, as that of ``x[:, 0] -= 1`` does at last."""
    if plain(step.op) != "setitem" or not isinstance(step.args[2], Value):
        return False
    before = step.args[0].step
    if before is None or before.op != "overlay" or before.args[1] is not step.args[2]:
        return False
    picked = _places(before.args[2])[real_key(step)]
    own = _places(before.args[3])
    return picked.shape == own.shape and bool((picked == own).all())


def are_apart(one: Step, other: Step) -> bool:
    """Whether the keys of two indices, or assignments, of one tensor pick different places, whatever the numbers."""
    places = [_picked(step) for step in (one, other)]
    return None not in places and not (places[0] or set()) & (places[1] or set())


def _picked(step: Step) -> set[int] | None:
    """Return which elements an index picks, None if that depends on tensors."""
    key = real_key(step)
    if any(isinstance(item, Tensor) for item in (key if isinstance(key, tuple) else (key,))):
        return None
    shape = step.args[0].shape
    return set(torch.arange(torch.Size(shape).numel()).reshape(shape)[key].flatten().tolist())


def unwritten(step: Step) -> Value:
    """Return the earliest state of the tensor that an index reads in which what it picks was the same."""
    value: Value = step.args[0]
    picked = _picked(step)
    while picked is not None and (before := value.step) is not None:
        if plain(before.op) == "setitem" and are_apart(before, step):
            value = before.args[0]
        elif before.op == "overlay":
            own, written = (_places(item) for item in before.args[2:])
            places = own.flatten()[sorted(picked)] if picked else own.flatten()[:0]
            if set(places.tolist()) & set(written.flatten().tolist()):
                break
            value = before.args[0]
        else:
            break
    return value


def real_key(step: Step) -> Any:
    """Return the key of an index or an assignment as it was."""

    def real(item: Any) -> Any:
        if isinstance(item, Value):
            return item.value
        if isinstance(item, Const):
            return item.value
        return type(item)(map(real, item)) if isinstance(item, list | tuple) else item

    return real(step.args[1])


def check_tracked(graph: Graph, carries: set[Value], known: set[Value]) -> None:
    """Refuse writes that autograd does not see to values that it does.

    Raises:
        DeriveError: there is one.
    """
    for step in graph.steps:
        for before, after in [] if step.grad_enabled else changes(step):
            if before in carries and after in known and not after.is_parameter and step.op != "detach":
                raise DeriveError(
                    f"{step.site}: `{step.text}` changes a value in place under torch.no_grad(), and autograd passes "
                    "the gradient on as if nothing had happened: write outside of no_grad, or into a clone"
                )
