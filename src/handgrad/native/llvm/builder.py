"""Small pieces of LLVM IR: loops, vectors, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import llvmlite.ir as ir

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
HALF = 32  # bytes: shorter vectors are not faster
CONTRACT = ("contract",)  # a product and a sum may be rounded once


@dataclass(frozen=True)
class Machine:
    """What code is generated for: bytes of a number, numbers in a vector, vector registers."""

    item: int = 4
    lanes: int = 8
    registers: int = 16


class Builder:
    """Writes instructions of one function. Values are scalars, or vectors of `Machine.lanes`."""

    def __init__(self, machine: Machine, module: ir.Module) -> None:
        self.machine, self.module = machine, module
        self.lanes = machine.lanes
        self.real: Any = ir.FloatType() if machine.item == 4 else ir.DoubleType()
        self.ir = ir.IRBuilder()
        self.entry: Any = None  # the block of stack slots
        self._functions: dict[str, Any] = {}  # of the module, by name

    def start(self, name: str, arguments: Sequence[Any], *, apart: bool = False) -> Any:
        """Begin a function that returns nothing, and return its arguments; ``apart``: it is called, not copied in."""
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), arguments), name)
        if apart:
            function.attributes.add("noinline")
            function.linkage = "internal"
        self._functions[name] = function
        self.entry = function.append_basic_block("entry")
        body = function.append_basic_block("body")
        self.ir.position_at_end(body)
        return function.args

    def finish(self) -> None:
        """End the function."""
        self.ir.ret_void()
        first = self.ir.function.blocks[1]
        self.ir.position_at_end(self.entry)
        self.ir.branch(first)

    # -- types and constants

    def vector(self, scalar: Any) -> Any:
        """Return the type of a vector of ``scalar``."""
        return ir.VectorType(scalar, self.lanes)

    def is_vector(self, value: Any) -> bool:
        """Whether a value is a vector."""
        return isinstance(value.type, ir.VectorType)

    def constant(self, type_: Any, number: Any) -> Any:
        """Return a number, in every lane of a vector type."""
        if isinstance(type_, ir.VectorType):
            return ir.Constant(type_, [ir.Constant(type_.element, number)] * type_.count)
        return ir.Constant(type_, number)

    def i64(self, number: int) -> Any:
        """Return a whole number for indices."""
        return ir.Constant(I64, number)

    def splat(self, value: Any) -> Any:
        """Return a scalar in every lane."""
        if self.is_vector(value):
            return value
        if isinstance(value, ir.Constant):
            return self.constant(self.vector(value.type), value.constant)
        kind = self.vector(value.type)
        one = self.ir.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
        return self.ir.shuffle_vector(
            one, ir.Constant(kind, ir.Undefined), ir.Constant(self.vector(I32), [0] * self.lanes)
        )

    def alike(self, *values: Any) -> tuple[Any, ...]:
        """Return values as vectors if one of them is."""
        return tuple(map(self.splat, values)) if any(map(self.is_vector, values)) else values

    @contextmanager
    def short(self, count: int) -> Iterator[None]:
        """Inside, the longest vectors are half as long, and take half the time, if that is enough for ``count``."""
        lanes = self.lanes
        if count <= lanes // 2 and lanes * self.machine.item > HALF:
            self.lanes //= 2
        yield
        self.lanes = lanes

    # -- control

    def loop(self, count: int, body: Callable[[Any], None], step: int = 1) -> None:
        """Run ``body`` with 0, step, 2*step, ... below ``count``; once without a loop where that is all."""
        if count <= 0:
            return
        if count <= step:
            body(self.i64(0))
            return
        before = self.ir.block
        head = self.ir.append_basic_block("loop")
        self.ir.branch(head)
        self.ir.position_at_end(head)
        index = self.ir.phi(I64)
        index.add_incoming(self.i64(0), before)
        body(index)
        following = self.ir.add(index, self.i64(step), flags=("nuw", "nsw"))
        index.add_incoming(following, self.ir.block)
        after = self.ir.append_basic_block("after")
        self.ir.cbranch(self.ir.icmp_signed("<", following, self.i64(count)), head, after)
        self.ir.position_at_end(after)

    def between(self, first: Any, end: Any, body: Callable[[Any], None], step: int = 1) -> None:
        """Run ``body`` with first, first + step, ... below ``end``: numbers that are known when it runs."""
        before = self.ir.block
        head, inside, after = (self.ir.append_basic_block(name) for name in ("head", "inside", "after"))
        self.ir.branch(head)
        self.ir.position_at_end(head)
        index = self.ir.phi(I64)
        index.add_incoming(first, before)
        self.ir.cbranch(self.ir.icmp_signed("<", index, end), inside, after)
        self.ir.position_at_end(inside)
        body(index)
        index.add_incoming(self.ir.add(index, self.i64(step), flags=("nuw", "nsw")), self.ir.block)
        self.ir.branch(head)
        self.ir.position_at_end(after)

    def only(self, condition: Any, body: Callable[[], None]) -> None:
        """Run ``body`` where a truth value is true."""
        inside, after = self.ir.append_basic_block("only"), self.ir.append_basic_block("after")
        self.ir.cbranch(condition, inside, after)
        self.ir.position_at_end(inside)
        body()
        self.ir.branch(after)
        self.ir.position_at_end(after)

    def lesser(self, a: Any, b: Any) -> Any:
        """Return the lesser of two whole numbers."""
        return self.ir.select(self.ir.icmp_signed("<", a, b), a, b)

    def slot(self, type_: Any) -> Any:
        """Return a place on the stack, which LLVM turns into a register."""
        here = self.ir.block
        self.ir.position_at_start(self.entry)
        place = self.ir.alloca(type_)
        self.ir.position_at_end(here)
        return place

    # -- memory

    def address(self, base: Any, index: Any, type_: Any) -> Any:
        """Return where number ``index`` of an array of ``type_`` scalars lies."""
        scalar = type_.element if isinstance(type_, ir.VectorType) else type_
        typed = self.ir.bitcast(base, scalar.as_pointer())
        place = self.ir.gep(typed, [index], inbounds=True)
        return self.ir.bitcast(place, type_.as_pointer()) if type_ is not scalar else place

    def load(self, base: Any, index: Any, type_: Any, valid: int | None = None) -> Any:
        """Load a scalar, a vector, or the first ``valid`` numbers of one."""
        place = self.address(base, index, type_)
        if valid is None or not isinstance(type_, ir.VectorType):
            return self.ir.load(place, align=self._align(type_))
        name = f"llvm.masked.load.{self._suffix(type_)}.p0"
        zero = self.constant(type_, 0)
        return self.call(name, type_, [place, ir.Constant(I32, self._align(type_)), self.first(valid, type_), zero])

    def store(self, value: Any, base: Any, index: Any, valid: int | None = None) -> None:
        """Store a scalar, a vector, or the first ``valid`` numbers of one."""
        place = self.address(base, index, value.type)
        if valid is None or not self.is_vector(value):
            self.ir.store(value, place, align=self._align(value.type))
            return
        name = f"llvm.masked.store.{self._suffix(value.type)}.p0"
        self.call(
            name,
            ir.VoidType(),
            [value, place, ir.Constant(I32, self._align(value.type)), self.first(valid, value.type)],
        )

    def first(self, valid: int, type_: Any) -> Any:
        """Return a mask of the first lanes of a vector type."""
        lanes = range(type_.count)
        return ir.Constant(ir.VectorType(I1, len(lanes)), [ir.Constant(I1, int(k < valid)) for k in lanes])

    @staticmethod
    def _align(type_: Any) -> int:
        scalar = type_.element if isinstance(type_, ir.VectorType) else type_
        return 8 if isinstance(scalar, ir.DoubleType) or scalar == I64 else 4

    # -- calls

    def call(self, name: str, result: Any, arguments: Sequence[Any], fast: Sequence[str] = ()) -> Any:
        """Call a function of LLVM or of the C library."""
        if name not in self._functions:
            kind = ir.FunctionType(result, [a.type for a in arguments])
            self._functions[name] = ir.Function(self.module, kind, name)
        return self.ir.call(self._functions[name], arguments, fastmath=fast)

    def intrinsic(self, name: str, *arguments: Any, fast: Sequence[str] = ()) -> Any:
        """Call an LLVM intrinsic on values of one type."""
        type_ = arguments[0].type
        return self.call(f"llvm.{name}.{self._suffix(type_)}", type_, arguments, fast)

    @staticmethod
    def _suffix(type_: Any) -> str:
        scalar = type_.element if isinstance(type_, ir.VectorType) else type_
        name = {ir.FloatType: "f32", ir.DoubleType: "f64"}.get(type(scalar)) or f"i{scalar.width}"
        return f"v{type_.count}{name}" if isinstance(type_, ir.VectorType) else name

    def prefetch(self, base: Any, index: Any, scalar: Any) -> None:
        """Bring a number that will be read soon into the cache."""
        place = self.ir.bitcast(self.address(base, index, scalar), I8.as_pointer())
        read, keep, data = (ir.Constant(I32, k) for k in (0, 3, 1))
        self.call("llvm.prefetch.p0", ir.VoidType(), [place, read, keep, data])

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Return a * b + c, rounded once."""
        return self.intrinsic("fma", *self.alike(a, b, c))

    def across(self, kind: str, value: Any) -> Any:
        """Return the sum (max, min, prod) of the lanes of a vector."""
        while True:
            count = value.type.count
            if count == 1:
                return self.ir.extract_element(value, ir.Constant(I32, 0))
            half = count // 2
            undefined = ir.Constant(value.type, ir.Undefined)
            low, high = (
                self.ir.shuffle_vector(
                    value, undefined, ir.Constant(ir.VectorType(I32, half), list(range(k, k + half)))
                )
                for k in (0, half)
            )
            value = self.combined(kind, low, high)

    def combined(self, kind: str, a: Any, b: Any) -> Any:
        """Return one step of a reduction."""
        if isinstance(a.type, ir.IntType) or (self.is_vector(a) and isinstance(a.type.element, ir.IntType)):
            if kind in ("sum", "prod"):
                return self.ir.add(a, b) if kind == "sum" else self.ir.mul(a, b)
            return self.intrinsic({"max": "smax", "min": "smin"}[kind], a, b)
        if kind == "sum":
            return self.ir.fadd(a, b, flags=CONTRACT)
        if kind == "prod":
            return self.ir.fmul(a, b, flags=CONTRACT)
        return self.intrinsic({"max": "maximum", "min": "minimum"}[kind], a, b)
