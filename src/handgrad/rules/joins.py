"""Tensors joined into one, and one cut into several: cat, stack, split, unbind, meshgrid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handgrad.expr import Expr, Shape, Size, call, index, index_key, listed, reshape, scatter, total, written
from handgrad.rules.table import Exprs, Terms, rule, sample, to

Gradients = list[Expr | None]
JOINED = "what was joined is cut apart again"
PICKED = "its numbers get their gradient, the others none"


def at(dim: int, item: Any, dims: int) -> Expr:
    """Return the key of ``item``, a number or a slice, along ``dim`` of a tensor that has ``dims``: ``:, item``."""
    dim %= dims
    if dim == dims - 1 and dims > 2:
        return index_key([Ellipsis, item])
    return index_key([*[slice(None)] * dim, item])


def offset(sizes: Sequence[int]) -> Size:
    """Return the sum of ``sizes``, with the text of it: ``2 * H``."""
    texts = [written(size) for size in sizes if size]
    if len(sizes) == 1 or not texts:
        return Size(sum(sizes), texts[0] if texts else None)
    if len(set(texts)) == 1 and texts[0].isidentifier():
        return Size(sum(sizes), f"{len(texts)} * {texts[0]}")
    if len(texts) > 2 or any(text.isdigit() for text in texts):
        return Size(sum(sizes))
    return Size(sum(sizes), " + ".join(texts))


def stretch(before: Sequence[int], size: int, whole: int) -> slice:
    """Return the slice of what stands behind parts of the sizes ``before``."""
    start = offset(before) if sum(before) else None
    return slice(start, None if sum(before) + size == whole else offset([*before, size]))


def _parts(g: Expr, tensors: Exprs, dim: int) -> Terms:
    dims = len(g.shape)
    dim %= dims
    before: list[int] = []
    for x in tensors:
        if len(x.shape) == dims:
            part = index(g, at(dim, stretch(before, x.shape[dim], g.shape[dim]), dims), x.shape)
            yield to(x, g if len(tensors) == 1 else part, JOINED)
            before.append(x.shape[dim])


@rule(
    "cat",
    samples=[
        sample("torch.cat([a, b], 1) * w", a=(3, 2), b=(3, 5), w=(3, 7)),
        sample("torch.cat((a, b, a)) * w", a=(3, 2), b=(4, 2), w=(10, 2)),
        sample("torch.cat([a, b], dim=-1) * w", a=(2, 3, 5), b=(2, 3, 4), w=(2, 3, 9)),
        sample("torch.concat([a, b], dim=-2) * w", a=(2, 3, 5), b=(2, 4, 5), w=(2, 7, 5)),
        sample("torch.cat([a]) * 2", a=(3,)),
        sample("torch.cat([a, b, c]) * w", a=(3,), b=(0,), c=(2,), w=(5,)),
        sample("torch.cat([a[:, :2], 2 * a], 1)", a=(3, 5)),
    ],
)
def cat(g: Expr, y: Expr, tensors: Exprs, dim: int = 0) -> Terms:
    yield from _parts(g, tensors, dim)


@rule(
    "stack",
    samples=[
        sample("torch.stack([a, b]) * w", a=(3, 5), b=(3, 5), w=(2, 3, 5)),
        sample("torch.stack((a, b, a), 1) * w", a=(3, 5), b=(3, 5), w=(3, 3, 5)),
        sample("torch.stack([a, b], dim=-1) * w", a=(3, 5), b=(3, 5), w=(3, 5, 2)),
        sample("torch.stack([a, b]) * w", a=(), b=(), w=(2,)),
    ],
)
def stack(g: Expr, y: Expr, tensors: Exprs, dim: int = 0) -> Terms:
    for i, x in enumerate(tensors):
        yield to(x, index(g, at(dim, i, len(g.shape)), x.shape), "each gets the gradient of its layer")


def _stacked(g: Expr, tensors: Exprs, dim: int, shapes: list[Shape]) -> Terms:
    before: list[int] = []
    for x, shape in zip(tensors, shapes, strict=True):
        part = index(g, at(dim, stretch(before, shape[dim], g.shape[dim]), len(g.shape)), shape)
        yield to(x, reshape(part, x.shape), JOINED)
        before.append(shape[dim])


@rule("hstack", samples=[sample("torch.hstack([a, b]) * w", a=(3,), b=(5,), w=(8,)),
                         sample("torch.hstack((a, b)) * w", a=(3, 2), b=(3, 5), w=(3, 7)),
                         sample("torch.hstack([a, b]) * w", a=(), b=(2,), w=(3,))])  # fmt: skip
def hstack(g: Expr, y: Expr, tensors: Exprs) -> Terms:
    yield from _stacked(g, tensors, min(len(g.shape) - 1, 1), [x.shape or (1,) for x in tensors])


@rule("vstack", "row_stack", samples=[sample("torch.vstack([a, b]) * w", a=(5,), b=(5,), w=(2, 5)),
                                      sample("torch.vstack([a, b]) * w", a=(3, 5), b=(5,), w=(4, 5))])  # fmt: skip
def vstack(g: Expr, y: Expr, tensors: Exprs) -> Terms:
    yield from _stacked(g, tensors, 0, [(*[1] * (2 - len(x.shape)), *x.shape) for x in tensors])


@rule("dstack", samples=[sample("torch.dstack([a, b]) * w", a=(3, 5), b=(3, 5), w=(3, 5, 2)),
                         sample("torch.dstack([a, b]) * w", a=(5,), b=(5,), w=(1, 5, 2))])  # fmt: skip
def dstack(g: Expr, y: Expr, tensors: Exprs) -> Terms:
    rows = [(*[1] * (2 - len(x.shape)), *x.shape) for x in tensors]
    yield from _stacked(g, tensors, 2, [(*shape, 1) if len(shape) == 2 else shape for shape in rows])


@rule("column_stack", samples=[sample("torch.column_stack([a, b]) * w", a=(3,), b=(3, 4), w=(3, 5)),
                               sample("torch.column_stack((a, b)) * w", a=(3,), b=(3,), w=(3, 2))])  # fmt: skip
def column_stack(g: Expr, y: Expr, tensors: Exprs) -> Terms:
    yield from _stacked(g, tensors, 1, [x.shape if len(x.shape) > 1 else (*(x.shape or (1,)), 1) for x in tensors])


# -- cut into several


@rule(
    "split",
    "split_with_sizes",
    "chunk",
    "tensor_split",
    many=True,
    samples=[
        sample("x.split(2, 1)", x=(3, 5)),
        sample("x.split([1, 4], dim=-1)[1] * 2", x=(3, 5)),
        sample("torch.cat(x.split(2)[::-1])", x=(5, 3)),
        sample("torch.split(x, [2, 0, 3])", x=(5, 3)),
        sample("x.chunk(3, dim=1)", x=(2, 7, 3)),
        sample("x.chunk(2)[0] * x.chunk(2)[1]", x=(6, 3)),
        sample("torch.tensor_split(x, 3)", x=(7,)),
        sample("x.tensor_split((1, 3), dim=1)[1] * 2", x=(2, 5)),
    ],
)
def split(g: Gradients, y: Exprs, x: Expr, sizes: object = None, dim: int = 0, **_: object) -> Terms:
    dim %= len(x.shape)
    given = [one for one in g if one is not None]
    if len(given) == len(y):
        joined = call("torch.cat", listed(given), dim, shape=x.shape) if len(y) > 1 else given[0]
        yield to(x, joined, "what was cut apart is joined again")
        return
    before: list[int] = []
    for share, part in zip(g, y, strict=True):
        if share is not None:
            key = at(dim, stretch(before, part.shape[dim], x.shape[dim]), len(x.shape))
            yield to(x, scatter(share, key, x.shape, accumulate=False), PICKED)
        before.append(part.shape[dim])


@rule(
    "unbind",
    many=True,
    samples=[
        sample("x.unbind()", x=(3, 5)),
        sample("torch.unbind(x, dim=-1)", x=(2, 3, 4)),
        sample("x.unbind(1)[2] * x.unbind(1)[0]", x=(3, 5)),
        sample("x.unbind(0)[1] * 2", x=(2,)),
    ],
)
def unbind(g: Gradients, y: Exprs, x: Expr, dim: int = 0) -> Terms:
    given = [one for one in g if one is not None]
    if len(given) == len(y):
        yield to(x, call("torch.stack", listed(given), dim, shape=x.shape), "what was cut apart is stacked again")
        return
    for i, share in enumerate(g):
        if share is not None:
            yield to(x, scatter(share, at(dim, i, len(x.shape)), x.shape, accumulate=False), PICKED)


@rule(
    "broadcast_tensors",
    many=True,
    samples=[
        sample("torch.broadcast_tensors(a, b)", a=(3, 1), b=(5,)),
        sample("torch.broadcast_tensors(a, b)[0] * w", a=(3, 1), b=(5,), w=(3, 5)),
    ],
)
def broadcast_tensors(g: Gradients, y: Exprs, *tensors: Any) -> Terms:
    for x, share in zip(_items(tensors), g, strict=True):
        if share is not None:
            yield to(x, share, "what was repeated adds up")


@rule(
    "meshgrid",
    many=True,
    samples=[
        sample("torch.meshgrid(a, b, indexing='ij')", a=(3,), b=(5,)),
        sample("torch.meshgrid([a, b, c], indexing='xy')", a=(3,), b=(5,), c=(2,)),
        sample("torch.meshgrid(a, b, indexing='xy')[1] * w", a=(3,), b=(5,), w=(5, 3)),
    ],
)
def meshgrid(g: Gradients, y: Exprs, *tensors: Any, indexing: str = "ij") -> Terms:
    for i, (x, share) in enumerate(zip(_items(tensors), g, strict=True)):
        if share is not None:
            along = 1 - i if indexing == "xy" and i < 2 else i
            others = [d for d in range(len(share.shape)) if d != along]
            yield to(x, reshape(total(share, others) if others else share, x.shape), "repeated along the other dims")


def _items(tensors: tuple[Any, ...]) -> Exprs:
    return list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], list | tuple) else list(tensors)
