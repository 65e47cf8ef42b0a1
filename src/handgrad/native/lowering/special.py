"""Functions that the C library computes, what is nan or infinite, running sums, diagonals, normalisations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from handgrad.errors import NoLoweringError
from handgrad.native.arrays import Tensor, reshaped
from handgrad.native.indices import Index
from handgrad.native.lowering.pointwise import constant, matched, pointwise
from handgrad.native.lowering.reductions import _argmax, squeezed, variance
from handgrad.native.lowering.views import _unsqueeze, clamped
from handgrad.native.program import Program
from handgrad.native.scalars import LIBRARY, Scalar, as_float, index_value, number, op, real
from handgrad.native.table import lowering

LONGEST = 1024  # of a running sum, which is computed anew for each of its elements


def _called(name: str) -> Callable[..., Tensor]:
    def lower(program: Program, *operands: Any) -> Tensor:
        return pointwise(program, lambda *a: op(name, *map(as_float, a)), *operands)

    return lower


for _name in LIBRARY:
    lowering(_name)(_called(_name))


@lowering("isnan")
def _isnan(program: Program, x: Tensor) -> Tensor:
    return pointwise(program, lambda a: op("ne", as_float(a), as_float(a)), x)


@lowering("isinf")
def _isinf(program: Program, x: Tensor) -> Tensor:
    return pointwise(program, lambda a: op("eq", op("abs", as_float(a)), real(math.inf)), x)


@lowering("isfinite")
def _isfinite(program: Program, x: Tensor) -> Tensor:
    return pointwise(program, lambda a: op("lt", op("abs", as_float(a)), real(math.inf)), x)


def _without_nan(name: str) -> Callable[..., Tensor]:
    def either(a: Scalar, b: Scalar) -> Scalar:
        a, b = matched("add", a, b)
        return op("select", op("ne", a, a), b, op("select", op("ne", b, b), a, op(name, a, b)))

    def lower(program: Program, x: Any, y: Any) -> Tensor:
        return pointwise(program, either, x, y)

    return lower


lowering("fmax")(_without_nan("max"))
lowering("fmin")(_without_nan("min"))


@lowering("cumsum")
def _cumsum(program: Program, x: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    if not x.shape:
        return x
    axis = dim % len(x.shape)
    if x.shape[axis] > LONGEST or dtype is not None:
        raise NoLoweringError(f"a running sum of {x.shape[axis]} numbers has no native form; one of {LONGEST} has")

    def term(p: tuple[Index, ...]) -> Scalar:
        *place, k = p
        before = op("le", index_value(k), index_value(place[axis]))
        element = x.at((*place[:axis], k, *place[axis + 1 :]))
        return op("select", before, element, number(0) if x.kind == "whole" else real(0))

    return program.reduce("sum", Tensor((*x.shape, x.shape[axis]), term, x.kind), [-1])


@lowering("diagonal")
def _diagonal(program: Program, x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    del program
    first, second = dim1 % len(x.shape), dim2 % len(x.shape)
    others = [d for d in range(len(x.shape)) if d not in (first, second)]
    down, right = max(-offset, 0), max(offset, 0)
    length = max(0, min(x.shape[first] - down, x.shape[second] - right))

    def at(p: tuple[Index, ...]) -> Scalar:
        place = dict(zip(others, p, strict=False)) | {first: p[-1] + down, second: p[-1] + right}
        return x.at(tuple(place[d] for d in range(len(x.shape))))

    return Tensor((*(x.shape[d] for d in others), length), at, x.kind)


@lowering("diagonal_scatter")
def _diagonal_scatter(program: Program, x: Tensor, source: Tensor, offset: int = 0, dim1: int = 0,
                      dim2: int = 1) -> Tensor:  # fmt: skip
    first, second = dim1 % len(x.shape), dim2 % len(x.shape)
    others = [d for d in range(len(x.shape)) if d not in (first, second)]
    down, right = max(-offset, 0), max(offset, 0)
    length = _diagonal(program, x, offset, dim1, dim2).shape[-1]

    def at(p: tuple[Index, ...]) -> Scalar:
        here, there = p[first] - down, p[second] - right
        within = source.at((*(p[d] for d in others), clamped(here, length)))
        return op("select", op("eq", index_value(here), index_value(there)), within, x.at(p))

    return Tensor(x.shape, at, x.kind)


@lowering("argmin")
def _argmin(program: Program, x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    return _argmax(program, pointwise(program, lambda a: op("neg", a), x), dim, keepdim)


@lowering("addmv")
def _addmv(program: Program, x: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    found = squeezed(program.multiply(left, _unsqueeze(program, right, 1)), 1)
    return pointwise(program, lambda a, m: op("add", op("mul", m, real(alpha)), op("mul", a, real(beta))), x, found)


# -- normalisations


def _normalised(program: Program, x: Tensor, dims: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return numbers of mean 0 and variance 1 over some dimensions, their means, and one over their deviations."""
    var, mean = variance(program, x, dims, 0, keepdim=True)
    found, inverse = _standardised(program, x, mean, var, eps)
    return found, mean, inverse


def _standardised(program: Program, x: Tensor, mean: Tensor, var: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return ``(x - mean) / sqrt(var + eps)``, and one over that root."""
    inverse = program.realise(pointwise(program, lambda v: op("rsqrt", op("add", v, real(eps))), var))
    return pointwise(program, lambda a, m, i: op("mul", op("sub", a, m), i), x, mean, inverse), inverse


def _affine(program: Program, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Return x times weight plus bias, both of shapes that are broadcast."""
    for name, factor in (("mul", weight), ("add", bias)):
        if factor is not None:
            x = pointwise(program, lambda a, f, name=name: op(name, a, f), x, factor)
    return x


def _of_channels(program: Program, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Return x times weight plus bias, which have a number for each channel, dimension 1."""
    shape = (x.shape[1], *(1 for _ in x.shape[2:]))
    return _affine(program, x, *(None if f is None else reshaped(f, shape) for f in (weight, bias)))


@lowering("native_layer_norm")
def _layer_norm(program: Program, x: Tensor, shape: Any, weight: Tensor | None, bias: Tensor | None,
                eps: float) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    found, mean, inverse = _normalised(program, x, tuple(range(-len(shape), 0)), eps)
    return _affine(program, found, weight, bias), mean, inverse


@lowering("_native_batch_norm_legit.no_stats")
def _batch_norm(program: Program, x: Tensor, weight: Tensor | None, bias: Tensor | None, training: bool,
                momentum: float, eps: float) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    del training, momentum
    dims = (0, *range(2, len(x.shape)))
    found, mean, inverse = _normalised(program, x, dims, eps)
    flat = (x.shape[1],)
    return _of_channels(program, found, weight, bias), reshaped(mean, flat), reshaped(inverse, flat)


@lowering("_native_batch_norm_legit_no_training")
def _batch_norm_of_running(program: Program, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor,
                           var: Tensor, momentum: float, eps: float) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    del momentum
    shape = (1, x.shape[1], *(1 for _ in x.shape[2:]))
    found, _ = _standardised(program, x, reshaped(mean, shape), reshaped(var, shape), eps)
    nothing = constant(0.0, (0,))
    return _of_channels(program, found, weight, bias), nothing, nothing


@lowering("native_group_norm")
def _group_norm(program: Program, x: Tensor, weight: Tensor | None, bias: Tensor | None, rows: int, channels: int,
                rest: int, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    grouped = reshaped(x, (rows, groups, channels // groups * rest))
    found, mean, inverse = _normalised(program, grouped, (2,), eps)
    made = _of_channels(program, reshaped(found, x.shape), weight, bias)
    return made, reshaped(mean, (rows, groups)), reshaped(inverse, (rows, groups))
