"""From nests to LLVM IR."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import llvmlite.ir as ir

from handgrad.native.arrays import Array
from handgrad.native.indices import Var
from handgrad.native.layout import Layout
from handgrad.native.llvm.builder import I8, I32, I64, Builder, Machine
from handgrad.native.llvm.forms import Form, Start
from handgrad.native.llvm.nests import NestWriter
from handgrad.native.llvm.ranges import Part
from handgrad.native.llvm.team import MEETING, Team
from handgrad.native.loops import Division
from handgrad.native.nests import Nest
from handgrad.native.panels import Group


@dataclass(frozen=True)
class Fed:
    """An array that each step reads from a longer one: rows that indices name, or the next number."""

    array: Array
    by_rows: bool


def ir_of(
    groups: Sequence[Group], layout: Layout, machine: Machine, *, fed: Sequence[Fed] = (), loss: Array | None = None
) -> str:
    """Return LLVM IR of ``void run(arena, data, rows, steps, losses, thread, threads)``.

    That is ``char*, char**, int32*, int64, real*, int64, int64``. ``data`` holds a pointer for each array in ``fed``:
    its rows one after the other, without padding. ``rows`` holds the numbers of a batch's rows, step after step. All
    indices are checked before the call. Several threads make the call at once, each with its number, and share one
    arena: `arena_size` bytes, zero at first.
    """
    module = ir.Module("handgrad")
    builder = Builder(machine, module)
    divisions = [group.division(machine.lanes, machine.registers) for group in groups]
    names: dict[Hashable, str] = {}
    bodies = [_body(builder, layout, names, group, division)
              for group, division in zip(groups, divisions, strict=True)]  # fmt: skip
    team = Team(builder, layout.size)
    types = [I8.as_pointer(), I8.as_pointer().as_pointer(), I32.as_pointer(), I64, builder.real.as_pointer(), I64, I64]
    arena, data, rows, steps, losses, *place = builder.start("run", types)
    arena.add_attribute("noalias")
    team.begin(arena, *place)

    def feed(number: Any) -> None:
        following = builder.lesser(builder.ir.add(number, builder.i64(1)), builder.ir.sub(steps, builder.i64(1)))
        for k, one in enumerate(fed):
            base = builder.ir.load(builder.ir.gep(data, [builder.i64(k)]))
            _feed(builder, layout, arena, one, base, rows, number, following)

    def keep_loss(number: Any) -> None:
        if loss is not None:
            at = builder.ir.gep(arena, [builder.i64(layout.slots[loss].offset)])
            value = builder.load(at, builder.i64(0), builder.real)
            builder.store(value, builder.ir.bitcast(losses, I8.as_pointer()), number)

    def step(number: Any) -> None:
        team.alone(lambda: feed(number))
        for body, division in zip(bodies, divisions, strict=True):
            if division is None:
                team.alone(partial(body, arena))
            else:
                team.share(division, partial(body, arena))
        team.alone(lambda: keep_loss(number))
        team.end_of_step()

    builder.between(builder.i64(0), steps, step)
    builder.finish()
    return str(module)


def _body(
    builder: Builder, layout: Layout, names: dict[Hashable, str], group: Group, division: Division | None
) -> Callable[..., None]:
    """Write the functions of a group's nests, and return what calls them: ``body(arena)``, or for a part of it."""
    together = len(group.nests) > 1
    calls: list[Callable[..., None]] = []
    for nest in group.nests:
        form = Form(nest, layout)
        variable = nest.domain[-1] if together else None if division is None else division.variable
        key = form.key, variable
        if key not in names:
            names[key] = f"nest{len(names)}"
            _nest(builder, layout, names[key], nest, form, variable)
        calls.append(partial(_call, builder, layout, names[key], form.starts))

    def by_panels(arena: Any, first: Any = None, end: Any = None) -> None:
        last = builder.i64(group.panels.variable.extent) if end is None else end

        def panel(start: Any) -> None:
            stop = builder.lesser(builder.ir.add(start, builder.i64(group.grain)), last)
            for call in calls:
                call(arena, start, stop)

        builder.between(builder.i64(0) if first is None else first, last, panel, group.grain)

    return by_panels if together else calls[0]


def _call(builder: Builder, layout: Layout, name: str, starts: Sequence[Start], arena: Any, *part: Any) -> None:
    """Call the function of a nest."""
    given: list[Any] = []
    for array, element in starts:
        width = 4 if array.kind == "whole" else builder.machine.item
        offset = layout.slots[array].offset + element * width
        given.append(builder.ir.gep(arena, [builder.i64(offset)], inbounds=True))
    builder.call(name, ir.VoidType(), [*given, *part])


def arena_size(layout: Layout) -> int:
    """Return the bytes of the memory of a step: its arrays, and where threads meet."""
    return layout.size + MEETING


def _nest(builder: Builder, layout: Layout, name: str, nest: Nest, form: Form, variable: Var | None) -> None:
    """Write the nests of a form as a function: the time that LLVM takes grows faster than a function's length."""
    count = len(form.starts)
    bounds = [] if variable is None else [I64, I64]
    given = builder.start(name, [I8.as_pointer()] * count + bounds, apart=True)
    starts = dict(zip(form.starts, given[:count], strict=True))
    part = None if variable is None else Part(variable, *given[count:])
    NestWriter(builder, layout, starts, part).write(nest)
    builder.finish()


def _feed(b: Builder, layout: Layout, arena: Any, fed: Fed, base: Any, rows: Any, number: Any, following: Any) -> None:
    """Copy what a step reads of a longer array to its place in the arena, and call for what the following one reads."""
    kind: Any = b.real if fed.array.kind == "float" else I32
    slot, shape = layout.slots[fed.array], fed.array.shape
    target = b.ir.gep(arena, [b.i64(slot.offset)])
    if not fed.by_rows:
        b.store(b.load(base, number, kind), target, b.i64(0))
        return
    row = math.prod(shape[1:])
    inner = contiguous_part(shape, slot.strides)

    def source_of(step: Any, index: Any) -> Any:
        place = b.ir.add(b.ir.mul(step, b.i64(shape[0])), index)
        return b.ir.mul(b.ir.sext(b.load(b.ir.bitcast(rows, I8.as_pointer()), place, I32), I64), b.i64(row))

    def one(index: Any) -> None:
        source = source_of(number, index)
        b.prefetch(base, source_of(following, index), kind)
        start = b.ir.mul(index, b.i64(slot.strides[0]))

        def run(first: Any, offset: Any) -> None:
            def copy(k: Any, type_: Any = kind) -> None:
                value = b.load(base, b.ir.add(b.ir.add(source, first), k), type_)
                b.store(value, target, b.ir.add(b.ir.add(start, offset), k))

            whole = inner // b.lanes * b.lanes
            b.loop(whole, lambda k: copy(k, b.vector(kind)), b.lanes)
            b.loop(inner - whole, lambda k: copy(b.ir.add(k, b.i64(whole))))

        _each_run(b, shape[1:], slot.strides[1:], inner, run)

    b.loop(shape[0], one)


def _each_run(b: Builder, shape: Sequence[int], strides: Sequence[int], inner: int, run: Any) -> None:
    """Call ``run`` with the place of every contiguous part of a row: in the row without padding, and with it."""
    d = len(shape)
    length = 1
    while d > 0 and length < inner:
        d -= 1
        length *= shape[d]

    def walk(k: int, first: Any, offset: Any) -> None:
        if k == d:
            run(first, offset)
            return
        size = math.prod(shape[k + 1 :])
        b.loop(shape[k], lambda i: walk(k + 1, b.ir.add(first, b.ir.mul(i, b.i64(size))),
                                        b.ir.add(offset, b.ir.mul(i, b.i64(strides[k])))))  # fmt: skip

    walk(0, b.i64(0), b.i64(0))


def contiguous_part(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Return how many numbers at the end of each row lie side by side."""
    length = 1
    for size, stride in zip(reversed(shape[1:]), reversed(strides[1:]), strict=True):
        if stride != length and size != 1:
            break
        length *= size
    return length
