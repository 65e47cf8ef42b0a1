"""Functions of each element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from handgrad.native.arrays import Array, Shape, Tensor, variables_of
from handgrad.native.indices import Index
from handgrad.native.program import Program
from handgrad.native.scalars import FLOAT, TRUTH, WHOLE, Scalar, as_float, number, op, real, truth
from handgrad.native.table import lowering

COSTLY_TO_REPEAT = 10


def constant(value: Any, shape: Shape = ()) -> Tensor:
    """Return a number as a tensor."""
    node = number(value)
    return Tensor(shape, lambda _: node, node.kind)


def pointwise(program: Program, function: Callable[..., Scalar], *operands: Any) -> Tensor:
    """Return ``function`` of the elements of operands that are broadcast."""
    tensors = [x if isinstance(x, Tensor) else constant(x) for x in operands]
    shape = broadcast([t.shape for t in tensors])
    size = math.prod(shape)
    tensors = [_kept_if_repeated(program, t, size) for t in tensors]
    at = [expanded(t, shape).at for t in tensors]
    kind = function(*(a(variables_of(shape)) for a in at)).kind
    return Tensor(shape, lambda p: function(*(a(p) for a in at)), kind)


def _kept_if_repeated(program: Program, tensor: Tensor, size: int) -> Tensor:
    if math.prod(tensor.shape) < size and tensor.at(variables_of(tensor.shape)).costs > COSTLY_TO_REPEAT:
        return program.realise(tensor)
    return tensor


def broadcast(shapes: list[Shape]) -> Shape:
    """Return the shape that some shapes broadcast to."""
    ndim = max(len(s) for s in shapes)
    padded = [(1,) * (ndim - len(s)) + s for s in shapes]
    return tuple(max(sizes) if 0 not in sizes else 0 for sizes in zip(*padded, strict=True))


def expanded(tensor: Tensor, shape: Shape) -> Tensor:
    """Return a tensor broadcast to ``shape``."""
    if tensor.shape == shape:
        return tensor
    skip = len(shape) - len(tensor.shape)

    def at(p: tuple[Index, ...]) -> Scalar:
        return tensor.at(tuple(Index() if size == 1 else i for size, i in zip(tensor.shape, p[skip:], strict=True)))

    return Tensor(shape, at, tensor.kind)


# -- with one operation of the engine each

_UNARY = {
    "neg": "neg", "exp": "exp", "log": "log", "tanh": "tanh", "sqrt": "sqrt", "rsqrt": "rsqrt", "abs": "abs",
    "sigmoid": "sigmoid", "erf": "erf", "sin": "sin", "cos": "cos", "floor": "floor", "ceil": "ceil",
    "round": "round", "trunc": "trunc", "log1p": "log1p", "expm1": "expm1",
}  # fmt: skip
_BINARY = {
    "mul": "mul", "div": "div", "maximum": "max", "minimum": "min",
    "clamp_min": "max", "clamp_max": "min", "eq": "eq", "ne": "ne", "lt": "lt", "le": "le",
    "gt": "gt", "ge": "ge", "logical_and": "and", "bitwise_and": "and", "logical_or": "or", "bitwise_or": "or",
}  # fmt: skip


def _of(name: str) -> Callable[..., Tensor]:
    def lower(program: Program, *operands: Any, **_: Any) -> Tensor:
        return pointwise(program, lambda *a: op(name, *matched(name, *a)), *operands)

    return lower


def matched(name: str, *args: Scalar) -> tuple[Scalar, ...]:
    """Return operands of one kind, as PyTorch promotes them."""
    if name in ("and", "or", "not"):
        return tuple(truth(a) for a in args)
    if any(a.kind == FLOAT for a in args) or name == "div":
        return tuple(as_float(a) for a in args)
    if any(a.kind == WHOLE for a in args):
        return tuple(a if a.kind == WHOLE else op("to_whole", a) for a in args)
    return args if name in ("eq", "ne") or len(args) == 1 else tuple(as_float(a) for a in args)


for _name, _operation in {**_UNARY, **_BINARY}.items():
    lowering(_name)(_of(_operation))


@lowering("add", "sub")
def _add(program: Program, x: Any, y: Any, alpha: Any = 1, *, subtract: bool = False) -> Tensor:
    name = "sub" if subtract else "add"

    def function(a: Scalar, b: Scalar) -> Scalar:
        a, b = matched("add", a, b)
        return op(name, a, b if alpha == 1 else op("mul", b, *matched("mul", number(alpha), b)[:1]))

    return pointwise(program, function, x, y)


@lowering("sub")
def _sub(program: Program, x: Any, y: Any, alpha: Any = 1) -> Tensor:
    return _add(program, x, y, alpha, subtract=True)


@lowering("rsub")
def _rsub(program: Program, x: Any, y: Any, alpha: Any = 1) -> Tensor:
    return _add(program, y, x, alpha, subtract=True)


@lowering("div.Tensor_mode", "div.Scalar_mode", "floor_divide")
def _div_mode(program: Program, x: Any, y: Any, *, rounding_mode: str | None = "floor") -> Tensor:
    rounds = {None: "", "floor": "floor", "trunc": "trunc"}[rounding_mode]

    def function(a: Scalar, b: Scalar) -> Scalar:
        ratio = op("div", as_float(a), as_float(b))
        whole = a.kind != FLOAT and b.kind != FLOAT
        rounded = op(rounds, ratio) if rounds else ratio
        return op("to_whole", rounded) if whole and rounds else rounded

    return pointwise(program, function, x, y)


@lowering("reciprocal")
def _reciprocal(program: Program, x: Tensor) -> Tensor:
    return pointwise(program, lambda a: op("div", real(1), as_float(a)), x)


@lowering("square")
def _square(program: Program, x: Tensor) -> Tensor:
    return pointwise(program, lambda a: op("mul", a, a), x)


@lowering("pow.Tensor_Scalar")
def _pow(program: Program, x: Tensor, exponent: float) -> Tensor:
    return pointwise(program, lambda a: power(as_float(a) if x.kind == FLOAT else a, exponent), x)


def power(a: Scalar, exponent: float) -> Scalar:
    """Return a power, of products and roots where the exponent is a small whole number or a half."""
    if exponent == 0:
        return real(1)
    if exponent < 0:
        return op("rsqrt", a) if exponent == -0.5 else op("div", real(1), power(a, -exponent))
    if exponent == int(exponent) and exponent <= 8:
        whole = int(exponent)
        half = power(a, whole // 2) if whole > 1 else real(1)
        even = op("mul", half, half)
        return even if whole % 2 == 0 else a if whole == 1 else op("mul", even, a)
    if exponent == 0.5:
        return op("sqrt", a)
    if exponent == 1.5:
        return op("mul", a, op("sqrt", a))
    return op("pow", a, real(exponent))


@lowering("pow.Tensor_Tensor")
def _pow_tensor(program: Program, x: Tensor, y: Tensor) -> Tensor:
    return pointwise(program, lambda a, b: op("pow", as_float(a), as_float(b)), x, y)


@lowering("pow.Scalar", "exp2")
def _power_of(program: Program, x: Any, y: Tensor | None = None) -> Tensor:
    base, exponent = (2.0, x) if y is None else (x, y)
    return pointwise(program, lambda a: op("exp", op("mul", as_float(a), real(math.log(base)))), exponent)


@lowering("relu")
def _relu(program: Program, x: Tensor) -> Tensor:
    return pointwise(program, lambda a: op("max", a, real(0)), x)


@lowering("clamp")
def _clamp(program: Program, x: Tensor, low: Any = None, high: Any = None, **named: Any) -> Tensor:
    low, high = named.get("min", low), named.get("max", high)
    if low is not None:
        x = pointwise(program, lambda a, b: op("max", *matched("max", a, b)), x, low)
    if high is not None:
        x = pointwise(program, lambda a, b: op("min", *matched("min", a, b)), x, high)
    return x


@lowering("hardtanh")
def _hardtanh(program: Program, x: Tensor, low: float = -1.0, high: float = 1.0) -> Tensor:
    return _clamp(program, x, low, high)


@lowering("where.self", "where.ScalarSelf", "where.ScalarOther", "where.Scalar")
def _where(program: Program, condition: Tensor, x: Any, y: Any) -> Tensor:
    return pointwise(program, lambda c, a, b: op("select", truth(c), *matched("add", a, b)), condition, x, y)


@lowering("masked_fill")
def _masked_fill(program: Program, x: Tensor, mask: Tensor, value: Any) -> Tensor:
    return _where(program, mask, value, x)


@lowering("logical_not", "bitwise_not")
def _not(program: Program, x: Tensor) -> Tensor:
    return pointwise(program, lambda a: op("not", truth(a)), x)


@lowering("sign", "sgn")
def _sign(program: Program, x: Tensor) -> Tensor:
    zero = real(0)
    return pointwise(
        program,
        lambda a: op("select", op("gt", a, zero), real(1), op("select", op("lt", a, zero), real(-1), zero)),
        x,
    )


@lowering("silu")
def _silu(program: Program, x: Tensor) -> Tensor:
    return pointwise(program, lambda a: op("mul", a, op("sigmoid", a)), x)


@lowering("gelu")
def _gelu(program: Program, x: Tensor, approximate: str = "none") -> Tensor:
    def exact(a: Scalar) -> Scalar:
        return op("mul", op("mul", a, real(0.5)), op("add", op("erf", op("mul", a, real(math.sqrt(0.5)))), real(1)))

    def with_tanh(a: Scalar) -> Scalar:
        inner = op("mul", real(math.sqrt(2 / math.pi)), op("add", a, op("mul", real(0.044715), power(a, 3))))
        return op("mul", op("mul", a, real(0.5)), op("add", op("tanh", inner), real(1)))

    return pointwise(program, with_tanh if approximate == "tanh" else exact, x)


@lowering("softplus")
def _softplus(program: Program, x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    def function(a: Scalar) -> Scalar:
        scaled = op("mul", a, real(beta))
        return op("select", op("gt", scaled, real(threshold)), a, op("div", op("log1p", op("exp", scaled)), real(beta)))

    return pointwise(program, function, x)


@lowering("leaky_relu")
def _leaky_relu(program: Program, x: Tensor, slope: float = 0.01) -> Tensor:
    return pointwise(program, lambda a: op("select", op("gt", a, real(0)), a, op("mul", a, real(slope))), x)


@lowering("elu")
def _elu(program: Program, x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    def function(a: Scalar) -> Scalar:
        below = op("mul", op("expm1", op("mul", a, real(input_scale))), real(alpha * scale))
        return op("select", op("gt", a, real(0)), op("mul", a, real(scale)), below)

    return pointwise(program, function, x)


@lowering(
    "clone", "alias", "detach", "lift_fresh_copy", "lift_fresh", "contiguous", "_to_copy", "to", "convert_element_type"
)
def _same(program: Program, x: Tensor, *types: Any, **named: Any) -> Tensor:
    dtype = named.get("dtype") or next((t for t in types if type(t).__name__ == "dtype"), None)
    return x if dtype is None else as_kind(program, x, dtype)


@lowering("copy", "copy_")
def _copy(program: Program, x: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    del non_blocking
    made = expanded(source, x.shape)
    return as_kind(program, made, x.kind)


@lowering("fill")
def _fill(program: Program, x: Tensor, value: Any) -> Tensor:
    return _copy(program, x, value) if isinstance(value, Tensor) else filled(x.shape, value, x.kind)


def as_kind(program: Program, x: Tensor, dtype: Any) -> Tensor:
    """Return a tensor converted to a kind of numbers, or to that of a dtype."""
    kind = dtype if dtype in (FLOAT, WHOLE, TRUTH) else kind_of(dtype)
    if kind == x.kind:
        return x
    if kind == FLOAT:
        return pointwise(program, as_float, x)
    return pointwise(program, truth if kind == TRUTH else lambda a: op("to_whole", a), x)


def kind_of(dtype: Any) -> str:
    """Return the engine's kind of numbers of a PyTorch dtype."""
    name = str(dtype).removeprefix("torch.")
    return FLOAT if name.startswith(("float", "bfloat")) else TRUTH if name == "bool" else WHOLE


# -- made of nothing


def _like(value: int | None) -> Callable[..., Tensor]:
    def lower(program: Program, x: Tensor, *given: Any, dtype: Any = None, **_: Any) -> Tensor:
        del program
        return filled(x.shape, given[0] if value is None else value, x.kind if dtype is None else kind_of(dtype))

    return lower


def _new(value: int | None) -> Callable[..., Tensor]:
    def lower(program: Program, *given: Any, dtype: Any = None, **_: Any) -> Tensor:
        del program
        like = given[0] if isinstance(given[0], Tensor) else None
        size, *rest = given[1:] if like is not None else given
        fill = rest[0] if value is None else value
        written = constant(fill).kind if value is None else FLOAT
        default = written if like is None else like.kind
        return filled(tuple(size), fill, default if dtype is None else kind_of(dtype))

    return lower


for _name, _value in {"zeros": 0, "ones": 1, "empty": 0, "full": None}.items():
    lowering(f"{_name}_like")(_like(_value))
    lowering(_name, f"new_{_name}")(_new(_value))


@lowering("scalar_tensor")
def _scalar_tensor(program: Program, value: Any, dtype: Any = None, **_: Any) -> Tensor:
    del program
    return filled((), value, FLOAT if dtype is None else kind_of(dtype))


def filled(shape: Shape, value: Any, kind: str) -> Tensor:
    """Return a tensor of one number."""
    made = {FLOAT: float, WHOLE: int, TRUTH: bool}[kind](value)
    return constant(made, tuple(shape))


__all__ = ["Array", "broadcast", "constant", "expanded", "filled", "kind_of", "matched", "pointwise", "power"]
