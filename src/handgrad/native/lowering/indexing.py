"""Reading at places that numbers name, and adding there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from handgrad.errors import NoLoweringError
from handgrad.native.arrays import Array, Tensor, domain_of, reshaped, variables_of
from handgrad.native.indices import Index
from handgrad.native.lowering.pointwise import broadcast, constant, expanded, kind_of, pointwise
from handgrad.native.program import Program, Scatter
from handgrad.native.scalars import TRUTH, WHOLE, Scalar, as_float, as_index, index_value, number, op, without_replaced
from handgrad.native.table import lowering


@lowering("arange")
def _arange(program: Program, *given: Any, dtype: Any = None, **_: Any) -> Tensor:
    del program
    start, end, step = (0, given[0], 1) if len(given) == 1 else (*given[:2], given[2] if len(given) > 2 else 1)
    size = max(0, math.ceil((end - start) / step))
    kind = WHOLE if all(isinstance(g, int) for g in given) and (dtype is None or kind_of(dtype) == WHOLE) else "float"
    if kind == WHOLE:
        return Tensor((size,), lambda p: index_value(p[0] * step + start), WHOLE)
    return Tensor((size,), lambda p: op("add", op("mul", as_float(index_value(p[0])), number(float(step))),
                                        number(float(start))))  # fmt: skip


def is_arange(index: Tensor) -> bool:
    """Whether an index tensor is 0, 1, 2, ..., so that it names each place once."""
    if len(index.shape) != 1:
        return False
    position = variables_of(index.shape)
    return index.at(position) is index_value(position[0])


def _places(x: Tensor, indices: Sequence[Tensor | None]) -> tuple[tuple[int, ...], list[int], int]:
    """Return the broadcast shape of index tensors, the axes that they replace, and where their dimensions go."""
    axes = [d for d, index in enumerate(indices) if index is not None]
    shape = broadcast([index.shape for index in indices if index is not None])
    together = axes == list(range(axes[0], axes[-1] + 1))
    del x
    return shape, axes, axes[0] if together else 0


@lowering("index", "_unsafe_index")
def _index(program: Program, x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    _check_that_none_is_a_mask(indices)
    indices = [None if i is None else kept(program, i) for i in indices]
    at_shape, axes, front = _places(x, indices)
    rest = [d for d in range(len(x.shape)) if d not in axes]
    shape = (*(x.shape[d] for d in rest[:front]), *at_shape, *(x.shape[d] for d in rest[front:]))

    def at(p: tuple[Index, ...]) -> Scalar:
        named = p[front : front + len(at_shape)]
        others = iter(p[:front] + p[front + len(at_shape) :])
        place = []
        for d in range(len(x.shape)):
            index = indices[d] if d < len(indices) else None
            place.append(next(others) if index is None else at_index(expanded(index, at_shape).at(named), x.shape[d]))
        return x.at(tuple(place))

    return Tensor(shape, at, x.kind)


def at_index(value: Scalar, extent: int) -> Index:
    """Return a number from an index tensor as a place.

    What the caller gives is checked before the call, but for one number that is replaced, as a loss does with those of
    ``ignore_index``. What the step computes cannot be: a negative number counts from the end, and one outside is
    brought to the nearest place, so that nothing outside the array is read.
    """
    read, _ = without_replaced(value)
    if value.op in ("index", "number") or (read.op == "load" and read.array.role in ("batch", "parameter")):
        return as_index(value, extent)
    counted = op("select", op("lt", value, number(0)), op("add", value, number(extent)), value)
    return as_index(op("min", op("max", counted, number(0)), number(extent - 1)), extent)


def kept(program: Program, index: Tensor) -> Tensor:
    """Return an index tensor that can be read again and again: an array, or a formula of places alone."""
    body = index.at(variables_of(index.shape))
    return index if body.op in ("load", "index", "number") else program.realise(index)


@lowering("index_select")
def _index_select(program: Program, x: Tensor, dim: int, index: Tensor) -> Tensor:
    return _index(program, x, [None] * (dim % len(x.shape)) + [index])


@lowering("embedding")
def _embedding(program: Program, weight: Tensor, index: Tensor, *_: Any, **__: Any) -> Tensor:
    return _index(program, weight, [index])


@lowering("gather")
def _gather(program: Program, x: Tensor, dim: int, index: Tensor, **_: Any) -> Tensor:
    axis = dim % len(x.shape)
    index = kept(program, index)

    def at(p: tuple[Index, ...]) -> Scalar:
        return x.at((*p[:axis], at_index(index.at(p), x.shape[axis]), *p[axis + 1 :]))

    return Tensor(index.shape, at, x.kind)


@lowering("index_put", "_unsafe_index_put")
def _index_put(program: Program, x: Tensor, indices: Sequence[Tensor | None], values: Tensor,
               accumulate: bool = False) -> Tensor:  # fmt: skip
    if len(indices) == 1 and indices[0] is not None and indices[0].kind == TRUTH:
        return _put_where(program, x, indices[0], values, accumulate)
    _check_that_none_is_a_mask(indices)
    indices = [None if i is None else kept(program, i) for i in indices]
    at_shape, axes, front = _places(x, indices)
    single = _put_along_rows(program, x, indices, values, accumulate)
    if single is not None:
        return single
    rest = [d for d in range(len(x.shape)) if d not in axes]
    shape = (*(x.shape[d] for d in rest[:front]), *at_shape, *(x.shape[d] for d in rest[front:]))
    position = variables_of(shape)
    named = position[front : front + len(at_shape)]
    others = iter(position[:front] + position[front + len(at_shape) :])
    place = tuple(
        next(others) if index is None else at_index(expanded(index, at_shape).at(named), x.shape[d])
        for d, index in enumerate([*indices, *([None] * (len(x.shape) - len(indices)))])
    )
    return scattered(program, x, place, program.realise(expanded(values, shape)), accumulate)


@lowering("put")
def _put(program: Program, x: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    count = (math.prod(index.shape),)
    flat = reshaped(x, (math.prod(x.shape),))
    return reshaped(_index_put(program, flat, [reshaped(index, count)], reshaped(source, count), accumulate), x.shape)


def _put_where(program: Program, x: Tensor, mask: Tensor, values: Tensor, accumulate: bool) -> Tensor:
    """``x[mask] = values``: the mask names the first dimensions, the values are the same for all that it picks."""
    rest = len(x.shape) - len(mask.shape)
    if len(values.shape) > rest and values.shape != (1,):
        raise NoLoweringError("a mask that picks out a number of elements of its own has no native form")
    wide = Tensor(mask.shape + (1,) * rest, lambda p: mask.at(p[: len(mask.shape)]), mask.kind)
    return pointwise(program, lambda m, v, a: op("select", m, op("add", a, v) if accumulate else v, a), wide, values, x)


def _check_that_none_is_a_mask(indices: Sequence[Tensor | None]) -> None:
    if any(index is not None and index.kind == TRUTH for index in indices):
        raise NoLoweringError("how many elements a mask picks out depends on the data: there is no native form")


def scattered(program: Program, x: Tensor, place: tuple[Index, ...], values: Tensor, adds: bool) -> Tensor:
    """Return ``x`` with ``values`` added (or put) at ``place``, one after the other."""
    array = Array(x.shape, x.kind)
    body = values.at(variables_of(values.shape))
    base = x.at(variables_of(x.shape))
    program.definitions.append(Scatter(array, place, body, domain_of(values.shape), base, adds))
    return Tensor.of(array)


def _put_along_rows(program: Program, x: Tensor, indices: Sequence[Tensor | None], values: Tensor,
                    accumulate: bool) -> Tensor | None:  # fmt: skip
    """``x[arange(n), index]``: one place in each row, so that each element can be computed by itself."""
    if len(x.shape) != 2 or len(indices) != 2 or any(i is None for i in indices):
        return None
    rows, columns = indices
    assert rows is not None
    assert columns is not None
    if not is_arange(rows) or rows.shape != (x.shape[0],) or columns.shape != rows.shape:
        return None
    given = expanded(values, rows.shape)
    given = given if given.at(variables_of(rows.shape)).costs < 3 else program.realise(given)

    def at(p: tuple[Index, ...]) -> Scalar:
        here = op("eq", index_value(p[1]), columns.at((p[0],)))
        value = given.at((p[0],))
        return op("select", here, op("add", x.at(p), value) if accumulate else value, x.at(p))

    return Tensor(x.shape, at, x.kind)


@lowering("index_add")
def _index_add(program: Program, x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    axis = dim % len(x.shape)
    index = kept(program, index)
    position = variables_of(source.shape)
    place = (*position[:axis], at_index(index.at((position[axis],)), x.shape[axis]), *position[axis + 1 :])
    if alpha != 1:
        plain = source
        source = Tensor(plain.shape, lambda p: op("mul", plain.at(p), number(float(alpha))))
    return scattered(program, x, place, source, adds=True)


@lowering("scatter_add")
def _scatter_add(program: Program, x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    return _scatter(program, x, dim, index, source, adds=True)


@lowering("scatter.src", "scatter.value")
def _scatter(program: Program, x: Tensor, dim: int, index: Tensor, source: Any, *, adds: bool = False) -> Tensor:
    axis = dim % len(x.shape)
    index = kept(program, index)
    source = source if isinstance(source, Tensor) else constant(
        float(source) if x.kind == "float" else source, index.shape)  # fmt: skip
    position = variables_of(index.shape)
    place = (*position[:axis], at_index(index.at(position), x.shape[axis]), *position[axis + 1 :])
    values = Tensor(index.shape, source.at, source.kind)
    return scattered(program, x, place, values, adds)


@lowering("one_hot")
def _one_hot(program: Program, index: Tensor, classes: int) -> Tensor:
    index = kept(program, index)

    def at(p: tuple[Index, ...]) -> Scalar:
        return op("select", op("eq", index.at(p[:-1]), index_value(p[-1])), number(1), number(0))

    return Tensor((*index.shape, classes), at, WHOLE)


__all__ = ["is_arange", "kept", "scattered"]
