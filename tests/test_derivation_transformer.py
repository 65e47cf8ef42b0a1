"""Every formula of docs/derivation_transformer.md, worked out entry by entry and compared with autograd."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from formulas import (
    Chain,
    Check,
    Formula,
    LocalRun,
    Run,
    Zero,
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
from handgrad.models.transformer import Parameters, by_hand
from handgrad.passes import autograd_gradients

PAGE = (Path(__file__).parents[1] / "docs" / "derivation_transformer.md").read_text(encoding="utf-8")

n, T, A, D, H, V = 2, 4, 2, 3, 5, 7  # all but n and A different, so that a wrong index has a wrong size
E = A * D
Xb = torch.tensor([[1, 1, 4, 0], [0, 3, 1, 6]])
Yb = torch.tensor([3, 0])
SHAPES: dict[str, tuple[int, ...]] = {
    "C": (V, E), "P": (T, E), "W1": (E, H), "b1": (H,), "W2": (H, E), "b2": (E,), "W3": (E, V), "b3": (V,),
    "Wq": (E, E), "Wk": (E, E), "Wv": (E, E), "Wo": (E, E), "bq": (A, 1, D), "bk": (A, 1, D), "bv": (A, 1, D),
    "bo": (E,), "gain1": (E,), "bias1": (E,), "gain2": (E,), "bias2": (E,), "gain3": (E,), "bias3": (E,),
}  # fmt: skip
VALUES = [name for name in by_hand.Values._fields if name != "future"]
FORWARD = forward_lines(by_hand.forward, VALUES)


@cache
def whole_pass() -> Run:
    """Return the forward with autograd's gradients of its loss."""
    parameters = Parameters(*(noise(*SHAPES[name], seed=seed) for seed, name in enumerate(Parameters._fields)))
    values = by_hand.forward(parameters, Xb, Yb)
    gradients = autograd_gradients(by_hand.forward, parameters, Xb, Yb)
    named = parameters._asdict() | values._asdict()
    return Run(**named, **{f"d{name}": gradient for name, gradient in gradients.items()}, Xb=Xb, Yb=Yb)


@cache
def single_lines() -> Run:
    """Return the same values with random gradients."""
    run = LocalRun(lines=FORWARD, torch=torch, math=math, n=n, T=T, A=A, D=D, **vars(whole_pass()))
    for seed, name in enumerate([*VALUES, *Parameters._fields]):
        setattr(run, f"d{name}", noise(*getattr(run, name).shape, seed=100 + seed))
    return run


@cache
def one_position() -> Run:
    """Return one row of a layer norm in the page's short symbols, with an epsilon so large that it shows."""
    eps, upstream = 0.3, noise(E, seed=1)
    x = leaf(noise(E, seed=2))
    mu = x.mean()
    r = ((x - mu).square().mean() + eps).rsqrt()
    xhat = (x - mu) * r
    dx, dmu_whole, dr = torch.autograd.grad(xhat, [x, mu, r], upstream)
    free_x, free_mu = leaf(x.detach()), mu.detach()
    r_alone = ((free_x - free_mu).square().mean() + eps).rsqrt()
    one = torch.ones_like(mu)
    return Run(
        x=x.detach(), mu=mu.detach(), r=r.detach(), xhat=xhat.detach(), eps=eps,
        dxhat=upstream, dx=dx, dmu=dmu_whole, dr=dr, dr_dx=vjp(r_alone, free_x, one),
    )  # fmt: skip


FORMULAS: list[Formula] = []
of_single_lines = formulas_of(FORMULAS, single_lines)
of_the_whole_pass = formulas_of(FORMULAS, whole_pass)
of_one_position = formulas_of(FORMULAS, one_position)
by_itself = formulas_of(FORMULAS, Run)


@of_single_lines(r"""
\begin{aligned}
\mathrm{last}_{ie} &= \mathrm{x3}_{i,\,T - 1,\,e} \\
\mathrm{dx3}_{ite} &= [\,t = T - 1\,]\;\mathrm{dlast}_{ie}
\end{aligned}
""")
def last_position(v: Run) -> Iterator[Chain]:
    yield "last", entries(lambda i, e: v.x3[i, T - 1, e], n, E)
    yield "dx3", entries(lambda i, t, e: bracket(t == T - 1) * v.dlast[i, e], n, T, E)


@of_one_position(r"""
\mu = \frac{1}{E} \sum_e x_e, \qquad
r = \left(\frac{1}{E} \sum_e (x_e - \mu)^2 + \varepsilon\right)^{-1/2}, \qquad
\hat{x}_e = (x_e - \mu)\,r
""")
def layer_norm(v: Run) -> Iterator[Chain]:
    yield "mu", entries(lambda: sum(v.x[e] for e in range(E)) / E)
    yield "r", entries(lambda: (sum((v.x[e] - v.mu) ** 2 for e in range(E)) / E + v.eps) ** (-1 / 2))
    yield "xhat", entries(lambda e: (v.x[e] - v.mu) * v.r, E)


@of_one_position(r"""
\mathrm{d}r = \sum_k \mathrm{d}\hat{x}_k\,(x_k - \mu) = \frac{1}{r} \sum_k \mathrm{d}\hat{x}_k\,\hat{x}_k, \qquad
\frac{\partial r}{\partial x_e} = -\tfrac{1}{2}\,r^3 \cdot \frac{2}{E}\,(x_e - \mu) = -\frac{r^2}{E}\,\hat{x}_e
""")
def deviation(v: Run) -> Iterator[Chain]:
    yield (
        "dr",
        entries(lambda: sum(v.dxhat[k] * (v.x[k] - v.mu) for k in range(E))),
        entries(lambda: 1 / v.r * sum(v.dxhat[k] * v.xhat[k] for k in range(E))),
    )
    yield (
        "dr_dx",
        entries(lambda e: -1 / 2 * v.r**3 * 2 / E * (v.x[e] - v.mu), E),
        entries(lambda e: -(v.r**2) / E * v.xhat[e], E),
    )


@of_one_position(r"""
\mathrm{d}\mu = -r \sum_k \mathrm{d}\hat{x}_k
""")
def mean(v: Run) -> Iterator[Chain]:
    yield "dmu", entries(lambda: -v.r * sum(v.dxhat[k] for k in range(E)))


@of_one_position(r"""
\begin{aligned}
\mathrm{d}x_e &= r\,\mathrm{d}\hat{x}_e + \frac{1}{E}\,\mathrm{d}\mu + \frac{\partial r}{\partial x_e}\,\mathrm{d}r \\
  &= r \left(\mathrm{d}\hat{x}_e - \frac{1}{E} \sum_k \mathrm{d}\hat{x}_k
     - \hat{x}_e\,\frac{1}{E} \sum_k \hat{x}_k\,\mathrm{d}\hat{x}_k\right)
\end{aligned}
""")
def layer_norm_closed_form(v: Run) -> Iterator[Chain]:
    dot = sum(v.xhat[k] * v.dxhat[k] for k in range(E))
    yield (
        "dx",
        entries(lambda e: v.r * v.dxhat[e] + 1 / E * v.dmu + v.dr_dx[e] * v.dr, E),
        entries(lambda e: v.r * (v.dxhat[e] - 1 / E * sum(v.dxhat[k] for k in range(E)) - v.xhat[e] / E * dot), E),
    )


@of_single_lines(r"""
\begin{aligned}
m_{ite} &= \mathrm{gain2}_e\,\mathrm{norm2}_{ite} + \mathrm{bias2}_e \\
\mathrm{dgain2}_e &= \sum_i \sum_t \mathrm{norm2}_{ite}\,\mathrm{d}m_{ite} \\
\mathrm{dbias2}_e &= \sum_i \sum_t \mathrm{d}m_{ite} \\
\mathrm{dnorm2}_{ite} &= \mathrm{gain2}_e\,\mathrm{d}m_{ite}
\end{aligned}
""")
def gain_and_bias(v: Run) -> Iterator[Chain]:
    rows = [(i, t) for i in range(n) for t in range(T)]
    yield "m", entries(lambda i, t, e: v.gain2[e] * v.norm2[i, t, e] + v.bias2[e], n, T, E)
    yield "dgain2", entries(lambda e: sum(v.norm2[i, t, e] * v.dm[i, t, e] for i, t in rows), E)
    yield "dbias2", entries(lambda e: sum(v.dm[i, t, e] for i, t in rows), E)
    yield "dnorm2", entries(lambda i, t, e: v.gain2[e] * v.dm[i, t, e], n, T, E)


@of_single_lines(r"""
\begin{aligned}
\mathrm{x3}_{ite} &= \mathrm{x2}_{ite} + \sum_k g_{itk}\,\mathrm{W2}_{ke} + \mathrm{b2}_e \\
\mathrm{dx2}_{ite}\big|_{\mathrm{x3}} &= \mathrm{dx3}_{ite} \\
\mathrm{d}g_{itk} &= \sum_e \mathrm{dx3}_{ite}\,\mathrm{W2}_{ke} \\
\mathrm{dW2}_{ke} &= \sum_i \sum_t g_{itk}\,\mathrm{dx3}_{ite} \\
\mathrm{db2}_e &= \sum_i \sum_t \mathrm{dx3}_{ite}
\end{aligned}
""")
def residual(v: Run) -> Iterator[Chain]:
    rows = [(i, t) for i in range(n) for t in range(T)]
    yield (
        "x3",
        entries(lambda i, t, e: v.x2[i, t, e] + sum(v.g[i, t, k] * v.W2[k, e] for k in range(H)) + v.b2[e], n, T, E),
    )
    yield "dx2|x3", entries(lambda i, t, e: v.dx3[i, t, e], n, T, E)
    yield "dg", entries(lambda i, t, k: sum(v.dx3[i, t, e] * v.W2[k, e] for e in range(E)), n, T, H)
    yield "dW2", entries(lambda k, e: sum(v.g[i, t, k] * v.dx3[i, t, e] for i, t in rows), H, E)
    yield "db2", entries(lambda e: sum(v.dx3[i, t, e] for i, t in rows), E)


@by_itself(r"""
\Phi(u) = \frac{1}{2} \left(1 + \mathrm{erf} \frac{u}{\sqrt{2}}\right), \qquad
\varphi(u) = \frac{\mathrm{d}}{\mathrm{d}u} \Phi(u) = \frac{1}{\sqrt{2 \pi}}\,e^{-u^2/2}
""")
def normal_distribution(_: Run) -> Iterator[Chain]:
    u = noise(n, seed=1)
    read = leaf(u)
    cdf = 0.5 * (1 + torch.erf(read / 2**0.5))
    density = torch.distributions.Normal(0.0, 1.0).log_prob(u).exp()
    yield torch.special.ndtr(u), entries(lambda i: 1 / 2 * (1 + math.erf(u[i] / math.sqrt(2))), n)
    yield (
        density,
        vjp(cdf, read, torch.ones_like(cdf)),
        entries(lambda i: 1 / math.sqrt(2 * math.pi) * math.exp(-(u[i] ** 2) / 2), n),
    )


def phi(u: Tensor) -> float:
    return math.exp(-(u.item() ** 2) / 2) / math.sqrt(2 * math.pi)


@of_single_lines(r"""
\begin{aligned}
\mathrm{cdf}_{itj} &= \Phi(u_{itj}), \qquad g_{itj} = u_{itj}\,\mathrm{cdf}_{itj} \\
\mathrm{dcdf}_{itj} &= u_{itj}\,\mathrm{d}g_{itj} \\
\mathrm{d}u_{itj} &= \underbrace{\mathrm{cdf}_{itj}\,\mathrm{d}g_{itj}}_{\mathrm{through}\ g}
  + \underbrace{\varphi(u_{itj})\,\mathrm{dcdf}_{itj}}_{\mathrm{through\ cdf}}
\end{aligned}
""")
def gelu(v: Run) -> Iterator[Chain]:
    yield "cdf", entries(lambda i, t, j: 1 / 2 * (1 + math.erf(v.u[i, t, j] / math.sqrt(2))), n, T, H)
    yield "g", entries(lambda i, t, j: v.u[i, t, j] * v.cdf[i, t, j], n, T, H)
    yield "dcdf", entries(lambda i, t, j: v.u[i, t, j] * v.dg[i, t, j], n, T, H)
    yield (
        "du",
        entries(lambda i, t, j: v.cdf[i, t, j] * v.dg[i, t, j] + phi(v.u[i, t, j]) * v.dcdf[i, t, j], n, T, H),
    )


@of_single_lines(r"""
y_{it,\,aD + d} = \mathrm{heads}_{iatd}, \qquad \mathrm{dheads}_{iatd} = \mathrm{d}y_{it,\,aD + d}
""")
def side_by_side(v: Run) -> Iterator[Chain]:
    yield "y", entries(lambda i, t, e: v.heads[i, e // D, t, e % D], n, T, E)
    yield "dheads", entries(lambda i, a, t, d: v.dy[i, t, a * D + d], n, A, T, D)


@of_single_lines(r"""
\begin{aligned}
\mathrm{heads}_{iatd} &= \sum_s \mathrm{att}_{iats}\,v_{iasd} \\
\mathrm{datt}_{iats} &= \sum_d \mathrm{dheads}_{iatd}\,v_{iasd} \\
\mathrm{d}v_{iasd} &= \sum_t \mathrm{att}_{iats}\,\mathrm{dheads}_{iatd}
\end{aligned}
""")
def weighted_values(v: Run) -> Iterator[Chain]:
    yield (
        "heads",
        entries(lambda i, a, t, d: sum(v.att[i, a, t, s] * v.v[i, a, s, d] for s in range(T)), n, A, T, D),
    )
    yield (
        "datt",
        entries(lambda i, a, t, s: sum(v.dheads[i, a, t, d] * v.v[i, a, s, d] for d in range(D)), n, A, T, T),
    )
    yield (
        "dv",
        entries(lambda i, a, s, d: sum(v.att[i, a, t, s] * v.dheads[i, a, t, d] for t in range(T)), n, A, T, D),
    )


@by_itself(r"""
p_s = \frac{e^{l_s}}{\sum_k e^{l_k}}, \qquad
\frac{\partial p_u}{\partial l_s} = p_u\,([\,u = s\,] - p_s)
""")
def softmax(_: Run) -> Iterator[Chain]:
    scores = noise(T, seed=1)
    read = leaf(scores)
    weights = torch.softmax(read, 0)
    p = weights.detach()
    total = sum(math.exp(scores[k]) for k in range(T))
    yield p, entries(lambda s: math.exp(scores[s]) / total, T)
    yield (
        torch.stack([vjp(weights[u], read, torch.ones_like(p[u])) for u in range(T)]),
        entries(lambda u, s: p[u] * (bracket(u == s) - p[s]), T, T),
    )


@of_single_lines(r"""
\mathrm{dmasked}_{iats} = \sum_u \mathrm{att}_{iatu}\,([\,u = s\,] - \mathrm{att}_{iats})\,\mathrm{datt}_{iatu}
  = \mathrm{att}_{iats} \left(\mathrm{datt}_{iats} - \sum_u \mathrm{att}_{iatu}\,\mathrm{datt}_{iatu}\right)
""")
def softmax_closed_form(v: Run) -> Iterator[Chain]:
    p, dp = v.att, v.datt
    yield (
        "dmasked",
        entries(
            lambda i, a, t, s: sum(
                p[i, a, t, u] * (bracket(u == s) - p[i, a, t, s]) * dp[i, a, t, u] for u in range(T)
            ),
            n,
            A,
            T,
            T,
        ),
        entries(
            lambda i, a, t, s: p[i, a, t, s] * (dp[i, a, t, s] - sum(p[i, a, t, u] * dp[i, a, t, u] for u in range(T))),
            n,
            A,
            T,
            T,
        ),
    )


@of_single_lines(r"""
\mathrm{dscores}_{iats} = [\,s \le t\,]\;\mathrm{dmasked}_{iats}
""")
def mask(v: Run) -> Iterator[Chain]:
    yield "dscores", entries(lambda i, a, t, s: bracket(s <= t) * v.dmasked[i, a, t, s], n, A, T, T)


@of_single_lines(r"""
\begin{aligned}
\mathrm{scores}_{iats} &= D^{-1/2} \sum_d q_{iatd}\,k_{iasd} \\
\mathrm{d}q_{iatd} &= D^{-1/2} \sum_s \mathrm{dscores}_{iats}\,k_{iasd} \\
\mathrm{d}k_{iasd} &= D^{-1/2} \sum_t \mathrm{dscores}_{iats}\,q_{iatd}
\end{aligned}
""")
def queries_and_keys(v: Run) -> Iterator[Chain]:
    ds, root = v.dscores, D ** (-1 / 2)
    yield (
        "scores",
        entries(lambda i, a, t, s: root * sum(v.q[i, a, t, d] * v.k[i, a, s, d] for d in range(D)), n, A, T, T),
    )
    yield "dq", entries(lambda i, a, t, d: root * sum(ds[i, a, t, s] * v.k[i, a, s, d] for s in range(T)), n, A, T, D)
    yield "dk", entries(lambda i, a, s, d: root * sum(ds[i, a, t, s] * v.q[i, a, t, d] for t in range(T)), n, A, T, D)


@of_single_lines(r"""
\begin{aligned}
q_{iatd} &= \mathrm{aq}_{it,\,aD + d} + \mathrm{bq}_{ad} \\
\mathrm{dbq}_{ad} &= \sum_i \sum_t \mathrm{d}q_{iatd} \\
\mathrm{daq}_{it,\,aD + d} &= \mathrm{d}q_{iatd}
\end{aligned}
""")
def cut_into_heads(v: Run) -> Iterator[Chain]:
    yield "q", entries(lambda i, a, t, d: v.aq[i, t, a * D + d] + v.bq[a, 0, d], n, A, T, D)
    yield "dbq", entries(lambda a, _, d: sum(v.dq[i, a, t, d] for i in range(n) for t in range(T)), A, 1, D)
    yield "daq", entries(lambda i, t, e: v.dq[i, e // D, t, e % D], n, T, E)


@of_the_whole_pass(r"""
\mathrm{dbk}_{ad} = \sum_i \sum_s \mathrm{d}k_{iasd}
  = D^{-1/2} \sum_i \sum_t q_{iatd} \sum_s \mathrm{dscores}_{iats} = 0
""")
def bias_of_keys(v: Run) -> Iterator[Chain]:
    rows = [(i, t) for i in range(n) for t in range(T)]
    yield (
        entries(lambda a, _, d: v.dbk[a, 0, d], A, 1, D),
        entries(lambda a, _, d: sum(v.dk[i, a, s, d] for i, s in rows), A, 1, D),
        entries(
            lambda a, _, d: (
                D ** (-1 / 2) * sum(v.q[i, a, t, d] * sum(v.dscores[i, a, t, s] for s in range(T)) for i, t in rows)
            ),
            A,
            1,
            D,
        ),
        Zero(beside=v.dk),
    )


@of_single_lines(r"""
\begin{aligned}
\mathrm{aq}_{ite} &= \sum_k a_{itk}\,\mathrm{Wq}_{ke} \\
\mathrm{dWq}_{ke} &= \sum_i \sum_t a_{itk}\,\mathrm{daq}_{ite} \\
\mathrm{d}a_{itk} &= \underbrace{\sum_e \mathrm{daq}_{ite}\,\mathrm{Wq}_{ke}}_{\mathrm{through\ aq}}
  + \underbrace{\sum_e \mathrm{dak}_{ite}\,\mathrm{Wk}_{ke}}_{\mathrm{through\ ak}}
  + \underbrace{\sum_e \mathrm{dav}_{ite}\,\mathrm{Wv}_{ke}}_{\mathrm{through\ av}}
\end{aligned}
""")
def three_readers(v: Run) -> Iterator[Chain]:
    rows = [(i, t) for i in range(n) for t in range(T)]
    branches = ((v.daq, v.Wq), (v.dak, v.Wk), (v.dav, v.Wv))
    yield "aq", entries(lambda i, t, e: sum(v.a[i, t, k] * v.Wq[k, e] for k in range(E)), n, T, E)
    yield "dWq", entries(lambda k, e: sum(v.a[i, t, k] * v.daq[i, t, e] for i, t in rows), E, E)
    yield "da", entries(lambda i, t, k: sum(g[i, t, e] * W[k, e] for g, W in branches for e in range(E)), n, T, E)


@of_single_lines(r"""
\begin{aligned}
x_{ite} &= \mathrm{emb}_{ite} + P_{te} \\
\mathrm{demb}_{ite} &= \mathrm{d}x_{ite} \\
\mathrm{d}P_{te} &= \sum_i \mathrm{d}x_{ite}
\end{aligned}
""")
def positions(v: Run) -> Iterator[Chain]:
    yield "x", entries(lambda i, t, e: v.emb[i, t, e] + v.P[t, e], n, T, E)
    yield "demb", entries(lambda i, t, e: v.dx[i, t, e], n, T, E)
    yield "dP", entries(lambda t, e: sum(v.dx[i, t, e] for i in range(n)), T, E)


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.check.__name__) for entry in FORMULAS])
def test_the_formula_is_true_and_none_of_its_equality_signs_is_unchecked(entry: Formula) -> None:
    checked = verify(entry.check, entry.run())

    assert checked == equality_signs(entry.text)


def softmax_entry_by_entry(v: Run) -> Iterator[Chain]:
    p = v.att
    yield (
        "dmasked",
        entries(lambda i, a, t, s: p[i, a, t, s] * (1 - p[i, a, t, s]) * v.datt[i, a, t, s], n, A, T, T),
    )


def heads_interleaved(v: Run) -> Iterator[Chain]:
    yield "dheads", entries(lambda i, a, t, d: v.dy[i, t, d * A + a], n, A, T, D)


def gelu_without_its_second_branch(v: Run) -> Iterator[Chain]:
    yield "du", entries(lambda i, t, j: v.cdf[i, t, j] * v.dg[i, t, j], n, T, H)


def mask_the_other_way_round(v: Run) -> Iterator[Chain]:
    yield "dscores", entries(lambda i, a, t, s: bracket(s >= t) * v.dmasked[i, a, t, s], n, A, T, T)


def layer_norm_with_fixed_deviation(v: Run) -> Iterator[Chain]:
    yield "dx", entries(lambda e: v.r * (v.dxhat[e] - 1 / E * sum(v.dxhat[k] for k in range(E))), E)


@pytest.mark.parametrize(
    ("mistake", "run"),
    [
        (softmax_entry_by_entry, single_lines),
        (heads_interleaved, single_lines),
        (gelu_without_its_second_branch, single_lines),
        (mask_the_other_way_round, single_lines),
        (layer_norm_with_fixed_deviation, one_position),
    ],
)
def test_a_planted_mistake_is_rejected(mistake: Check, run: Callable[[], Run]) -> None:
    with pytest.raises(AssertionError):
        verify(mistake, run())


def test_the_formulas_of_the_page_are_those_of_the_table_in_its_order() -> None:
    assert math_blocks(PAGE) == [entry.text for entry in FORMULAS]


def quoted() -> list[str]:
    return [line for chapter in parts(PAGE).values() for line in chapter]


def test_every_line_of_the_backward_is_quoted_in_its_order() -> None:
    backward = lines_of(by_hand.backward)

    assert [line for line in quoted() if line in backward] == backward


def test_every_line_of_the_forward_is_quoted_and_no_other() -> None:
    forward, backward = set(lines_of(by_hand.forward)), set(lines_of(by_hand.backward))

    assert forward - set(quoted()) == set()
    assert set(quoted()) - forward - backward == set()
