"""One pre-norm block with causal attention, and its gradients by hand.

Layer norm, softmax and cross-entropy are reversed in their closed forms; everything else is a line for each value.

Shapes: n rows in the minibatch, T symbols of context, V symbols in the vocabulary, E = n_embd, A heads of D = E/A
columns, H = n_hidden.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from handgrad.models.transformer.parameters import Parameters


class Values(NamedTuple):
    """Every value that `forward` computes, in its order."""

    emb: Tensor
    x: Tensor
    mean1: Tensor
    inv1: Tensor
    norm1: Tensor
    a: Tensor
    aq: Tensor
    ak: Tensor
    av: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    scores: Tensor
    future: Tensor
    masked: Tensor
    att: Tensor
    heads: Tensor
    y: Tensor
    x2: Tensor
    mean2: Tensor
    inv2: Tensor
    norm2: Tensor
    m: Tensor
    u: Tensor
    cdf: Tensor
    g: Tensor
    x3: Tensor
    last: Tensor
    mean3: Tensor
    inv3: Tensor
    norm3: Tensor
    f: Tensor
    logits: Tensor
    loss: Tensor


class Gradients(NamedTuple):
    """The gradients of values and parameters, in the order in which `backward` computes them.

    Those of the means and deviations of a layer norm are folded into the line of what it normalises.
    """

    dlogits: Tensor
    df: Tensor
    dW3: Tensor
    db3: Tensor
    dgain3: Tensor
    dbias3: Tensor
    dnorm3: Tensor
    dlast: Tensor
    dx3: Tensor
    dg: Tensor
    dW2: Tensor
    db2: Tensor
    dcdf: Tensor
    du: Tensor
    dm: Tensor
    dW1: Tensor
    db1: Tensor
    dgain2: Tensor
    dbias2: Tensor
    dnorm2: Tensor
    dx2: Tensor
    dy: Tensor
    dWo: Tensor
    dbo: Tensor
    dheads: Tensor
    datt: Tensor
    dv: Tensor
    dmasked: Tensor
    dscores: Tensor
    dq: Tensor
    dk: Tensor
    dbq: Tensor
    dbk: Tensor
    dbv: Tensor
    daq: Tensor
    dak: Tensor
    dav: Tensor
    dWq: Tensor
    dWk: Tensor
    dWv: Tensor
    da: Tensor
    dgain1: Tensor
    dbias1: Tensor
    dnorm1: Tensor
    dx: Tensor
    demb: Tensor
    dP: Tensor
    dC: Tensor


def forward(parameters: Parameters, Xb: Tensor, Yb: Tensor) -> Values:
    """Return every value from the contexts ``Xb`` (n, T) and targets ``Yb`` (n,), int64, to the scalar loss.

    Values have the dtype of the parameters. The block is that of Vaswani et al. 2017 (arXiv:1706.03762) with the layer
    norms before attention and MLP (Xiong et al. 2020, arXiv:2002.04745) and the GELU of Hendrycks and Gimpel
    (arXiv:1606.08415) in its exact form.
    """
    C, P, gain1, bias1, Wq, bq, Wk, bk, Wv, bv, Wo, bo, gain2, bias2, W1, b1, W2, b2, gain3, bias3, W3, b3 = parameters
    n, T = Xb.shape
    A, _, D = bq.shape

    # embedding: the symbol, and where it stands
    emb = C[Xb]  # (n, T, E)
    x = emb + P  # (n, T, E)
    # layer norm 1
    mean1 = x.mean(2, keepdim=True)  # (n, T, 1)
    inv1 = (((x - mean1) ** 2).mean(2, keepdim=True) + 1e-5) ** -0.5  # (n, T, 1)
    norm1 = (x - mean1) * inv1  # (n, T, E)
    a = gain1 * norm1 + bias1  # (n, T, E)
    # queries, keys and values, cut into heads
    aq = a @ Wq  # (n, T, E)
    ak = a @ Wk  # (n, T, E)
    av = a @ Wv  # (n, T, E)
    q = aq.view(n, T, A, D).transpose(1, 2) + bq  # (n, A, T, D)
    k = ak.view(n, T, A, D).transpose(1, 2) + bk  # (n, A, T, D)
    v = av.view(n, T, A, D).transpose(1, 2) + bv  # (n, A, T, D)
    # causal attention: row t looks at the symbols up to t
    scores = D**-0.5 * (q @ k.transpose(2, 3))  # (n, A, T, T)
    future = torch.ones((T, T), dtype=torch.bool, device=Xb.device).triu(1)  # (T, T)
    masked = scores.masked_fill(future, -math.inf)  # (n, A, T, T)
    att = torch.softmax(masked, 3)  # (n, A, T, T)
    heads = att @ v  # (n, A, T, D)
    # the heads side by side again, and back into the residual stream
    y = heads.transpose(1, 2).reshape(n, T, A * D)  # (n, T, E)
    x2 = x + y @ Wo + bo  # (n, T, E)
    # layer norm 2
    mean2 = x2.mean(2, keepdim=True)  # (n, T, 1)
    inv2 = (((x2 - mean2) ** 2).mean(2, keepdim=True) + 1e-5) ** -0.5  # (n, T, 1)
    norm2 = (x2 - mean2) * inv2  # (n, T, E)
    m = gain2 * norm2 + bias2  # (n, T, E)
    # MLP with GELU: u times the probability that a normal number is less than u
    u = m @ W1 + b1  # (n, T, H)
    cdf = 0.5 * (1.0 + torch.erf(u * 0.5**0.5))  # (n, T, H)
    g = u * cdf  # (n, T, H)
    x3 = x2 + g @ W2 + b2  # (n, T, E)
    # the last position, and its layer norm
    last = x3[:, -1]  # (n, E)
    mean3 = last.mean(1, keepdim=True)  # (n, 1)
    inv3 = (((last - mean3) ** 2).mean(1, keepdim=True) + 1e-5) ** -0.5  # (n, 1)
    norm3 = (last - mean3) * inv3  # (n, E)
    f = gain3 * norm3 + bias3  # (n, E)
    # output layer, and cross-entropy in one line
    logits = f @ W3 + b3  # (n, V)
    loss = F.cross_entropy(logits, Yb)  # ()

    return Values(
        emb, x, mean1, inv1, norm1, a, aq, ak, av, q, k, v, scores, future, masked, att, heads, y,
        x2, mean2, inv2, norm2, m, u, cdf, g, x3, last, mean3, inv3, norm3, f, logits, loss,
    )  # fmt: skip


def backward(parameters: Parameters, values: Values, Xb: Tensor, Yb: Tensor) -> Gradients:
    """Return the gradients of values and parameters, each with the shape of its value."""
    C, _P, gain1, _bias1, Wq, bq, Wk, _bk, Wv, _bv, Wo, _bo, gain2, _bias2, W1, _b1, W2, _b2, gain3, _bias3, W3, _b3 = (
        parameters
    )
    (
        _emb, _x, _mean1, inv1, norm1, a, _aq, _ak, _av, q, k, v, _scores, future, _masked, att, _heads, y,
        _x2, _mean2, inv2, norm2, m, u, cdf, g, x3, _last, _mean3, inv3, norm3, f, logits, _loss,
    ) = values  # fmt: skip
    n, T = Xb.shape
    A, _, D = bq.shape

    # cross-entropy
    dlogits = F.softmax(logits, 1)  # (n, V)
    dlogits[range(n), Yb] -= 1.0  # (n, V)
    dlogits /= n  # (n, V)
    # output layer
    df = dlogits @ W3.T  # (n, E)
    dW3 = f.T @ dlogits  # (E, V)
    db3 = dlogits.sum(0)  # (V,)
    # layer norm of the last position
    dgain3 = (norm3 * df).sum(0)  # (E,)
    dbias3 = df.sum(0)  # (E,)
    dnorm3 = gain3 * df  # (n, E)
    dlast = inv3 * (dnorm3 - dnorm3.mean(1, keepdim=True) - norm3 * (norm3 * dnorm3).mean(1, keepdim=True))  # (n, E)
    dx3 = torch.zeros_like(x3)
    dx3[:, -1] = dlast  # (n, T, E)
    # MLP with GELU
    dx2 = dx3.clone()  # (n, T, E) the branch past the MLP
    dg = dx3 @ W2.T  # (n, T, H)
    dW2 = g.flatten(0, 1).T @ dx3.flatten(0, 1)  # (H, E)
    db2 = dx3.sum((0, 1))  # (E,)
    dcdf = u * dg  # (n, T, H)
    du = cdf * dg  # (n, T, H) the branch through g
    du += (2.0 * math.pi) ** -0.5 * torch.exp(-0.5 * u**2) * dcdf  # (n, T, H) the branch through cdf
    dm = du @ W1.T  # (n, T, E)
    dW1 = m.flatten(0, 1).T @ du.flatten(0, 1)  # (E, H)
    db1 = du.sum((0, 1))  # (H,)
    # layer norm 2
    dgain2 = (norm2 * dm).sum((0, 1))  # (E,)
    dbias2 = dm.sum((0, 1))  # (E,)
    dnorm2 = gain2 * dm  # (n, T, E)
    dx2 += inv2 * (dnorm2 - dnorm2.mean(2, keepdim=True) - norm2 * (norm2 * dnorm2).mean(2, keepdim=True))  # (n, T, E)
    # the way out of attention
    dx = dx2.clone()  # (n, T, E) the branch past attention
    dy = dx2 @ Wo.T  # (n, T, E)
    dWo = y.flatten(0, 1).T @ dx2.flatten(0, 1)  # (E, E)
    dbo = dx2.sum((0, 1))  # (E,)
    dheads = dy.view(n, T, A, D).transpose(1, 2)  # (n, A, T, D)
    # causal attention
    datt = dheads @ v.transpose(2, 3)  # (n, A, T, T)
    dv = att.transpose(2, 3) @ dheads  # (n, A, T, D)
    dmasked = att * (datt - (att * datt).sum(3, keepdim=True))  # (n, A, T, T)
    dscores = dmasked.masked_fill(future, 0.0)  # (n, A, T, T)
    dq = D**-0.5 * (dscores @ k)  # (n, A, T, D)
    dk = D**-0.5 * (dscores.transpose(2, 3) @ q)  # (n, A, T, D)
    # queries, keys and values
    dbq = dq.sum((0, 2)).unsqueeze(1)  # (A, 1, D)
    dbk = dk.sum((0, 2)).unsqueeze(1)  # (A, 1, D)
    dbv = dv.sum((0, 2)).unsqueeze(1)  # (A, 1, D)
    daq = dq.transpose(1, 2).reshape(n, T, A * D)  # (n, T, E)
    dak = dk.transpose(1, 2).reshape(n, T, A * D)  # (n, T, E)
    dav = dv.transpose(1, 2).reshape(n, T, A * D)  # (n, T, E)
    dWq = a.flatten(0, 1).T @ daq.flatten(0, 1)  # (E, E)
    dWk = a.flatten(0, 1).T @ dak.flatten(0, 1)  # (E, E)
    dWv = a.flatten(0, 1).T @ dav.flatten(0, 1)  # (E, E)
    da = daq @ Wq.T  # (n, T, E) the branch through aq
    da += dak @ Wk.T  # (n, T, E) the branch through ak
    da += dav @ Wv.T  # (n, T, E) the branch through av
    # layer norm 1
    dgain1 = (norm1 * da).sum((0, 1))  # (E,)
    dbias1 = da.sum((0, 1))  # (E,)
    dnorm1 = gain1 * da  # (n, T, E)
    dx += inv1 * (dnorm1 - dnorm1.mean(2, keepdim=True) - norm1 * (norm1 * dnorm1).mean(2, keepdim=True))  # (n, T, E)
    # embedding: a symbol that stands in several places gathers the gradient of each
    demb = dx  # (n, T, E)
    dP = dx.sum(0)  # (T, E)
    dC = torch.zeros_like(C).index_add_(0, Xb.flatten(), demb.flatten(0, 1))  # (V, E)

    return Gradients(
        dlogits, df, dW3, db3, dgain3, dbias3, dnorm3, dlast, dx3, dg, dW2, db2, dcdf, du, dm, dW1, db1,
        dgain2, dbias2, dnorm2, dx2, dy, dWo, dbo, dheads, datt, dv, dmasked, dscores, dq, dk, dbq, dbk, dbv,
        daq, dak, dav, dWq, dWk, dWv, da, dgain1, dbias1, dnorm1, dx, demb, dP, dC,
    )  # fmt: skip
