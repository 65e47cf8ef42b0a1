"""Copies and casts, other shapes of the same numbers."""

from __future__ import annotations

from typing import Any

from handgrad.deriver.numpy_page.forms.table import form, is_floating, operation
from handgrad.expr import Expr, argument, call, index, index_key, raw, transposed

WHOLE = frozenset(["torch.int64", "torch.int32", "torch.int16", "torch.int8", "torch.uint8"])


def pair(items: Any) -> Expr:
    """Return a tuple, such as a shape, as an argument; sizes keep their names."""
    return Expr("tuple", map(argument, items))


def shape_of(sizes: tuple[Expr, ...]) -> Expr:
    """Return the sizes of a call, one after another or as one tuple, as a tuple."""
    return sizes[0] if len(sizes) == 1 and sizes[0].op in ("raw", "list") else pair(sizes)


# -- the same numbers


@form("contiguous", "detach", "data", "alias", "cpu", "retain_grad", "requires_grad", "positive", "real")
def same(out: Expr, x: Expr, *_: Expr) -> Expr:
    return x


@form("clone")
def clone(out: Expr, x: Expr) -> Expr:
    return x.method("copy")


@form("float", "double", "half", "bfloat16", "type_as")
def floating(out: Expr, x: Expr, *_: Expr) -> Expr:
    return x if is_floating(x) else x.method("astype", raw("float"))


@form("long", "int")
def whole(out: Expr, x: Expr) -> Expr:
    return x.method("astype", raw("int"))


@form("bool")
def truth(out: Expr, x: Expr) -> Expr:
    return x.method("astype", raw("bool"))


@form("to", "type")
def to(out: Expr, x: Expr, kind: Any = None, *_: Any) -> Expr:
    name = str(kind)
    if name in WHOLE:
        return whole(out, x)
    if name == "torch.bool":
        return truth(out, x)
    return floating(out, x) if name.startswith("torch.") else x


# -- shapes


@form("view", "reshape")
def reshape(out: Expr, x: Expr, *sizes: Expr) -> Expr:
    if not sizes or any(item.op not in ("raw", "number") for item in sizes):
        return x.method("reshape", *out.shape, shape=out.shape)
    return x.method("reshape", *sizes, shape=out.shape)


@form("flatten", "unflatten", "view_as", "reshape_as")
def reshaped(out: Expr, x: Expr, *_: Expr) -> Expr:
    return x.method("reshape", *(out.shape or [raw("()")]), shape=out.shape)


@form("expand", "expand_as", "broadcast_to")
def expand(out: Expr, x: Expr, *_: Expr) -> Expr:
    return call("np.broadcast_to", x, pair(out.shape), shape=out.shape)


@form("T", "mT", "H", "mH", "t", "adjoint")
def transpose_last(out: Expr, x: Expr) -> Expr:
    return transposed(x) if len(x.shape) > 1 else x


@form("transpose")
def transpose(out: Expr, x: Expr, dim0: int, dim1: int) -> Expr:
    return transposed(x) if len(x.shape) == 2 else x.method("swapaxes", dim0, dim1, shape=out.shape)


@form("permute")
def permute(out: Expr, x: Expr, *order: Any, dims: Any = None) -> Expr:
    chosen = dims or order
    chosen = chosen[0] if isinstance(chosen[0], tuple | list) else chosen
    return x.method("transpose", *chosen, shape=out.shape)


@form("movedim", "moveaxis")
def movedim(out: Expr, x: Expr, source: Any, destination: Any) -> Expr:
    return call("np.moveaxis", x, source, destination, shape=out.shape)


@form("squeeze")
def squeeze(out: Expr, x: Expr, dim: Any = None) -> Expr:
    if isinstance(dim, int) and x.shape and x.shape[dim] != 1:
        return x
    return x.method("squeeze", *([] if dim is None else [dim]), shape=out.shape)


@form("unsqueeze")
def unsqueeze(out: Expr, x: Expr, dim: int) -> Expr:
    return call("np.expand_dims", x, dim, shape=out.shape)


@form("flip")
def flip(out: Expr, x: Expr, *order: Any, dims: Any = None) -> Expr:
    chosen = dims if dims is not None else order[0] if len(order) == 1 else order
    return call("np.flip", x, tuple(chosen) if isinstance(chosen, list) else chosen, shape=out.shape)


@form("fliplr", "flipud")
def flipped(out: Expr, x: Expr) -> Expr:
    return call(f"np.{operation(out)}", x, shape=out.shape)


@form("roll")
def roll(out: Expr, x: Expr, shifts: Any, dims: Any = None) -> Expr:
    return call("np.roll", x, shifts, shape=out.shape, **({} if dims is None else {"axis": dims}))


@form("repeat", "tile")
def tile(out: Expr, x: Expr, *sizes: Any, dims: Any = None) -> Expr:
    sizes = dims or sizes
    counts = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes
    return call("np.tile", x, tuple(counts), shape=out.shape)


@form("repeat_interleave")
def repeat(out: Expr, x: Expr, repeats: Expr | None = None, dim: int | None = None, output_size: Any = None) -> Expr:
    if repeats is None:
        places = call("np.arange", Expr("attribute", (x,), (), "size"), shape=x.shape)
        return call("np.repeat", places, x, shape=out.shape)
    return call("np.repeat", x, repeats, shape=out.shape, **({} if dim is None else {"axis": dim}))


@form("rot90")
def rot90(out: Expr, x: Expr, k: int = 1, dims: Any = (0, 1)) -> Expr:
    return call("np.rot90", x, k, tuple(dims), shape=out.shape)


@form("numel")
def numel(out: Expr, x: Expr) -> Expr:
    return Expr("attribute", (x,), (), "size")


@form("dtype", "eps", "shape", "ndim")
def attribute(out: Expr, x: Expr) -> Expr:
    return Expr("attribute", (x,), (), operation(out))


@form("tril", "triu")
def triangle(out: Expr, x: Expr, diagonal: int = 0) -> Expr:
    return call(f"np.{operation(out)}", x, *([diagonal] if diagonal else []), shape=out.shape)


@form("diag")
def diag(out: Expr, x: Expr, diagonal: int = 0) -> Expr:
    return call("np.diag", x, *([diagonal] if diagonal else []), shape=out.shape)


@form("diagonal")
def diagonal(out: Expr, x: Expr, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Expr:
    plain = (dim1, dim2) == (0, 1)
    return call("np.diagonal", x, *([offset, dim1, dim2] if not plain else [offset] * bool(offset)), shape=out.shape)


@form("pad")
def pad(out: Expr, x: Expr, pad: Any, mode: str = "constant", value: Any = None) -> Expr:
    pairs = [tuple(pad[i : i + 2]) for i in range(0, len(pad), 2)][::-1]
    around = [(0, 0)] * (len(x.shape) - len(pairs)) + pairs
    if any(width < 0 for pair in around for width in pair):
        x = index(x, index_key([slice(-min(a, 0) or None, min(b, 0) or None) for a, b in around]), ())
        around = [(max(a, 0), max(b, 0)) for a, b in around]
    given: dict[str, Any] = {"constant_values": value} if value else {}
    if mode != "constant":
        given = {"mode": {"circular": "wrap", "replicate": "edge"}.get(mode, mode)}
    return call("np.pad", x, around, shape=out.shape, **given) if any(map(any, around)) else x
