"""Exercise 1: the forward in atomic steps, and the gradient of every value by hand.

Shapes: n rows in the minibatch, T symbols of context, V symbols in the vocabulary, E = n_embd, H = n_hidden.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from handgrad.models.mlp.parameters import Parameters

Spelling = Literal["plain", "exact"]


class Values(NamedTuple):
    """Every value that `forward` computes, in its order."""

    emb: Tensor
    embcat: Tensor
    hprebn: Tensor
    bnmeani: Tensor
    bndiff: Tensor
    bndiff2: Tensor
    bnvar: Tensor
    bnvar_inv: Tensor
    bnraw: Tensor
    hpreact: Tensor
    h: Tensor
    logits: Tensor
    logit_maxes: Tensor
    norm_logits: Tensor
    counts: Tensor
    counts_sum: Tensor
    counts_sum_inv: Tensor
    probs: Tensor
    logprobs: Tensor
    loss: Tensor


class Gradients(NamedTuple):
    """The gradient of every value and parameter, in the order in which `backward` computes them."""

    dlogprobs: Tensor
    dprobs: Tensor
    dcounts_sum_inv: Tensor
    dcounts_sum: Tensor
    dcounts: Tensor
    dnorm_logits: Tensor
    dlogit_maxes: Tensor
    dlogits: Tensor
    dh: Tensor
    dW2: Tensor
    db2: Tensor
    dhpreact: Tensor
    dbngain: Tensor
    dbnraw: Tensor
    dbnbias: Tensor
    dbndiff: Tensor
    dbnvar_inv: Tensor
    dbnvar: Tensor
    dbndiff2: Tensor
    dhprebn: Tensor
    dbnmeani: Tensor
    dembcat: Tensor
    dW1: Tensor
    db1: Tensor
    demb: Tensor
    dC: Tensor


def forward(parameters: Parameters, Xb: Tensor, Yb: Tensor) -> Values:
    """Return every value from the contexts ``Xb`` (n, T) and targets ``Yb`` (n,), int64, to the scalar loss.

    Values have the dtype of the parameters. ``n`` must be 2 or more: the variance divides by n - 1.
    """
    C, W1, b1, W2, b2, bngain, bnbias = parameters
    n = Xb.shape[0]

    # embedding
    emb = C[Xb]  # (n, T, E)
    embcat = emb.view(n, -1)  # (n, T*E)
    # linear layer 1
    hprebn = embcat @ W1 + b1  # (n, H)
    # batch norm
    bnmeani = 1 / n * hprebn.sum(0, keepdim=True)  # (1, H)
    bndiff = hprebn - bnmeani  # (n, H)
    bndiff2 = bndiff**2  # (n, H)
    bnvar = 1 / (n - 1) * bndiff2.sum(0, keepdim=True)  # (1, H)
    bnvar_inv = (bnvar + 1e-5) ** -0.5  # (1, H)
    bnraw = bndiff * bnvar_inv  # (n, H)
    hpreact = bngain * bnraw + bnbias  # (n, H)
    # non-linearity
    h = torch.tanh(hpreact)  # (n, H)
    # linear layer 2
    logits = h @ W2 + b2  # (n, V)
    # cross-entropy
    logit_maxes = logits.max(1, keepdim=True).values  # (n, 1)
    norm_logits = logits - logit_maxes  # (n, V)
    counts = norm_logits.exp()  # (n, V)
    counts_sum = counts.sum(1, keepdim=True)  # (n, 1)
    counts_sum_inv = counts_sum**-1  # (n, 1)
    probs = counts * counts_sum_inv  # (n, V)
    logprobs = probs.log()  # (n, V)
    loss = -logprobs[range(n), Yb].mean()  # ()

    return Values(
        emb, embcat, hprebn, bnmeani, bndiff, bndiff2, bnvar, bnvar_inv, bnraw, hpreact, h, logits,
        logit_maxes, norm_logits, counts, counts_sum, counts_sum_inv, probs, logprobs, loss,
    )  # fmt: skip


def backward(
    parameters: Parameters, values: Values, Xb: Tensor, Yb: Tensor, *, spelling: Spelling = "plain"
) -> Gradients:
    """Return all 26 gradients, each with the shape of its value.

    Two lines have two spellings. ``"plain"`` is as one writes them on paper; ``"exact"`` rounds as autograd
    does, so that every gradient equals autograd's bit for bit, on one thread (on more, autograd's own ``dC`` varies
    from run to run when the minibatch is large). Both compute the same function.
    """
    C, W1, _b1, W2, _b2, bngain, _bnbias = parameters
    (
        emb, embcat, hprebn, _bnmeani, bndiff, bndiff2, bnvar, bnvar_inv, bnraw, _hpreact, h, logits,
        _logit_maxes, _norm_logits, counts, counts_sum, counts_sum_inv, probs, logprobs, _loss,
    ) = values  # fmt: skip
    n = Xb.shape[0]

    # cross-entropy
    dlogprobs = torch.zeros_like(logprobs)
    dlogprobs[range(n), Yb] = -1.0 / n  # (n, V)
    if spelling == "exact":
        dprobs = dlogprobs / probs  # (n, V) one division, rounded once
    else:
        dprobs = (1.0 / probs) * dlogprobs  # (n, V)
    dcounts_sum_inv = (counts * dprobs).sum(1, keepdim=True)  # (n, 1)
    dcounts_sum = -(counts_sum**-2) * dcounts_sum_inv  # (n, 1)
    dcounts = counts_sum_inv * dprobs  # (n, V) the branch through probs
    dcounts += torch.ones_like(counts) * dcounts_sum  # (n, V) the branch through counts_sum
    dnorm_logits = counts * dcounts  # (n, V)
    dlogits = dnorm_logits.clone()  # (n, V) the branch through norm_logits
    dlogit_maxes = (-dnorm_logits).sum(1, keepdim=True)  # (n, 1)
    dlogits += F.one_hot(logits.max(1).indices, logits.shape[1]) * dlogit_maxes  # (n, V) through logit_maxes
    # linear layer 2
    dh = dlogits @ W2.T  # (n, H)
    dW2 = h.T @ dlogits  # (H, V)
    db2 = dlogits.sum(0)  # (V,)
    # non-linearity
    if spelling == "exact":
        dhpreact = torch.addcmul(torch.ones_like(h), h, h, value=-1) * dh  # (n, H) 1 - h*h rounded once
    else:
        dhpreact = (1.0 - h**2) * dh  # (n, H)
    # batch norm
    dbngain = (bnraw * dhpreact).sum(0, keepdim=True)  # (1, H)
    dbnraw = bngain * dhpreact  # (n, H)
    dbnbias = dhpreact.sum(0, keepdim=True)  # (1, H)
    dbndiff = bnvar_inv * dbnraw  # (n, H) the branch through bnraw
    dbnvar_inv = (bndiff * dbnraw).sum(0, keepdim=True)  # (1, H)
    dbnvar = -0.5 * (bnvar + 1e-5) ** -1.5 * dbnvar_inv  # (1, H)
    dbndiff2 = 1.0 / (n - 1) * torch.ones_like(bndiff2) * dbnvar  # (n, H)
    dbndiff += 2.0 * bndiff * dbndiff2  # (n, H) the branch through bndiff2
    dhprebn = dbndiff.clone()  # (n, H) the branch through bndiff
    dbnmeani = (-dbndiff).sum(0, keepdim=True)  # (1, H)
    dhprebn += 1.0 / n * (torch.ones_like(hprebn) * dbnmeani)  # (n, H) the branch through bnmeani
    # linear layer 1
    dembcat = dhprebn @ W1.T  # (n, T*E)
    dW1 = embcat.T @ dhprebn  # (T*E, H)
    db1 = dhprebn.sum(0)  # (H,)
    # embedding: a symbol that stands in several contexts gathers the gradient of each
    demb = dembcat.view(emb.shape)  # (n, T, E)
    dC = torch.zeros_like(C).index_add_(0, Xb.flatten(), demb.flatten(0, 1))  # (V, E)

    return Gradients(
        dlogprobs, dprobs, dcounts_sum_inv, dcounts_sum, dcounts, dnorm_logits, dlogit_maxes, dlogits,
        dh, dW2, db2, dhpreact, dbngain, dbnraw, dbnbias, dbndiff, dbnvar_inv, dbnvar, dbndiff2,
        dhprebn, dbnmeani, dembcat, dW1, db1, demb, dC,
    )  # fmt: skip
