"""Picking and writing by index: slices, integers, masks, gather and scatter, embeddings."""

from __future__ import annotations

from handgrad.expr import Expr, scatter
from handgrad.rules.makers import integers
from handgrad.rules.table import Key, Terms, rule, sample, to


@rule(
    "getitem",
    samples=[
        sample("x[1] * 2", x=(3, 5)),
        sample("x[:, 1:3] * 2", x=(3, 5)),
        sample("x[i]", x=(4, 5), i=integers(7, high=4)),
        sample("x[range(3), i]", x=(3, 5), i=integers(3, high=5)),
        sample("x[i]", x=(4, 2), i=integers(2, 3, high=4)),
        sample("x[..., None] * 2", x=(3, 5)),
        sample("x[x > 0]", x=(3, 5)),
    ],
)
def getitem(g: Expr, y: Expr, x: Expr, key: Key) -> Terms:
    accumulate = may_repeat(key)
    why = "picked numbers get their gradient, the others none"
    yield to(x, scatter(g, key, x.shape, accumulate=accumulate), why + "; picked twice adds up" * accumulate)


def may_repeat(key: Key) -> bool:
    """Whether an index may pick a number more than once: whole numbers in tensors and lists can."""
    return any(item.op not in ("raw", "number") and not _is_mask(item) for item in key.args) and not any(
        item.op == "raw" and item.data.startswith("range(") for item in key.args
    )


def _is_mask(item: Expr) -> bool:
    return item.op == "value" and str(item.data.dtype) == "torch.bool"
