"""Convolutions as matrix products, in which every window of the input is a row; and pools of such windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from handgrad.errors import NoLoweringError
from handgrad.native.arrays import Tensor
from handgrad.native.indices import Index, join, split
from handgrad.native.lowering.pointwise import pointwise
from handgrad.native.lowering.views import clamped
from handgrad.native.program import Program
from handgrad.native.scalars import Scalar, index_value, number, op, real
from handgrad.native.table import lowering


@dataclass(frozen=True)
class Axis:
    """A dimension of the input, and how windows lie along it: ``transposed`` ones spread each number over a window."""

    size: int
    window: int
    stride: int
    padding: int
    dilation: int
    transposed: bool = False
    more: int = 0  # at the end of a transposed convolution's result

    @property
    def outer(self) -> int:
        """The size of the result."""
        reach = self.dilation * (self.window - 1) + 1
        if self.transposed:
            return (self.size - 1) * self.stride - 2 * self.padding + reach + self.more
        return (self.size + 2 * self.padding - reach) // self.stride + 1

    def source(self, place: Index, offset: Index) -> tuple[Index, list[Scalar]]:
        """Return which number stands at an offset of a window, and what must be true for it to be there."""
        s, conditions = self.stride, list[Scalar]()
        if not self.transposed:
            where = place * s + offset * self.dilation - self.padding
        else:
            spread = place + self.padding - offset * self.dilation
            where, rest = spread // s, spread % s
            if rest != Index():
                conditions.append(op("eq", index_value(rest), number(0)))
        low, high = where.bounds
        if low < 0:
            conditions.append(op("ge", index_value(where), number(0)))
        if high >= self.size:
            conditions.append(op("lt", index_value(where), number(self.size)))
        return clamped(where, self.size), conditions


def _axes(sizes: Sequence[int], window: Sequence[int], *options: Sequence[int], transposed: bool = False) -> list[Axis]:
    """Return an axis for each dimension; an option of one number holds for all: stride, padding, dilation, more."""
    count = len(sizes)
    stride, padding, dilation, *more = (list(o) * (count if len(o) == 1 else 1) for o in options)
    last = more[0] if more else [0] * count
    return [
        Axis(size, k, s, p, d, transposed, m)
        for size, k, s, p, d, m in zip(sizes, window, stride, padding, dilation, last, strict=True)
    ]


def _picked(x: Tensor, axes: Sequence[Axis], front: tuple[Index, ...], places: Sequence[Index],
            offsets: Sequence[Index], outside: float) -> tuple[Scalar, list[Index]]:  # fmt: skip
    """Return an element of a window, and where it stands; ``outside`` the input that number."""
    found = [axis.source(*both) for axis, both in zip(axes, zip(places, offsets, strict=True), strict=True)]
    where = [place for place, _ in found]
    element = x.at((*front, *where))
    for condition in (c for _, conditions in found for c in conditions):
        element = op("select", condition, element, real(outside))
    return element, where


class Convolution:
    """A convolution as products of windows (groups, windows, numbers in one) and weights (groups, numbers, out)."""

    def __init__(self, x: Tensor, weight: Tensor, axes: Sequence[Axis], groups: int) -> None:
        self.axes, self.groups, self.transposed = axes, groups, axes[0].transposed
        self.rows, channels, *_ = x.shape
        self.each = channels // groups
        self.made = weight.shape[1] if self.transposed else weight.shape[0] // groups
        self.window, self.outer = tuple(a.window for a in axes), tuple(a.outer for a in axes)
        self.size, self.count = self.each * math.prod(self.window), self.rows * math.prod(self.outer)

    def windows(self, x: Tensor) -> Tensor:
        """Return the windows as rows."""

        def at(p: tuple[Index, ...]) -> Scalar:
            group, row, column = p
            b, *places = split(row, (self.rows, *self.outer))
            channel, *offsets = split(column, (self.each, *self.window))
            return _picked(x, self.axes, (b, group * self.each + channel), places, offsets, 0.0)[0]

        return Tensor((self.groups, self.count, self.size), at, x.kind)

    def weights(self, weight: Tensor) -> Tensor:
        """Return the weights as columns."""

        def at(p: tuple[Index, ...]) -> Scalar:
            group, column, out = p
            channel, *offsets = split(column, (self.each, *self.window))
            if self.transposed:
                return weight.at((group * self.each + channel, out, *offsets))
            return weight.at((group * self.made + out, channel, *offsets))

        return Tensor((self.groups, self.size, self.made), at, weight.kind)

    def weights_back(self, product: Tensor, weight: Tensor) -> Tensor:
        """Return columns in the shape of the weights."""

        def at(p: tuple[Index, ...]) -> Scalar:
            first, second, *offsets = p
            if self.transposed:
                column = join([first % self.each, *offsets], (self.each, *self.window))
                return product.at((first // self.each, column, second))
            column = join([second, *offsets], (self.each, *self.window))
            return product.at((first // self.made, column, first % self.made))

        return Tensor(weight.shape, at, product.kind)

    def as_rows(self, result: Tensor) -> Tensor:
        """Return a result, or its gradient, with a row for each window."""

        def at(p: tuple[Index, ...]) -> Scalar:
            group, row, out = p
            b, *places = split(row, (self.rows, *self.outer))
            return result.at((b, group * self.made + out, *places))

        return Tensor((self.groups, self.count, self.made), at, result.kind)

    def as_result(self, product: Tensor) -> Tensor:
        """Return rows in the shape of the result."""

        def at(p: tuple[Index, ...]) -> Scalar:
            b, channel, *places = p
            row = join([b, *places], (self.rows, *self.outer))
            return product.at((channel // self.made, row, channel % self.made))

        return Tensor((self.rows, self.groups * self.made, *self.outer), at, product.kind)


def _turned(x: Tensor) -> Tensor:
    return Tensor((x.shape[0], x.shape[2], x.shape[1]), lambda p: x.at((p[0], p[2], p[1])), x.kind)


@lowering("convolution")
def _convolution(
    program: Program, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], transposed: bool, output_padding: Sequence[int], groups: int,
) -> Tensor:  # fmt: skip
    axes = _axes(x.shape[2:], weight.shape[2:], stride, padding, dilation, output_padding, transposed=transposed)
    form = Convolution(x, weight, axes, groups)
    found = form.as_result(program.multiply(form.windows(x), form.weights(weight)))
    if bias is None:
        return found
    along = Tensor((bias.shape[0], *(1 for _ in axes)), lambda p: bias.at(p[:1]), bias.kind)
    return pointwise(program, lambda a, c: op("add", a, c), found, along)


@lowering("convolution_backward")
def _convolution_backward(
    program: Program, grad: Tensor, x: Tensor, weight: Tensor, _bias: Sequence[int] | None, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], transposed: bool, output_padding: Sequence[int], groups: int,
    mask: Sequence[bool],
) -> tuple[Tensor | None, ...]:  # fmt: skip
    axes = _axes(x.shape[2:], weight.shape[2:], stride, padding, dilation, output_padding, transposed=transposed)
    form = Convolution(x, weight, axes, groups)
    dx = dweight = dbias = None
    if mask[0]:
        plain = _axes(grad.shape[2:], weight.shape[2:], stride, padding, dilation, transposed=not transposed)
        more = [a.size - b.outer for a, b in zip(axes, plain, strict=True)] if not transposed else [0] * len(axes)
        dx = _convolution(program, grad, weight, None, stride, padding, dilation, not transposed, more, groups)
    if mask[1]:
        product = program.multiply(_turned(form.windows(x)), form.as_rows(grad))
        dweight = form.weights_back(product, weight)
    if mask[2]:
        dbias = program.reduce("sum", grad, [0, *range(2, len(grad.shape))])
    return dx, dweight, dbias


@lowering("unfold")
def _unfold(program: Program, x: Tensor, dim: int, size: int, step: int) -> Tensor:
    del program
    axis = dim % len(x.shape)
    shape = (*x.shape[:axis], (x.shape[axis] - size) // step + 1, *x.shape[axis + 1 :], size)
    return Tensor(shape, lambda p: x.at((*p[:axis], p[axis] * step + p[-1], *p[axis + 1 : -1])), x.kind)


# -- pools of two dimensions


def _pool(x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
          ceil_mode: bool) -> tuple[list[Axis], tuple[int, ...]]:  # fmt: skip
    if ceil_mode:
        raise NoLoweringError("a pool with ceil_mode has no native form")
    window = list(kernel) * (2 if len(kernel) == 1 else 1)
    axes = _axes(x.shape[-2:], window, stride or window, padding, dilation)
    return axes, (*x.shape[:-2], *(a.outer for a in axes), *(a.window for a in axes))


@lowering("avg_pool2d")
def _avg_pool(
    program: Program, x: Tensor, kernel: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,),
    ceil_mode: bool = False, count_include_pad: bool = True, divisor: int | None = None,
) -> Tensor:  # fmt: skip
    axes, shape = _pool(x, kernel, stride, padding, (1,), ceil_mode)
    if any(a.padding for a in axes) and not count_include_pad:
        raise NoLoweringError("an average without its padding has no native form")

    def at(p: tuple[Index, ...]) -> Scalar:
        return _picked(x, axes, p[:-4], p[-4:-2], p[-2:], 0.0)[0]

    total = program.reduce("sum", Tensor(shape, at, x.kind), [-2, -1])
    share = 1 / (divisor or math.prod(a.window for a in axes))
    return pointwise(program, lambda a: op("mul", a, real(share)), total)


@lowering("max_pool2d_with_indices")
def _max_pool(
    program: Program, x: Tensor, kernel: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,), ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    axes, shape = _pool(x, kernel, stride, padding, dilation, ceil_mode)

    def at(p: tuple[Index, ...]) -> Scalar:
        return _picked(x, axes, p[:-4], p[-4:-2], p[-2:], -math.inf)[0]

    best = program.realise(program.reduce("max", Tensor(shape, at, x.kind), [-2, -1]))

    def place(p: tuple[Index, ...]) -> Scalar:
        element, where = _picked(x, axes, p[:-4], p[-4:-2], p[-2:], -math.inf)
        here = index_value(join(where, x.shape[-2:]))
        return op("select", op("eq", element, best.at(p[:-2])), here, number(math.prod(x.shape[-2:]) - 1))

    return best, program.reduce("min", Tensor(shape, place, "whole"), [-2, -1])
