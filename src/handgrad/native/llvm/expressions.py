"""The code of one expression at one point, or at as many points as a vector has lanes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import llvmlite.ir as ir

from handgrad.native.arrays import Array
from handgrad.native.indices import Entry, Index, Quotient, Remainder, Var
from handgrad.native.layout import Layout
from handgrad.native.llvm.builder import CONTRACT, I1, I32, I64, Builder
from handgrad.native.llvm.forms import Start
from handgrad.native.llvm.functions import Functions
from handgrad.native.program import entries_of
from handgrad.native.scalars import FLOAT, LIBRARY, TRUTH, WHOLE, Scalar

_COMPARED = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


@dataclass(frozen=True, eq=False)
class Lanes:
    """Where a vector stands: the first value of the vector variable, and how many lanes are inside the domain."""

    base: Any
    valid: int | None = None  # None: all


class Expressions:
    """Writes the code of expressions, each once in a scope."""

    def __init__(self, builder: Builder, layout: Layout, starts: Mapping[Start, Any]) -> None:
        """Begin; ``starts`` holds the address of every start of a nest's form."""
        self.b, self.layout, self.starts = builder, layout, starts
        self.functions = Functions(builder)
        self.variables: dict[Var, Any] = {}
        self.vector: Var | None = None  # the variable that runs along the lanes
        self.lanes: Lanes | None = None
        self.registers: dict[Array, Scalar] = {}  # arrays of this nest, as the expression that makes them
        self.values: dict[Array, Any] = {}  # arrays of this nest that are there as a value: sums of a product
        self._scopes: list[dict[Any, Any]] = [{}]

    # -- scopes

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Forget after the block what was computed inside."""
        self._scopes.append({})
        yield
        self._scopes.pop()

    @contextmanager
    def bound(self, variable: Var, value: Any) -> Iterator[None]:
        """Inside, a loop variable has a value."""
        before = self.variables.get(variable)
        self.variables[variable] = value
        with self.scope():
            yield
        if before is None:
            del self.variables[variable]
        else:
            self.variables[variable] = before

    @contextmanager
    def at(self, lanes: Lanes) -> Iterator[None]:
        """Inside, the vector variable stands at ``lanes``."""
        before, self.lanes = self.lanes, lanes
        yield
        self.lanes = before

    def lanes_from(self, base: Any, count: int) -> list[Lanes]:
        """Return the vectors of ``count`` points from ``base`` on."""
        found: list[Lanes] = []
        for k in range(0, count, self.b.lanes):
            here = base if k == 0 else self.b.ir.add(base, self.b.i64(k), flags=("nsw",))
            found.append(Lanes(here, None if k + self.b.lanes <= count else count - k))
        return found

    def hoist(self, roots: Iterable[Scalar], keep: set[Array]) -> None:
        """Compute what needs none but the variables that have a value, before a loop begins.

        ``keep`` names arrays that the loop writes, which are not read before it.
        """
        known = set(self.variables) | ({self.vector} if self.vector is not None and self.lanes is not None else set())
        seen: set[int] = set()
        stack = list(roots)
        while stack:
            node = stack.pop()
            if id(node) in seen or node.op == "number":
                continue
            seen.add(id(node))
            if node.variables <= known and not self._reads(node, keep):
                self.value(node)
                continue
            stack.extend(node.args)
            if node.op == "load" and node.array in self.registers:
                stack.append(self.registers[node.array])
            elif node.op == "load":
                stack.extend(entries_of(node.position))

    def _reads(self, node: Scalar, arrays: set[Array]) -> bool:
        from handgrad.native.program import loads_of

        return any(load.array in arrays for load in loads_of(node))

    # -- values

    def value(self, node: Scalar) -> Any:
        """Return the value of ``node`` here: a scalar if it does not depend on the vector variable."""
        if node.op == "load" and node.array in self.values:
            return self.values[node.array]
        varies = self.vector is not None and self.vector in node.variables
        key = (node, self.lanes if varies else None)
        for scope in reversed(self._scopes):
            if key in scope:
                return scope[key]
        found = self._compute(node, varies)
        self._scopes[-1][key] = found
        return found

    def _type(self, kind: str) -> Any:
        return {FLOAT: self.b.real, WHOLE: I32, TRUTH: I1}[kind]

    def _compute(self, node: Scalar, varies: bool) -> Any:
        if node.op == "number":
            number = node.payload[0]
            return ir.Constant(self._type(node.kind), int(number) if node.kind != FLOAT else number)
        if node.op == "load":
            return self._load(node, varies)
        if node.op == "index":
            return self._index_value(node.payload, varies)
        args = self.b.alike(*(self.value(a) for a in node.args))
        return self._operation(node, args)

    def _operation(self, node: Scalar, args: tuple[Any, ...]) -> Any:
        b, name, kind = self.b.ir, node.op, node.args[0].kind
        if name in _COMPARED:
            if kind == FLOAT:
                return b.fcmp_unordered("!=", *args) if name == "ne" else b.fcmp_ordered(_COMPARED[name], *args)
            return b.icmp_signed(_COMPARED[name], *args)
        if name in ("and", "or"):
            return (b.and_ if name == "and" else b.or_)(*args)
        if name == "not":
            return b.not_(args[0])
        if name == "select":
            return b.select(*args)
        if name == "to_float":
            kind_ = self.b.vector(self.b.real) if self.b.is_vector(args[0]) else self.b.real
            return (b.uitofp if kind == TRUTH else b.sitofp)(args[0], kind_)
        if name == "to_whole":
            kind_ = self.b.vector(I32) if self.b.is_vector(args[0]) else I32
            return b.zext(args[0], kind_) if kind == TRUTH else b.fptosi(args[0], kind_)
        if node.kind == WHOLE:
            return self._whole(name, args)
        return self._real(name, args)

    def _whole(self, name: str, args: tuple[Any, ...]) -> Any:
        b = self.b.ir
        plain = {"add": b.add, "sub": b.sub, "mul": b.mul}
        if name in plain:
            return plain[name](*args)
        if name == "neg":
            return b.neg(args[0])
        if name == "abs":
            return b.select(b.icmp_signed("<", args[0], self.b.constant(args[0].type, 0)), b.neg(args[0]), args[0])
        return self.b.intrinsic({"max": "smax", "min": "smin"}[name], *args)

    def _real(self, name: str, args: tuple[Any, ...]) -> Any:
        b = self.b.ir
        plain = {"add": b.fadd, "sub": b.fsub, "mul": b.fmul}
        if name in plain:
            return plain[name](*args, flags=CONTRACT)
        if name == "div":
            return b.fdiv(*args)
        if name == "neg":
            return b.fneg(args[0])
        if name in ("max", "min"):
            return self.b.combined(name, *args)
        direct = {"abs": "fabs", "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "rint"}
        if name in direct:
            return self.b.intrinsic(direct[name], *args)
        if name in LIBRARY:
            return self.functions.each(name, *args)
        return getattr(self.functions, name)(*args)

    # -- places

    def index(self, index: Index) -> Any:
        """Return an index as a number; the vector variable stands for its first lane."""
        key = ("index", index, self.lanes)
        for scope in reversed(self._scopes):
            if key in scope:
                return scope[key]
        total: Any = None
        for atom, factor in index.terms:
            part = self._atom(atom)
            if factor != 1:
                part = self.b.ir.mul(part, self.b.i64(factor), flags=("nsw",))
            total = part if total is None else self.b.ir.add(total, part, flags=("nsw",))
        constant = self.b.i64(index.constant)
        if total is None:
            total = constant
        elif index.constant:
            total = self.b.ir.add(total, constant, flags=("nsw",))
        self._scopes[-1][key] = total
        return total

    def _atom(self, atom: Any) -> Any:
        if isinstance(atom, Var):
            if atom == self.vector and self.lanes is not None:
                return self.lanes.base
            return self.variables[atom]
        if isinstance(atom, Quotient):
            return self.b.ir.udiv(self.index(atom.of), self.b.i64(atom.by))
        if isinstance(atom, Remainder):
            return self.b.ir.urem(self.index(atom.of), self.b.i64(atom.by))
        assert isinstance(atom, Entry)
        return self.b.ir.sext(self.value(atom.of), I64)

    def _index_value(self, index: Index, varies: bool) -> Any:
        if not varies:
            return self.b.ir.trunc(self.index(index), I32)
        assert self.vector is not None
        factor = index.factor_of(self.vector)
        if factor is None:
            return self._by_lanes(I32, lambda: self.b.ir.trunc(self.index(index), I32))
        first = self.b.splat(self.b.ir.trunc(self.index(index), I32))
        steps = ir.Constant(self.b.vector(I32), [factor * k for k in range(self.b.lanes)])
        return self.b.ir.add(first, steps)

    def _load(self, node: Scalar, varies: bool) -> Any:
        if node.array in self.registers:
            return self.value(self.registers[node.array])
        base, flat = self.place(node.array, node.position)
        scalar = self._type(node.kind)
        if not varies:
            return self.b.load(base, self.index(flat), scalar)
        assert self.vector is not None
        assert self.lanes is not None
        if flat.factor_of(self.vector) == 1:
            return self.side_by_side(node.array, node.position)
        return self._by_lanes(scalar, lambda: self.b.load(base, self.index(flat), scalar))

    def side_by_side(self, array: Array, position: tuple[Index, ...]) -> Any:
        """Load a vector of numbers that lie side by side."""
        assert self.lanes is not None
        base, flat = self.place(array, position)
        valid = None if self.is_padded(array, position) else self.lanes.valid
        return self.b.load(base, self.index(flat), self.b.vector(self._type(array.kind)), valid)

    def place(self, array: Array, position: Sequence[Index]) -> tuple[Any, Index]:
        """Return an address, and how many elements after it a position in an array is."""
        flat = self.layout.slots[array].flat(position)
        return self.starts[array, flat.constant], flat - flat.constant

    def is_padded(self, array: Array, position: tuple[Index, ...]) -> bool:
        """Whether a whole vector can be read or written although the domain ends inside it."""
        slot = self.layout.slots[array]
        if not slot.row or not position or self.vector is None or slot.row < self._whole_vectors(self.vector.extent):
            return False
        return position[-1] == Index.of(self.vector) and array.shape[-1] == self.vector.extent and (
            len(array.shape) == 1 or slot.strides[-2] == slot.row or all(s == 1 for s in array.shape[:-1])
        )  # fmt: skip

    def _whole_vectors(self, count: int) -> int:
        return -(-count // self.b.lanes) * self.b.lanes

    def _by_lanes(self, scalar: Any, one: Any) -> Any:
        """Return a vector of which each lane is computed by itself."""
        vector, lanes = self.vector, self.lanes
        assert vector is not None
        assert lanes is not None
        found = self.b.constant(self.b.vector(scalar), 0)
        for k in range(self.b.lanes if lanes.valid is None else lanes.valid):
            here = lanes.base if k == 0 else self.b.ir.add(lanes.base, self.b.i64(k), flags=("nsw",))
            self.vector, self.lanes = None, None
            with self.bound(vector, here):
                value = one()
            self.vector, self.lanes = vector, lanes
            found = self.b.ir.insert_element(found, value, ir.Constant(I32, k))
        return found

    def store(self, value: Any, array: Array, position: tuple[Index, ...]) -> None:
        """Store a value at a place; a vector where the place runs with the lanes."""
        base, flat = self.place(array, position)
        if self.vector is None or self.vector not in flat.variables:
            self.b.store(value, base, self.index(flat))
            return
        assert self.lanes is not None
        value = self.b.splat(value)
        if flat.factor_of(self.vector) == 1:
            valid = None if self.is_padded(array, position) else self.lanes.valid
            self.b.store(value, base, self.index(flat), valid)
            return
        vector, lanes = self.vector, self.lanes
        for k in range(self.b.lanes if lanes.valid is None else lanes.valid):
            here = self.b.ir.add(lanes.base, self.b.i64(k), flags=("nsw",))
            self.vector, self.lanes = None, None
            with self.bound(vector, here):
                self.b.store(self.b.ir.extract_element(value, ir.Constant(I32, k)), base, self.index(flat))
            self.vector, self.lanes = vector, lanes


__all__ = ["I32", "Expressions", "Lanes"]
