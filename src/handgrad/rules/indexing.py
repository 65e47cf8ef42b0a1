"""Picking and writing by index: slices, numbers, masks, tensors of indices."""

from __future__ import annotations

import torch

from handgrad.expr import Expr, hole, index, index_key, let, overwritten, reshape, scatter
from handgrad.rules.makers import boolean, integers
from handgrad.rules.table import Exprs, Key, Terms, rule, sample, to

OVERWRITTEN = "what was overwritten gets no gradient"
STANDS_THERE = "it stands there now"


@rule(
    "getitem",
    samples=[
        sample("x[1] * 2", x=(3, 5)),
        sample("x[-1, ..., 2] * 2", x=(3, 4, 5)),
        sample("x[:, 1:3] * 2", x=(3, 5)),
        sample("x[1::2, :-1] * 2", x=(5, 4)),
        sample("x[2:2] * 2", x=(5, 4)),
        sample("x[i]", x=(4, 5), i=integers(7, high=4)),
        sample("x[range(3), i]", x=(3, 5), i=integers(3, high=5)),
        sample("x[torch.arange(3), i]", x=(3, 5), i=integers(3, high=5)),
        sample("x[i]", x=(4, 2), i=integers(2, 3, high=4)),
        sample("x[i[:, None], j]", x=(4, 5), i=integers(3, high=4), j=integers(7, high=5)),
        sample("x[:, i]", x=(4, 5, 2), i=integers(3, high=5)),
        sample("x[i, :, j]", x=(4, 5, 3), i=integers(6, high=4), j=integers(6, high=3)),
        sample("x[..., i]", x=(4, 5, 3), i=integers(2, 2, high=3)),
        sample("x[[0, 2, 0]]", x=(3, 5)),
        sample("x[[0, 2], 1:]", x=(3, 5)),
        sample("x[i, 1]", x=(4, 5), i=integers(7, high=4)),
        sample("x[..., None] * 2", x=(3, 5)),
        sample("x[None, :, None, 2] * 2", x=(3, 5)),
        sample("x[...] * 2", x=(3, 5)),
        sample("x[None] * x[()]", x=()),
        sample("x[x > 0]", x=(3, 5)),
        sample("x[m]", x=(3, 5), m=boolean(3, 5)),
        sample("x[m]", x=(3, 4, 5), m=boolean(3, 4)),
        sample("x[m, 1]", x=(3, 5), m=boolean(3)),
        sample("x[:, m]", x=(3, 5), m=boolean(5)),
        sample("x[m, i]", x=(3, 5), m=lambda _: torch.tensor([True, False, True]), i=integers(2, high=5)),
        sample("x[[True, False, True]]", x=(3, 5)),
        sample("x[i] * 2", x=(3, 5), i=integers(high=3)),
        sample("x[i, j] * 2", x=(3, 5), i=integers(high=3), j=integers(high=5)),
        sample("x[i[0]] * 2", x=(3, 5), i=integers(2, high=3)),
        sample("x[i.tolist()]", x=(4, 5), i=integers(7, high=4)),
        sample("x[i, i]", x=(4, 4), i=integers(0, high=3)),
    ],
)
def getitem(g: Expr, y: Expr, x: Expr, key: Key) -> Terms:
    if y.shape == x.shape and _is_whole(key):
        yield to(x, g, "all of it")
        return
    accumulate = may_repeat(key)
    why = "picked numbers get their gradient, the others none"
    yield to(x, scatter(g, key, x.shape, accumulate=accumulate), why + "; picked twice adds up" * accumulate)


@rule(
    "setitem",
    samples=[
        sample("y * w", before="y = x.clone(); y[:, 0] = 1", x=(3, 5), w=(3, 5)),
        sample("y * w", before="y = x.clone(); y[1] = v", x=(3, 5), v=(5,), w=(3, 5)),
        sample("y * w", before="y = x.clone(); y[1] = v", x=(3, 5), v=(1, 5), w=(3, 5)),
        sample("y * w", before="y = x.clone(); y[:, 1:3] = v", x=(3, 5), v=(2,), w=(3, 5)),
        sample("y * w", before="y = x.clone(); y[...] = v", x=(3, 5), v=(), w=(3, 5)),
        sample("y * w", before="y = x.clone(); y[m] = 0", x=(3, 5), m=boolean(3, 5), w=(3, 5)),
        sample("y * w", before="y = x.clone(); y[m] = v", x=(3, 5), m=boolean(3), v=(5,), w=(3, 5)),
        sample("y * w", before="y = x.clone(); y[y < 0] = 0.1", kink=True, x=(3, 5), w=(3, 5)),
        sample("y * w", before="y = x.clone(); y[[0, 2]] = v", x=(3, 5), v=(2, 5), w=(3, 5)),
        sample(
            "y * w",
            before="y = x.clone(); y[i, 1] = v[0]",
            kink=True,
            x=(4, 5),
            i=integers(3, high=4),
            v=(2,),
            w=(4, 5),
        ),
        sample("y * w", before="y = x.clone(); y[0] = y[1]", x=(3, 5), w=(3, 5)),
        sample("y * w", before="y = x.clone(); y[:, 0] *= 2", x=(3, 5), w=(3, 5)),
        sample("y * w", before="y = x.clone(); y[1:] += v", x=(3, 5), v=(5,), w=(3, 5)),
        sample("y * w", before="y = x.clone(); y[m] -= v", x=(3, 5), v=(5,), m=boolean(3), w=(3, 5)),
        sample(
            "y * w", before="y = x.clone(); y[i] += v", kink=True, x=(4, 5), i=integers(7, high=4), v=(5,), w=(4, 5)
        ),
        sample("y * w", before="y = x.new_zeros(2, 3); y[0] = x; y[1] = x * x", x=(3,), w=(2, 3)),
    ],
)
def setitem(g: Expr, y: Expr, x: Expr, key: Key, value: Expr) -> Terms:
    g = let("dout", g)
    yield to(x, overwritten(g, index(hole(x.shape), key, key.shape)), OVERWRITTEN)
    picked = index(g, key, key.shape)
    if len(value.shape) > len(key.shape):
        picked = reshape(picked, (*[1] * (len(value.shape) - len(key.shape)), *key.shape))
    yield to(value, picked, STANDS_THERE)


@rule(
    "index_put",
    samples=[
        sample("x.index_put((i,), v) * w", x=(5, 4), i=integers(1, high=5), v=(4,), w=(5, 4)),
        sample("x.index_put((i, j), v, accumulate=True) * w", x=(3, 4), i=integers(7, high=3),
               j=integers(7, high=4), v=(7,), w=(3, 4)),
        sample("torch.index_put(x, (m,), v) * w", x=(3, 4), m=boolean(3, 4), v=(), w=(3, 4)),
        sample("x.index_put([i], v, True) * w", x=(3, 4), i=integers(2, 3, high=3), v=(3, 1), w=(3, 4)),
        sample("y * w", before="y = x.clone(); y.index_put_((i,), v, accumulate=True)", x=(3, 4),
               i=integers(7, high=3), v=(7, 4), w=(3, 4)),
        sample("y * w", before="y = x.clone(); y.index_put_((m,), v)", x=(3, 4), m=boolean(3), v=(4,), w=(3, 4)),
    ],
)  # fmt: skip
def index_put(g: Expr, y: Expr, x: Expr, indices: Exprs, values: Expr, accumulate: bool = False) -> Terms:
    real = tuple(item.data.value for item in indices)
    shape = tuple(torch.empty(()).expand(x.shape)[real].shape)
    shape = values.shape if values.shape == shape else shape
    key = index_key(indices, shape)
    if accumulate:
        yield to(x, g, "a sum passes the gradient on")
    else:
        yield to(x, overwritten(g, index(hole(x.shape), key, shape)), OVERWRITTEN)
    yield to(values, index(g, key, shape), "it was added there" if accumulate else STANDS_THERE)


def may_repeat(key: Key) -> bool:
    """Whether an index may pick a number more than once: whole numbers in tensors and lists can."""
    lists = [
        item for item in key.args if item.op not in ("raw", "number") and not (item.op == "value" and not item.shape)
    ]
    if all(map(_differ, lists)):
        return False
    together = all(len(item.shape) <= 1 or _is_mask(item) for item in key.args)
    return not (together and any(_differ(item) for item in key.args if item.shape))


def _is_mask(item: Expr) -> bool:
    return item.op == "value" and str(item.data.dtype) == "torch.bool"


def _differ(item: Expr) -> bool:
    """Whether an item of a key picks no place twice: a mask, ``range(n)``, ``torch.arange(n)``."""
    counted = item.op == "value" and item.data.step is not None and item.data.step.op == "arange"
    return item.op == "raw" or _is_mask(item) or counted


def _is_whole(key: Key) -> bool:
    """Whether an index picks everything as it is: ``x[...]``, ``x[:]``."""
    return all(item.op == "raw" and item.data in ("...", ":", "()") for item in key.args)


@rule(
    "masked_select",
    samples=[
        sample("x.masked_select(m)", x=(3, 5), m=boolean(3, 5)),
        sample("torch.masked_select(x, x > 0)", x=(3, 5)),
        sample("torch.masked_select(x, m)", x=(3, 5), m=boolean(5)),
    ],
)
def masked_select(g: Expr, y: Expr, x: Expr, mask: Expr) -> Terms:
    if mask.shape != x.shape:
        mask = mask.method("expand_as", x, shape=x.shape)
    yield to(x, scatter(g, index_key([mask]), x.shape, accumulate=False), "picked numbers get theirs, the others none")
