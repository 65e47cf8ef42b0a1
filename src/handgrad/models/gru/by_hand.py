"""The forward over time, and the gradient of every value by hand, backwards through time.

Shapes: n rows in the minibatch, T symbols of context, V symbols in the vocabulary, E = n_embd, H = n_hidden.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from handgrad.models.gru.parameters import Parameters


class Step(NamedTuple):
    """The values of one symbol of the context, in the order in which `forward` computes them."""

    x: Tensor
    hprev: Tensor
    zpre: Tensor
    z: Tensor
    rpre: Tensor
    r: Tensor
    rh: Tensor
    cpre: Tensor
    c: Tensor
    h: Tensor


class Values(NamedTuple):
    """Every value that `forward` computes, in its order."""

    emb: Tensor
    steps: list[Step]  # T of them
    logits: Tensor
    loss: Tensor


class StepGradients(NamedTuple):
    """The gradients of one symbol of the context, in the order in which `backward` computes them."""

    dh: Tensor
    dz: Tensor
    dc: Tensor
    dhprev: Tensor
    dcpre: Tensor
    drh: Tensor
    dr: Tensor
    drpre: Tensor
    dzpre: Tensor
    dx: Tensor


class Gradients(NamedTuple):
    """The gradient of every value and parameter."""

    dlogits: Tensor
    dWy: Tensor
    dby: Tensor
    steps: list[StepGradients]  # in the order of time: T of them
    dWxz: Tensor
    dWhz: Tensor
    dbz: Tensor
    dWxr: Tensor
    dWhr: Tensor
    dbr: Tensor
    dWxc: Tensor
    dWhc: Tensor
    dbc: Tensor
    dh0: Tensor
    demb: Tensor
    dC: Tensor


def forward(parameters: Parameters, Xb: Tensor, Yb: Tensor) -> Values:
    """Return every value from the contexts ``Xb`` (n, T) and targets ``Yb`` (n,), int64, to the scalar loss.

    Values have the dtype of the parameters. The reset gate stands before the matrix, as in Cho et al. 2014
    (arXiv:1406.1078), and the update gate opens for the candidate, as in Chung et al. 2014 (arXiv:1412.3555).
    """
    C, h0, Wxz, Whz, bz, Wxr, Whr, br, Wxc, Whc, bc, Wy, by = parameters
    n, T = Xb.shape

    # embedding
    emb = C[Xb]  # (n, T, E)
    # the state, symbol by symbol
    h = h0.expand(n, -1)  # (n, H)
    steps = []
    for t in range(T):
        x = emb[:, t]  # (n, E)
        hprev = h  # (n, H)
        # update gate: how much of the state is replaced
        zpre = x @ Wxz + hprev @ Whz + bz  # (n, H)
        z = torch.sigmoid(zpre)  # (n, H)
        # reset gate: how much of the state the candidate sees
        rpre = x @ Wxr + hprev @ Whr + br  # (n, H)
        r = torch.sigmoid(rpre)  # (n, H)
        # candidate
        rh = r * hprev  # (n, H)
        cpre = x @ Wxc + rh @ Whc + bc  # (n, H)
        c = torch.tanh(cpre)  # (n, H)
        # the state after this symbol
        h = (1.0 - z) * hprev + z * c  # (n, H)
        steps.append(Step(x, hprev, zpre, z, rpre, r, rh, cpre, c, h))
    # output layer, and cross-entropy in one line
    logits = h @ Wy + by  # (n, V)
    loss = F.cross_entropy(logits, Yb)  # ()

    return Values(emb, steps, logits, loss)


def backward(parameters: Parameters, values: Values, Xb: Tensor, Yb: Tensor) -> Gradients:
    """Return the gradient of every value and parameter, each with the shape of its value.

    One matrix serves all T symbols, so its gradient is a sum over time: it starts at zero, and every step adds to it.
    The state is read by the next step alone, so its gradient is carried from step to step: ``dhprev`` of one is
    ``dh`` of the step before.
    """
    C, _h0, Wxz, Whz, bz, Wxr, Whr, br, Wxc, Whc, bc, Wy, _by = parameters
    emb, steps, logits, _loss = values
    n, T = Xb.shape

    # cross-entropy
    dlogits = F.softmax(logits, 1)  # (n, V)
    dlogits[range(n), Yb] -= 1.0  # (n, V)
    dlogits /= n  # (n, V)
    # output layer
    dh = dlogits @ Wy.T  # (n, H)
    dWy = steps[-1].h.T @ dlogits  # (H, V)
    dby = dlogits.sum(0)  # (V,)
    # the state, symbol by symbol, from the last to the first
    demb = torch.zeros_like(emb)  # (n, T, E)
    dWxz, dWhz, dbz = torch.zeros_like(Wxz), torch.zeros_like(Whz), torch.zeros_like(bz)  # (E, H), (H, H), (H,)
    dWxr, dWhr, dbr = torch.zeros_like(Wxr), torch.zeros_like(Whr), torch.zeros_like(br)  # (E, H), (H, H), (H,)
    dWxc, dWhc, dbc = torch.zeros_like(Wxc), torch.zeros_like(Whc), torch.zeros_like(bc)  # (E, H), (H, H), (H,)
    step_gradients = []
    for t in reversed(range(T)):
        x, hprev, _zpre, z, _rpre, r, rh, _cpre, c, _h = steps[t]
        # the state after this symbol
        dz = (c - hprev) * dh  # (n, H)
        dc = z * dh  # (n, H)
        dhprev = (1.0 - z) * dh  # (n, H) the branch through h
        # candidate
        dcpre = (1.0 - c**2) * dc  # (n, H)
        dWxc += x.T @ dcpre  # (E, H)
        dWhc += rh.T @ dcpre  # (H, H)
        dbc += dcpre.sum(0)  # (H,)
        drh = dcpre @ Whc.T  # (n, H)
        dr = hprev * drh  # (n, H)
        dhprev += r * drh  # (n, H) the branch through rh
        # reset gate
        drpre = r * (1.0 - r) * dr  # (n, H)
        dWxr += x.T @ drpre  # (E, H)
        dWhr += hprev.T @ drpre  # (H, H)
        dbr += drpre.sum(0)  # (H,)
        dhprev += drpre @ Whr.T  # (n, H) the branch through rpre
        # update gate
        dzpre = z * (1.0 - z) * dz  # (n, H)
        dWxz += x.T @ dzpre  # (E, H)
        dWhz += hprev.T @ dzpre  # (H, H)
        dbz += dzpre.sum(0)  # (H,)
        dhprev += dzpre @ Whz.T  # (n, H) the branch through zpre
        # the symbol: read by both gates and the candidate
        dx = dcpre @ Wxc.T  # (n, E) the branch through cpre
        dx += drpre @ Wxr.T  # (n, E) the branch through rpre
        dx += dzpre @ Wxz.T  # (n, E) the branch through zpre
        demb[:, t] = dx  # (n, E)
        step_gradients.append(StepGradients(dh, dz, dc, dhprev, dcpre, drh, dr, drpre, dzpre, dx))
        # the state before this symbol is the state after the one before
        dh = dhprev  # (n, H)
    # the first state: every row reads the same
    dh0 = dh.sum(0, keepdim=True)  # (1, H)
    # embedding: a symbol that stands in several places gathers the gradient of each
    dC = torch.zeros_like(C).index_add_(0, Xb.flatten(), demb.flatten(0, 1))  # (V, E)

    return Gradients(
        dlogits, dWy, dby, step_gradients[::-1],
        dWxz, dWhz, dbz, dWxr, dWhr, dbr, dWxc, dWhc, dbc, dh0, demb, dC,
    )  # fmt: skip
