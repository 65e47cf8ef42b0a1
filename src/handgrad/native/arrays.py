"""Arrays that are kept in memory, and tensors that are still formulas."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from handgrad.native.indices import Index, Var, join, split
from handgrad.native.scalars import FLOAT, TRUTH, WHOLE, Scalar, load, truth

_numbers = itertools.count()
Shape = tuple[int, ...]


@dataclass(eq=False)
class Array:
    """Numbers in memory. What makes them is a `Definition`; a given array has none."""

    shape: Shape
    kind: str = FLOAT
    name: str = ""
    role: str = "temporary"  # or: parameter, batch, input, state, output
    number: int = field(default_factory=lambda: next(_numbers))

    def __repr__(self) -> str:
        return self.name or f"t{self.number}"

    def __hash__(self) -> int:
        return self.number


@dataclass(eq=False)
class Tensor:
    """A value of the program: a shape, and a function from a position to the expression of the element there."""

    shape: Shape
    at: Callable[[tuple[Index, ...]], Scalar]
    kind: str = FLOAT
    array: Array | None = None  # where it is kept, if it is; a view of one has none

    @staticmethod
    def of(array: Array) -> Tensor:
        """Return an array as a tensor."""
        return Tensor(array.shape, lambda position: load(array, position), array.kind, array)

    def __getitem__(self, position: Any) -> Scalar:
        return self.at(tuple(Index.of(p) for p in position))


def variables_of(shape: Shape) -> tuple[Index, ...]:
    """Return the position of an element in general: a variable for each dimension that is longer than 1."""
    places = itertools.count()
    return tuple(Index.of(Var(next(places), size)) if size != 1 else Index() for size in shape)


def domain_of(shape: Shape) -> tuple[Var, ...]:
    """Return the variables of `variables_of`."""
    return tuple(Var(k, size) for k, size in enumerate(size for size in shape if size != 1))


def as_truth(tensor: Tensor) -> Tensor:
    """Return numbers as truth values: whether each is not 0."""
    return Tensor(tensor.shape, lambda p: truth(tensor.at(p)), TRUTH)


def reshaped(tensor: Tensor, shape: Shape) -> Tensor:
    """Return the same numbers in reading order in another shape."""
    return Tensor(shape, lambda p: tensor.at(tuple(split(join(list(p), shape), tensor.shape))), tensor.kind)


__all__ = ["FLOAT", "TRUTH", "WHOLE", "Array", "Shape", "Tensor", "as_truth", "domain_of", "reshaped", "variables_of"]
