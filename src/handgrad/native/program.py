"""A program: given arrays, and the definition of every array that is computed, in an order that works."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from handgrad.native.arrays import Array, Shape, Tensor, as_truth, domain_of, variables_of
from handgrad.native.indices import Entry, Index, Var
from handgrad.native.scalars import TRUTH, Scalar, as_float, load, op, replaced

IDENTITY = {"sum": 0.0, "max": float("-inf"), "min": float("inf"), "prod": 1.0}


@dataclass(frozen=True)
class Map:
    """``array[position] = body`` for every point of the domain."""

    array: Array
    position: tuple[Index, ...]
    body: Scalar
    domain: tuple[Var, ...]


@dataclass(frozen=True)
class Reduce:
    """``array[position]`` is the sum (or maximum, ...) of ``body`` over the variables of ``over``."""

    array: Array
    position: tuple[Index, ...]
    body: Scalar
    domain: tuple[Var, ...]
    over: frozenset[Var]
    kind: str


@dataclass(frozen=True)
class Product:
    """``array[position]`` is the sum over ``k`` of ``left * right``, two loads; the last two variables are m and n."""

    array: Array
    position: tuple[Index, ...]
    left: Scalar
    right: Scalar
    domain: tuple[Var, ...]
    k: Var


@dataclass(frozen=True)
class Scatter:
    """``array`` begins as ``base`` and gets ``body`` added (or put) at ``position`` for every point of the domain."""

    array: Array
    position: tuple[Index, ...]
    body: Scalar
    domain: tuple[Var, ...]
    base: Scalar
    adds: bool


Definition = Map | Reduce | Product | Scatter


@dataclass
class Program:
    """Builds definitions; what the lowering of each operation calls."""

    given: list[Array] = field(default_factory=list)
    definitions: list[Definition] = field(default_factory=list)
    constants: dict[Array, Any] = field(default_factory=dict)
    _memory: dict[Any, Any] = field(default_factory=dict)

    def remembered(self, key: str, function: Callable[..., Any], x: Tensor, *given: Any) -> Any:
        """Return ``function(self, x, *given)``, computed once for equal numbers."""
        body = x.at(variables_of(x.shape))
        full_key = (key, id(body), x.shape, given)
        if full_key not in self._memory:
            self._memory[full_key] = (function(self, x, *given), body)
        return self._memory[full_key][0]

    def give(self, shape: Shape, kind: str, name: str, role: str) -> Tensor:
        """Add an array that is there before the step."""
        array = Array(tuple(shape), kind, name, role)
        self.given.append(array)
        return Tensor.of(array)

    def constant(self, numbers: Any, kind: str) -> Tensor:
        """Add an array of numbers that never change."""
        array = Array(tuple(numbers.shape), kind, f"constant {len(self.constants)}", "constant")
        self.given.append(array)
        self.constants[array] = numbers
        return Tensor.of(array)

    def realise(self, tensor: Tensor, name: str = "") -> Tensor:
        """Return ``tensor`` as an array in memory."""
        position = variables_of(tensor.shape)
        body = tensor.at(position)
        if body.op == "load" and body.position == position and body.array.shape == tensor.shape:
            return Tensor.of(body.array)
        key = ("map", id(body), tensor.shape)
        if key not in self._memory:
            stored = as_float(body) if tensor.kind == TRUTH else body
            array = Array(tensor.shape, stored.kind, name)
            self.definitions.append(Map(array, position, stored, domain_of(tensor.shape)))
            self._memory[key] = (array, body)
        found = Tensor.of(self._memory[key][0])
        return as_truth(found) if tensor.kind == TRUTH else found

    def write(self, array: Array, tensor: Tensor) -> None:
        """Store ``tensor`` into a given array: an update."""
        self.definitions.append(Map(array, variables_of(array.shape), tensor.at(variables_of(array.shape)),
                                    domain_of(array.shape)))  # fmt: skip

    def reduce(self, kind: str, tensor: Tensor, dims: Sequence[int], keepdim: bool = False) -> Tensor:
        """Return the sum (max, min, prod) over some dimensions; all of them if there are none."""
        ndim = len(tensor.shape)
        over = {d % ndim for d in dims} if dims and ndim else set(range(ndim))
        position = variables_of(tensor.shape)
        body = tensor.at(position)
        reduced = frozenset(v for d in over for v in position[d].variables)
        kept_shape = tuple(1 if d in over else size for d, size in enumerate(tensor.shape))
        if reduced:
            key = (kind, id(body), tensor.shape, reduced)
            if key not in self._memory:
                array = Array(kept_shape, body.kind)
                place = tuple(Index() if d in over else position[d] for d in range(ndim))
                self.definitions.append(Reduce(array, place, body, domain_of(tensor.shape), reduced, kind))
                self._memory[key] = (array, body)
            found = Tensor.of(self._memory[key][0])
        else:
            found = tensor
        if keepdim or not over:
            return found
        shape = tuple(size for d, size in enumerate(tensor.shape) if d not in over)

        def at(p: tuple[Index, ...]) -> Scalar:
            rest = iter(p)
            return found.at(tuple(Index() if d in over else next(rest) for d in range(ndim)))

        return Tensor(shape, at, found.kind)

    def multiply(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the matrix product ``(..., m, k) @ (..., k, n)`` of equal leading dimensions."""
        *lead, m, k = left.shape
        n = right.shape[-1]
        shape = (*lead, m, n)
        if min(m, n, k) <= 1:
            return self._small_product(left, right, shape)
        left, right = self._operand(left), self._rows(right)
        position = variables_of(shape)
        domain = domain_of(shape)
        inner = Var(len(domain), k)
        array = Array(shape)
        self.definitions.append(
            Product(array, position, left.at((*position[:-1], Index.of(inner))),
                    right.at((*position[:-2], Index.of(inner), position[-1])), domain, inner)
        )  # fmt: skip
        return Tensor.of(array)

    def _small_product(self, left: Tensor, right: Tensor, shape: Shape) -> Tensor:
        """Return a product with a vector in it, as a sum of products."""
        *lead, m, n = shape
        k = left.shape[-1]

        def at(p: tuple[Index, ...]) -> Scalar:
            *front, row, column, inner = p
            return op("mul", left.at((*front, row, inner)), right.at((*front, inner, column)))

        return self.reduce("sum", Tensor((*lead, m, n, k), at), [-1])

    def _rows(self, tensor: Tensor) -> Tensor:
        """Return a right-hand factor whose rows lie in memory as rows: it is read a row at a time."""
        position = variables_of(tensor.shape)
        body = tensor.at(position)
        if body.op == "load" and body.position and body.position[-1] == position[-1] and not any(
            isinstance(a, Entry) or position[-1].terms[0][0] in i.variables
            for i in body.position[:-1] for a in [*(a for a, _ in i.terms)]
        ):  # fmt: skip
            return tensor
        return self.realise(Tensor(tensor.shape, tensor.at, tensor.kind))

    def _operand(self, tensor: Tensor) -> Tensor:
        """Return a factor as loads whose places have constant strides."""
        body = tensor.at(variables_of(tensor.shape))
        if body.op == "load" and not any(isinstance(a, Entry) for i in body.position for a, _ in i.terms):
            return tensor
        return self.realise(tensor)


def needed(definitions: Sequence[Definition], wanted: set[Array]) -> list[Definition]:
    """Return the definitions without those that nothing reads and that are not wanted."""
    wanted = set(wanted)
    found: list[Definition] = []
    for definition in reversed(definitions):
        if definition.array in wanted:
            found.append(definition)
            wanted |= {node.array for node in loads_of(*bodies_of(definition))}
    return found[::-1]


def loads_of(*roots: Scalar) -> Iterator[Scalar]:
    """Yield every load in some expressions once, those in positions included."""
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        stack.extend(node.args)
        if node.op == "load":
            yield node
            stack.extend(entries_of(node.position))
        elif node.op == "index":
            stack.extend(entries_of((node.payload,)))


def entries_of(position: Sequence[Index]) -> Iterator[Scalar]:
    """Yield the numbers that a position reads from arrays."""
    for index in position:
        for atom, _ in index.terms:
            if isinstance(atom, Entry):
                yield atom.of
            elif not isinstance(atom, Var):
                yield from entries_of((atom.of,))


def is_copy(definition: Definition) -> bool:
    """Whether a definition has the numbers of another array, in any order."""
    return isinstance(definition, Map) and definition.body.op == "load" and definition.array.role == "temporary"


def behind_copies(node: Scalar, made: Mapping[Array, Definition]) -> Scalar:
    """Return what a load reads, also where that has been copied; ``made`` are the definitions of arrays."""
    while (definition := made.get(node.array)) is not None and is_copy(definition):
        places = zip(definition.position, node.position, strict=True)
        (body,) = bodies_of(definition)
        node = replaced(body, {v: to for index, to in places for v in index.variables})
    return node


def bodies_of(definition: Definition) -> list[Scalar]:
    """Return the expressions of a definition."""
    if isinstance(definition, Product):
        return [definition.left, definition.right]
    if isinstance(definition, Scatter):
        return [definition.body, definition.base, *entries_of(definition.position)]
    return [definition.body]


__all__ = ["IDENTITY", "Definition", "Map", "Product", "Program", "Reduce", "Scatter", "bodies_of", "entries_of",
           "load", "loads_of", "needed"]  # fmt: skip
