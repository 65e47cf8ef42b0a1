"""The same numbers in another shape or order, and arrays put together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from handgrad.native.arrays import Shape, Tensor, reshaped
from handgrad.native.indices import Index
from handgrad.native.lowering.pointwise import expanded
from handgrad.native.lowering.reductions import squeezed
from handgrad.native.program import Program
from handgrad.native.scalars import Scalar, index_value, number, op
from handgrad.native.table import lowering


def flattened(x: Tensor) -> Tensor:
    """Return a tensor in one dimension."""
    return reshaped(x, (math.prod(x.shape),))


@lowering("view", "reshape", "_unsafe_view", "_reshape_alias")
def _view(program: Program, x: Tensor, size: Sequence[int], *_: Any) -> Tensor:
    del program
    known = -math.prod(size) if -1 in size else 1
    shape = tuple(math.prod(x.shape) // max(known, 1) if s == -1 else s for s in size)
    return reshaped(x, shape)


@lowering("permute")
def _permute(program: Program, x: Tensor, dims: Sequence[int]) -> Tensor:
    del program
    order = [d % len(x.shape) for d in dims]

    def at(p: tuple[Index, ...]) -> Scalar:
        return x.at(tuple(p[order.index(d)] for d in range(len(order))))

    return Tensor(tuple(x.shape[d] for d in order), at, x.kind)


@lowering("t")
def _t(program: Program, x: Tensor) -> Tensor:
    return _permute(program, x, list(range(len(x.shape)))[::-1])


@lowering("transpose")
def _transpose(program: Program, x: Tensor, a: int, b: int) -> Tensor:
    order = list(range(len(x.shape)))
    a, b = a % len(order), b % len(order)
    order[a], order[b] = order[b], order[a]
    return _permute(program, x, order)


@lowering("unsqueeze")
def _unsqueeze(program: Program, x: Tensor, dim: int) -> Tensor:
    del program
    axis = dim % (len(x.shape) + 1)
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    return Tensor(shape, lambda p: x.at(p[:axis] + p[axis + 1 :]), x.kind)


@lowering("squeeze")
def _squeeze(program: Program, x: Tensor, dims: Any = None) -> Tensor:
    del program
    wanted = range(len(x.shape)) if dims is None else [dims] if isinstance(dims, int) else dims
    axes = {d % len(x.shape) for d in wanted} if x.shape else set()
    for axis in sorted(axes, reverse=True):
        if x.shape[axis] == 1:
            x = squeezed(x, axis)
    return x


@lowering("expand")
def _expand(program: Program, x: Tensor, size: Sequence[int], **_: Any) -> Tensor:
    del program
    skip = len(size) - len(x.shape)
    return expanded(x, tuple(x.shape[d - skip] if s == -1 else s for d, s in enumerate(size)))


@lowering("slice")
def _slice(program: Program, x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None,
           step: int = 1) -> Tensor:  # fmt: skip
    del program
    axis = dim % len(x.shape)
    first, last, step = slice(start, end, step).indices(x.shape[axis])
    size = len(range(first, last, step))
    return Tensor((*x.shape[:axis], size, *x.shape[axis + 1 :]),
                  lambda p: x.at((*p[:axis], p[axis] * step + first, *p[axis + 1 :])), x.kind)  # fmt: skip


@lowering("select")
def _select(program: Program, x: Tensor, dim: int, index: int) -> Tensor:
    del program
    axis = dim % len(x.shape)
    place = Index((), index % x.shape[axis])
    return Tensor(x.shape[:axis] + x.shape[axis + 1 :], lambda p: x.at((*p[:axis], place, *p[axis:])), x.kind)


@lowering("slice_scatter")
def _slice_scatter(program: Program, x: Tensor, source: Tensor, dim: int = 0, start: int | None = None,
                   end: int | None = None, step: int = 1) -> Tensor:  # fmt: skip
    del program
    axis = dim % len(x.shape)
    first, last, step = slice(start, end, step).indices(x.shape[axis])
    size = len(range(first, last, step))
    if size == x.shape[axis]:
        return source

    def at(p: tuple[Index, ...]) -> Scalar:
        here = p[axis]
        low, high = here.bounds
        shifted = here - first
        inside = [] if low >= first else [op("ge", index_value(here), number(first))]
        if high >= first + (size - 1) * step + 1:
            inside.append(op("lt", index_value(here), number(first + (size - 1) * step + 1)))
        if step > 1:
            inside.append(op("eq", index_value(shifted % step), number(0)))
        place = clamped(shifted // step if step > 1 else shifted, size)
        within = source.at((*p[:axis], place, *p[axis + 1 :]))
        for condition in inside:
            within = op("select", condition, within, x.at(p))
        return within

    return Tensor(x.shape, at, x.kind)


@lowering("select_scatter")
def _select_scatter(program: Program, x: Tensor, source: Tensor, dim: int, index: int) -> Tensor:
    del program
    axis = dim % len(x.shape)
    place = index % x.shape[axis]

    def at(p: tuple[Index, ...]) -> Scalar:
        here = op("eq", index_value(p[axis]), number(place))
        return op("select", here, source.at(p[:axis] + p[axis + 1 :]), x.at(p))

    return Tensor(x.shape, at, x.kind)


def clamped(index: Index, size: int) -> Index:
    """Return an index that is kept inside a dimension: what is read outside is not used."""
    low, high = index.bounds
    if low >= 0 and high < size:
        return index
    from handgrad.native.indices import Entry

    value = op("min", op("max", index_value(index), number(0)), number(size - 1))
    return Index.of(Entry(value, size)) if value.op != "number" else Index((), int(value.payload[0]))


@lowering("cat")
def _cat(program: Program, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    tensors = [t for t in tensors if t.shape != (0,)]
    axis = dim % len(tensors[0].shape)
    sizes = [t.shape[axis] for t in tensors]
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    shape: Shape = (*tensors[0].shape[:axis], sum(sizes), *tensors[0].shape[axis + 1 :])

    def at(p: tuple[Index, ...]) -> Scalar:
        here = index_value(p[axis])
        low, high = p[axis].bounds
        found = None
        for tensor, start, size in reversed(list(zip(tensors, starts, sizes, strict=True))):
            if start > high or start + size <= low:
                continue
            part = tensor.at((*p[:axis], clamped(p[axis] - start, size), *p[axis + 1 :]))
            found = part if found is None else op("select", op("lt", here, number(start + size)), part, found)
        assert found is not None
        return found

    del program
    return Tensor(shape, at, tensors[0].kind)


@lowering("stack")
def _stack(program: Program, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    return _cat(program, [_unsqueeze(program, t, dim) for t in tensors], dim)


@lowering("split_with_sizes")
def _split_with_sizes(program: Program, x: Tensor, sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    return tuple(_slice(program, x, dim, start, start + size) for start, size in zip(starts, sizes, strict=True))


@lowering("split")
def _split(program: Program, x: Tensor, size: Any, dim: int = 0) -> tuple[Tensor, ...]:
    if not isinstance(size, int):
        return _split_with_sizes(program, x, size, dim)
    whole = x.shape[dim]
    return _split_with_sizes(program, x, [min(size, whole - start) for start in range(0, whole, size)], dim)


@lowering("unbind")
def _unbind(program: Program, x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    return tuple(_select(program, x, dim, k) for k in range(x.shape[dim]))


@lowering("flip")
def _flip(program: Program, x: Tensor, dims: Sequence[int]) -> Tensor:
    del program
    axes = {d % len(x.shape) for d in dims}

    def at(p: tuple[Index, ...]) -> Scalar:
        return x.at(tuple(-i + (x.shape[d] - 1) if d in axes else i for d, i in enumerate(p)))

    return Tensor(x.shape, at, x.kind)


@lowering("roll")
def _roll(program: Program, x: Tensor, shifts: Sequence[int], dims: Sequence[int] = ()) -> Tensor:
    if not dims:
        return reshaped(_roll(program, flattened(x), shifts, (0,)), x.shape)

    def at(p: tuple[Index, ...]) -> Scalar:
        moved = list(p)
        for shift, d in zip(shifts, dims, strict=True):
            size = x.shape[d]
            moved[d] = (moved[d] + (size - shift % size)) % size
        return x.at(tuple(moved))

    return Tensor(x.shape, at, x.kind)


@lowering("repeat")
def _repeat(program: Program, x: Tensor, times: Sequence[int]) -> Tensor:
    del program
    sizes = (1,) * (len(times) - len(x.shape)) + x.shape
    skip = len(times) - len(x.shape)

    def at(p: tuple[Index, ...]) -> Scalar:
        return x.at(tuple(i % size for i, size in zip(p[skip:], sizes[skip:], strict=True)))

    return Tensor(tuple(s * t for s, t in zip(sizes, times, strict=True)), at, x.kind)


@lowering("tril")
def _tril(program: Program, x: Tensor, diagonal: int = 0) -> Tensor:
    return _triangle(program, x, "le", diagonal)


@lowering("triu")
def _triu(program: Program, x: Tensor, diagonal: int = 0) -> Tensor:
    return _triangle(program, x, "ge", diagonal)


def _triangle(program: Program, x: Tensor, comparison: str, diagonal: int) -> Tensor:
    del program
    nothing = number({"float": 0.0, "whole": 0, "truth": False}[x.kind])

    def at(p: tuple[Index, ...]) -> Scalar:
        kept = op(comparison, index_value(p[-1] - p[-2]), number(diagonal))
        return op("select", kept, x.at(p), nothing)

    return Tensor(x.shape, at, x.kind)


@lowering("constant_pad_nd")
def _pad(program: Program, x: Tensor, pad: Sequence[int], value: float = 0.0) -> Tensor:
    del program
    ndim = len(x.shape)
    before, after = [0] * ndim, [0] * ndim
    for k in range(len(pad) // 2):
        before[ndim - 1 - k], after[ndim - 1 - k] = pad[2 * k], pad[2 * k + 1]
    shape = tuple(s + b + a for s, b, a in zip(x.shape, before, after, strict=True))
    fill = number(float(value))

    def at(p: tuple[Index, ...]) -> Scalar:
        found = x.at(tuple(clamped(i - b, s) for i, b, s in zip(p, before, x.shape, strict=True)))
        for i, b, s in zip(p, before, x.shape, strict=True):
            low, high = i.bounds
            if low < b:
                found = op("select", op("ge", index_value(i), number(b)), found, fill)
            if high >= b + s:
                found = op("select", op("lt", index_value(i), number(b + s)), found, fill)
        return found

    return Tensor(shape, at, x.kind)


__all__ = ["clamped", "flattened"]
