"""From nests to LLVM IR."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.ir as ir

from handgrad.native.arrays import Array
from handgrad.native.layout import Layout
from handgrad.native.llvm.builder import I8, I32, I64, Builder, Machine
from handgrad.native.llvm.nests import NestWriter
from handgrad.native.nests import Nest


@dataclass(frozen=True)
class Fed:
    """An array that each step reads from a longer one: rows that indices name, or the next number."""

    array: Array
    by_rows: bool


def ir_of(
    nests: Sequence[Nest], layout: Layout, machine: Machine, *, fed: Sequence[Fed] = (), loss: Array | None = None
) -> str:
    """Return the LLVM IR of ``void run(char* arena, char** data, int32* rows, int64 steps, real* losses)``.

    ``data`` holds a pointer for each array in ``fed``: its rows one after the other, without padding. ``rows`` holds
    the numbers of a batch's rows, step after step. All indices are checked before the call.
    """
    module = ir.Module("handgrad")
    builder = Builder(machine, module)
    for number, nest in enumerate(nests):  # a function each: the time that LLVM takes grows faster than its length
        (memory,) = builder.start(f"nest{number}", [I8.as_pointer()], apart=True)
        memory.add_attribute("noalias")
        NestWriter(builder, layout, memory).write(nest)
        builder.finish()
    arena, data, rows, steps, losses = builder.start(
        "run", [I8.as_pointer(), I8.as_pointer().as_pointer(), I32.as_pointer(), I64, builder.real.as_pointer()]
    )
    arena.add_attribute("noalias")

    def step(number: Any) -> None:
        for k, one in enumerate(fed):
            base = builder.ir.load(builder.ir.gep(data, [builder.i64(k)]))
            _feed(builder, layout, arena, one, base, rows, number)
        for k in range(len(nests)):
            builder.call(f"nest{k}", ir.VoidType(), [arena])
        if loss is not None:
            at = builder.ir.gep(arena, [builder.i64(layout.slots[loss].offset)])
            value = builder.load(at, builder.i64(0), builder.real)
            builder.store(value, builder.ir.bitcast(losses, I8.as_pointer()), number)

    builder.repeat(steps, step)
    builder.finish()
    return str(module)


def _feed(b: Builder, layout: Layout, arena: Any, fed: Fed, base: Any, rows: Any, number: Any) -> None:
    """Copy what a step reads of a longer array to its place in the arena."""
    kind: Any = b.real if fed.array.kind == "float" else I32
    slot, shape = layout.slots[fed.array], fed.array.shape
    target = b.ir.gep(arena, [b.i64(slot.offset)])
    if not fed.by_rows:
        b.store(b.load(base, number, kind), target, b.i64(0))
        return
    row = math.prod(shape[1:])
    inner = contiguous_part(shape, slot.strides)

    def one(index: Any) -> None:
        place = b.ir.add(b.ir.mul(number, b.i64(shape[0])), index)
        source = b.ir.mul(b.ir.sext(b.load(b.ir.bitcast(rows, I8.as_pointer()), place, I32), I64), b.i64(row))
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
