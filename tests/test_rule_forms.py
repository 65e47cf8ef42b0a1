# ruff: noqa: RET504 the results have names, which the gradients are called after
"""How the rules write: the forms that people use, lines that help other lines, and autograd's own rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handgrad.deriver import Backward, derive
from handgrad.deriver.proving import function_of
from handgrad.errors import DeriveError, NotVerifiedError
from handgrad.expr import Expr, let, name
from handgrad.graph import Replay
from handgrad.rules import RULES, Terms, rule, sample, to
from handgrad.rules.class_losses import ignoring
from handgrad.rules.makers import integers, normal, positive, unit


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def code(backward: Backward) -> list[str]:
    """Return the lines without comments."""
    rows = [row.split("  # ")[0] for row in str(backward).splitlines()]
    return [row for row in rows if row and not row.startswith("#")]


# -- the forms that people write


def test_cross_entropy_comes_out_as_the_closed_form() -> None:
    def forward(X: Tensor, Yb: Tensor, W: Tensor) -> Tensor:
        n = X.shape[0]
        logits = X @ W
        loss = F.cross_entropy(logits, Yb)
        assert n
        return loss

    backward = derive(forward, random(4, 5).detach(), torch.tensor([1, 0, 2, 2]), random(5, 3))

    assert code(backward) == [
        "dlogits = (F.softmax(logits, 1) - F.one_hot(Yb, logits.shape[1])) / n",
        "dW = X.T @ dlogits",
    ]


def test_a_target_that_is_ignored_in_the_run_is_left_out() -> None:
    def forward(logits: Tensor, Yb: Tensor) -> Tensor:
        return F.cross_entropy(logits, Yb)

    backward = derive(forward, random(4, 3), torch.tensor([1, -100, 2, 2]))

    assert code(backward) == [
        "kept = Yb != -100",
        "classes = Yb * kept",
        "dlogits = (F.softmax(logits, 1) - F.one_hot(classes, logits.shape[1])) * kept.unsqueeze(-1) / kept.sum()",
    ]


def test_a_softmax_is_its_output_times_the_gradient_above_its_mean() -> None:
    def forward(scores: Tensor, v: Tensor) -> Tensor:
        probs = F.softmax(scores, -1)
        out = probs @ v
        return out

    backward = derive(forward, random(4, 4), random(4, 3, seed=1))

    assert "dscores = probs * (dprobs - (probs * dprobs).sum(-1, keepdim=True))" in code(backward)


def test_numbers_of_the_user_keep_their_names() -> None:
    def forward(x: Tensor) -> Tensor:
        slope = 0.2
        out = F.leaky_relu(x, slope)
        return out

    backward = derive(forward, random(4, 3))

    assert code(backward) == ["dx = torch.where(out > 0, dout, slope * dout)"]


def test_truth_values_are_not_given_a_minus() -> None:
    def forward(x: Tensor) -> Tensor:
        out = F.relu(-x)
        return out

    assert code(derive(forward, random(4, 3))) == ["dx = -((out > 0) * dout)"]


# -- lines that help other lines


def test_what_is_read_twice_is_computed_once_and_for_all_its_readers() -> None:
    def forward(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        out = F.layer_norm(x, (5,), w, b)
        return out

    backward = derive(forward, random(3, 5), random(5, seed=1), random(5, seed=2))

    assert code(backward) == [
        "db = dout.sum(0)",
        "rstd = torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-05)",
        "xhat = (x - x.mean(-1, keepdim=True)) * rstd",
        "dw = (xhat * dout).sum(0)",
        "dxhat = dout * w",
        "dx = rstd * (dxhat - dxhat.mean(-1, keepdim=True) - xhat * (dxhat * xhat).mean(-1, keepdim=True))",
    ]
    assert set(backward.gradients) == {"db", "dw", "dx"}
    assert [line.target for line in backward.lines if line.of is None] == ["rstd", "xhat", "dxhat"]


def test_a_gradient_asked_for_alone_comes_with_the_lines_that_help_it() -> None:
    def forward(x: Tensor, w: Tensor) -> Tensor:
        out = F.layer_norm(x, (5,), w)
        return out

    backward = derive(forward, random(3, 5), random(5, seed=1))

    for only_these in (False, True):
        rows = backward.source(to=["w"], only_these=only_these).splitlines()
        assert [row.split(" = ")[0] for row in rows if not row.startswith("#")] == ["rstd", "xhat", "dw"]


def test_a_name_that_is_taken_is_not_given_to_a_helping_line() -> None:
    def forward(x: Tensor) -> Tensor:
        rstd = 2 * x
        xhat = rstd.exp()
        out = F.layer_norm(xhat, (5,))
        return out

    backward = derive(forward, random(3, 5))

    assert [line.target for line in backward.lines if line.of is None] == ["rstd_1", "xhat_1"]


def test_two_layers_have_helping_lines_of_their_own() -> None:
    def forward(x: Tensor) -> Tensor:
        h = F.silu(x)
        out = F.silu(h)
        return out

    backward = derive(forward, random(3, 5))

    assert code(backward) == [
        "sigma = torch.sigmoid(h)",
        "dh = sigma * (1.0 + h * (1.0 - sigma)) * dout",
        "sigma_1 = torch.sigmoid(x)",
        "dx = sigma_1 * (1.0 + x * (1.0 - sigma_1)) * dh",
    ]


def test_in_a_loop_helping_lines_stand_in_its_body() -> None:
    def forward(X: Tensor, W: Tensor) -> Tensor:
        T = X.shape[1]
        h = torch.zeros(3, 4)
        for t in range(T):
            x = X[:, t]
            h = F.silu(x + h @ W)
        loss = (h**2).sum()
        return loss

    backward = derive(forward, random(3, 5, 4).detach(), 0.3 * random(4, 4, seed=1).detach().requires_grad_())

    rows = str(backward).splitlines()
    body = rows[rows.index("for t in reversed(range(T)):") + 1 :]
    assert [row.split(" = ")[0] for row in body if "sigma = " in row] == ["    sigma"]


def test_a_name_needs_no_line_of_its_own() -> None:
    x = name("x", (3,))

    assert let("y", x) is x
    assert str(let("y", x * x)) == "y"
    assert let("y", x * x).args[0].op == "mul"


def test_modules_that_the_forward_cannot_see_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    function = function_of(sample("F.gelu(x)", x=(3,)))
    monkeypatch.delitem(function.__globals__, "math")

    backward = derive(function, random(3))

    assert str(backward).startswith("import math\n\n")


# -- dropout


def test_dropout_reads_its_mask_off_its_output_and_follows_a_relu() -> None:
    def forward(x: Tensor, w: Tensor) -> Tensor:
        p = 0.4
        h = F.relu(x @ w)
        z = F.dropout(h, p)
        loss = (z**2).sum()
        return loss

    backward = derive(forward, random(5, 4).detach(), random(4, 6, seed=1))

    assert "dh = (z != 0) * dz / (1 - p)" in code(backward)


def test_dropout_of_given_zeros_is_refused() -> None:
    def forward(x: Tensor) -> Tensor:
        z = F.dropout(x, 0.4)
        return z

    with pytest.raises(DeriveError, match="where `x` is 0 its gradient cannot be told: draw the mask yourself"):
        derive(forward, torch.tensor([1.0, 0.0, 2.0], requires_grad=True))


def test_dropout_of_zeros_whose_gradient_matters_is_not_let_through() -> None:
    torch.manual_seed(0)

    def forward(x: Tensor) -> Tensor:
        h = x - 1
        z = F.dropout(h, 0.4)
        loss = (z + 1).square().sum()
        return loss

    with pytest.raises(NotVerifiedError):
        derive(forward, torch.ones(40, 3, requires_grad=True))


def test_dropout_without_a_name_says_what_to_do() -> None:
    def forward(x: Tensor) -> Tensor:
        return (x * F.dropout(x, 0.4)).sum()

    with pytest.raises(DeriveError, match="give it a name of its own"):
        derive(forward, random(5))


# -- what has no rule says so


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dropout_p": 0.5}, "write the attention out"), ({"enable_gqa": True}, "repeat the heads")],
    ids=["dropout", "grouped heads"],
)
def test_attention_says_what_it_cannot_do(options: dict[str, Any], message: str) -> None:
    def forward(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = F.scaled_dot_product_attention(q, k, v, **options)
        return out

    with pytest.raises(DeriveError, match=message):
        derive(forward, *(random(1, 2, 4, 3, seed=i) for i in range(3)))


def test_a_row_that_may_look_at_nothing_is_refused() -> None:
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[2] = False

    def forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        out = F.scaled_dot_product_attention(q, k, v, mask)
        return out

    with pytest.raises(DeriveError, match="let it look at something"):
        derive(forward, *(random(4, 3, seed=i) for i in range(3)), mask)


def test_layers_of_nn_come_out_like_their_functions() -> None:
    active, criterion = nn.LeakyReLU(0.1), nn.CrossEntropyLoss()

    def forward(x: Tensor, y: Tensor) -> Tensor:
        logits = active(x)
        loss = criterion(logits, y)
        return loss

    backward = derive(forward, random(4, 3), torch.tensor([0, 2, 1, 1]))

    assert code(backward) == [
        "dlogits = (F.softmax(logits, 1) - F.one_hot(y, logits.shape[1])) / y.shape[0]",
        "dx = torch.where(logits > 0, dlogits, 0.1 * dlogits)",
    ]


# -- autograd's own rounding

S = (37, 53)
N, P = normal(*S), positive(*S)


def inner(generator: torch.Generator) -> Tensor:
    """Return numbers between -0.56 and 0.56."""
    return (0.7 * unit(*S)(generator).detach()).requires_grad_()


EXACT: list[tuple[str, dict[str, Any]]] = [
    *[(f"torch.{f}(x)", {"x": N}) for f in (
        "exp", "exp2", "expm1", "abs", "erf", "erfc", "sinc", "sin", "cos", "atan", "sinh", "cosh", "asinh", "tanh",
        "sigmoid", "relu", "celu", "selu",
    )],
    *[(f"torch.{f}(x)", {"x": P}) for f in ("log", "log1p", "log2", "log10", "sqrt", "rsqrt", "lgamma", "digamma")],
    *[(f"torch.{f}(x)", {"x": inner}) for f in ("tan", "asin", "acos", "atanh", "erfinv")],
    *[(f"F.{f}(x)", {"x": N}) for f in (
        "logsigmoid", "relu6", "hardtanh", "leaky_relu", "elu", "gelu", "silu", "mish", "softplus", "softsign",
        "tanhshrink", "hardshrink", "softshrink", "hardsigmoid", "hardswish",
    )],
    ("torch.acosh(x + 1)", {"x": P}),
    ("torch.logit(0.4 * x)", {"x": P}),
    ("F.gelu(x, approximate='tanh')", {"x": N}),
    ("F.elu(x, 0.7)", {"x": N}),
    ("F.celu(x, 0.7)", {"x": N}),
    ("F.softplus(x, 2, 1)", {"x": N}),
    ("F.glu(x[:, :52])", {"x": N}),
    ("F.prelu(x, w)", {"x": N, "w": (53,)}),
    ("F.softmax(x, 1)", {"x": N}),
    ("F.softmax(x, 0)", {"x": N}),
    ("F.log_softmax(x, 1)", {"x": N}),
    ("F.log_softmax(x, 0)", {"x": N}),
    ("F.cross_entropy(x, t)", {"x": N, "t": integers(37, high=53)}),
    ("F.cross_entropy(x, t, reduction='sum')", {"x": N, "t": integers(37, high=53)}),
    ("F.cross_entropy(x, t, reduction='none')", {"x": N, "t": integers(37, high=53)}),
    ("F.cross_entropy(x, t)", {"x": (7, 13, 9), "t": integers(7, 9, high=13)}),
    ("F.cross_entropy(x, t)", {"x": N, "t": ignoring(37, high=53, ignored=-100)}),
    ("s * F.cross_entropy(x, t)", {"x": N, "t": integers(37, high=53), "s": ()}),
    ("F.nll_loss(x, t)", {"x": N, "t": integers(37, high=53)}),
    ("F.nll_loss(F.log_softmax(x, 1), t)", {"x": N, "t": integers(37, high=53)}),
    ("F.mse_loss(x, t)", {"x": N, "t": N}),
    ("s * F.mse_loss(x, t)", {"x": N, "t": N, "s": ()}),
    ("F.l1_loss(x, t)", {"x": N, "t": N}),
    ("F.binary_cross_entropy_with_logits(x, t)", {"x": N, "t": lambda g: positive(*S)(g).detach() / 2}),
]  # fmt: skip


def bits(text: str, inputs: dict[str, Any], seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return derived gradients and autograd's, in float32, for a random gradient of the result."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [(normal(*made) if isinstance(made, tuple) else made)(generator) for made in inputs.values()]
    given = [x.detach().float().requires_grad_(x.requires_grad) if x.is_floating_point() else x for x in drawn]
    function: Callable[..., Tensor] = function_of(sample(text, **inputs))
    backward = derive(function, *given, style="exact")
    (output,) = backward.walk.seeds
    upstream = torch.randn(output.shape, generator=generator) if output.shape else torch.ones(())
    derived = {value.name: x for value, x in backward.run(Replay(backward.graph), {output: upstream}).items()}
    wanted = [(key, x) for key, x in zip(inputs, given, strict=True) if x.requires_grad]
    return [derived[key] for key, _ in wanted], list(
        torch.autograd.grad(function(*given), [x for _, x in wanted], upstream)
    )


@pytest.mark.parametrize(("text", "inputs"), EXACT, ids=[f"{text} {i}" for i, (text, _) in enumerate(EXACT)])
def test_the_exact_style_rounds_as_autograd_does(text: str, inputs: dict[str, Any]) -> None:
    for seed in (0, 1):
        derived, expected = bits(text, inputs, seed)

        for one, other in zip(derived, expected, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


def test_a_form_that_rounds_otherwise_is_found() -> None:
    good = RULES["exp"]

    @rule("exp", samples=[sample("x.exp()", x=(3,))])
    def exp(g: Expr, y: Expr, x: Expr) -> Terms:
        yield to(x, y * g, "exp is its own derivative", exact=3 * y * g / 3)

    try:
        derived, expected = bits("torch.exp(x)", {"x": N}, 0)
    finally:
        RULES["exp"] = good

    assert not torch.equal(derived[0], expected[0])
    assert torch.allclose(derived[0], expected[0])
