"""From a captured step to a plan: formulas, nests, places, machine code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from handgrad.native.arrays import Array
from handgrad.native.arrays import Tensor as Formula
from handgrad.native.cache import code_of, key_of, read, write
from handgrad.native.calling import Flat, Parameters
from handgrad.native.capture import capture
from handgrad.native.indices import Entry, Index, Var
from handgrad.native.layout import Layout, layout_of
from handgrad.native.llvm.builder import Machine
from handgrad.native.llvm.compiler import Fed, arena_size, ir_of
from handgrad.native.llvm.objects import object_of, processor, vector_bytes
from handgrad.native.loops import work_of
from handgrad.native.lower import given, lower
from handgrad.native.nests import nests_of
from handgrad.native.orientation import oriented
from handgrad.native.panels import groups_of
from handgrad.native.plan import Limit, Place, Plan
from handgrad.native.program import Program, Scatter, bodies_of, loads_of
from handgrad.native.scalars import without_replaced
from handgrad.native.tables import with_tables
from handgrad.native.updates import SGD, AdamW, Update, add_updates

IGNORED = -100  # the class that the losses of PyTorch leave out unless told otherwise


class Planner:
    """Compiles one captured step, with an update or without."""

    def __init__(self, both: Flat, parameters: Parameters, batch: Sequence[Tensor], dtype: torch.dtype) -> None:
        self.parameters, self.batch, self.item = parameters, batch, dtype.itemsize
        self._both, self._captured = both, capture(both, [*parameters.tensors, *batch])
        self._is_checked = False

    def plan(self, update: Update | None) -> Plan:
        """Return the plan of a step that ends with ``update``, kept or made; without one, it leaves the gradients."""
        if not isinstance(update, SGD | AdamW | None):  # one of somebody's own: what it does is not in its name
            return self._made(update)
        key = key_of("calls", code_of("native"), processor(), str(self.item), repr(update), self._captured.digest(),
                     *map(repr, self.parameters.names),
                     *(f"{x.dtype} {tuple(x.shape)}" for x in (*self.parameters.tensors, *self.batch)),
                     *(str(_has_ignored(x)) for x in self.batch))  # fmt: skip
        content = read(key)
        if content is not None:
            self._is_checked = True  # when it was made
            return Plan.from_bytes(content)
        plan = self._made(update)
        write(key, plan.to_bytes())
        return plan

    def _made(self, update: Update | None) -> Plan:
        program = Program()
        named = zip(self.parameters.names, self.parameters.tensors, strict=True)
        parameters = [given(program, x, name, "parameter") for name, x in named]
        batch = [given(program, x, f"batch[{k}]", "batch") for k, x in enumerate(self.batch)]
        loss, *gradients = lower(self._captured, program, [*parameters, *batch])
        if not self._is_checked:  # by the first plan: the parameters are still those that were recorded
            self._captured.check(self._both(*(x.detach().clone() for x in (*self.parameters.tensors, *self.batch))))
            self._is_checked = True
        loss = program.realise(loss)
        numbers: list[Formula] = []
        states: list[Formula] = []
        results: list[Array] = [_array(loss)]
        if update is None:
            results += [_array(program.realise(g)) for g in gradients]
        else:
            names = update.numbers(np.zeros(1), np.zeros(1))
            numbers = [program.give((), "float", name, "number") for name in names]

            def state(name: str, parameter: Formula) -> Formula:
                states.append(program.give(parameter.shape, "float", f"{name} of {parameter.array}", "state"))
                return states[-1]

            add_updates(program, update, parameters, gradients, state, dict(zip(names, numbers, strict=True)))
        plan = plan_of(program, parameters, results, self.item, batch=batch, states=states, numbers=numbers)
        limits = [_stricter(limit, x) for limit, x in zip(plan.limits, self.batch, strict=True)]
        return replace(plan, limits=limits)


def _has_ignored(x: Tensor) -> bool:
    return not x.is_floating_point() and bool((x == IGNORED).any())


def _stricter(limit: Limit | None, example: Tensor) -> Limit | None:
    """Take back that `IGNORED` may stand in the targets where the example has none: a derived backward knows none."""
    return (limit[0], None) if limit is not None and limit[1] == IGNORED and not _has_ignored(example) else limit


def plan_of(
    program: Program, parameters: Sequence[Formula], results: Sequence[Array], item: int, *,
    batch: Sequence[Formula] = (), states: Sequence[Formula] = (), numbers: Sequence[Formula] = (),
) -> Plan:  # fmt: skip
    """Return a program as a plan; ``results`` are the loss and what else is kept when a step has run."""
    width, registers = vector_bytes()
    machine = Machine(item, width // item, registers)
    limits = limits_of(program)
    loss, *gradients = results
    program, turned = oriented(with_tables(program, results), machine.lanes)
    kept = [turned.get(array, array) for array in results]
    nests = nests_of(program, kept)
    groups = groups_of(nests, program.given, machine.lanes, machine.registers)
    layout = layout_of(groups, program.given, kept, item=item, lanes=machine.lanes)
    fed = [*(Fed(_array(a), by_rows=True) for a in batch), *(Fed(_array(a), by_rows=False) for a in numbers)]

    def place(array: Array, name: str | None = None) -> Place:
        return _place(layout, array, turned.get(array), name)

    return Plan(
        item=item,
        arena=arena_size(layout),
        work=sum(map(work_of, nests)),
        parameters=[place(_array(p)) for p in parameters],
        batch=[place(_array(b)) for b in batch],
        states=[place(_array(s)) for s in states],
        numbers=[place(_array(n)) for n in numbers],
        loss=place(loss, "loss"),
        gradients=[place(g, f"gradient {k}") for k, g in enumerate(gradients)],
        limits=[limits.get(_array(b)) for b in batch],
        constants=[(place(array), np.asarray(of)) for array, of in program.constants.items()],
        code=object_of(ir_of(groups, layout, machine, fed=fed, loss=kept[0])),
    )


def _array(tensor: Formula) -> Array:
    assert tensor.array is not None
    return tensor.array


def _place(layout: Layout, array: Array, turned: Array | None, name: str | None) -> Place:
    """Return where an array lies, or the one that is its transpose."""
    slot = layout.slots[turned or array]
    kind = "whole" if array.kind == "whole" else "float"
    strides = slot.strides[::-1] if turned else slot.strides
    return Place(name or str(array), kind, array.shape, slot.offset, strides, slot.size)


def limits_of(program: Program) -> dict[Array, Limit]:
    """Return how large the numbers of each given array of indices may be, from the arrays that they index."""
    limits: dict[Array, Limit] = {}
    for definition in program.definitions:
        positions = [node.position for node in loads_of(*bodies_of(definition))]
        if isinstance(definition, Scatter):
            positions.append(definition.position)
        for entry in (e for position in positions for index in position for e in _entries(index)):
            read, replaced = without_replaced(entry.of)
            if read.op == "load":
                below, ignored = limits.get(read.array, (entry.extent, replaced))
                limits[read.array] = min(below, entry.extent), ignored if ignored == replaced else None
    return limits


def _entries(index: Index) -> list[Entry]:
    found: list[Entry] = []
    for atom, _ in index.terms:
        if isinstance(atom, Entry):
            found.append(atom)
        elif not isinstance(atom, Var):
            found.extend(_entries(atom.of))
    return found
