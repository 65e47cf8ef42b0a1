# ruff: noqa: RET504 the results have names, which the gradients are called after
"""Closed forms: found in the backward of a forward, in its names, proved line by line; and wrong ones refused."""

from __future__ import annotations

import builtins
import json
import keyword
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import handgrad
from handgrad.expr import Expr
from handgrad.simplifier.algebra import cancelled, divide, power, rebuilt, summed, times
from handgrad.simplifier.definitions import Definitions, Rule
from handgrad.simplifier.lemmas import Lemma, Lemmas
from handgrad.simplifier.normal_form import Leaf, Poly, Sum


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), requires_grad=True)


def zero_one(*shape: int) -> Tensor:
    return (torch.arange(sum(shape)) % 2).float()


ROWS, COLUMNS = normal(8, 5), normal(1, 5)
TARGETS = torch.tensor([0, 3, 1, 4, 2, 2, 0, 1])


# -- the exercises, as everybody writes them


def cross_entropy(logits: Tensor, Yb: Tensor) -> Tensor:
    n = logits.shape[0]
    logit_maxes = logits.max(1, keepdim=True).values
    norm_logits = logits - logit_maxes
    counts = norm_logits.exp()
    counts_sum = counts.sum(1, keepdim=True)
    counts_sum_inv = counts_sum**-1
    probs = counts * counts_sum_inv
    logprobs = probs.log()
    loss = -logprobs[range(n), Yb].mean()
    return loss


def batch_norm(hprebn: Tensor, bngain: Tensor, bnbias: Tensor) -> Tensor:
    n = hprebn.shape[0]
    bnmeani = 1 / n * hprebn.sum(0, keepdim=True)
    bndiff = hprebn - bnmeani
    bndiff2 = bndiff**2
    bnvar = 1 / (n - 1) * (bndiff2).sum(0, keepdim=True)
    bnvar_inv = (bnvar + 1e-5) ** -0.5
    bnraw = bndiff * bnvar_inv
    hpreact = bngain * bnraw + bnbias
    return hpreact


# -- the forms that people know by heart


def softmax(logits: Tensor) -> Tensor:
    counts = logits.exp()
    probs = counts / counts.sum(1, keepdim=True)
    return probs


def softmax_shifted(x: Tensor) -> Tensor:
    e = torch.exp(x - x.max(dim=-1, keepdim=True).values)
    total = e.sum(-1)
    p = e / total[:, None]
    return p


def log_softmax(x: Tensor) -> Tensor:
    z = x - x.amax(1, keepdim=True)
    log_total = z.exp().sum(1, keepdim=True).log()
    logp = z - log_total
    return logp


def log_sum_exp(x: Tensor) -> Tensor:
    m = x.max(1, keepdim=True).values
    e = (x - m).exp()
    s = e.sum(1, keepdim=True)
    out = s.log() + m
    return out


def layer_norm(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    mu = x.mean(-1, keepdim=True)
    xc = x - mu
    var = (xc**2).mean(-1, keepdim=True)
    inv = torch.rsqrt(var + 1e-5)
    xhat = xc * inv
    y = xhat * g + b
    return y


def layer_norm_of_var(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    mu = x.mean(-1, keepdim=True)
    var = x.var(-1, keepdim=True, unbiased=False)
    xhat = (x - mu) / torch.sqrt(var + 1e-3)
    y = xhat * g + b
    return y


def rms_norm(x: Tensor, g: Tensor) -> Tensor:
    ms = (x**2).mean(-1, keepdim=True)
    inv = (ms + 1e-6) ** -0.5
    xhat = x * inv
    y = xhat * g
    return y


def l2_normalise(x: Tensor) -> Tensor:
    norm = (x**2).sum(1, keepdim=True).sqrt()
    y = x / norm
    return y


def l2_by_norm(x: Tensor) -> Tensor:
    size = x.norm(dim=1, keepdim=True)
    y = x / size
    return y


def binary(z: Tensor, y: Tensor) -> Tensor:
    p = torch.sigmoid(z)
    loss = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    return loss


def binary_by_hand(z: Tensor, y: Tensor) -> Tensor:
    n = z.shape[0]
    p = 1 / (1 + torch.exp(-z))
    q = 1 - p
    loss = -(y * torch.log(p) + (1 - y) * torch.log(q)).sum() / n
    return loss


def centred(x: Tensor) -> Tensor:
    y = x - x.mean(0, keepdim=True)
    return y


def centred_by_sum(x: Tensor) -> Tensor:
    n = x.shape[0]
    mu = 1 / n * x.sum(0, keepdim=True)
    y = x - mu
    return y


def library_cross_entropy(x: Tensor, y: Tensor) -> Tensor:
    n = x.shape[0]
    p = F.softmax(x, 1)
    loss = -p[range(n), y].log().mean()
    return loss


def gathered(x: Tensor, y: Tensor) -> Tensor:
    logp = F.log_softmax(x, dim=-1)
    loss = -logp.gather(1, y[:, None]).mean()
    return loss


def with_one_hot(x: Tensor, y: Tensor) -> Tensor:
    n = x.shape[0]
    onehot = F.one_hot(y, 5)
    p = x.softmax(1)
    loss = -(onehot * p.log()).sum() / n
    return loss


def images(x: Tensor) -> Tensor:
    mu = x.mean((0, 2, 3), keepdim=True)
    xc = x - mu
    var = (xc**2).mean((0, 2, 3), keepdim=True)
    inv = (var + 1e-5) ** -0.5
    out = xc * inv
    return out


def masked(x: Tensor) -> Tensor:
    mask = (x > 0).float()
    h = x * mask
    k = h * mask + h
    loss = (k * mask).sum()
    return loss


def normalised(v: Tensor) -> Tensor:
    n = v.shape[0]
    mu = 1 / n * v.sum(0, keepdim=True)
    d = v - mu
    var = 1 / (n - 1) * (d**2).sum(0, keepdim=True)
    inv = (var + 1e-5) ** -0.5
    xhat = d * inv
    return xhat


FORMS: dict[str, tuple[Callable[..., Tensor], list[Tensor], str]] = {
    "exercise 2": (
        cross_entropy, [ROWS, TARGETS],
        "dlogits = (probs - F.one_hot(Yb, logits.shape[1])) / n  # (n, 5)",
    ),
    "exercise 3": (
        batch_norm, [ROWS, COLUMNS, COLUMNS],
        "dhprebn = bngain * bnvar_inv / n * (n * dhpreact - dhpreact.sum(0)"
        " - n / (n - 1) * bnraw * (bnraw * dhpreact).sum(0))  # (n, 5)",
    ),
    "softmax": (softmax, [ROWS], "dlogits = probs * (dprobs - (probs * dprobs).sum(1, keepdim=True))  # (8, 5)"),
    "softmax less its maximum, sum without keepdim": (
        softmax_shifted, [ROWS], "dx = p * (dp - (p * dp).sum(1, keepdim=True))  # (8, 5)",
    ),
    "log-softmax": (
        log_softmax, [ROWS], "dx = dlogp - torch.exp(logp) * dlogp.sum(1, keepdim=True)  # (8, 5)",
    ),
    "log-sum-exp": (log_sum_exp, [ROWS], "dx = e / s * dout  # (8, 5)"),
    "layer norm": (
        layer_norm, [ROWS, COLUMNS, COLUMNS],
        "dx = inv * (dxhat - dxhat.mean(1, keepdim=True) - xhat * (xhat * dxhat).mean(1, keepdim=True))  # (8, 5)",
    ),
    "layer norm with var, three dimensions": (
        layer_norm_of_var, [normal(2, 3, 5), normal(5), normal(5)],
        "dx = (var + 0.001)**-0.5"
        " * (dxhat - dxhat.mean(2, keepdim=True) - xhat * (xhat * dxhat).mean(2, keepdim=True))  # (2, 3, 5)",
    ),
    "RMS norm": (
        rms_norm, [ROWS, COLUMNS], "dx = inv * (dxhat - xhat * (xhat * dxhat).mean(1, keepdim=True))  # (8, 5)",
    ),
    "L2": (l2_normalise, [ROWS], "dx = (dy - y * (y * dy).sum(1, keepdim=True)) / norm  # (8, 5)"),
    "L2 with norm": (l2_by_norm, [ROWS], "dx = (dy - y * (y * dy).sum(1, keepdim=True)) / size  # (8, 5)"),
    "sigmoid and BCE": (binary, [normal(6), zero_one(6)], "dz = (p - y) / z.shape[0]  # (6,)"),
    "sigmoid by hand": (binary_by_hand, [normal(6), zero_one(6)], "dz = (p - y) / n  # (n,)"),
    "centring": (centred, [ROWS], "dx = dy - dy.mean(0)  # (8, 5)"),
    "centring by a sum": (centred_by_sum, [ROWS], "dx = dy - dy.sum(0) / n  # (n, 5)"),
    "softmax of the library": (
        library_cross_entropy, [ROWS, TARGETS], "dx = (p - F.one_hot(y, x.shape[1])) / n  # (n, 5)",
    ),
    "gather": (
        gathered, [ROWS, TARGETS], "dx = (torch.exp(logp) - F.one_hot(y, x.shape[1])) / y.shape[0]  # (8, 5)",
    ),
    "a one-hot of one's own": (with_one_hot, [ROWS, TARGETS], "dx = (p - onehot) / n  # (n, 5)"),
    "batch norm of images": (
        images, [normal(2, 3, 4, 2)],
        "dx = inv * (dout - dout.mean((0, 2, 3), keepdim=True)"
        " - out * (out * dout).mean((0, 2, 3), keepdim=True))  # (2, 3, 4, 2)",
    ),
    "a mask times itself": (masked, [ROWS], "dx = 2 * mask  # (8, 5)"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_closed_form_is_found(form: str) -> None:
    forward, inputs, expected = FORMS[form]

    found = handgrad.simplify(forward, *inputs)

    assert [line.code for line in found] == [expected]


@pytest.mark.parametrize("form", FORMS)
def test_a_closed_form_is_what_autograd_computes(form: str) -> None:
    forward, inputs, _ = FORMS[form]
    backward = handgrad.derive(forward, *inputs)
    (line,) = handgrad.simplify(backward)
    replay, seeds = backward.graph.replay(dtype=torch.float64, cut=[line.head]), None
    end = replay[str(line.end)]
    seeds = torch.randn(end.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    seeds = seeds if end.shape else torch.ones((), dtype=torch.float64)
    (expected,) = torch.autograd.grad(end, replay[line.head], seeds)

    space = {"torch": torch, "F": F, "n": replay[line.head].shape[0], f"d{line.end}": seeds, **replay}
    exec(line.code, space)  # noqa: S102 the line that is tested

    found = space[line.gradient]
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_the_whole_model_has_both_exercises() -> None:
    def forward(X: Tensor, W1: Tensor, gain: Tensor, bias: Tensor, W2: Tensor, y: Tensor) -> Tensor:
        n = X.shape[0]
        pre = X @ W1
        mean = pre.mean(0, keepdim=True)
        diff = pre - mean
        var = (diff**2).sum(0, keepdim=True) / (n - 1)
        inv = (var + 1e-5) ** -0.5
        raw = diff * inv
        act = gain * raw + bias
        h = torch.tanh(act)
        scores = h @ W2
        e = scores.exp()
        probs = e / e.sum(1, keepdim=True)
        loss = -probs[range(n), y].log().mean()
        return loss

    found = handgrad.simplify(forward, ROWS, normal(5, 4), normal(1, 4), normal(1, 4), normal(4, 5), TARGETS)

    assert [str(form.region.names) for form in found] == ["scores -> loss", "pre -> act"]
    assert found["dscores"].code.startswith("dscores = (probs - F.one_hot(y, scores.shape[1])) / n")
    assert found["dpre"].code == (
        "dpre = gain * inv * (dact - dact.mean(0) - raw / (n - 1) * (raw * dact).sum(0))  # (n, 4)"
    )


def test_a_value_that_is_used_elsewhere_too_gets_a_share() -> None:
    def forward(x: Tensor, w: Tensor) -> Tensor:
        mu = x.mean(-1, keepdim=True)
        xc = x - mu
        inv = ((xc**2).mean(-1, keepdim=True) + 1e-5) ** -0.5
        xhat = xc * inv
        loss = (x + torch.tanh(xhat @ w)).sum()
        return loss

    (found,) = handgrad.simplify(forward, ROWS, normal(5, 5))

    assert found.code.startswith("dx += inv * (dxhat - ")


def test_a_gradient_that_is_one_number_fills_the_shape() -> None:
    def forward(x: Tensor) -> Tensor:
        a = x * 2
        b = a + x
        loss = (a + b).mean()
        return loss

    (found,) = handgrad.simplify(forward, normal(6))

    assert found.code == "dx = torch.full_like(x, 5 / x.shape[0])  # (6,)"


# -- the proof


def test_the_proof_goes_from_the_loss_to_the_line_and_says_why() -> None:
    found = handgrad.simplify(cross_entropy, ROWS, TARGETS)

    assert str(found) == (Path(__file__).parent / "golden" / "closed_cross_entropy.txt").read_text(encoding="utf-8")


def test_the_text_is_python() -> None:
    compile(str(handgrad.simplify(batch_norm, ROWS, COLUMNS, COLUMNS)), "<closed form>", "exec")


def test_the_text_is_the_same_whatever_the_hash_seed() -> None:
    script = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import handgrad, test_simplifier as t\n"
        "print(handgrad.simplify(t.batch_norm, t.ROWS, t.COLUMNS, t.COLUMNS))\n"
        "print(handgrad.simplify(t.layer_norm_of_var, *t.FORMS['layer norm with var, three dimensions'][1]))\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "77")
    ]  # fmt: skip

    assert runs[0] == runs[1]


# -- what is not true is not shown


def squares(x: Tensor) -> Tensor:
    mu = x.mean(0, keepdim=True)
    d = x - mu
    var = (d**2).mean(0, keepdim=True)
    inv = (var + 1e-5) ** -0.5
    z = d * inv
    loss = (z**2).sum()
    return loss


def test_an_epsilon_is_carried_exactly() -> None:
    found = handgrad.simplify(squares, ROWS)

    assert [line.code for line in found] == ["dx = inv**3 * z / 50000  # (8, 5)"]
    assert "(d * z).sum(0) = x.shape[0] * (1 / inv - 1e-5 * inv)" in str(found)


def test_a_lemma_that_forgets_the_epsilon_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Lemmas.find
    planted = []

    def wrong(self: Lemmas, left: Sum) -> Lemma | None:
        lemma = right(self, left)
        leaves = {} if lemma is None else {f.name[7:]: f for f in lemma.right.factors() if isinstance(f, Leaf)}
        if lemma is None or not {"var", "inv"} <= set(leaves):
            return lemma
        planted.append(lemma)
        without = power(Poly.of(leaves["inv"]), Fraction(-2))  # and not less 1e-5
        return Lemma(lemma.left, rebuilt(lemma.right, lambda f: without if f == leaves["var"] else None), lemma.by)

    monkeypatch.setattr(Lemmas, "find", wrong)

    found = handgrad.simplify(squares, ROWS)

    assert planted
    assert "x -> loss" not in [form.region.names for form in found]


@pytest.mark.parametrize("factor", [Fraction(2), Fraction(-1), 1 + Fraction(1, 10**7)])
def test_a_definition_used_backwards_with_a_wrong_factor_is_refused(
    monkeypatch: pytest.MonkeyPatch, factor: Fraction
) -> None:
    right = Definitions.choices

    def wrong(self: Definitions) -> list[Rule]:
        return [Rule(rule.pivot, rule.replacement.scale(factor), rule.value) for rule in right(self)]

    monkeypatch.setattr(Definitions, "choices", wrong)

    found = handgrad.simplify(softmax, ROWS)

    assert "probs * (dprobs" not in str(found)


def test_a_wrong_line_in_the_proof_is_refused_though_the_result_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "handgrad.simplifier.proof.Prover._truth",
        lambda self, value: [
            truth * (1 + 1e-6 * (value.name == "counts")) for truth in
            self.points.truth(value, self.region.end, self.seeds)
        ],
    )  # fmt: skip

    assert "logits -> loss" not in [form.region.names for form in handgrad.simplify(cross_entropy, ROWS, TARGETS)]


def test_a_value_that_may_be_zero_is_not_divided_by() -> None:
    def forward(x: Tensor, gain: Tensor) -> Tensor:
        y = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-5).sqrt() * gain
        return y

    assert "/ gain" not in str(handgrad.simplify(forward, ROWS, COLUMNS))


# -- nothing to gain


def test_a_backward_that_is_short_already_has_nothing_to_gain() -> None:
    def forward(x: Tensor, w: Tensor) -> Tensor:
        h = torch.tanh(x @ w)
        loss = (h * 2).mean()
        return loss

    found = handgrad.simplify(forward, ROWS, normal(5, 3))

    assert not list(found)
    assert str(found) == "# nothing to gain: no part of this backward folds into a shorter line\n"
    assert repr(found) == "<Simplification: nothing to gain>"


def test_one_operation_of_the_library_has_nothing_to_gain() -> None:
    def forward(x: Tensor, y: Tensor) -> Tensor:
        loss = F.cross_entropy(x, y)
        return loss

    assert not list(handgrad.simplify(forward, ROWS, TARGETS))


def test_a_closed_form_that_is_not_there_is_named() -> None:
    found = handgrad.simplify(softmax, ROWS)

    with pytest.raises(KeyError, match="no closed form of dx; there are dlogits"):
        found["dx"]


# -- other names, other spellings

TAKEN = {*keyword.kwlist, *dir(builtins), "torch", "F", "math", "forward"}
NAMES = st.from_regex(r"\A[a-zA-Z][a-z]{0,5}\Z").filter(lambda name: name not in TAKEN)


def defined(source: str, folder: Path) -> Callable[..., Tensor]:
    """Return the function ``forward`` of ``source``, which has to stand in a file to be traced."""
    path = folder / f"forward_{abs(hash(source))}.py"
    path.write_text(f"import torch\nimport torch.nn.functional as F\n\n{source}")
    space: dict[str, object] = {}
    exec(compile(path.read_text(), str(path), "exec"), space)  # noqa: S102 the test's own text
    return space["forward"]  # type: ignore[return-value]


@settings(max_examples=10, deadline=None)
@given(
    names=st.lists(NAMES, min_size=4, max_size=4, unique=True).filter(
        lambda names: not {f"d{name}" for name in names} & set(names)
    )
)
def test_the_names_are_the_user_s(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    x, e, total, p = names
    source = (
        f"def forward({x}):\n    {e} = {x}.exp()\n    {total} = {e}.sum(-1, keepdim=True)\n"
        f"    {p} = {e} / {total}\n    return {p}\n"
    )

    (found,) = handgrad.simplify(defined(source, tmp_path_factory.mktemp("forward")), ROWS)

    assert found.code == f"d{x} = {p} * (d{p} - ({p} * d{p}).sum(1, keepdim=True))  # (8, 5)"


MEANS = ["x.mean(0, keepdim=True)", "x.mean(0)", "x.sum(0, keepdim=True) / n", "torch.mean(x, dim=0)", "x.sum(0) / n"]
VARIANCES = [
    "((x - mu)**2).sum(0, keepdim=True) / (n - 1)", "x.var(0, keepdim=True)", "x.var(0)", "torch.var(x, 0)",
    "1/(n - 1) * (x - mu).square().sum(0)",
]  # fmt: skip
ROOTS = ["(var + {eps})**-0.5", "torch.rsqrt(var + {eps})", "1 / (var + {eps}).sqrt()", "torch.sqrt(var + {eps})**-1"]


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("mean", MEANS)
def test_batch_norm_is_found_however_mean_and_variance_are_written(mean: str, variance: str, tmp_path: Path) -> None:
    source = (
        f"def forward(x):\n    n = x.shape[0]\n    mu = {mean}\n    var = {variance}\n"
        "    inv = (var + 1e-5)**-0.5\n    xhat = (x - mu) * inv\n    return xhat\n"
    )

    (found,) = handgrad.simplify(defined(source, tmp_path), ROWS)

    assert (found.head, found.end) == ("x", "xhat")
    assert "(xhat * dxhat).sum(0)" in found.code


@pytest.mark.parametrize("eps", ["1e-5", "1e-3", "0.1", "EPS"])
@pytest.mark.parametrize("root", ROOTS)
def test_batch_norm_is_found_with_any_epsilon_and_root(root: str, eps: str, tmp_path: Path) -> None:
    source = (
        f"EPS = 1e-4\ndef forward(x):\n    n = x.shape[0]\n    mu = x.sum(0) / n\n    var = x.var(0)\n"
        f"    inv = {root.format(eps=eps)}\n    xhat = (x - mu) * inv\n    return xhat\n"
    )

    (found,) = handgrad.simplify(defined(source, tmp_path), ROWS)

    assert found.code.startswith("dx = inv * (dxhat - dxhat.mean(0) - xhat / (n - 1) * (xhat * dxhat).sum(0))")


def test_a_size_may_be_written_as_a_number() -> None:
    def forward(x: Tensor) -> Tensor:
        mu = x.sum(0, keepdim=True) / 8
        d = x - mu
        var = 1 / 7 * (d**2).sum(0, keepdim=True)
        inv = (var + 1e-5) ** -0.5
        xhat = d * inv
        return xhat

    (found,) = handgrad.simplify(forward, ROWS)

    assert found.code == ("dx = inv * (dxhat - dxhat.sum(0) / 8 - xhat / 7 * (xhat * dxhat).sum(0))  # (8, 5)")


def test_a_size_whose_name_is_out_of_sight_is_a_number() -> None:
    def forward(x: Tensor) -> Tensor:
        xhat = normalised(x)
        return xhat

    (found,) = handgrad.simplify(forward, ROWS)

    assert (found.head, found.end) == ("x", "xhat")
    assert "n" not in found.code.replace("inv", "").split("#")[0].split()


# -- the normal form


def leaf(name: str, *axes: int | None, positive: bool = False, classes: int | None = None) -> Poly:
    kind = "truth" if classes is not None else "value"
    expr = Expr("name", (), tuple(2 if a is not None else 1 for a in axes), name)
    return Poly.of(Leaf(kind, name, axes, expr, positive=positive, classes=classes))


n, V = leaf("n", positive=True), leaf("V", positive=True)
MINUS = Fraction(-1)


def test_a_sum_takes_out_what_does_not_depend_on_its_label() -> None:
    x, s = leaf("x", 0, 1), leaf("s", 0, None)

    assert summed(times(x, s), {1: V}) == times(s, summed(x, {1: V}))
    assert summed(s, {1: V}) == times(s, V)


def test_sums_are_equal_whatever_their_labels_are_called() -> None:
    assert summed(leaf("x", 0, 5), {5: V}) == summed(leaf("x", 0, 3), {3: V})
    assert summed(leaf("x", 0, 5), {5: V}) != summed(leaf("x", 5, 0), {5: V})


def test_a_one_hot_is_its_square_and_sums_to_one() -> None:
    hot = leaf("hot", 0, 1, classes=1)

    assert times(hot, hot) == hot
    assert summed(times(hot, leaf("s", 0, None)), {1: V}) == leaf("s", 0, None)
    assert summed(hot, {0: n}) != Poly.number(1)


def test_a_quotient_cancels() -> None:
    p, y = leaf("p", 0), leaf("y", 0)
    less = Poly.number(1) - p

    whole = times(times(p, less), times(y, power(less, MINUS)))

    assert cancelled(whole) == times(p, y)
    assert divide(times(less, y), less) == y
    assert divide(p + y, less) is None


def test_a_root_of_a_square_is_the_value_only_above_zero() -> None:
    half = Fraction(1, 2)

    assert power(power(leaf("e", 0, positive=True), Fraction(2)), half) == leaf("e", 0, positive=True)
    assert power(power(leaf("x", 0), Fraction(2)), half) != leaf("x", 0)


# -- the command

SCRIPT = """
import torch

torch.manual_seed(0)
logits = torch.randn(6, 4, requires_grad=True)
y = torch.tensor([0, 1, 2, 3, 0, 1])
counts = logits.exp()
probs = counts / counts.sum(1, keepdim=True)
loss = -probs[range(6), y].log().mean()
"""


def test_the_command_prints_the_closed_forms_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text(SCRIPT)

    done = subprocess.run(
        [sys.executable, "-m", "handgrad", "simplify", str(file)], capture_output=True, text=True, check=False
    )
    as_json = subprocess.run(
        [sys.executable, "-m", "handgrad", "simplify", str(file), "--json"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "dlogits = (probs - F.one_hot(y, logits.shape[1])) / " in done.stdout
    (form,) = json.loads(as_json.stdout)["closed_forms"]
    assert (form["gradient"], form["head"], form["end"]) == ("dlogits", "logits", "loss")
    assert form["proof"][-1]["left"] == "dlogits"
