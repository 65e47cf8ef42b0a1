"""The nests of a step in NumPy: slow, plain, and what the machine code is compared with.

Nothing is shared with the code in `llvm/` but the nests: a difference says that code is written wrong, and numbers that
both have wrong say that a lowering is. Every place is checked, so what would read outside an array raises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from handgrad.native.arrays import Array, domain_of, variables_of
from handgrad.native.indices import Atom, Entry, Index, Quotient, Remainder, Var
from handgrad.native.nests import Nest, registers_of
from handgrad.native.plan import Numbers
from handgrad.native.program import Map, Product, Reduce, Scatter
from handgrad.native.scalars import FLOAT, TRUTH, WHOLE, Scalar

_REDUCED: dict[str, Any] = {"sum": np.add, "max": np.maximum, "min": np.minimum, "prod": np.multiply}


def _each(function: Callable[..., float]) -> Callable[..., Numbers]:
    """Return a function of numbers as one of arrays, in float64."""
    return lambda *arrays: np.vectorize(_or_nan(function), otypes=[np.float64])(*arrays)


def _or_nan(function: Callable[..., float]) -> Callable[..., float]:
    def safe(*numbers: float) -> float:
        try:
            return function(*map(float, numbers))
        except OverflowError:
            return math.inf
        except ValueError:  # outside of where it is defined
            return math.nan

    return safe


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "abs": np.abs,
    "max": np.maximum, "min": np.minimum, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "pow": np.power,
    "exp": np.exp, "log": np.log, "log1p": np.log1p, "expm1": np.expm1, "tanh": np.tanh, "sin": np.sin, "cos": np.cos,
    "sigmoid": lambda x: np.where(x < 0, np.exp(np.minimum(x, 0)), 1) / (1 + np.exp(-np.abs(x))),
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.rint,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "and": np.logical_and, "or": np.logical_or, "not": np.logical_not, "select": np.where,
    "to_float": np.asarray, "to_whole": np.trunc,
    "tan": np.tan, "sinh": np.sinh, "cosh": np.cosh, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "log2": np.log2, "log10": np.log10,
    "atan2": np.arctan2, "hypot": np.hypot, "fmod": np.fmod,
    "erf": _each(math.erf), "erfc": _each(math.erfc), "lgamma": _each(math.lgamma),
}  # fmt: skip


def run(nests: Sequence[Nest], given: Mapping[Array, Numbers], real: Any = np.float64) -> dict[Array, Numbers]:
    """Return all arrays as they are after a step; ``given`` holds those that are there before it, constants too.

    Raises:
        IndexError: a nest would read or write outside an array.
    """
    kinds = {FLOAT: real, TRUTH: np.bool_, WHOLE: np.int32}
    arrays = {array: np.array(numbers, kinds[array.kind]) for array, numbers in given.items()}
    for nest in nests:
        for definition in nest.definitions:
            if definition.array not in arrays:
                arrays[definition.array] = np.zeros(definition.array.shape, kinds[definition.array.kind])
    with np.errstate(all="ignore"):
        for nest in nests:
            _run(nest, arrays, kinds)
    return arrays


def _run(nest: Nest, arrays: dict[Array, Numbers], kinds: Mapping[str, Any]) -> None:
    if nest.scatter is not None:
        _scatter(nest.scatter, arrays, kinds)
    if nest.product is not None:
        _multiply(nest.product, arrays, kinds)
    here = _Grid(nest.domain, arrays, kinds, registers_of(nest))
    for statement, numbers in [(s, here.whole(s.body)) for s in nest.statements]:  # all is read before any is written
        if isinstance(statement, Reduce):
            axes = tuple(k for k, variable in enumerate(nest.domain) if variable in statement.over)
            numbers = _REDUCED[statement.kind].reduce(numbers, axes, keepdims=True, dtype=numbers.dtype)
        arrays[statement.array][here.place(statement.array, statement.position)] = numbers


def _scatter(scatter: Scatter, arrays: dict[Array, Numbers], kinds: Mapping[str, Any]) -> None:
    array = scatter.array
    fill = Map(array, variables_of(array.shape), scatter.base, domain_of(array.shape))
    _run(Nest(fill.domain, [fill]), arrays, kinds)
    here = _Grid(scatter.domain, arrays, kinds)
    place, numbers = here.place(array, scatter.position), here.whole(scatter.body)
    if scatter.adds:
        np.add.at(arrays[array], tuple(np.broadcast_to(index, here.shape) for index in place), numbers)
    else:
        arrays[array][place] = numbers


def _multiply(product: Product, arrays: dict[Array, Numbers], kinds: Mapping[str, Any]) -> None:
    here = _Grid((*product.domain, product.k), arrays, kinds)  # its last axes are m, n and k
    left, right = here.value(product.left)[..., 0, :], here.value(product.right)[..., 0, :, :]
    terms = [np.broadcast_to(x, (*x.shape[:-1], product.k.extent)) for x in (left, right)]
    numbers = np.matmul(terms[0], np.swapaxes(terms[1], -1, -2))
    outside = _Grid(product.domain, arrays, kinds)
    arrays[product.array][outside.place(product.array, product.position)] = numbers


class _Grid:
    """All points of a domain at once: a variable is an array along an axis of its own."""

    def __init__(self, domain: Sequence[Var], arrays: Mapping[Array, Numbers], kinds: Mapping[str, Any],
                 registers: Mapping[Array, Scalar] | None = None) -> None:  # fmt: skip
        self.shape = tuple(variable.extent for variable in domain)
        self.arrays, self.kinds, self.registers = arrays, kinds, registers or {}
        ranges = np.ix_(*(range(extent) for extent in self.shape))
        self._variables = dict(zip(domain, ranges, strict=True))
        self._known: dict[Scalar, Numbers] = {}

    def whole(self, node: Scalar) -> Numbers:
        """Return a value at every point."""
        return np.broadcast_to(self.value(node), self.shape)

    def value(self, node: Scalar) -> Numbers:
        """Return a value, with one entry along each axis on which it does not depend."""
        if node not in self._known:
            self._known[node] = self._computed(node).astype(self.kinds[node.kind], copy=False)
        return self._known[node]

    def _computed(self, node: Scalar) -> Numbers:
        if node.op == "number":
            return np.full([1] * len(self.shape), node.payload[0])
        if node.op == "index":
            return self.index(node.payload)
        if node.op == "load":
            made_here = self.registers.get(node.array)
            if made_here is not None:
                return self.value(made_here)
            if 0 in self.shape:  # there is no point to read at
                return np.zeros([1] * len(self.shape))
            return self.arrays[node.array][self.place(node.array, node.position)]
        return np.asarray(_OPERATIONS[node.op](*(self.value(a) for a in node.args)))

    def place(self, array: Array, position: Sequence[Index]) -> tuple[Numbers, ...]:
        """Return a position as NumPy takes it; raises IndexError if it leads outside of ``array``."""
        found = tuple(self.index(index) for index in position)
        for d, (index, size) in enumerate(zip(found, array.shape, strict=True)):
            if index.size and not 0 <= index.min() <= index.max() < size:
                raise IndexError(f"{array}: {index.min()}..{index.max()} in dimension {d}, which has {size}")
        return found

    def index(self, index: Index) -> Numbers:
        """Return an index as whole numbers."""
        total = np.full([1] * len(self.shape), index.constant)
        for atom, factor in index.terms:
            total = total + self._atom(atom) * factor
        return total

    def _atom(self, atom: Atom) -> Numbers:
        if isinstance(atom, Var):
            return self._variables[atom]
        if isinstance(atom, Quotient):
            return self.index(atom.of) // atom.by
        if isinstance(atom, Remainder):
            return self.index(atom.of) % atom.by
        assert isinstance(atom, Entry)
        return self.value(atom.of).astype(np.int64)
