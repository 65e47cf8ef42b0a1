"""What one element of an array is: an expression of numbers, indices, and elements of other arrays.

Equal expressions are one object, so what several statements share is computed once.
"""

from __future__ import annotations

import math
import operator
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from handgrad.native.indices import Entry, Index, Quotient, Var, recombined

if TYPE_CHECKING:
    from handgrad.native.arrays import Array

FLOAT, WHOLE, TRUTH = "float", "whole", "truth"
COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})
LOGIC = frozenset({"and", "or", "not"})
LIBRARY = ("tan", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh", "log2", "log10", "erfc", "lgamma",
           "atan2", "hypot", "fmod")  # fmt: skip
"""What the C library computes, an element at a time."""
COSTLY = frozenset(
    {"exp", "log", "tanh", "sigmoid", "erf", "pow", "div", "sqrt", "rsqrt", "sin", "cos", "log1p", "expm1", *LIBRARY}
)


class Scalar:
    """A node: ``op`` of ``args``; ``payload`` holds what is no node (a number, an array and a place in it)."""

    __slots__ = ("__weakref__", "args", "costs", "kind", "op", "payload", "variables")

    op: str
    args: tuple[Scalar, ...]
    payload: Any
    kind: str
    variables: frozenset[Var]
    costs: int  # of computing it: 1 for a plain operation, 10 for a costly one; what is shared counts each time

    def __repr__(self) -> str:
        if self.op == "number":
            return repr(self.payload)
        if self.op == "load":
            return f"{self.payload[0]}[...]"
        return f"{self.op}({', '.join(map(repr, self.args))})"

    @property
    def array(self) -> Array:
        """The array that a load reads."""
        array: Array = self.payload[0]
        return array

    @property
    def position(self) -> tuple[Index, ...]:
        """Where in its array a load reads."""
        position: tuple[Index, ...] = self.payload[1]
        return position


_known: weakref.WeakValueDictionary[Any, Scalar] = weakref.WeakValueDictionary()


def _node(op: str, args: tuple[Scalar, ...], payload: Any, kind: str, variables: frozenset[Var]) -> Scalar:
    key = (op, tuple(map(id, args)), payload, type(payload), kind)
    found = _known.get(key)
    if found is None:
        found = Scalar()
        found.op, found.args, found.payload, found.kind, found.variables = op, args, payload, kind, variables
        found.costs = min(10**6, sum(a.costs for a in args) + (10 if op in COSTLY else 0 if op == "number" else 1))
        _known[key] = found
    return found


def number(value: float) -> Scalar:
    """Return a constant."""
    kind = TRUTH if isinstance(value, bool) else WHOLE if isinstance(value, int) else FLOAT
    payload = (value, math.copysign(1.0, value)) if kind == FLOAT else (value, 0.0)
    return _node("number", (), payload, kind, frozenset())


def real(value: Any) -> Scalar:
    """Return a constant as a floating-point number."""
    return number(float(value))


def value_of(node: Scalar) -> float | int | bool | None:
    """Return the number that a constant is; None for anything else."""
    return node.payload[0] if node.op == "number" else None


def load(array: Array, position: tuple[Index, ...]) -> Scalar:
    """Return an element of ``array``."""
    variables = frozenset(v for index in position for v in index.variables)
    return _node("load", (), (array, position), array.kind, variables)


def index_value(index: Index) -> Scalar:
    """Return a place as a number."""
    if not index.terms:
        return number(index.constant)
    if (
        len(index.terms) == 1
        and index.constant == 0
        and index.terms[0][1] == 1
        and isinstance(index.terms[0][0], Entry)
    ):
        return index.terms[0][0].of
    return _node("index", (), index, WHOLE, index.variables)


def without_replaced(node: Scalar) -> tuple[Scalar, int | None]:
    """Return what ``where(x == number, 0, x)`` reads, and that number; anything else as it is, and None."""
    if node.op == "select" and node.args[0].op == "eq" and value_of(node.args[1]) == 0:
        read, other = node.args[0].args
        if read is node.args[2] and isinstance(value_of(other), int):
            return read, other.payload[0]
    return node, None


def as_index(node: Scalar, extent: int) -> Index:
    """Return a number as a place in a dimension of ``extent``."""
    if node.op == "number":
        return Index((), int(node.payload[0]) % extent)
    if node.op == "index":
        index: Index = node.payload
        return index
    return Index.of(Entry(node, extent))


def op(name: str, *args: Scalar) -> Scalar:
    """Return an operation on numbers, simplified where that changes no bit of a finite result."""
    simple = _simplified(name, args)
    if simple is not None:
        return simple
    if name in COMPARISONS or name in LOGIC:
        kind = TRUTH
    elif name == "select":
        kind = args[1].kind
    elif name == "to_float":
        kind = FLOAT
    elif name in ("to_whole", "truncate_to_whole") or (
        all(a.kind == WHOLE for a in args)
        and name
        in (
            "add",
            "sub",
            "mul",
            "max",
            "min",
            "neg",
            "floordiv",
            "mod",
            "abs",
        )
    ):
        kind = WHOLE
    else:
        kind = FLOAT
        args = tuple(a if a.kind == FLOAT else as_float(a) for a in args)
    variables = frozenset[Var]().union(*(a.variables for a in args))
    return _node(name, args, None, kind, variables)


def replaced(node: Scalar, values: Mapping[Var, Index], turned: Mapping[Array, Array] | None = None) -> Scalar:
    """Return an expression with other indices in place of variables, and arrays ``turned``: those lie transposed."""
    known: dict[Scalar, Scalar] = {}

    def found(one: Scalar) -> Scalar:
        if one not in known:
            known[one] = made(one)
        return known[one]

    def made(one: Scalar) -> Scalar:
        if one.op == "number" or (not turned and values.keys().isdisjoint(one.variables)):
            return one
        if one.op == "load":
            position = tuple(replaced_in(index, values, turned) for index in one.position)
            other = (turned or {}).get(one.array)
            return load(one.array, position) if other is None else load(other, position[::-1])
        if one.op == "index":
            return index_value(replaced_in(one.payload, values, turned))
        args = tuple(found(a) for a in one.args)
        return as_float(args[0]) if one.op == "to_float" else op(one.op, *args)

    return found(node)


def replaced_in(index: Index, values: Mapping[Var, Index], turned: Mapping[Array, Array] | None = None) -> Index:
    """Return an index with others in place of some variables; ``turned`` as in `replaced`."""
    total = Index((), index.constant)
    for atom, factor in index.terms:
        if isinstance(atom, Var):
            made = values.get(atom, Index.of(atom))
        elif isinstance(atom, Entry):
            made = as_index(replaced(atom.of, values, turned), atom.extent)
        else:
            of = replaced_in(atom.of, values, turned)
            made = of // atom.by if isinstance(atom, Quotient) else of % atom.by
        total = total + made * factor
    return recombined(total)


def as_float(node: Scalar) -> Scalar:
    """Return a truth value or whole number as a floating-point number."""
    if node.kind == FLOAT:
        return node
    if node.op == "number":
        return real(node.payload[0])
    return _node("to_float", (node,), None, FLOAT, node.variables)


def truth(node: Scalar) -> Scalar:
    """Return whether a number is not zero."""
    return node if node.kind == TRUTH else op("ne", node, real(0) if node.kind == FLOAT else number(0))


_FOLDED: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
}  # fmt: skip


def _simplified(name: str, args: tuple[Scalar, ...]) -> Scalar | None:
    values = [value_of(a) for a in args]
    if name in ("add", "sub", "mul", "div", "neg") and all(v is not None for v in values) and args[0].kind != TRUTH:
        known = [v for v in values if v is not None]
        if name == "neg":
            return number(-known[0])
        if name != "div" or known[1]:
            return number(_FOLDED[name](*known))
    if name == "select" and values[0] is not None:
        return args[1] if values[0] else args[2]
    if name == "div" and isinstance(values[1], float) and math.frexp(values[1])[0] in (0.5, -0.5):
        return op("mul", args[0], number(1 / values[1]))  # a power of two: the same bits
    if name in ("mul", "div") and values[1] == 1 and args[0].kind == FLOAT:
        return args[0]
    if name == "mul" and values[0] == 1 and args[1].kind == FLOAT:
        return args[1]
    if name in ("add", "sub") and values[1] == 0 and args[0].kind == FLOAT:
        return args[0]
    if name == "add" and values[0] == 0 and args[1].kind == FLOAT:
        return args[1]
    if name == "neg" and args[0].op == "neg":
        return args[0].args[0]
    return None
