"""Picking and adding along a dimension by tensors of indices: gather, scatter, index_add, embeddings."""

from __future__ import annotations

import torch

from handgrad.expr import Expr, call, expand, index, index_key, number, scatter, total, unsqueeze
from handgrad.rules.makers import Maker, integers
from handgrad.rules.table import Terms, rule, sample, to

ONE = number(1)
PICKED = "each picked number gets its gradient; picked twice adds up"
ADDED = "a sum passes the gradient on"
OVERWRITTEN = "what was overwritten gets no gradient"
STANDS_THERE = "it stands there now"


def zeros_like(x: Expr) -> Expr:
    """Return ``torch.zeros_like(x)``."""
    return call("torch.zeros_like", x, shape=x.shape)


def places(*shape: int, high: int) -> Maker:
    """Return indices that differ along the first dimension, for operations that overwrite."""
    return lambda g: torch.rand((high, *shape[1:]), generator=g).argsort(0)[: shape[0]]


@rule(
    "gather",
    samples=[
        sample("x.gather(1, i)", x=(3, 5), i=integers(3, 7, high=5)),
        sample("torch.gather(x, 0, i)", x=(4, 5), i=integers(7, 3, high=4)),
        sample("x.gather(-1, i).sum()", x=(2, 3, 5), i=integers(2, 3, 1, high=5)),
        sample("x.gather(dim=0, index=i) * 2", x=(5,), i=integers(0, high=5)),
        sample("-x.log_softmax(1).gather(1, i[:, None]).mean()", x=(3, 5), i=integers(3, high=5)),
    ],
)
def gather(g: Expr, y: Expr, x: Expr, dim: int, index: Expr, sparse_grad: bool = False) -> Terms:
    yield to(x, zeros_like(x).method("scatter_add", dim, index, g), PICKED)


@rule(
    "take_along_dim",
    samples=[
        sample("x.take_along_dim(i, 1)", x=(3, 5), i=integers(3, 7, high=5)),
        sample("torch.take_along_dim(x, i, dim=0)", x=(4, 5), i=integers(2, 1, high=4)),
        sample("x.take_along_dim(i)", x=(3, 5), i=integers(7, high=15)),
    ],
)
def take_along_dim(g: Expr, y: Expr, x: Expr, indices: Expr, dim: int | None = None) -> Terms:
    if dim is None:
        yield to(x, zeros_like(x).method("put", indices, g, accumulate=True), PICKED)
        return
    if any(a != b for d, (a, b) in enumerate(zip(x.shape, y.shape, strict=True)) if d != dim % len(x.shape)):
        raise NotImplementedError("take_along_dim of a tensor that is broadcast: expand it")
    if indices.shape != g.shape:
        indices = indices.method("expand", *g.shape, shape=g.shape)
    yield to(x, zeros_like(x).method("scatter_add", dim, indices, g), PICKED)


@rule("take", samples=[sample("x.take(i)", x=(3, 5), i=integers(7, high=15)),
                       sample("torch.take(x, i)", x=(3, 5), i=integers(2, 3, high=15))])  # fmt: skip
def take(g: Expr, y: Expr, x: Expr, index: Expr) -> Terms:
    yield to(x, zeros_like(x).method("put", index, g, accumulate=True), PICKED)


@rule(
    "index_select",
    samples=[
        sample("x.index_select(1, i)", x=(3, 5), i=integers(7, high=5)),
        sample("torch.index_select(x, 0, i)", x=(3, 5, 2), i=integers(4, high=3)),
        sample("x.index_select(dim=-1, index=i).sum()", x=(2, 3, 5), i=integers(2, high=5)),
    ],
)
def index_select(g: Expr, y: Expr, x: Expr, dim: int, index: Expr) -> Terms:
    yield to(x, zeros_like(x).method("index_add", dim, index, g), PICKED)


# -- writing


@rule(
    "scatter",
    samples=[
        sample("x.scatter(0, i, v) * w", x=(5, 3), i=places(2, 3, high=5), v=(2, 3), w=(5, 3)),
        sample("torch.scatter(x, 1, i, 0.5) * w", x=(3, 5), i=integers(3, 2, high=5), w=(3, 5)),
        sample("y * w", before="y = x.clone(); y.scatter_(0, i, v)", x=(5, 3), i=places(2, 3, high=5), v=(2, 3),
               w=(5, 3)),
        sample("y * w", before="y = x.clone(); y.scatter_(1, i, 0)", x=(3, 5), i=integers(3, 2, high=5), w=(3, 5)),
        sample("x.scatter(-1, i, value=2) * w", x=(2, 3, 5), i=integers(2, 3, 1, high=5), w=(2, 3, 5)),
    ],
)  # fmt: skip
def scatter_(g: Expr, y: Expr, x: Expr, dim: int, index: Expr, src: Expr | None = None, value: Expr | None = None,
             reduce: str | None = None) -> Terms:  # fmt: skip
    given = src if src is not None else value
    if reduce is not None or given is None:
        raise NotImplementedError("scatter with `reduce`: use scatter_add, or gather and multiply")
    yield to(x, g.method("scatter", dim, index, 0), OVERWRITTEN)
    if given.op != "number" and given.shape != index.shape:
        raise NotImplementedError("scatter of a part of `src`: slice it to the shape of the index")
    yield to(given, g.method("gather", dim, index, shape=index.shape), STANDS_THERE)


@rule(
    "scatter_add",
    samples=[
        sample("x.scatter_add(1, i, v) * w", x=(3, 5), i=integers(3, 7, high=5), v=(3, 7), w=(3, 5)),
        sample("torch.scatter_add(x, 0, i, v) * w", x=(4,), i=integers(9, high=4), v=(9,), w=(4,)),
        sample("y * w", before="y = x.new_zeros(4); y.scatter_add_(0, i, x)", x=(9,), i=integers(9, high=4), w=(4,)),
    ],
)
def scatter_add(g: Expr, y: Expr, x: Expr, dim: int, index: Expr, src: Expr) -> Terms:
    yield to(x, g, ADDED)
    if src.shape != index.shape:
        raise NotImplementedError("scatter_add of a part of `src`: slice it to the shape of the index")
    yield to(src, g.method("gather", dim, index, shape=index.shape), "it was added there")


@rule(
    "index_add",
    samples=[
        sample("x.index_add(0, i, v) * w", x=(4, 5), i=integers(7, high=4), v=(7, 5), w=(4, 5)),
        sample("torch.index_add(x, 1, i, v, alpha=-2) * w", x=(3, 5), i=integers(2, high=5), v=(3, 2), w=(3, 5)),
        sample("y * w", before="y = x.clone(); y.index_add_(0, i, v)", x=(4, 5), i=integers(7, high=4), v=(7, 5),
               w=(4, 5)),
    ],
)  # fmt: skip
def index_add(g: Expr, y: Expr, x: Expr, dim: int, index: Expr, source: Expr, alpha: Expr = ONE) -> Terms:
    yield to(x, g, ADDED)
    yield to(source, alpha * g.method("index_select", dim, index, shape=source.shape), "it was added there")


@rule(
    "index_copy",
    samples=[
        sample("x.index_copy(0, i, v) * w", x=(4, 5), i=places(3, high=4), v=(3, 5), w=(4, 5)),
        sample("y * w", before="y = x.clone(); y.index_copy_(-1, i, v)", x=(3, 5), i=places(2, high=5), v=(3, 2),
               w=(3, 5)),
    ],
)  # fmt: skip
def index_copy(g: Expr, y: Expr, x: Expr, dim: int, index: Expr, source: Expr) -> Terms:
    yield to(x, g.method("index_fill", dim, index, 0), OVERWRITTEN)
    yield to(source, g.method("index_select", dim, index, shape=source.shape), STANDS_THERE)


@rule(
    "index_fill",
    samples=[
        sample("x.index_fill(0, i, 1.5) * w", x=(4, 5), i=integers(3, high=4), w=(4, 5)),
        sample("torch.index_fill(x, 1, i, v) * w", x=(3, 5), i=places(2, high=5), v=(), w=(3, 5)),
        sample("y * w", before="y = x.clone(); y.index_fill_(1, i, 0)", x=(3, 5), i=integers(2, high=5), w=(3, 5)),
    ],
)
def index_fill(g: Expr, y: Expr, x: Expr, dim: int, index: Expr, value: Expr) -> Terms:
    yield to(x, g.method("index_fill", dim, index, 0), OVERWRITTEN)
    if value.op != "number":
        picked = (*x.shape[: dim % len(x.shape)], *index.shape, *x.shape[dim % len(x.shape) + 1 :])
        yield to(value, total(g.method("index_select", dim, index, shape=picked)), STANDS_THERE)


# -- embeddings


@rule(
    "embedding",
    samples=[
        sample("F.embedding(i, C)", C=(5, 2), i=integers(7, high=5)),
        sample("F.embedding(i, C).view(4, -1) * 2", C=(5, 2), i=integers(4, 3, high=5)),
        sample("F.embedding(i, C, padding_idx=1)", kink=True, C=(4, 3), i=integers(2, 5, high=4)),
        sample("F.embedding(i, C, padding_idx=-1).sum()", kink=True, C=(4, 3), i=integers(9, high=4)),
        sample("F.embedding(i, C) * 2", C=(4, 3), i=integers(high=4)),
    ],
)
def embedding(g: Expr, y: Expr, input: Expr, weight: Expr, padding_idx: int | None = None,
              max_norm: float | None = None, norm_type: float = 2.0, scale_grad_by_freq: bool = False,
              sparse: bool = False) -> Terms:  # fmt: skip
    if max_norm is not None or scale_grad_by_freq:
        raise NotImplementedError("F.embedding with max_norm or scale_grad_by_freq: they change more than they say")
    why = "each row that was looked up gets its gradient; looked up twice adds up"
    if padding_idx is not None:
        padding = unsqueeze(input.equals(padding_idx % weight.shape[0]), len(input.shape))
        g = g.method("masked_fill", padding, 0)
        why += "; the row of the padding gets none"
    yield to(weight, scatter(g, index_key([input]), weight.shape, accumulate=True), why)


@rule(
    "embedding_bag",
    samples=[
        sample("F.embedding_bag(i, C)", C=(5, 2), i=integers(4, 3, high=5)),
        sample("F.embedding_bag(i, C, mode='sum') * 2", C=(5, 2), i=integers(4, 3, high=5)),
        sample("F.embedding_bag(i, C, per_sample_weights=w, mode='sum')", C=(5, 2), w=(4, 3), i=integers(4, 3, high=5)),
    ],
)
def embedding_bag(g: Expr, y: Expr, input: Expr, weight: Expr, offsets: Expr | None = None,
                  max_norm: float | None = None, norm_type: float = 2.0, scale_grad_by_freq: bool = False,
                  mode: str = "mean", sparse: bool = False, per_sample_weights: Expr | None = None,
                  include_last_offset: bool = False, padding_idx: int | None = None) -> Terms:  # fmt: skip
    if mode not in ("mean", "sum") or len(input.shape) != 2 or padding_idx is not None or max_norm is not None:
        raise NotImplementedError("F.embedding_bag in this form: write weight[input].sum(1), with offsets a loop")
    count, shape = input.shape[1], (*input.shape, weight.shape[1])
    rows = unsqueeze(g, 1)
    if per_sample_weights is not None:
        spread = unsqueeze(per_sample_weights, 2) * rows
        picked = index(weight, index_key([input]), shape)
        yield to(per_sample_weights, total(picked * rows, (2,)), "each row has its weight: a product")
    else:
        spread = expand(rows / number(count) if mode == "mean" else rows, shape)
    yield to(weight, scatter(spread, index_key([input]), weight.shape, accumulate=True),
             "every row of a bag gets the gradient of the bag" + ", its part" * (mode == "mean"))  # fmt: skip
