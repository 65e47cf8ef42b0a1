"""Every formula of docs/derivation_gru.md, worked out entry by entry and compared with autograd; see `formulas`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from formulas import (
    Chain,
    Check,
    Formula,
    LocalRun,
    Run,
    assert_equal,
    entries,
    equality_signs,
    formulas_of,
    forward_lines,
    lines_of,
    math_blocks,
    noise,
    parts,
    verify,
)
from handgrad.models.gru import Parameters, by_hand
from handgrad.passes import autograd_gradients, by_name

PAGE = (Path(__file__).parents[1] / "docs" / "derivation_gru.md").read_text(encoding="utf-8")

n, T, E, H, V = 5, 3, 2, 4, 7  # all different, so that a wrong index has a wrong size
Xb = torch.tensor([[1, 1, 4], [0, 3, 1], [6, 6, 6], [2, 0, 4], [5, 3, 1]])
Yb = torch.tensor([3, 0, 3, 6, 1])
SHAPES = {"C": (V, E), "h0": (1, H), "Wy": (H, V), "by": (V,)} | {
    name: size for gate in "zrc" for name, size in ((f"Wx{gate}", (E, H)), (f"Wh{gate}", (H, H)), (f"b{gate}", (H,)))
}
STEP = forward_lines(by_hand.forward, [name for name in by_hand.Step._fields if name not in ("x", "hprev")])


@cache
def whole_pass() -> Run:
    """Return the forward with autograd's gradients of its loss; values of a step are tuples over time."""
    parameters = Parameters(*(noise(*SHAPES[name], seed=seed) for seed, name in enumerate(Parameters._fields)))
    values = by_hand.forward(parameters, Xb, Yb)
    gradients = autograd_gradients(by_hand.forward, parameters, Xb, Yb)
    over_time = {name: tuple(getattr(step, name) for step in values.steps) for name in by_hand.Step._fields}
    d_over_time = {f"d{name}": tuple(gradients[f"{name}[{t}]"] for t in range(T)) for name in by_hand.Step._fields}
    named = parameters._asdict() | by_name(values._asdict())
    return Run(**named, **{f"d{name}": g for name, g in gradients.items()}, **over_time, **d_over_time)


@cache
def one_step() -> Run:
    """Return the values of the second symbol with random gradients."""
    whole = whole_pass()
    values = {name: getattr(whole, name)[1] for name in by_hand.Step._fields}
    upstream = {f"d{name}": noise(*value.shape, seed=100 + seed) for seed, (name, value) in enumerate(values.items())}
    parameters = {name: getattr(whole, name) for name in Parameters._fields}
    return LocalRun(lines=STEP, torch=torch, **parameters, **values, **upstream)


FORMULAS: list[Formula] = []
of_one_step = formulas_of(FORMULAS, one_step)
of_the_whole_pass = formulas_of(FORMULAS, whole_pass)
by_itself = formulas_of(FORMULAS, Run)


@of_the_whole_pass(r"""
\begin{aligned}
\mathrm{logits}_{ij} &= \sum_k h_{ik}^{(T)}\,\mathrm{Wy}_{kj} + \mathrm{by}_j \\
\mathrm{d}h_{ik}^{(T)} &= \sum_j \mathrm{dlogits}_{ij}\,\mathrm{Wy}_{kj}
\end{aligned}
""")
def last_state(v: Run) -> Iterator[Chain]:
    last = v.h[T - 1]
    yield "logits", entries(lambda i, j: sum(last[i, k] * v.Wy[k, j] for k in range(H)) + v.by[j], n, V)
    yield v.dh[T - 1], entries(lambda i, k: sum(v.dlogits[i, j] * v.Wy[k, j] for j in range(V)), n, H)


@of_one_step(r"""
\begin{aligned}
h_{ij} &= (1 - z_{ij})\,\mathrm{hprev}_{ij} + z_{ij}\,c_{ij} \\
\mathrm{d}z_{ij} &= (c_{ij} - \mathrm{hprev}_{ij})\,\mathrm{d}h_{ij} \\
\mathrm{d}c_{ij} &= z_{ij}\,\mathrm{d}h_{ij} \\
\mathrm{dhprev}_{ij}\big|_{h} &= (1 - z_{ij})\,\mathrm{d}h_{ij}
\end{aligned}
""")
def state(v: Run) -> Iterator[Chain]:
    yield "h", entries(lambda i, j: (1 - v.z[i, j]) * v.hprev[i, j] + v.z[i, j] * v.c[i, j], n, H)
    yield "dz", entries(lambda i, j: (v.c[i, j] - v.hprev[i, j]) * v.dh[i, j], n, H)
    yield "dc", entries(lambda i, j: v.z[i, j] * v.dh[i, j], n, H)
    yield "dhprev|h", entries(lambda i, j: (1 - v.z[i, j]) * v.dh[i, j], n, H)


@of_one_step(r"""
\begin{aligned}
c_{ij} &= \tanh \mathrm{cpre}_{ij} \\
\mathrm{dcpre}_{ij} &= \left(1 - c_{ij}^2\right) \mathrm{d}c_{ij}
\end{aligned}
""")
def candidate(v: Run) -> Iterator[Chain]:
    yield "c", entries(lambda i, j: math.tanh(v.cpre[i, j]), n, H)
    yield "dcpre", entries(lambda i, j: (1 - v.c[i, j] ** 2) * v.dc[i, j], n, H)


@of_one_step(r"""
\begin{aligned}
\mathrm{cpre}_{ij} &= \sum_e x_{ie}\,\mathrm{Wxc}_{ej} + \sum_k \mathrm{rh}_{ik}\,\mathrm{Whc}_{kj} + \mathrm{bc}_j \\
\mathrm{dWxc}_{ej}\big|_t &= \sum_i x_{ie}\,\mathrm{dcpre}_{ij} \\
\mathrm{dWhc}_{kj}\big|_t &= \sum_i \mathrm{rh}_{ik}\,\mathrm{dcpre}_{ij} \\
\mathrm{dbc}_j\big|_t &= \sum_i \mathrm{dcpre}_{ij} \\
\mathrm{drh}_{ik} &= \sum_j \mathrm{dcpre}_{ij}\,\mathrm{Whc}_{kj}
\end{aligned}
""")
def candidate_before_tanh(v: Run) -> Iterator[Chain]:
    yield (
        "cpre",
        entries(
            lambda i, j: (
                sum(v.x[i, e] * v.Wxc[e, j] for e in range(E))
                + sum(v.rh[i, k] * v.Whc[k, j] for k in range(H))
                + v.bc[j]
            ),
            n,
            H,
        ),
    )
    yield "dWxc", entries(lambda e, j: sum(v.x[i, e] * v.dcpre[i, j] for i in range(n)), E, H)
    yield "dWhc", entries(lambda k, j: sum(v.rh[i, k] * v.dcpre[i, j] for i in range(n)), H, H)
    yield "dbc", entries(lambda j: sum(v.dcpre[i, j] for i in range(n)), H)
    yield "drh", entries(lambda i, k: sum(v.dcpre[i, j] * v.Whc[k, j] for j in range(H)), n, H)


@of_one_step(r"""
\begin{aligned}
\mathrm{rh}_{ij} &= r_{ij}\,\mathrm{hprev}_{ij} \\
\mathrm{d}r_{ij} &= \mathrm{hprev}_{ij}\,\mathrm{drh}_{ij} \\
\mathrm{dhprev}_{ij}\big|_{\mathrm{rh}} &= r_{ij}\,\mathrm{drh}_{ij}
\end{aligned}
""")
def reset(v: Run) -> Iterator[Chain]:
    yield "rh", entries(lambda i, j: v.r[i, j] * v.hprev[i, j], n, H)
    yield "dr", entries(lambda i, j: v.hprev[i, j] * v.drh[i, j], n, H)
    yield "dhprev|rh", entries(lambda i, j: v.r[i, j] * v.drh[i, j], n, H)


@by_itself(r"""
\frac{\mathrm{d}}{\mathrm{d}x} \sigma(x)
  = \frac{\mathrm{d}}{\mathrm{d}x}\,\frac{1}{1 + e^{-x}}
  = \frac{e^{-x}}{(1 + e^{-x})^2}
  = \sigma(x)\,(1 - \sigma(x))
""")
def sigmoid(_: Run) -> Iterator[Chain]:
    x = noise(n, seed=1)
    by_library, by_hand = x.clone().requires_grad_(), x.clone().requires_grad_()
    torch.sigmoid(by_library).sum().backward()
    (1 / (1 + torch.exp(-by_hand))).sum().backward()
    s = [1 / (1 + math.exp(-number)) for number in x.tolist()]
    assert by_library.grad is not None
    assert by_hand.grad is not None
    yield (
        by_library.grad,
        by_hand.grad,
        entries(lambda i: math.exp(-x[i]) / (1 + math.exp(-x[i])) ** 2, n),
        entries(lambda i: s[i] * (1 - s[i]), n),
    )


@of_one_step(r"""
\begin{aligned}
r_{ij} &= \sigma(\mathrm{rpre}_{ij}) \\
\mathrm{drpre}_{ij} &= r_{ij}\,(1 - r_{ij})\,\mathrm{d}r_{ij}
\end{aligned}
""")
def reset_gate(v: Run) -> Iterator[Chain]:
    yield "r", entries(lambda i, j: 1 / (1 + math.exp(-v.rpre[i, j])), n, H)
    yield "drpre", entries(lambda i, j: v.r[i, j] * (1 - v.r[i, j]) * v.dr[i, j], n, H)


def linear(v: Run, gate: str) -> Iterator[Chain]:
    Wx, Wh, b, dpre = (getattr(v, name) for name in (f"Wx{gate}", f"Wh{gate}", f"b{gate}", f"d{gate}pre"))
    yield (
        f"{gate}pre",
        entries(
            lambda i, j: (
                sum(v.x[i, e] * Wx[e, j] for e in range(E)) + sum(v.hprev[i, k] * Wh[k, j] for k in range(H)) + b[j]
            ),
            n,
            H,
        ),
    )
    yield f"dWx{gate}", entries(lambda e, j: sum(v.x[i, e] * dpre[i, j] for i in range(n)), E, H)
    yield f"dWh{gate}", entries(lambda k, j: sum(v.hprev[i, k] * dpre[i, j] for i in range(n)), H, H)
    yield f"db{gate}", entries(lambda j: sum(dpre[i, j] for i in range(n)), H)
    yield f"dhprev|{gate}pre", entries(lambda i, k: sum(dpre[i, j] * Wh[k, j] for j in range(H)), n, H)


@of_one_step(r"""
\begin{aligned}
\mathrm{rpre}_{ij} &= \sum_e x_{ie}\,\mathrm{Wxr}_{ej}
  + \sum_k \mathrm{hprev}_{ik}\,\mathrm{Whr}_{kj} + \mathrm{br}_j \\
\mathrm{dWxr}_{ej}\big|_t &= \sum_i x_{ie}\,\mathrm{drpre}_{ij} \\
\mathrm{dWhr}_{kj}\big|_t &= \sum_i \mathrm{hprev}_{ik}\,\mathrm{drpre}_{ij} \\
\mathrm{dbr}_j\big|_t &= \sum_i \mathrm{drpre}_{ij} \\
\mathrm{dhprev}_{ik}\big|_{\mathrm{rpre}} &= \sum_j \mathrm{drpre}_{ij}\,\mathrm{Whr}_{kj}
\end{aligned}
""")
def reset_gate_before_sigmoid(v: Run) -> Iterator[Chain]:
    yield from linear(v, "r")


@of_one_step(r"""
\begin{aligned}
z_{ij} &= \sigma(\mathrm{zpre}_{ij}) \\
\mathrm{dzpre}_{ij} &= z_{ij}\,(1 - z_{ij})\,\mathrm{d}z_{ij}
\end{aligned}
""")
def update_gate(v: Run) -> Iterator[Chain]:
    yield "z", entries(lambda i, j: 1 / (1 + math.exp(-v.zpre[i, j])), n, H)
    yield "dzpre", entries(lambda i, j: v.z[i, j] * (1 - v.z[i, j]) * v.dz[i, j], n, H)


@of_one_step(r"""
\begin{aligned}
\mathrm{zpre}_{ij} &= \sum_e x_{ie}\,\mathrm{Wxz}_{ej}
  + \sum_k \mathrm{hprev}_{ik}\,\mathrm{Whz}_{kj} + \mathrm{bz}_j \\
\mathrm{dWxz}_{ej}\big|_t &= \sum_i x_{ie}\,\mathrm{dzpre}_{ij} \\
\mathrm{dWhz}_{kj}\big|_t &= \sum_i \mathrm{hprev}_{ik}\,\mathrm{dzpre}_{ij} \\
\mathrm{dbz}_j\big|_t &= \sum_i \mathrm{dzpre}_{ij} \\
\mathrm{dhprev}_{ik}\big|_{\mathrm{zpre}} &= \sum_j \mathrm{dzpre}_{ij}\,\mathrm{Whz}_{kj}
\end{aligned}
""")
def update_gate_before_sigmoid(v: Run) -> Iterator[Chain]:
    yield from linear(v, "z")


@of_one_step(r"""
\mathrm{dhprev}_{ik} = \underbrace{(1 - z_{ik})\,\mathrm{d}h_{ik}}_{\mathrm{through}\ h}
  + \underbrace{r_{ik}\,\mathrm{drh}_{ik}}_{\mathrm{through\ rh}}
  + \underbrace{\sum_j \mathrm{drpre}_{ij}\,\mathrm{Whr}_{kj}}_{\mathrm{through\ rpre}}
  + \underbrace{\sum_j \mathrm{dzpre}_{ij}\,\mathrm{Whz}_{kj}}_{\mathrm{through\ zpre}}
""")
def four_branches_of_the_state(v: Run) -> Iterator[Chain]:
    yield (
        "dhprev",
        entries(
            lambda i, k: (
                (1 - v.z[i, k]) * v.dh[i, k]
                + v.r[i, k] * v.drh[i, k]
                + sum(v.drpre[i, j] * v.Whr[k, j] for j in range(H))
                + sum(v.dzpre[i, j] * v.Whz[k, j] for j in range(H))
            ),
            n,
            H,
        ),
    )


@of_one_step(r"""
\mathrm{d}x_{ie} = \underbrace{\sum_j \mathrm{dcpre}_{ij}\,\mathrm{Wxc}_{ej}}_{\mathrm{through\ cpre}}
  + \underbrace{\sum_j \mathrm{drpre}_{ij}\,\mathrm{Wxr}_{ej}}_{\mathrm{through\ rpre}}
  + \underbrace{\sum_j \mathrm{dzpre}_{ij}\,\mathrm{Wxz}_{ej}}_{\mathrm{through\ zpre}}
""")
def three_branches_of_the_symbol(v: Run) -> Iterator[Chain]:
    branches = ((v.dcpre, v.Wxc), (v.drpre, v.Wxr), (v.dzpre, v.Wxz))
    yield "dx", entries(lambda i, e: sum(d[i, j] * W[e, j] for d, W in branches for j in range(H)), n, E)


@of_the_whole_pass(r"""
\begin{aligned}
x_{ie}^{(t)} &= \mathrm{emb}_{ite} \\
\mathrm{demb}_{ite} &= \mathrm{d}x_{ie}^{(t)}
\end{aligned}
""")
def symbols(v: Run) -> Iterator[Chain]:
    yield torch.stack(v.x), entries(lambda t, i, e: v.emb[i, t, e], T, n, E)
    yield "demb", entries(lambda i, t, e: v.dx[t][i, e], n, T, E)


@of_the_whole_pass(r"""
\begin{aligned}
\mathrm{hprev}_{ij}^{(t + 1)} &= h_{ij}^{(t)} \\
\mathrm{d}h_{ij}^{(t)} &= \mathrm{dhprev}_{ij}^{(t + 1)}
\end{aligned}
""")
def from_step_to_step(v: Run) -> Iterator[Chain]:
    later = T - 1, n, H
    yield entries(lambda t, i, j: v.hprev[t + 1][i, j], *later), entries(lambda t, i, j: v.h[t][i, j], *later)
    yield entries(lambda t, i, j: v.dh[t][i, j], *later), entries(lambda t, i, j: v.dhprev[t + 1][i, j], *later)


@of_the_whole_pass(r"""
\mathrm{dWhc}_{kj} = \sum_t \mathrm{dWhc}_{kj}\big|_t = \sum_t \sum_i \mathrm{rh}_{ik}^{(t)}\,\mathrm{dcpre}_{ij}^{(t)}
""")
def sum_over_time(v: Run) -> Iterator[Chain]:
    each = [v.rh[t].T @ v.dcpre[t] for t in range(T)]
    yield (
        "dWhc",
        entries(lambda k, j: sum(each[t][k, j] for t in range(T)), H, H),
        entries(lambda k, j: sum(v.rh[t][i, k] * v.dcpre[t][i, j] for t in range(T) for i in range(n)), H, H),
    )


@of_the_whole_pass(r"""
\begin{aligned}
\mathrm{hprev}_{ij}^{(1)} &= \mathrm{h0}_j \\
\mathrm{dh0}_j &= \sum_i \mathrm{dhprev}_{ij}^{(1)}
\end{aligned}
""")
def first_state(v: Run) -> Iterator[Chain]:
    yield v.hprev[0], entries(lambda _, j: v.h0[0, j], n, H)
    yield "dh0", entries(lambda _, j: sum(v.dhprev[0][i, j] for i in range(n)), 1, H)


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.check.__name__) for entry in FORMULAS])
def test_the_formula_is_true_and_none_of_its_equality_signs_is_unchecked(entry: Formula) -> None:
    checked = verify(entry.check, entry.run())

    assert checked == equality_signs(entry.text)


def update_gate_the_other_way_round(v: Run) -> Iterator[Chain]:
    yield "dz", entries(lambda i, j: (v.hprev[i, j] - v.c[i, j]) * v.dh[i, j], n, H)


def without_the_branch_through_the_reset_gate(v: Run) -> Iterator[Chain]:
    yield (
        "dhprev",
        entries(
            lambda i, k: (
                (1 - v.z[i, k]) * v.dh[i, k]
                + v.r[i, k] * v.drh[i, k]
                + sum(v.dzpre[i, j] * v.Whz[k, j] for j in range(H))
            ),
            n,
            H,
        ),
    )


def sigmoid_taken_for_tanh(v: Run) -> Iterator[Chain]:
    yield "drpre", entries(lambda i, j: (1 - v.r[i, j] ** 2) * v.dr[i, j], n, H)


def the_last_step_alone(v: Run) -> Iterator[Chain]:
    yield "dWhc", entries(lambda k, j: sum(v.rh[T - 1][i, k] * v.dcpre[T - 1][i, j] for i in range(n)), H, H)


@pytest.mark.parametrize(
    ("mistake", "run"),
    [
        (update_gate_the_other_way_round, one_step),
        (without_the_branch_through_the_reset_gate, one_step),
        (sigmoid_taken_for_tanh, one_step),
        (the_last_step_alone, whole_pass),
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


def test_the_state_and_its_gradient_keep_their_size_where_the_gate_is_closed() -> None:
    v = one_step()

    closed = LocalRun(**(vars(v) | {"z": torch.zeros_like(v.z)}))

    assert_equal(closed.truth("dhprev|h"), closed.dh)
