"""The labels of dimensions, from outside in: of what is broadcast, and of what is reduced."""

from __future__ import annotations

from handgrad.expr import Shape
from handgrad.simplifier.normal_form import Axes


def fitted(axes: Axes, shape: Shape) -> Axes:
    """Return the labels of what has ``shape`` and is broadcast to ``axes``."""
    own = axes[len(axes) - len(shape) :] if len(shape) <= len(axes) else (*(None,) * (len(shape) - len(axes)), *axes)
    return tuple(None if size == 1 else label for label, size in zip(own, shape, strict=True))


def new_label(taken: Axes) -> int:
    """Return the smallest label that is free."""
    return next(label for label in range(len(taken) + 1) if label not in taken)


def widened(axes: Axes, shape: Shape, dims: list[int], *, keepdim: bool) -> Axes:
    """Return the labels of what is reduced over ``dims`` to something labelled ``axes``."""
    result: list[int | None] = []
    rest = list(axes)
    for d in range(len(shape)):
        result.append(None if d in dims else rest.pop(0))
        if keepdim and d in dims:
            rest.pop(0)
    for d in dims:
        if shape[d] != 1:
            result[d] = new_label(tuple(result))
    return tuple(result)
