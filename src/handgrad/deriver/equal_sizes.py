"""Which sizes are equal because an operation says so: a batch stays a batch through a convolution.

An entry of `EQUAL` gives pairs of places, a value and one of its dimensions each; `sizes` makes classes of them. An
operation that is not here and not there is taken to be elementwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from handgrad.graph import Const, Step, Value
from handgrad.rules.einsum import subscripts
from handgrad.rules.table import plain

Place = tuple[Value, int]
Pairs = Iterator[tuple[Place, Place]]

EQUAL: dict[str, Callable[[Step, Value, list[Value]], Pairs]] = {}


def equal_sizes(step: Step) -> Pairs | None:
    """Return the places that are of one size for sure; None if the operation is not known here."""
    inputs = list(step.inputs)
    entry = EQUAL.get(plain(step.op))
    return entry(step, step.made[0], inputs) if entry is not None and inputs and step.made else None


def _entry(*ops: str) -> Callable[..., Any]:
    def enter(function: Callable[[Step, Value, list[Value]], Pairs]) -> Callable[[Step, Value, list[Value]], Pairs]:
        for op in ops:
            EQUAL[op] = function
        return function

    return enter


def _argument(step: Step, position: int, *names: str, default: Any = None) -> Any:
    """Return a constant argument by its place or its name."""
    found = step.args[position] if position < len(step.args) else None
    for name in names:
        found = step.kwargs.get(name, found)
    return found.value if isinstance(found, Const) else default


def _all(a: Value, b: Value, but: int | None = None) -> Pairs:
    """Yield the dimensions of two values of the same number of them, but for one."""
    if len(a.shape) == len(b.shape):
        for d in range(len(a.shape)):
            if but is None or d != but % len(a.shape):
                yield (a, d), (b, d)


def _front(a: Value, b: Value, count: int) -> Pairs:
    for d in range(count):
        yield (a, d), (b, d)


@_entry("stack")
def _stack(step: Step, out: Value, inputs: list[Value]) -> Pairs:
    dim = _argument(step, 1, "dim", default=0) % len(out.shape)
    rest = [d for d in range(len(out.shape)) if d != dim]
    for x in inputs:
        for d, place in enumerate(rest):
            yield (x, d), (out, place)


@_entry("unbind", "select")
def _unbind(step: Step, _: Value, inputs: list[Value]) -> Pairs:
    x = inputs[0]
    dim = _argument(step, 1, "dim", default=0) % len(x.shape)
    rest = [d for d in range(len(x.shape)) if d != dim]
    for out in step.made:
        for d, place in enumerate(rest):
            yield (x, place), (out, d)


@_entry("split", "split_with_sizes", "chunk", "tensor_split")
def _split(step: Step, _: Value, inputs: list[Value]) -> Pairs:
    for out in step.made:
        yield from _all(inputs[0], out, _argument(step, 2, "dim", default=0))


@_entry("narrow")
def _narrow(step: Step, out: Value, inputs: list[Value]) -> Pairs:
    yield from _all(inputs[0], out, _argument(step, 1, "dim", default=0))


@_entry("index_select", "repeat_interleave")
def _index_select(step: Step, out: Value, inputs: list[Value]) -> Pairs:
    dim = _argument(step, 1 if plain(step.op) == "index_select" else 2, "dim")
    if dim is not None:
        yield from _all(inputs[0], out, dim)
        if plain(step.op) == "index_select" and inputs[-1].shape:
            yield (inputs[-1], 0), (out, dim % len(out.shape))


@_entry("gather", "take_along_dim")
def _gather(_: Step, out: Value, inputs: list[Value]) -> Pairs:
    yield from _all(inputs[-1], out)


@_entry("scatter", "scatter_add", "index_add", "index_copy", "index_fill", "index_put", "masked_scatter", "put")
def _same_as_first(_: Step, out: Value, inputs: list[Value]) -> Pairs:
    yield from _all(inputs[0], out)


@_entry("repeat", "tile")
def _repeat(_: Step, out: Value, inputs: list[Value]) -> Pairs:
    lead = len(out.shape) - len(inputs[0].shape)
    for d in range(len(inputs[0].shape)):
        yield (inputs[0], d), (out, lead + d)


@_entry("pad")
def _pad(step: Step, out: Value, inputs: list[Value]) -> Pairs:
    sides = _argument(step, 1, "pad", default=())
    count = len(out.shape)
    for d in range(count):
        place = 2 * (count - 1 - d)
        if not any(sides[place : place + 2]):
            yield (inputs[0], d), (out, d)


@_entry("movedim", "moveaxis", "rot90", "diagonal", "diag", "unfold", "fold", "trace", "take", "kron", "masked_select")
def _nothing(_: Step, _out: Value, _inputs: list[Value]) -> Pairs:
    yield from ()


# -- products


@_entry("linear")
def _linear(_: Step, out: Value, inputs: list[Value]) -> Pairs:
    x, weight, *bias = inputs
    yield from _front(x, out, len(x.shape) - 1)
    if len(weight.shape) == 2:
        yield (x, -1), (weight, 1)
        yield (weight, 0), (out, -1)
        for b in bias:
            yield (b, 0), (weight, 0)


@_entry("addmm", "baddbmm", "addmv")
def _addmm(_: Step, out: Value, inputs: list[Value]) -> Pairs:
    c, a, b = inputs[:3]
    yield from _front(a, out, len(a.shape) - 1)
    yield (a, -1), (b, max(len(b.shape) - 2, 0))
    if len(b.shape) > 1:
        yield (b, -1), (out, -1)
    for d in range(1, len(c.shape) + 1):
        yield (c, -d), (out, -d)


@_entry("outer", "ger")
def _outer(_: Step, out: Value, inputs: list[Value]) -> Pairs:
    yield (inputs[0], 0), (out, 0)
    yield (inputs[-1], 0), (out, 1)


@_entry("einsum")
def _einsum(step: Step, out: Value, inputs: list[Value]) -> Pairs:
    equation = step.args[0].value if isinstance(step.args[0], Const) else None
    if not isinstance(equation, str):
        return
    names, result, _ = subscripts(equation, [len(x.shape) for x in inputs])
    first: dict[str, Place] = {}
    for name, value in zip([result, *names], [out, *inputs], strict=True):
        for d, letter in enumerate(name):
            if value.shape[d] != 1:
                yield first.setdefault(letter, (value, d)), (value, d)


@_entry("tensordot")
def _tensordot(step: Step, _: Value, inputs: list[Value]) -> Pairs:
    dims = _argument(step, 2, "dims", default=2)
    if len(inputs) == 2 and not isinstance(dims, int):
        for ours, theirs in zip(*dims, strict=True):
            yield (inputs[0], ours), (inputs[1], theirs)


# -- convolutions and pooling


@_entry("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv(step: Step, out: Value, inputs: list[Value]) -> Pairs:
    x, weight, *bias = inputs
    channel = len(x.shape) - len(weight.shape) + 1
    yield from _front(x, out, channel)
    if "transpose" in step.op:
        yield (x, channel), (weight, 0)
        for b in bias:
            yield (b, 0), (out, channel)
        return
    yield (weight, 0), (out, channel)
    if weight.shape[1] == x.shape[channel]:
        yield (x, channel), (weight, 1)
    for b in bias:
        yield (b, 0), (weight, 0)


@_entry("max_pool1d", "avg_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d")
def _pool1d(_: Step, out: Value, inputs: list[Value]) -> Pairs:
    yield from _front(inputs[0], out, len(out.shape) - 1)


@_entry("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d")
def _pool2d(_: Step, out: Value, inputs: list[Value]) -> Pairs:
    yield from _front(inputs[0], out, len(out.shape) - 2)


@_entry("interpolate", "pixel_shuffle", "pixel_unshuffle")
def _image(_: Step, out: Value, inputs: list[Value]) -> Pairs:
    yield from _front(inputs[0], out, 1)


@_entry("embedding_bag")
def _embedding_bag(_: Step, out: Value, inputs: list[Value]) -> Pairs:
    if len(inputs[0].shape) == 2:
        yield (inputs[0], 0), (out, 0)
    yield (inputs[1], 1), (out, 1)
