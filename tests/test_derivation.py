"""Every formula of docs/derivation.md, worked out entry by entry and compared with autograd.

A check stands under the text of its formula and computes it from the indices alone, with loops; no backward of
handgrad is called. It yields chains of equals, one for each chain in the formula: ``yield "dprobs", entries(...)``
compares what the formula says with the truth called dprobs. Upstream gradients of single lines are random, since
those of the real loss can cancel and hide a mistake.
"""

from __future__ import annotations

import inspect
import itertools
import math
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from formulas import (
    Chain,
    Check,
    Formula,
    LocalRun,
    Run,
    Zero,
    assert_equal,
    bare,
    bracket,
    entries,
    equality_signs,
    formulas_of,
    forward_lines,
    leaf,
    lines_of,
    math_blocks,
    noise,
    parts,
    verify,
    vjp,
)
from handgrad.models.mlp import atomic, batch_norm, cross_entropy
from handgrad.models.mlp.parameters import Parameters

PAGE = (Path(__file__).parents[1] / "docs" / "derivation.md").read_text(encoding="utf-8")

n, T, E, H, V = 5, 3, 2, 4, 7  # all different, so that a wrong index has a wrong size
Xb = [[1, 1, 4], [0, 3, 1], [6, 6, 6], [2, 0, 4], [5, 3, 1]]  # symbols repeat within a row and between rows
Yb = [3, 0, 3, 6, 1]


# runs: the numbers that a formula is checked with


FORWARD = forward_lines(atomic.forward, atomic.Values._fields)


@cache
def whole_pass() -> Run:
    """Return the atomic forward with autograd's gradients of its loss."""
    sizes = {"C": (V, E), "W1": (T * E, H), "b1": (H,), "W2": (H, V), "b2": (V,), "bngain": (1, H), "bnbias": (1, H)}
    parameters = Parameters(**{name: leaf(noise(*size, seed=seed)) for seed, (name, size) in enumerate(sizes.items())})
    contexts, targets = torch.tensor(Xb), torch.tensor(Yb)
    tensors = parameters._asdict() | atomic.forward(parameters, contexts, targets)._asdict()
    gradients = torch.autograd.grad(tensors["loss"], list(tensors.values()))
    return Run(
        **{name: tensor.detach() for name, tensor in tensors.items()},
        **{"d" + name: gradient for name, gradient in zip(tensors, gradients, strict=True)},
        Xb=contexts,
        Yb=targets,
    )


@cache
def single_lines() -> Run:
    """Return the same values with random gradients, except that of the loss, which is 1."""
    run = LocalRun(lines=FORWARD, n=n, torch=torch, **vars(whole_pass()))
    for seed, name in enumerate(gradient_names()):
        setattr(run, name, noise(*getattr(run, name).shape, seed=100 + seed))
    return run


def gradient_names() -> list[str]:
    return list(atomic.Gradients._fields)


def normalised_column(x: Tensor, gamma: Tensor, beta: Tensor, g: Tensor, eps: float) -> Run:
    """Return one column of batch norm in the page's short symbols: gradients, and local derivatives ``dy_dx``."""
    x, gamma, beta = leaf(x), leaf(gamma), leaf(beta)
    mu = x.mean()
    var = (x - mu).square().sum() / (x.numel() - 1)
    r = (var + eps).rsqrt()
    xhat = (x - mu) * r
    wanted = {"x": x, "mu": mu, "var": var, "xhat": xhat, "gamma": gamma, "beta": beta}
    gradients = torch.autograd.grad(gamma * xhat + beta, list(wanted.values()), g)

    # each definition alone, as a function of what it reads
    free_x, free_mu = leaf(x.detach()), leaf(mu.detach())
    alone_xhat = (free_x - free_mu) * r.detach()
    alone_var = (free_x - free_mu).square().sum() / (x.numel() - 1)
    one = torch.ones_like(mu)
    xhat_by_mu = [vjp(alone_xhat[i], free_mu, one) for i in range(x.numel())]
    return Run(
        **{name: tensor.detach() for name, tensor in wanted.items()},
        **{"d" + name: gradient for name, gradient in zip(wanted, gradients, strict=True)},
        r=r.detach(), g=g, eps=eps,
        dxhat_dx=vjp(alone_xhat, free_x, torch.ones_like(x)),
        dmu_dx=vjp(free_x.mean(), free_x, one),
        dvar_dx=vjp(alone_var, free_x, one),
        dxhat_dmu=torch.stack(xhat_by_mu),
        dvar_dmu=vjp(alone_var, free_mu, one),
    )  # fmt: skip


@cache
def one_column() -> Run:
    """Return a column with an epsilon so large that a mistake with it shows."""
    x, gamma, beta, g = noise(n, seed=1) + 2, noise(seed=2), noise(seed=3), noise(n, seed=4)
    return normalised_column(x, gamma, beta, g, eps=0.3)


# the table: formula, check and run

FORMULAS: list[Formula] = []
by_itself = formulas_of(FORMULAS, Run)
of_single_lines = formulas_of(FORMULAS, single_lines)
of_the_whole_pass = formulas_of(FORMULAS, whole_pass)
of_one_column = formulas_of(FORMULAS, one_column)


# the one rule


@by_itself(r"""
\mathrm{d}x = \sum_{y} \frac{\partial y}{\partial x}\,\mathrm{d}y
""")
def one_rule(_: Run) -> Iterator[Chain]:
    x = leaf(noise(seed=1))
    y = [x.sin(), x**2, x.exp()]
    loss = y[0] * y[1] + y[2] ** 2 - y[2] / y[0]
    dy = torch.autograd.grad(loss, y, retain_graph=True)
    dy_dx = [vjp(y[k], x, torch.ones_like(x)) for k in range(3)]
    yield vjp(loss, x, torch.ones_like(x)), entries(lambda: sum(dy_dx[k] * dy[k] for k in range(3)))


@by_itself(r"""
y_{ij} = x_i \quad\Longrightarrow\quad \mathrm{d}x_i = \sum_j \mathrm{d}y_{ij}
""")
def broadcast_forward_sum_backward(_: Run) -> Iterator[Chain]:
    x, dy = noise(n, seed=1), noise(n, V, seed=2)
    read = leaf(x)
    y = read[:, None].expand(n, V)
    yield y, entries(lambda i, _: x[i], n, V)
    yield vjp(y, read, dy), entries(lambda i: sum(dy[i, j] for j in range(V)), n)


@by_itself(r"""
y_i = \sum_j x_{ij} \quad\Longrightarrow\quad \mathrm{d}x_{ij} = \mathrm{d}y_i
""")
def sum_forward_broadcast_backward(_: Run) -> Iterator[Chain]:
    x, dy = noise(n, V, seed=1), noise(n, seed=2)
    read = leaf(x)
    y = read.sum(1)
    yield y, entries(lambda i: sum(x[i, j] for j in range(V)), n)
    yield vjp(y, read, dy), entries(lambda i, _: dy[i], n, V)


@by_itself(r"""
y_i = f(x_i), \quad z_i = g(x_i)
\quad\Longrightarrow\quad \mathrm{d}x_i = f'(x_i)\,\mathrm{d}y_i + g'(x_i)\,\mathrm{d}z_i
""")
def two_uses_two_branches(_: Run) -> Iterator[Chain]:
    x, dy, dz = noise(n, seed=1), noise(n, seed=2), noise(n, seed=3)
    read = leaf(x)
    y, z = read.sin(), read.exp()  # so f' is cos, and g' is exp
    (dx,) = torch.autograd.grad([y, z], read, [dy, dz])
    yield y, entries(lambda i: math.sin(x[i]), n)
    yield z, entries(lambda i: math.exp(x[i]), n)
    yield dx, entries(lambda i: math.cos(x[i]) * dy[i] + math.exp(x[i]) * dz[i], n)


# line by line


@of_single_lines(r"""
\begin{aligned}
\mathrm{loss} &= -\frac{1}{n} \sum_i \mathrm{logprobs}_{i,\,\mathrm{Yb}_i} \\
\mathrm{dlogprobs}_{ij} &= -\frac{1}{n}\,[\,j = \mathrm{Yb}_i\,]
\end{aligned}
""")
def dlogprobs(v: Run) -> Iterator[Chain]:
    yield "loss", entries(lambda: -1 / n * sum(v.logprobs[i, Yb[i]] for i in range(n)))
    yield "dlogprobs", entries(lambda i, j: -1 / n * bracket(j == Yb[i]), n, V)


@of_single_lines(r"""
\begin{aligned}
\mathrm{logprobs}_{ij} &= \log \mathrm{probs}_{ij} \\
\mathrm{dprobs}_{ij} &= \frac{\mathrm{dlogprobs}_{ij}}{\mathrm{probs}_{ij}}
\end{aligned}
""")
def dprobs(v: Run) -> Iterator[Chain]:
    yield "logprobs", entries(lambda i, j: math.log(v.probs[i, j]), n, V)
    yield "dprobs", entries(lambda i, j: v.dlogprobs[i, j] / v.probs[i, j], n, V)


@of_single_lines(r"""
\begin{aligned}
\mathrm{probs}_{ij} &= \mathrm{counts}_{ij}\,\mathrm{counts\_sum\_inv}_i \\
\mathrm{dcounts\_sum\_inv}_i &= \sum_j \mathrm{counts}_{ij}\,\mathrm{dprobs}_{ij}
\end{aligned}
""")
def dcounts_sum_inv(v: Run) -> Iterator[Chain]:
    yield "probs", entries(lambda i, j: v.counts[i, j] * v.counts_sum_inv[i, 0], n, V)
    yield "dcounts_sum_inv", entries(lambda i, _: sum(v.counts[i, j] * v.dprobs[i, j] for j in range(V)), n, 1)


@of_single_lines(r"""
\begin{aligned}
\mathrm{counts\_sum\_inv}_i &= \mathrm{counts\_sum}_i^{-1} \\
\mathrm{dcounts\_sum}_i &= -\mathrm{counts\_sum}_i^{-2}\,\mathrm{dcounts\_sum\_inv}_i
\end{aligned}
""")
def dcounts_sum(v: Run) -> Iterator[Chain]:
    yield "counts_sum_inv", entries(lambda i, _: v.counts_sum[i, 0] ** -1, n, 1)
    yield "dcounts_sum", entries(lambda i, _: -(v.counts_sum[i, 0] ** -2) * v.dcounts_sum_inv[i, 0], n, 1)


@of_single_lines(r"""
\begin{aligned}
\mathrm{counts\_sum}_i &= \sum_j \mathrm{counts}_{ij} \\
\mathrm{dcounts}_{ij} &= \underbrace{\mathrm{counts\_sum\_inv}_i\,\mathrm{dprobs}_{ij}}_{\mathrm{through\ probs}}
  + \underbrace{\mathrm{dcounts\_sum}_i}_{\mathrm{through\ counts\_sum}}
\end{aligned}
""")
def dcounts(v: Run) -> Iterator[Chain]:
    yield "counts_sum", entries(lambda i, _: sum(v.counts[i, j] for j in range(V)), n, 1)
    yield "dcounts", entries(lambda i, j: v.counts_sum_inv[i, 0] * v.dprobs[i, j] + v.dcounts_sum[i, 0], n, V)


@of_single_lines(r"""
\begin{aligned}
\mathrm{counts}_{ij} &= e^{\mathrm{norm\_logits}_{ij}} \\
\mathrm{dnorm\_logits}_{ij} &= \mathrm{counts}_{ij}\,\mathrm{dcounts}_{ij}
\end{aligned}
""")
def dnorm_logits(v: Run) -> Iterator[Chain]:
    yield "counts", entries(lambda i, j: math.exp(v.norm_logits[i, j]), n, V)
    yield "dnorm_logits", entries(lambda i, j: v.counts[i, j] * v.dcounts[i, j], n, V)


@of_single_lines(r"""
\begin{aligned}
\mathrm{norm\_logits}_{ij} &= \mathrm{logits}_{ij} - \mathrm{logit\_maxes}_i \\
\mathrm{dlogit\_maxes}_i &= -\sum_j \mathrm{dnorm\_logits}_{ij}
\end{aligned}
""")
def dlogit_maxes(v: Run) -> Iterator[Chain]:
    yield "norm_logits", entries(lambda i, j: v.logits[i, j] - v.logit_maxes[i, 0], n, V)
    yield "dlogit_maxes", entries(lambda i, _: -sum(v.dnorm_logits[i, j] for j in range(V)), n, 1)


@of_single_lines(r"""
\begin{aligned}
\mathrm{logit\_maxes}_i &= \max_k \mathrm{logits}_{ik} = \mathrm{logits}_{i,\,m_i} \\
\mathrm{dlogits}_{ij} &= \underbrace{\mathrm{dnorm\_logits}_{ij}}_{\mathrm{through\ norm\_logits}}
  + \underbrace{[\,j = m_i\,]\;\mathrm{dlogit\_maxes}_i}_{\mathrm{through\ logit\_maxes}}
\end{aligned}
""")
def dlogits(v: Run) -> Iterator[Chain]:
    m = [max(range(V), key=lambda k: v.logits[i, k]) for i in range(n)]
    yield (
        "logit_maxes",
        entries(lambda i, _: max(v.logits[i, k] for k in range(V)), n, 1),
        entries(lambda i, _: v.logits[i, m[i]], n, 1),
    )
    yield "dlogits", entries(lambda i, j: v.dnorm_logits[i, j] + bracket(j == m[i]) * v.dlogit_maxes[i, 0], n, V)


@of_the_whole_pass(r"""
\mathrm{probs}_{ij}
  = \frac{e^{\mathrm{logits}_{ij} - a}}{\sum_k e^{\mathrm{logits}_{ik} - a}}
  = \frac{e^{-a}\,e^{\mathrm{logits}_{ij}}}{e^{-a} \sum_k e^{\mathrm{logits}_{ik}}}
  = \frac{e^{\mathrm{logits}_{ij}}}{\sum_k e^{\mathrm{logits}_{ik}}}
""")
def the_maximum_cancels(v: Run) -> Iterator[Chain]:
    a, exp = 0.7, math.exp
    yield (
        "probs",
        entries(lambda i, j: exp(v.logits[i, j] - a) / sum(exp(v.logits[i, k] - a) for k in range(V)), n, V),
        entries(
            lambda i, j: exp(-a) * exp(v.logits[i, j]) / (exp(-a) * sum(exp(v.logits[i, k]) for k in range(V))), n, V
        ),
        entries(lambda i, j: exp(v.logits[i, j]) / sum(exp(v.logits[i, k]) for k in range(V)), n, V),
    )


@of_the_whole_pass(r"""
\begin{aligned}
\sum_j \mathrm{dnorm\_logits}_{ij}
  &= \sum_j \mathrm{counts}_{ij}\,\mathrm{dcounts}_{ij} \\
  &= \mathrm{counts\_sum\_inv}_i \sum_j \mathrm{counts}_{ij}\,\mathrm{dprobs}_{ij}
     + \mathrm{counts\_sum}_i\,\mathrm{dcounts\_sum}_i \\
  &= \left(\mathrm{counts\_sum\_inv}_i - \mathrm{counts\_sum}_i\,\mathrm{counts\_sum}_i^{-2}\right)
     \mathrm{dcounts\_sum\_inv}_i = 0
\end{aligned}
""")
def dlogit_maxes_is_zero(v: Run) -> Iterator[Chain]:
    yield (
        entries(lambda i: sum(v.dnorm_logits[i, j] for j in range(V)), n),
        entries(lambda i: sum(v.counts[i, j] * v.dcounts[i, j] for j in range(V)), n),
        entries(
            lambda i: (
                v.counts_sum_inv[i, 0] * sum(v.counts[i, j] * v.dprobs[i, j] for j in range(V))
                + v.counts_sum[i, 0] * v.dcounts_sum[i, 0]
            ),
            n,
        ),
        entries(
            lambda i: (
                (v.counts_sum_inv[i, 0] - v.counts_sum[i, 0] * v.counts_sum[i, 0] ** -2) * v.dcounts_sum_inv[i, 0]
            ),
            n,
        ),
        Zero(beside=v.dnorm_logits),
    )


@of_single_lines(r"""
\begin{aligned}
\mathrm{logits}_{ij} &= \sum_k h_{ik}\,\mathrm{W2}_{kj} + \mathrm{b2}_j \\
\mathrm{d}h_{ik} &= \sum_j \mathrm{dlogits}_{ij}\,\mathrm{W2}_{kj} \\
\mathrm{dW2}_{kj} &= \sum_i h_{ik}\,\mathrm{dlogits}_{ij} \\
\mathrm{db2}_j &= \sum_i \mathrm{dlogits}_{ij}
\end{aligned}
""")
def dh_dW2_db2(v: Run) -> Iterator[Chain]:  # noqa: N802
    yield "logits", entries(lambda i, j: sum(v.h[i, k] * v.W2[k, j] for k in range(H)) + v.b2[j], n, V)
    yield "dh", entries(lambda i, k: sum(v.dlogits[i, j] * v.W2[k, j] for j in range(V)), n, H)
    yield "dW2", entries(lambda k, j: sum(v.h[i, k] * v.dlogits[i, j] for i in range(n)), H, V)
    yield "db2", entries(lambda j: sum(v.dlogits[i, j] for i in range(n)), V)


@by_itself(r"""
\frac{\mathrm{d}}{\mathrm{d}x} \tanh x
  = \frac{\mathrm{d}}{\mathrm{d}x}\,\frac{e^x - e^{-x}}{e^x + e^{-x}}
  = \frac{(e^x + e^{-x})^2 - (e^x - e^{-x})^2}{(e^x + e^{-x})^2}
  = 1 - \tanh^2 x
""")
def derivative_of_tanh(_: Run) -> Iterator[Chain]:
    x, e = noise(n, seed=1), math.exp
    read, one = leaf(x), torch.ones_like(x)
    yield (
        vjp(torch.tanh(read), read, one),
        vjp((read.exp() - (-read).exp()) / (read.exp() + (-read).exp()), read, one),
        entries(
            lambda i: ((e(x[i]) + e(-x[i])) ** 2 - (e(x[i]) - e(-x[i])) ** 2) / (e(x[i]) + e(-x[i])) ** 2,
            n,
        ),
        entries(lambda i: 1 - math.tanh(x[i]) ** 2, n),
    )


@of_single_lines(r"""
\begin{aligned}
h_{ij} &= \tanh \mathrm{hpreact}_{ij} \\
\mathrm{dhpreact}_{ij} &= \left(1 - h_{ij}^2\right) \mathrm{d}h_{ij}
\end{aligned}
""")
def dhpreact(v: Run) -> Iterator[Chain]:
    yield "h", entries(lambda i, j: math.tanh(v.hpreact[i, j]), n, H)
    yield "dhpreact", entries(lambda i, j: (1 - v.h[i, j] ** 2) * v.dh[i, j], n, H)


@of_single_lines(r"""
\begin{aligned}
\mathrm{hpreact}_{ij} &= \mathrm{bngain}_j\,\mathrm{bnraw}_{ij} + \mathrm{bnbias}_j \\
\mathrm{dbngain}_j &= \sum_i \mathrm{bnraw}_{ij}\,\mathrm{dhpreact}_{ij} \\
\mathrm{dbnraw}_{ij} &= \mathrm{bngain}_j\,\mathrm{dhpreact}_{ij} \\
\mathrm{dbnbias}_j &= \sum_i \mathrm{dhpreact}_{ij}
\end{aligned}
""")
def dbngain_dbnraw_dbnbias(v: Run) -> Iterator[Chain]:
    yield "hpreact", entries(lambda i, j: v.bngain[0, j] * v.bnraw[i, j] + v.bnbias[0, j], n, H)
    yield "dbngain", entries(lambda _, j: sum(v.bnraw[i, j] * v.dhpreact[i, j] for i in range(n)), 1, H)
    yield "dbnraw", entries(lambda i, j: v.bngain[0, j] * v.dhpreact[i, j], n, H)
    yield "dbnbias", entries(lambda _, j: sum(v.dhpreact[i, j] for i in range(n)), 1, H)


@of_single_lines(r"""
\begin{aligned}
\mathrm{bnraw}_{ij} &= \mathrm{bndiff}_{ij}\,\mathrm{bnvar\_inv}_j \\
\mathrm{dbndiff}_{ij}\big|_{\mathrm{bnraw}} &= \mathrm{bnvar\_inv}_j\,\mathrm{dbnraw}_{ij} \\
\mathrm{dbnvar\_inv}_j &= \sum_i \mathrm{bndiff}_{ij}\,\mathrm{dbnraw}_{ij}
\end{aligned}
""")
def dbndiff_through_bnraw_and_dbnvar_inv(v: Run) -> Iterator[Chain]:
    yield "bnraw", entries(lambda i, j: v.bndiff[i, j] * v.bnvar_inv[0, j], n, H)
    yield "dbndiff|bnraw", entries(lambda i, j: v.bnvar_inv[0, j] * v.dbnraw[i, j], n, H)
    yield "dbnvar_inv", entries(lambda _, j: sum(v.bndiff[i, j] * v.dbnraw[i, j] for i in range(n)), 1, H)


@of_single_lines(r"""
\begin{aligned}
\mathrm{bnvar\_inv}_j &= \left(\mathrm{bnvar}_j + 10^{-5}\right)^{-1/2} \\
\mathrm{dbnvar}_j &= -\tfrac{1}{2} \left(\mathrm{bnvar}_j + 10^{-5}\right)^{-3/2} \mathrm{dbnvar\_inv}_j
\end{aligned}
""")
def dbnvar(v: Run) -> Iterator[Chain]:
    yield "bnvar_inv", entries(lambda _, j: (v.bnvar[0, j] + 10**-5) ** (-1 / 2), 1, H)
    yield "dbnvar", entries(lambda _, j: -1 / 2 * (v.bnvar[0, j] + 10**-5) ** (-3 / 2) * v.dbnvar_inv[0, j], 1, H)


@of_single_lines(r"""
\begin{aligned}
\mathrm{bnvar}_j &= \frac{1}{n - 1} \sum_i \mathrm{bndiff2}_{ij} \\
\mathrm{dbndiff2}_{ij} &= \frac{1}{n - 1}\,\mathrm{dbnvar}_j
\end{aligned}
""")
def dbndiff2(v: Run) -> Iterator[Chain]:
    yield "bnvar", entries(lambda _, j: 1 / (n - 1) * sum(v.bndiff2[i, j] for i in range(n)), 1, H)
    yield "dbndiff2", entries(lambda _, j: 1 / (n - 1) * v.dbnvar[0, j], n, H)


@by_itself(r"""
\mathbb{E} \sum_i (x_i - \mu)^2
  = \mathbb{E} \sum_i (x_i - m)^2 - n\,\mathbb{E}\,(\mu - m)^2
  = n s^2 - s^2
  = (n - 1)\,s^2
""")
def bessels_correction(_: Run) -> Iterator[Chain]:
    outcomes = [0.3, -1.1, 2.0, 0.9]  # each as likely as the others
    m = sum(outcomes) / 4
    s2 = sum((x - m) ** 2 for x in outcomes) / 4

    def mean_of(sample_value: Callable[[tuple[float, ...]], float]) -> float:
        """Average over all samples of n rows."""
        return sum(map(sample_value, itertools.product(outcomes, repeat=n))) / 4**n

    yield (
        entries(lambda: mean_of(lambda x: sum((x[i] - sum(x) / n) ** 2 for i in range(n)))),
        entries(
            lambda: (
                mean_of(lambda x: sum((x[i] - m) ** 2 for i in range(n))) - n * mean_of(lambda x: (sum(x) / n - m) ** 2)
            )
        ),
        entries(lambda: n * s2 - s2),
        entries(lambda: (n - 1) * s2),
    )


@of_single_lines(r"""
\begin{aligned}
\mathrm{bndiff2}_{ij} &= \mathrm{bndiff}_{ij}^2 \\
\mathrm{dbndiff}_{ij} &= \underbrace{\mathrm{bnvar\_inv}_j\,\mathrm{dbnraw}_{ij}}_{\mathrm{through\ bnraw}}
  + \underbrace{2\,\mathrm{bndiff}_{ij}\,\mathrm{dbndiff2}_{ij}}_{\mathrm{through\ bndiff2}}
\end{aligned}
""")
def dbndiff(v: Run) -> Iterator[Chain]:
    yield "bndiff2", entries(lambda i, j: v.bndiff[i, j] ** 2, n, H)
    yield (
        "dbndiff",
        entries(lambda i, j: v.bnvar_inv[0, j] * v.dbnraw[i, j] + 2 * v.bndiff[i, j] * v.dbndiff2[i, j], n, H),
    )


@of_single_lines(r"""
\begin{aligned}
\mathrm{bndiff}_{ij} &= \mathrm{hprebn}_{ij} - \mathrm{bnmeani}_j \\
\mathrm{dbnmeani}_j &= -\sum_i \mathrm{dbndiff}_{ij}
\end{aligned}
""")
def dbnmeani(v: Run) -> Iterator[Chain]:
    yield "bndiff", entries(lambda i, j: v.hprebn[i, j] - v.bnmeani[0, j], n, H)
    yield "dbnmeani", entries(lambda _, j: -sum(v.dbndiff[i, j] for i in range(n)), 1, H)


@of_single_lines(r"""
\begin{aligned}
\mathrm{bnmeani}_j &= \frac{1}{n} \sum_i \mathrm{hprebn}_{ij} \\
\mathrm{dhprebn}_{ij} &= \underbrace{\mathrm{dbndiff}_{ij}}_{\mathrm{through\ bndiff}}
  + \underbrace{\frac{1}{n}\,\mathrm{dbnmeani}_j}_{\mathrm{through\ bnmeani}}
\end{aligned}
""")
def dhprebn(v: Run) -> Iterator[Chain]:
    yield "bnmeani", entries(lambda _, j: 1 / n * sum(v.hprebn[i, j] for i in range(n)), 1, H)
    yield "dhprebn", entries(lambda i, j: v.dbndiff[i, j] + 1 / n * v.dbnmeani[0, j], n, H)


@of_single_lines(r"""
\begin{aligned}
\mathrm{hprebn}_{ij} &= \sum_k \mathrm{embcat}_{ik}\,\mathrm{W1}_{kj} + \mathrm{b1}_j \\
\mathrm{dembcat}_{ik} &= \sum_j \mathrm{dhprebn}_{ij}\,\mathrm{W1}_{kj} \\
\mathrm{dW1}_{kj} &= \sum_i \mathrm{embcat}_{ik}\,\mathrm{dhprebn}_{ij} \\
\mathrm{db1}_j &= \sum_i \mathrm{dhprebn}_{ij}
\end{aligned}
""")
def dembcat_dW1_db1(v: Run) -> Iterator[Chain]:  # noqa: N802
    yield "hprebn", entries(lambda i, j: sum(v.embcat[i, k] * v.W1[k, j] for k in range(T * E)) + v.b1[j], n, H)
    yield "dembcat", entries(lambda i, k: sum(v.dhprebn[i, j] * v.W1[k, j] for j in range(H)), n, T * E)
    yield "dW1", entries(lambda k, j: sum(v.embcat[i, k] * v.dhprebn[i, j] for i in range(n)), T * E, H)
    yield "db1", entries(lambda j: sum(v.dhprebn[i, j] for i in range(n)), H)


@of_the_whole_pass(r"""
\mathrm{db1}_j = \sum_i \mathrm{dhprebn}_{ij}
  = \sum_i \mathrm{dbndiff}_{ij} + n \cdot \frac{1}{n}\,\mathrm{dbnmeani}_j
  = \sum_i \mathrm{dbndiff}_{ij} - \sum_i \mathrm{dbndiff}_{ij} = 0
""")
def db1_is_zero(v: Run) -> Iterator[Chain]:
    yield (
        "db1",
        entries(lambda j: sum(v.dhprebn[i, j] for i in range(n)), H),
        entries(lambda j: sum(v.dbndiff[i, j] for i in range(n)) + n * (1 / n) * v.dbnmeani[0, j], H),
        entries(lambda j: sum(v.dbndiff[i, j] for i in range(n)) - sum(v.dbndiff[i, j] for i in range(n)), H),
        Zero(beside=v.dhprebn),
    )


@of_single_lines(r"""
\begin{aligned}
\mathrm{embcat}_{i,\,tE + e} &= \mathrm{emb}_{ite} \\
\mathrm{demb}_{ite} &= \mathrm{dembcat}_{i,\,tE + e}
\end{aligned}
""")
def demb(v: Run) -> Iterator[Chain]:
    embcat = torch.full((n, T * E), math.nan, dtype=torch.float64)
    for i, t, e in itertools.product(range(n), range(T), range(E)):
        embcat[i, t * E + e] = v.emb[i, t, e]
    yield "embcat", embcat
    yield "demb", entries(lambda i, t, e: v.dembcat[i, t * E + e], n, T, E)


@of_single_lines(r"""
\begin{aligned}
\mathrm{emb}_{ite} &= C_{\mathrm{Xb}_{it},\,e} \\
\mathrm{d}C_{se} &= \sum_i \sum_t\,[\,\mathrm{Xb}_{it} = s\,]\;\mathrm{demb}_{ite}
\end{aligned}
""")
def dC(v: Run) -> Iterator[Chain]:  # noqa: N802
    yield "emb", entries(lambda i, t, e: v.C[Xb[i][t], e], n, T, E)
    yield (
        "dC",
        entries(lambda s, e: sum(bracket(Xb[i][t] == s) * v.demb[i, t, e] for i in range(n) for t in range(T)), V, E),
    )


# the two spellings


def delta(rounded: Tensor, true: Tensor) -> Tensor:
    """Return the relative error of one rounding to float32, which must be no larger than 2^-24."""
    error = rounded.double() / true - 1
    assert error.abs().max() <= 2**-24 * (1 + 1e-6)
    assert error.abs().max() > 2**-26, "nothing was rounded"
    return error


@by_itself(r"""
\begin{aligned}
\mathrm{exact:}\quad \mathrm{fl}(a / b) &= \frac{a}{b}\,(1 + \delta_1) \\
\mathrm{plain:}\quad \mathrm{fl}\big(\mathrm{fl}(1 / b)\,a\big) &= \frac{a}{b}\,(1 + \delta_2)(1 + \delta_3)
\end{aligned}
""")
def two_spellings_of_dprobs(_: Run) -> Iterator[Chain]:
    a, b = noise(1000, seed=1).float(), noise(1000, seed=2).float()
    a64, b64 = a.double(), b.double()
    exact, reciprocal = a / b, 1 / b
    plain = reciprocal * a
    delta_1 = delta(exact, a64 / b64)
    delta_2, delta_3 = delta(reciprocal, 1 / b64), delta(plain, reciprocal.double() * a64)
    assert not torch.equal(exact, plain)
    yield exact.double(), a64 / b64 * (1 + delta_1)
    yield plain.double() / (a64 / b64), (1 + delta_2) * (1 + delta_3)


@by_itself(r"""
\begin{aligned}
\mathrm{exact:}\quad \mathrm{fl}(1 - h^2) &= (1 - h^2)(1 + \delta_1) \\
\mathrm{plain:}\quad \mathrm{fl}\big(1 - \mathrm{fl}(h^2)\big) &= \big(1 - h^2 (1 + \delta_2)\big)(1 + \delta_3)
\end{aligned}
""")
def two_spellings_of_dhpreact(_: Run) -> Iterator[Chain]:
    h = torch.linspace(-0.999, 0.999, 1000)
    h64 = h.double()
    square = h**2
    exact, plain = (1 - h64**2).float(), 1 - square  # float64 holds 1 - h^2 to the last bit that matters
    delta_1 = delta(exact, 1 - h64**2)
    delta_2, delta_3 = delta(square, h64**2), delta(plain, 1 - square.double())
    assert not torch.equal(exact, plain)
    yield exact.double(), (1 - h64**2) * (1 + delta_1)
    yield plain.double(), (1 - h64**2 * (1 + delta_2)) * (1 + delta_3)


# cross-entropy in one line


@cache
def loss_of_rows() -> tuple[Tensor, Tensor]:
    """Return L[i], and its derivative with respect to l[i, j]."""
    l = leaf(whole_pass().logits)  # noqa: E741
    L = F.cross_entropy(l, torch.tensor(Yb), reduction="none")
    rows = [torch.autograd.grad(L[i], l, retain_graph=True)[0][i] for i in range(n)]
    return L.detach(), torch.stack(rows)


def sum_of_exp(l: Tensor, i: int) -> float:  # noqa: E741
    return sum(math.exp(l[i, k]) for k in range(V))


@of_the_whole_pass(r"""
\mathrm{loss} = \frac{1}{n} \sum_i L_i, \qquad
L_i = -\log p_{i y_i} = -\log \frac{e^{l_{i y_i}}}{\sum_k e^{l_{ik}}} = \log \sum_k e^{l_{ik}} - l_{i y_i}
""")
def loss_without_the_fraction(v: Run) -> Iterator[Chain]:
    l, p, (L, _) = v.logits, v.probs, loss_of_rows()  # noqa: E741
    yield "loss", entries(lambda: 1 / n * sum(L[i] for i in range(n)))
    yield (
        L,
        entries(lambda i: -math.log(p[i, Yb[i]]), n),
        entries(lambda i: -math.log(math.exp(l[i, Yb[i]]) / sum_of_exp(l, i)), n),
        entries(lambda i: math.log(sum_of_exp(l, i)) - l[i, Yb[i]], n),
    )


@of_the_whole_pass(r"""
j \neq y_i: \qquad
\frac{\partial L_i}{\partial l_{ij}} = \frac{1}{\sum_k e^{l_{ik}}} \cdot e^{l_{ij}} = p_{ij}
""")
def not_the_target(v: Run) -> Iterator[Chain]:
    l, p, (_, dL_dl) = v.logits, v.probs, loss_of_rows()  # noqa: E741
    where = [(i, j) for i in range(n) for j in range(V) if j != Yb[i]]
    yield (
        torch.stack([dL_dl[i, j] for i, j in where]),
        torch.stack([1 / sum_of_exp(l, i) * l[i, j].exp() for i, j in where]),
        torch.stack([p[i, j] for i, j in where]),
    )


@of_the_whole_pass(r"""
j = y_i: \qquad
\frac{\partial L_i}{\partial l_{ij}} = \frac{1}{\sum_k e^{l_{ik}}} \cdot e^{l_{ij}} - 1 = p_{ij} - 1
""")
def the_target(v: Run) -> Iterator[Chain]:
    l, p, (_, dL_dl) = v.logits, v.probs, loss_of_rows()  # noqa: E741
    where = [(i, j) for i in range(n) for j in range(V) if j == Yb[i]]
    yield (
        torch.stack([dL_dl[i, j] for i, j in where]),
        torch.stack([1 / sum_of_exp(l, i) * l[i, j].exp() - 1 for i, j in where]),
        torch.stack([p[i, j] - 1 for i, j in where]),
    )


@of_the_whole_pass(r"""
\mathrm{d}l_{ij} = \frac{p_{ij} - [\,j = y_i\,]}{n}
""")
def cross_entropy_closed_form(v: Run) -> Iterator[Chain]:
    yield "dlogits", entries(lambda i, j: (v.probs[i, j] - bracket(j == Yb[i])) / n, n, V)


@of_the_whole_pass(r"""
\begin{aligned}
\mathrm{d}p_{ij} &= -\frac{[\,j = y_i\,]}{n\,p_{ij}} \\
\mathrm{dcounts\_sum\_inv}_i &= \sum_j c_{ij}\,\mathrm{d}p_{ij} = -\frac{c_{i y_i}}{n\,p_{i y_i}} = -\frac{S_i}{n} \\
\mathrm{d}S_i &= -S_i^{-2} \left(-\frac{S_i}{n}\right) = \frac{1}{n S_i} \\
\mathrm{d}c_{ij} &= \frac{1}{S_i}\,\mathrm{d}p_{ij} + \mathrm{d}S_i
  = \frac{1}{n S_i} \left(1 - \frac{[\,j = y_i\,]}{p_{ij}}\right) \\
\mathrm{dnorm\_logits}_{ij} &= c_{ij}\,\mathrm{d}c_{ij} = \frac{p_{ij} - [\,j = y_i\,]}{n} \\
\mathrm{dlogit\_maxes}_i &= -\frac{1}{n} \left(\sum_j p_{ij} - 1\right) = 0
\end{aligned}
""")
def eight_lines_folded(v: Run) -> Iterator[Chain]:
    p, c, S = v.probs, v.counts, v.counts_sum
    yield "dprobs", entries(lambda i, j: -bracket(j == Yb[i]) / (n * p[i, j]), n, V)
    yield (
        "dcounts_sum_inv",
        entries(lambda i, _: sum(c[i, j] * v.dprobs[i, j] for j in range(V)), n, 1),
        entries(lambda i, _: -c[i, Yb[i]] / (n * p[i, Yb[i]]), n, 1),
        entries(lambda i, _: -S[i, 0] / n, n, 1),
    )
    yield (
        "dcounts_sum",
        entries(lambda i, _: -(S[i, 0] ** -2) * (-S[i, 0] / n), n, 1),
        entries(lambda i, _: 1 / (n * S[i, 0]), n, 1),
    )
    yield (
        "dcounts",
        entries(lambda i, j: 1 / S[i, 0] * v.dprobs[i, j] + v.dcounts_sum[i, 0], n, V),
        entries(lambda i, j: 1 / (n * S[i, 0]) * (1 - bracket(j == Yb[i]) / p[i, j]), n, V),
    )
    yield (
        "dnorm_logits",
        entries(lambda i, j: c[i, j] * v.dcounts[i, j], n, V),
        entries(lambda i, j: (p[i, j] - bracket(j == Yb[i])) / n, n, V),
    )
    yield (
        "dlogit_maxes",
        entries(lambda i, _: -1 / n * (sum(p[i, j] for j in range(V)) - 1), n, 1),
        Zero(beside=v.dnorm_logits),
    )


# batch norm in one line


@of_one_column(r"""
\mu = \frac{1}{n} \sum_i x_i, \qquad
\sigma^2 = \frac{1}{n - 1} \sum_i (x_i - \mu)^2, \qquad
r = (\sigma^2 + \varepsilon)^{-1/2}, \qquad
\hat{x}_i = (x_i - \mu)\,r
""")
def normalisation(b: Run) -> Iterator[Chain]:
    yield b.x.mean(), entries(lambda: 1 / n * sum(b.x[i] for i in range(n)))
    yield b.x.var(), entries(lambda: 1 / (n - 1) * sum((b.x[i] - b.mu) ** 2 for i in range(n)))
    yield "r", entries(lambda: (b.var + b.eps) ** (-1 / 2))
    yield "xhat", entries(lambda i: (b.x[i] - b.mu) * b.r, n)


@of_one_column(r"""
\mathrm{d}x_i = \frac{\partial \hat{x}_i}{\partial x_i}\,\mathrm{d}\hat{x}_i
  + \frac{\partial \mu}{\partial x_i}\,\mathrm{d}\mu
  + \frac{\partial \sigma^2}{\partial x_i}\,\mathrm{d}\sigma^2
""")
def three_branches(b: Run) -> Iterator[Chain]:
    yield "dx", entries(lambda i: b.dxhat_dx[i] * b.dxhat[i] + b.dmu_dx[i] * b.dmu + b.dvar_dx[i] * b.dvar, n)


@of_one_column(r"""
\frac{\partial \hat{x}_i}{\partial x_i} = r, \qquad
\frac{\partial \mu}{\partial x_i} = \frac{1}{n}, \qquad
\frac{\partial \sigma^2}{\partial x_i} = \frac{2}{n - 1}\,(x_i - \mu)
""")
def local_derivatives(b: Run) -> Iterator[Chain]:
    yield "dxhat_dx", entries(lambda _: b.r, n)
    yield "dmu_dx", entries(lambda _: 1 / n, n)
    yield "dvar_dx", entries(lambda i: 2 / (n - 1) * (b.x[i] - b.mu), n)


@of_one_column(r"""
\mathrm{d}\hat{x}_i = \gamma\,g_i
""")
def dxhat(b: Run) -> Iterator[Chain]:
    yield "dxhat", entries(lambda i: b.gamma * b.g[i], n)


@of_one_column(r"""
\mathrm{d}\sigma^2
  = \sum_i \mathrm{d}\hat{x}_i\,(x_i - \mu) \left(-\tfrac{1}{2}\right) (\sigma^2 + \varepsilon)^{-3/2}
  = -\tfrac{1}{2}\,\gamma\,r^3 \sum_i g_i\,(x_i - \mu)
  = -\tfrac{1}{2}\,\gamma\,r^2 \sum_i g_i\,\hat{x}_i
""")
def dvariance(b: Run) -> Iterator[Chain]:
    yield (
        "dvar",
        entries(
            lambda: sum(b.dxhat[i] * (b.x[i] - b.mu) * (-1 / 2) * (b.var + b.eps) ** (-3 / 2) for i in range(n)),
        ),
        entries(lambda: -1 / 2 * b.gamma * b.r**3 * sum(b.g[i] * (b.x[i] - b.mu) for i in range(n))),
        entries(lambda: -1 / 2 * b.gamma * b.r**2 * sum(b.g[i] * b.xhat[i] for i in range(n))),
    )


@of_one_column(r"""
\mathrm{d}\mu = \sum_i \frac{\partial \hat{x}_i}{\partial \mu}\,\mathrm{d}\hat{x}_i
  + \frac{\partial \sigma^2}{\partial \mu}\,\mathrm{d}\sigma^2
  = -r \sum_i \mathrm{d}\hat{x}_i + \frac{\partial \sigma^2}{\partial \mu}\,\mathrm{d}\sigma^2
""")
def dmean_with_both_branches(b: Run) -> Iterator[Chain]:
    yield (
        "dmu",
        entries(lambda: sum(b.dxhat_dmu[i] * b.dxhat[i] for i in range(n)) + b.dvar_dmu * b.dvar),
        entries(lambda: -b.r * sum(b.dxhat[i] for i in range(n)) + b.dvar_dmu * b.dvar),
    )


@of_one_column(r"""
\frac{\partial \sigma^2}{\partial \mu}
  = -\frac{2}{n - 1} \sum_i (x_i - \mu)
  = -\frac{2}{n - 1} \left(\sum_i x_i - n \mu\right) = 0
""")
def the_variance_does_not_move_with_its_mean(b: Run) -> Iterator[Chain]:
    yield (
        "dvar_dmu",
        entries(lambda: -2 / (n - 1) * sum(b.x[i] - b.mu for i in range(n))),
        entries(lambda: -2 / (n - 1) * (sum(b.x[i] for i in range(n)) - n * b.mu)),
        Zero(beside=b.x),
    )


@of_one_column(r"""
\mathrm{d}\mu = -\gamma\,r \sum_i g_i
""")
def dmean(b: Run) -> Iterator[Chain]:
    yield "dmu", entries(lambda: -b.gamma * b.r * sum(b.g[i] for i in range(n)))


@of_one_column(r"""
\begin{aligned}
\mathrm{d}x_i
  &= r \cdot \gamma\,g_i
   + \frac{1}{n} \left(-\gamma\,r \sum_k g_k\right)
   + \frac{2}{n - 1}\,(x_i - \mu) \left(-\tfrac{1}{2}\,\gamma\,r^2 \sum_k g_k\,\hat{x}_k\right) \\
  &= \gamma\,r\,g_i - \frac{\gamma\,r}{n} \sum_k g_k - \frac{\gamma\,r}{n - 1}\,\hat{x}_i \sum_k g_k\,\hat{x}_k \\
  &= \frac{\gamma\,r}{n} \left(n\,g_i - \sum_k g_k - \frac{n}{n - 1}\,\hat{x}_i \sum_k g_k\,\hat{x}_k\right)
\end{aligned}
""")
def batch_norm_closed_form(b: Run) -> Iterator[Chain]:
    n = b.x.numel()
    gamma, r, mu, g, x, xhat = b.gamma, b.r, b.mu, b.g, b.x, b.xhat
    sum_g = sum(g[k] for k in range(n))
    sum_g_xhat = sum(g[k] * xhat[k] for k in range(n))
    yield (
        "dx",
        entries(
            lambda i: (
                r * gamma * g[i]
                + 1 / n * (-gamma * r * sum_g)
                + 2 / (n - 1) * (x[i] - mu) * (-1 / 2 * gamma * r**2 * sum_g_xhat)
            ),
            n,
        ),
        entries(lambda i: gamma * r * g[i] - gamma * r / n * sum_g - gamma * r / (n - 1) * xhat[i] * sum_g_xhat, n),
        entries(lambda i: gamma * r / n * (n * g[i] - sum_g - n / (n - 1) * xhat[i] * sum_g_xhat), n),
    )


@of_one_column(r"""
\mathrm{d}\beta = \sum_k g_k, \qquad \mathrm{d}\gamma = \sum_k g_k\,\hat{x}_k
""")
def dbeta_dgamma(b: Run) -> Iterator[Chain]:
    yield "dbeta", entries(lambda: sum(b.g[k] for k in range(n)))
    yield "dgamma", entries(lambda: sum(b.g[k] * b.xhat[k] for k in range(n)))


# the tests: each formula


def by_name(table: list[Formula]) -> list[Any]:
    return [pytest.param(entry, id=entry.check.__name__) for entry in table]


@pytest.mark.parametrize("entry", by_name(FORMULAS))
def test_the_formula_is_true_and_none_of_its_equality_signs_is_unchecked(entry: Formula) -> None:
    checked = verify(entry.check, entry.run())

    assert checked == equality_signs(entry.text)


def test_the_formulas_of_the_lines_one_after_the_other_are_the_whole_backward_pass() -> None:
    whole = whole_pass()
    v = Run(**{name: tensor for name, tensor in vars(whole).items() if name not in gradient_names()})

    for entry in FORMULAS:
        if entry.run is single_lines:
            for name, *_, gradient in entry.check(v):
                if name in gradient_names():
                    setattr(v, name, gradient)

    in_truth_zero = {"dlogit_maxes": Zero(beside=whole.dnorm_logits), "db1": Zero(beside=whole.dhprebn)}
    for name in gradient_names():
        assert_equal(getattr(v, name), in_truth_zero.get(name, getattr(whole, name)))


@pytest.mark.parametrize("j", range(H))
def test_the_closed_form_of_batch_norm_is_the_gradient_of_each_column_of_the_atomic_pass(j: int) -> None:
    v = whole_pass()
    column = normalised_column(v.hprebn[:, j], v.bngain[0, j], v.bnbias[0, j], v.dhpreact[:, j], eps=1e-5)

    verify(batch_norm_closed_form, column)

    assert_equal(column.dx, v.dhprebn[:, j])


# the tests: planted mistakes, which the same checks must find


def without_the_sum(v: Run) -> Iterator[Chain]:
    yield "dcounts_sum_inv", entries(lambda i, j: v.counts[i, j] * v.dprobs[i, j], n, V)


def sum_of_one_term(v: Run) -> Iterator[Chain]:
    yield "dcounts_sum_inv", entries(lambda i, _: v.counts[i, 0] * v.dprobs[i, 0], n, 1)


def sum_without_keepdim(v: Run) -> Iterator[Chain]:
    yield "dbnbias", entries(lambda j: sum(v.dhpreact[i, j] for i in range(n)), H)


def n_for_n_minus_1(v: Run) -> Iterator[Chain]:
    yield "dbndiff2", entries(lambda _, j: 1 / n * v.dbnvar[0, j], n, H)


def without_the_branch_through_counts_sum(v: Run) -> Iterator[Chain]:
    yield "dcounts", entries(lambda i, j: v.counts_sum_inv[i, 0] * v.dprobs[i, j], n, V)


def without_the_branch_through_bnmeani(v: Run) -> Iterator[Chain]:
    yield "dhprebn", entries(lambda i, j: v.dbndiff[i, j], n, H)


def wrong_sign_of_a_gradient_that_is_zero_in_truth(v: Run) -> Iterator[Chain]:
    yield "dlogit_maxes", entries(lambda i, _: sum(v.dnorm_logits[i, j] for j in range(V)), n, 1)


def epsilon_of_1e05(v: Run) -> Iterator[Chain]:
    yield "dbnvar", entries(lambda _, j: -1 / 2 * (v.bnvar[0, j] + 1e05) ** (-3 / 2) * v.dbnvar_inv[0, j], 1, H)


def only_the_last_of_repeated_symbols(v: Run) -> Iterator[Chain]:
    last = {Xb[i][t]: (i, t) for i in range(n) for t in range(T)}
    yield "dC", entries(lambda s, e: v.demb[(*last[s], e)] if s in last else 0, V, E)


def softmax_without_the_target(v: Run) -> Iterator[Chain]:
    yield "dlogits", entries(lambda i, j: v.probs[i, j] / n, n, V)


def closed_form_with_a_variance_over_n(b: Run) -> Iterator[Chain]:
    sum_g = sum(b.g[k] for k in range(n))
    sum_g_xhat = sum(b.g[k] * b.xhat[k] for k in range(n))
    yield "dx", entries(lambda i: b.gamma * b.r / n * (n * b.g[i] - sum_g - b.xhat[i] * sum_g_xhat), n)


MISTAKES = [
    (without_the_sum, single_lines),
    (sum_of_one_term, single_lines),
    (sum_without_keepdim, single_lines),
    (n_for_n_minus_1, single_lines),
    (without_the_branch_through_counts_sum, single_lines),
    (without_the_branch_through_bnmeani, single_lines),
    (wrong_sign_of_a_gradient_that_is_zero_in_truth, single_lines),
    (epsilon_of_1e05, single_lines),
    (only_the_last_of_repeated_symbols, single_lines),
    (softmax_without_the_target, whole_pass),
    (closed_form_with_a_variance_over_n, one_column),
]


@pytest.mark.parametrize(("mistake", "run"), [pytest.param(*pair, id=pair[0].__name__) for pair in MISTAKES])
def test_a_planted_mistake_is_rejected(mistake: Check, run: Callable[[], Run]) -> None:
    with pytest.raises(AssertionError):
        verify(mistake, run())


@pytest.mark.parametrize(
    "chain",
    [
        pytest.param((torch.ones(4).double(), torch.ones(1, 4).double()), id="another shape that broadcasts"),
        pytest.param((torch.ones(4), torch.ones(4).double()), id="float32"),
        pytest.param((torch.ones(4).double() + 1e-9, torch.ones(4).double()), id="a difference of 1e-9"),
        pytest.param((torch.full((4,), math.nan).double(), torch.ones(4).double()), id="not a number"),
        pytest.param((torch.zeros(4).double(), torch.zeros(4).double()), id="zero beside nothing"),
        pytest.param((torch.full((4,), 1e-9).double(), Zero(torch.ones(4))), id="not zero"),
        pytest.param((torch.ones(4).double(),), id="one member alone"),
    ],
)
def test_the_comparison_rejects(chain: tuple[Tensor | Zero, ...]) -> None:
    with pytest.raises(AssertionError):
        assert_equal(*chain)


# the tests: the page


def test_the_formulas_of_the_page_are_those_of_the_table_in_its_order() -> None:
    assert math_blocks(PAGE) == [entry.text for entry in FORMULAS]


def test_a_changed_an_added_and_a_removed_formula_are_noticed() -> None:
    table = [entry.text for entry in FORMULAS]
    first = f"```math\n{table[0]}\n```\n"

    assert math_blocks(PAGE.replace("n - 1", "n", 1)) == table  # in a heading, not in a formula
    assert math_blocks(PAGE.replace(r"\frac{1}{n - 1}", r"\frac{1}{n}", 1)) != table
    assert math_blocks(PAGE.replace(first, "")) == table[1:]
    assert math_blocks(PAGE.replace(first, first + "```math\nx = y\n```\n")) != table


def test_formulas_within_a_sentence_claim_nothing() -> None:
    inline = re.findall(r"\$`(.+?)`\$", PAGE)

    assert inline
    assert [symbol for symbol in inline if re.search(r"[=<>]|\\(le|ge|lt|gt|neq|approx|equiv|sim)\b", symbol)] == []


def test_formulas_stand_in_the_two_forms_that_the_forges_render() -> None:
    outside = re.sub(r"^```math\n.*?^```$|\$`.+?`\$", "", PAGE, flags=re.DOTALL | re.MULTILINE)

    assert "$" not in outside
    assert r"\(" not in outside
    assert r"\[" not in outside


CHAPTERS = [
    ("Line by line", atomic),
    ("Cross-entropy in one line", cross_entropy),
    ("Batch norm in one line", batch_norm),
]
each_chapter = pytest.mark.parametrize(
    ("title", "module"), [pytest.param(*chapter, id=chapter[1].__name__.rpartition(".")[2]) for chapter in CHAPTERS]
)


@each_chapter
def test_every_quoted_line_stands_in_the_module_with_its_shape(title: str, module: ModuleType) -> None:
    source = {bare(line) for line in inspect.getsource(module).splitlines()}

    assert [line for line in parts(PAGE)[title] if line not in source] == []


@each_chapter
def test_every_line_of_the_backward_is_quoted_in_its_order(title: str, module: ModuleType) -> None:
    backward = lines_of(module.backward)

    assert [line for line in parts(PAGE)[title] if line in backward] == backward


def test_every_line_of_the_atomic_forward_is_quoted() -> None:
    forward = lines_of(atomic.forward)

    assert len(forward) == len(atomic.Values._fields)
    assert [line for line in forward if line not in parts(PAGE)["Line by line"]] == []


def test_the_backward_lines_are_those_of_all_26_gradients() -> None:
    computed = {line.partition(" ")[0] for line in lines_of(atomic.backward)} - {"if", "else:", "dlogprobs[range(n),"}

    assert computed == set(gradient_names())
    assert len(computed) == 26


def test_code_is_quoted_in_no_other_chapter() -> None:
    titles = [title for title, _ in CHAPTERS]

    assert {title: code for title, code in parts(PAGE).items() if code and title not in titles} == {}
