"""What the code of a nest depends on, beside where its arrays lie: nests of one form share a function.

The steps of a loop over time are such nests: the same work on other arrays, or on other rows of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from handgrad.native.arrays import Array, variables_of
from handgrad.native.indices import Entry, Index, Quotient, Var
from handgrad.native.layout import Layout
from handgrad.native.nests import Nest
from handgrad.native.program import Reduce
from handgrad.native.scalars import Scalar

Start = tuple[Array, int]  # an array, and the number of the element that places in it are counted from


class Form:
    """The form of a nest, ``key``, and the ``starts`` that its function is given, in their order."""

    def __init__(self, nest: Nest, layout: Layout) -> None:
        self._layout = layout
        self._starts: dict[Start, int] = {}
        self._arrays: dict[Array, int] = {}
        self._scalars: dict[int, int] = {}
        self._parts: list[Hashable] = []
        for made in nest.statements:
            over = tuple(sorted((v.place, v.extent) for v in made.over)) if isinstance(made, Reduce) else ()
            kind = made.kind if isinstance(made, Reduce) else ""
            self._parts.append(
                (type(made).__name__, kind, over, made.domain, self._place(made.array, made.position),
                 self._scalar(made.body))
            )  # fmt: skip
        if nest.product is not None:
            product = nest.product
            self._parts.append(
                ("product", product.domain, product.k, self._place(product.array, product.position),
                 self._scalar(product.left), self._scalar(product.right))
            )  # fmt: skip
        if nest.scatter is not None:
            scatter = nest.scatter
            self._parts.append(
                ("scatter", scatter.adds, scatter.domain, self._place(scatter.array, scatter.position),
                 self._place(scatter.array, variables_of(scatter.array.shape)), self._scalar(scatter.body),
                 self._scalar(scatter.base))
            )  # fmt: skip
        unstored = tuple(sorted(self._array(array) for array in nest.unstored))
        self.key: Hashable = (nest.domain, unstored, tuple(self._parts))

    @property
    def starts(self) -> list[Start]:
        """Where the places of the nest are counted from."""
        return list(self._starts)

    def _array(self, array: Array) -> int:
        if array not in self._arrays:
            self._arrays[array] = len(self._arrays)
            slot = self._layout.slots.get(array)  # None: it never leaves the registers
            lies = None if slot is None else (slot.strides, slot.row)
            self._parts.append(("array", array.kind, array.role, array.shape, lies))
        return self._arrays[array]

    def _place(self, array: Array, position: Sequence[Index]) -> Hashable:
        number = self._array(array)
        last = self._index(position[-1]) if position else None
        if array not in self._layout.slots:
            return number, tuple(map(self._index, position))
        flat = self._layout.slots[array].flat(position)
        start = self._starts.setdefault((array, flat.constant), len(self._starts))
        return number, start, self._index(flat - flat.constant), last

    def _index(self, index: Index) -> Hashable:
        return index.constant, tuple((self._atom(atom), factor) for atom, factor in index.terms)

    def _atom(self, atom: Any) -> Hashable:
        if isinstance(atom, Var):
            return atom
        if isinstance(atom, Entry):
            return "entry", self._scalar(atom.of), atom.extent
        return "quotient" if isinstance(atom, Quotient) else "remainder", self._index(atom.of), atom.by

    def _scalar(self, node: Scalar) -> int:
        """Return the number of an expression; equal ones in a nest have one."""
        if id(node) not in self._scalars:
            args = tuple(map(self._scalar, node.args))
            if node.op == "load":
                payload: Hashable = self._place(node.array, node.position)
            elif node.op == "index":
                payload = self._index(node.payload)
            else:
                payload = repr(node.payload)  # a number, with its sign and its type
            self._parts.append((node.op, node.kind, args, payload))
            self._scalars[id(node)] = len(self._scalars)
        return self._scalars[id(node)]


__all__ = ["Form", "Start"]
