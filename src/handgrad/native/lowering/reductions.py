"""Sums, means, extremes and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from handgrad.native.arrays import Tensor
from handgrad.native.indices import Index
from handgrad.native.lowering.pointwise import as_kind, expanded, pointwise, power
from handgrad.native.program import Program
from handgrad.native.scalars import FLOAT, Scalar, as_float, index_value, number, op, real, truth
from handgrad.native.table import lowering

Dims = Sequence[int] | int | None


def as_dims(dims: Dims) -> tuple[int, ...]:
    """Return dimensions as a tuple; none for all."""
    return () if dims is None else (dims,) if isinstance(dims, int) else tuple(dims)


def count(x: Tensor, dims: Dims) -> int:
    """Return how many elements are reduced to one."""
    return math.prod(x.shape[d] for d in as_dims(dims) or range(len(x.shape)))


def total(program: Program, x: Tensor, dims: Dims = None, keepdim: bool = False) -> Tensor:
    """Return the sum over ``dims``."""
    floating = Tensor(x.shape, lambda p: as_float(x.at(p))) if x.kind != FLOAT else x
    return program.reduce("sum", floating, as_dims(dims), keepdim)


def scaled(program: Program, x: Tensor, factor: float) -> Tensor:
    """Return a tensor times a number."""
    return pointwise(program, lambda a: op("mul", a, real(factor)), x)


@lowering("sum")
def _sum(program: Program, x: Tensor, dims: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    found = total(program, x, dims, keepdim)
    return found if x.kind == FLOAT and dtype is None else as_kind(program, found, dtype or "int64")


@lowering("mean")
def _mean(program: Program, x: Tensor, dims: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    del dtype
    return scaled(program, total(program, x, dims, keepdim), 1 / count(x, dims))


@lowering("amax")
def _amax(program: Program, x: Tensor, dims: Dims = None, keepdim: bool = False) -> Tensor:
    return program.reduce("max", x, as_dims(dims), keepdim)


@lowering("amin")
def _amin(program: Program, x: Tensor, dims: Dims = None, keepdim: bool = False) -> Tensor:
    return program.reduce("min", x, as_dims(dims), keepdim)


@lowering("max.default")
def _largest(program: Program, x: Tensor) -> Tensor:
    return program.reduce("max", x, ())


@lowering("min.default")
def _smallest(program: Program, x: Tensor) -> Tensor:
    return program.reduce("min", x, ())


@lowering("max.dim")
def _max_dim(program: Program, x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    best = program.reduce("max", x, (dim,), keepdim=True)
    return _with_place(program, x, best, dim, keepdim)


@lowering("min.dim")
def _min_dim(program: Program, x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    best = program.reduce("min", x, (dim,), keepdim=True)
    return _with_place(program, x, best, dim, keepdim)


@lowering("argmax")
def _argmax(program: Program, x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    from handgrad.native.lowering.views import flattened

    if dim is None:
        x, dim, keepdim = flattened(x), 0, False
    return _max_dim(program, x, dim, keepdim)[1]


def _with_place(program: Program, x: Tensor, best: Tensor, dim: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    """Return the extreme and the first place where it stands."""
    axis = dim % len(x.shape)
    everywhere = expanded(best, x.shape)

    def place(p: tuple[Index, ...]) -> Scalar:
        here = as_float(index_value(p[axis]))
        return op("select", op("eq", x.at(p), everywhere.at(p)), here, real(float(x.shape[axis])))

    where = program.reduce("min", Tensor(x.shape, place), (dim,), keepdim)
    whole = Tensor(where.shape, lambda p: op("to_whole", where.at(p)), "whole")
    return (best if keepdim else squeezed(best, axis)), whole


def squeezed(x: Tensor, axis: int) -> Tensor:
    """Return a tensor without a dimension of size 1."""
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    return Tensor(shape, lambda p: x.at((*p[:axis], Index(), *p[axis:])), x.kind)


def variance(program: Program, x: Tensor, dims: Dims, correction: float, keepdim: bool) -> tuple[Tensor, Tensor]:
    """Return variance and mean; two passes, as PyTorch's result is stable."""
    n = count(x, dims)
    mean = program.realise(scaled(program, total(program, x, dims, keepdim=True), 1 / n))
    centred = pointwise(program, lambda a, m: power(op("sub", a, m), 2), x, mean)
    var = scaled(program, total(program, centred, dims, keepdim), 1 / (n - correction) if n > correction else math.nan)
    return var, mean if keepdim else _mean(program, x, dims)


@lowering("var")
def _var(program: Program, x: Tensor, dims: Any = None, unbiased: bool = True, keepdim: bool = False, *,
         correction: float | None = None) -> Tensor:  # fmt: skip
    if isinstance(dims, bool):
        dims, unbiased = None, dims
    return variance(program, x, dims, float(unbiased) if correction is None else correction, keepdim)[0]


@lowering("std")
def _std(program: Program, x: Tensor, *given: Any, **named: Any) -> Tensor:
    return pointwise(program, lambda a: op("sqrt", a), _var(program, x, *given, **named))


@lowering("var_mean")
def _var_mean(program: Program, x: Tensor, dims: Dims = None, unbiased: bool = True, keepdim: bool = False, *,
              correction: float | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    return variance(program, x, dims, float(unbiased) if correction is None else correction, keepdim)


@lowering("linalg_vector_norm", "norm")
def _norm(program: Program, x: Tensor, order: Any = 2, dims: Dims = None, keepdim: bool = False, **_: Any) -> Tensor:
    size = pointwise(program, lambda a: op("abs", a), x)
    if order in (math.inf, -math.inf):
        return program.reduce("max" if order > 0 else "min", size, as_dims(dims), keepdim)
    raised = total(program, pointwise(program, lambda a: power(a, order or 2), size), dims, keepdim)
    return pointwise(program, lambda s: power(s, 1 / (order or 2)), raised)


@lowering("prod")
def _prod(program: Program, x: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    del dtype
    return program.reduce("prod", x, as_dims(dim), keepdim)


@lowering("any")
def _any(program: Program, x: Tensor, dims: Dims = None, keepdim: bool = False) -> Tensor:
    found = program.reduce("max", pointwise(program, lambda a: as_float(truth(a)), x), as_dims(dims), keepdim)
    return pointwise(program, truth, found)


@lowering("all")
def _all(program: Program, x: Tensor, dims: Dims = None, keepdim: bool = False) -> Tensor:
    found = program.reduce("min", pointwise(program, lambda a: as_float(truth(a)), x), as_dims(dims), keepdim)
    return pointwise(program, truth, found)


# -- exponentials along a dimension


def exponentials(program: Program, x: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest number m along ``dim``, exp(x - m), and its sum; the first and last keep the dimension."""
    largest = program.reduce("max", x, (dim,), keepdim=True)
    raised = program.realise(pointwise(program, lambda a, m: op("exp", op("sub", a, m)), x, largest))
    return largest, raised, program.reduce("sum", raised, (dim,), keepdim=True)


@lowering("_softmax")
def _softmax(program: Program, x: Tensor, dim: int, half_to_float: bool = False) -> Tensor:
    del half_to_float
    _, raised, summed = program.remembered("exponentials", exponentials, x, dim % max(len(x.shape), 1))
    inverse = program.realise(pointwise(program, lambda s: op("div", real(1), s), summed))
    return pointwise(program, lambda e, i: op("mul", e, i), raised, inverse)


@lowering("_log_softmax")
def _log_softmax(program: Program, x: Tensor, dim: int, half_to_float: bool = False) -> Tensor:
    del half_to_float
    largest, _, summed = program.remembered("exponentials", exponentials, x, dim % max(len(x.shape), 1))
    log_sum = program.realise(pointwise(program, lambda s: op("log", s), summed))
    return pointwise(program, lambda a, m, s: op("sub", op("sub", a, m), s), x, largest, log_sum)


@lowering("logsumexp")
def _logsumexp(program: Program, x: Tensor, dims: Dims, keepdim: bool = False) -> Tensor:
    axes = as_dims(dims)
    largest = program.reduce("max", x, axes, keepdim=True)
    raised = pointwise(program, lambda a, m: op("exp", op("sub", a, m)), x, largest)
    summed = program.reduce("sum", raised, axes, keepdim)
    highest = program.reduce("max", x, axes, keepdim)
    return pointwise(program, lambda s, m: op("add", op("log", s), m), summed, highest)


__all__ = ["as_dims", "count", "exponentials", "number", "scaled", "total", "variance"]
