"""Tensors that share memory: which do, and what a write into one does to another."""

from __future__ import annotations

from torch import Tensor

Geometry = tuple[tuple[int, ...], tuple[int, ...], int]  # shape, strides, first element


def geometry_of(tensor: Tensor) -> Geometry:
    """Return where the elements of ``tensor`` lie in its memory."""
    return tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset())


def overlap(a: Geometry, b: Geometry) -> bool:
    """Whether two parts of the same memory may share an element."""
    if 0 in a[0] or 0 in b[0]:
        return False
    ends = []
    for shape, strides, first in (a, b):
        last = first + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        ends.append((first, last))
    return ends[0][0] <= ends[1][1] and ends[1][0] <= ends[0][1]


def overlay(tensor: Tensor, written: Tensor, shape: Geometry, written_shape: Geometry) -> Tensor:
    """Return ``tensor`` as it is after ``written``, a view of the same memory, was changed."""
    length = 1 + max(
        offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
        for sizes, strides, offset in (shape, written_shape)
    )
    memory = tensor.new_zeros(length)
    memory.as_strided(*shape).copy_(tensor)
    memory.as_strided(*written_shape).copy_(written)
    return memory.as_strided(*shape).clone()
