"""Joins, splits, parts, and what is picked by index."""

from __future__ import annotations

import math
from typing import Any

from handgrad.deriver.numpy_page.forms.table import NoFormError, form, operation
from handgrad.expr import Expr, broadcast, call, expand, index, index_key

# -- joins and splits


@form("cat")
def cat(out: Expr, tensors: Expr, dim: int = 0) -> Expr:
    return call("np.concatenate", tensors, shape=out.shape, **({"axis": dim} if dim else {}))


@form("stack")
def stack(out: Expr, tensors: Expr, dim: int = 0) -> Expr:
    return call("np.stack", tensors, shape=out.shape, **({"axis": dim} if dim else {}))


@form("chunk", "tensor_split")
def chunk(out: Expr, x: Expr, chunks: Any, dim: int = 0) -> Expr:
    size = x.shape[dim]
    if isinstance(chunks, int) and operation(out) == "chunk":
        return split(out, x, math.ceil(size / chunks), dim)
    return call("np.array_split", x, chunks, shape=(), axis=dim)


@form("split", "split_with_sizes")
def split(out: Expr, x: Expr, split_size: Any, dim: int = 0) -> Expr:
    size = int(x.shape[dim])
    if isinstance(split_size, int) and size % split_size == 0:
        return call("np.split", x, size // split_size, shape=(), axis=dim)
    if isinstance(split_size, int):
        return call("np.split", x, list(range(split_size, size, split_size)), shape=(), axis=dim)
    ends = [sum(split_size[: i + 1]) for i in range(len(split_size) - 1)]
    return call("np.split", x, ends, shape=(), axis=dim)


@form("broadcast_tensors", "meshgrid")
def grids(out: Expr, *tensors: Expr, indexing: str = "ij") -> Expr:
    items = tensors[0].args if tensors[0].op == "list" else tensors
    if operation(out) == "broadcast_tensors":
        return call("np.broadcast_arrays", *items, shape=())
    return call("np.meshgrid", *items, shape=(), indexing=indexing)


@form("unfold")
def unfold(out: Expr, x: Expr, dimension: int, size: int, step: int) -> Expr:
    return call("windows", x, dimension % len(x.shape), size, step, shape=out.shape)


@form("unbind")
def unbind(out: Expr, x: Expr, dim: int = 0) -> Expr:
    return call("np.moveaxis", x, dim, 0, shape=()) if dim else x


@form("select")
def select(out: Expr, x: Expr, dim: int, index: Any) -> Expr:
    return Expr("index", (x, index_key([*[slice(None)] * (dim % len(x.shape)), index])), out.shape)


@form("narrow")
def narrow(out: Expr, x: Expr, dim: int, start: int, length: int) -> Expr:
    first = start % x.shape[dim] if start < 0 else start
    return index(x, index_key([*[slice(None)] * (dim % len(x.shape)), slice(first, first + length)]), out.shape)


# -- indices


@form("one_hot")
def one_hot(out: Expr, x: Expr, *_: Any) -> Expr:
    return index(call("np.eye", out.shape[-1], shape=(out.shape[-1],) * 2), index_key([x]), out.shape)


@form("gather")
def gather(out: Expr, x: Expr, dim: int, index: Expr) -> Expr:
    sizes = zip(x.shape, index.shape, strict=True)
    if all(a == b for d, (a, b) in enumerate(sizes) if d != dim % len(x.shape)):
        return call("np.take_along_axis", x, index, shape=out.shape, axis=dim)
    return call("gather", x, dim, index, shape=out.shape)


@form("take_along_dim")
def take_along_dim(out: Expr, x: Expr, indices: Expr, dim: int | None = None) -> Expr:
    return call("np.take_along_axis", x, indices, shape=out.shape, axis=dim)


@form("take")
def take(out: Expr, x: Expr, index: Expr) -> Expr:
    return call("np.take", x, index, shape=out.shape)


@form("index_select")
def index_select(out: Expr, x: Expr, dim: int, index: Expr) -> Expr:
    return call("np.take", x, index, shape=out.shape, axis=dim)


@form("embedding")
def embedding(out: Expr, places: Expr, weight: Expr, padding_idx: Any = None, *_: Any) -> Expr:
    return index(weight, index_key([places]), out.shape)


@form("where")
def where(out: Expr, condition: Expr, a: Expr | None = None, b: Expr | None = None) -> Expr:
    if a is None or b is None:
        raise NoFormError("where of one argument")
    if out.op == "method":
        condition, a = a, condition
    return call("np.where", condition, a, b, shape=out.shape)


@form("masked_fill")
def masked_fill(out: Expr, x: Expr, mask: Expr, value: Expr) -> Expr:
    return call("np.where", mask, value, x, shape=out.shape)


@form("masked_select")
def masked_select(out: Expr, x: Expr, mask: Expr) -> Expr:
    shape = broadcast(x.shape, mask.shape)
    return index(expand(x, shape), index_key([expand(mask, shape)]), out.shape)
