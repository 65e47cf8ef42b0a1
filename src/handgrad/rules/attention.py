"""Scaled dot-product attention, which PyTorch computes in one call."""

from __future__ import annotations

import torch
from torch import Tensor

from handgrad.expr import Expr, call, let, matmul, number, total, written
from handgrad.rules.makers import boolean
from handgrad.rules.table import Terms, rule, sample, to

MINUS_INFINITY = number(float("-inf"), "float('-inf')")
Q, K, V = (2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)


def some_visible(generator: torch.Generator) -> Tensor:
    """Return a mask in which each row sees something."""
    mask = boolean(4, 6)(generator)
    mask[:, 0] = True
    return mask


@rule(
    "scaled_dot_product_attention",
    samples=[
        sample("F.scaled_dot_product_attention(q, k, v)", q=Q, k=K, v=V),
        sample("F.scaled_dot_product_attention(q, k, v)", q=(4, 5), k=(6, 5), v=(6, 5)),
        sample("F.scaled_dot_product_attention(q, k, v, is_causal=True)", q=Q, k=(2, 3, 4, 5), v=(2, 3, 4, 5)),
        sample("F.scaled_dot_product_attention(q, k, v, is_causal=True)", q=Q, k=K, v=V),
        sample("F.scaled_dot_product_attention(q, k, v, scale=0.3)", q=(3, 4, 5), k=(3, 6, 5), v=(3, 6, 7)),
        sample("F.scaled_dot_product_attention(q, k, v, attn_mask=m)", q=Q, k=K, v=V, m=some_visible),
        sample("F.scaled_dot_product_attention(q, k, v)", q=Q, k=(1, 3, 6, 5), v=(1, 3, 6, 7)),
        sample("F.scaled_dot_product_attention(q, k, v, m)", q=Q, k=K, v=V, m=(4, 6)),
        sample("F.scaled_dot_product_attention(q, k, v, m, scale=2.0).sum()", q=Q, k=K, v=V, m=(3, 1, 6)),
    ],
)
def scaled_dot_product_attention(
    g: Expr, y: Expr, q: Expr, k: Expr, v: Expr, attn_mask: Expr | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: Expr | None = None, enable_gqa: bool = False,
) -> Terms:  # fmt: skip
    if dropout_p:
        raise NotImplementedError("attention with dropout: nothing tells what was dropped; write the attention out")
    if enable_gqa:
        raise NotImplementedError("attention with enable_gqa: repeat the heads of the keys and values yourself")
    size = q.shape[-1]
    factor = scale if scale is not None else number(size**-0.5, f"{written(size)}**-0.5")
    scores = q @ k.T * factor
    hidden = None
    if is_causal:
        ones = q.method("new_ones", *scores.shape[-2:], shape=scores.shape[-2:])
        hidden = let("hidden", ones.method("tril").equals(0))
    elif attn_mask is not None and attn_mask.data.is_floating:
        scores = scores + attn_mask
    elif attn_mask is not None:
        if not bool(attn_mask.data.value.any(-1).all()):
            raise NotImplementedError("attention in which a row may look at nothing: let it look at something")
        hidden = ~attn_mask
    scores = let("scores", scores)
    if hidden is not None:
        scores = scores.method("masked_fill", hidden, MINUS_INFINITY)
    g = let("dout", g)
    probs = let("probs", call("F.softmax", scores, -1, shape=scores.shape))
    yield to(v, probs.T @ g, "the output is probs @ v")
    dprobs = let("dprobs", g @ v.T)
    dscores = let("dscores", probs * (dprobs - total(probs * dprobs, (-1,), keepdim=True)))
    if attn_mask is not None:
        yield to(attn_mask, dscores, "the mask is added to the scores")
    yield to(q, dscores @ k * factor, "the scores are q @ k.T, scaled; then softmax")
    yield to(k, matmul(dscores.T, q) * factor, "the scores are q @ k.T, scaled; then softmax")
