"""`Backward.as_numpy`: the forward and the derived backward as one function of NumPy."""

# ruff: noqa: RET504 the forwards give their result a name, as people do, and pages use it

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from handgrad.deriver import Backward, derive
from handgrad.deriver.numpy_page import as_numpy, functions, numpy_test
from handgrad.deriver.numpy_page.generated_test import GeneratedTest, prove_test
from handgrad.deriver.numpy_page.module import Module
from handgrad.deriver.numpy_page.proving import prove
from handgrad.deriver.proving import function_of, inputs_of
from handgrad.errors import DeriveError, NotVerifiedError
from handgrad.rules import RULES, Sample

SAMPLES = [
    (rule.ops[0], one)
    for rule in {id(entry): entry for entry in RULES.values()}.values()
    for one in rule.samples
]  # fmt: skip
WITHOUT_A_FORM = {"erfinv", "adaptive_max_pool1d", "adaptive_max_pool2d", "dropout"}  # some samples of these


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator).requires_grad_()


def function_in(text: str, name: str = "forward_backward") -> Callable[..., Any]:
    space: dict[str, Any] = {}
    exec(compile(text, "<page>", "exec"), space)  # noqa: S102 the text under test
    return space[name]


def assert_agrees(forward: Callable[..., torch.Tensor], inputs: list[torch.Tensor], text: str) -> None:
    """Compare the function in ``text`` with the forward itself and its autograd, in float64."""
    given = [x.detach().double().requires_grad_(x.requires_grad) if x.is_floating_point() else x for x in inputs]
    names = list(inspect.signature(forward).parameters)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        loss = forward(*given)
    finally:
        torch.set_default_dtype(before)
    loss.backward()
    result, gradients = function_in(text)(*(x.detach().numpy() for x in given))
    np.testing.assert_allclose(result, loss.item(), rtol=1e-10)
    assert set(gradients) == {name for name, x in zip(names, given, strict=True) if x.requires_grad}
    for name, x in zip(names, given, strict=True):
        if x.requires_grad:
            assert gradients[name].shape == tuple(x.shape)
            np.testing.assert_allclose(gradients[name], x.grad.numpy(), rtol=1e-8, atol=1e-12)


# -- forwards that people write


def names_model(C, W1, b1, W2, b2, bngain, bnbias, Xb, Yb):  # type: ignore[no-untyped-def]
    n = Xb.shape[0]
    emb = C[Xb]
    embcat = emb.view(n, -1)
    hprebn = embcat @ W1 + b1
    bnmeani = 1 / n * hprebn.sum(0, keepdim=True)
    bndiff = hprebn - bnmeani
    bndiff2 = bndiff**2
    bnvar = 1 / (n - 1) * bndiff2.sum(0, keepdim=True)
    bnvar_inv = (bnvar + 1e-5) ** -0.5
    bnraw = bndiff * bnvar_inv
    hpreact = bngain * bnraw + bnbias
    h = torch.tanh(hpreact)
    logits = h @ W2 + b2
    logit_maxes = logits.max(1, keepdim=True).values
    norm_logits = logits - logit_maxes
    counts = norm_logits.exp()
    counts_sum = counts.sum(1, keepdim=True)
    counts_sum_inv = counts_sum**-1
    probs = counts * counts_sum_inv
    logprobs = probs.log()
    loss = -logprobs[range(n), Yb].mean()
    return loss


def cross_entropy(x, W, b, y):  # type: ignore[no-untyped-def]
    logits = x @ W + b
    loss = F.cross_entropy(logits, y)
    return loss


def softmax_by_hand(x, W, y):  # type: ignore[no-untyped-def]
    logits = x @ W
    shifted = logits - logits.max(1, keepdim=True).values
    probs = shifted.exp() / shifted.exp().sum(1, keepdim=True)
    loss = -(F.one_hot(y, 5) * probs.log()).sum(1).mean()
    return loss


def layer_norm(x, gain, bias):  # type: ignore[no-untyped-def]
    mean = x.mean(-1, keepdim=True)
    var = x.var(-1, keepdim=True, unbiased=False)
    xhat = (x - mean) * torch.rsqrt(var + 1e-5)
    out = xhat * gain + bias
    loss = (out**3).mean()
    return loss


def convolution_by_index(x, W, b):  # type: ignore[no-untyped-def]
    k = W.shape[-1]
    size = x.shape[-1] - k + 1
    i = torch.arange(size)[:, None] + torch.arange(k)
    windows = x[:, :, i]
    out = torch.einsum("ncsk,ock->nos", windows, W) + b[:, None]
    loss = out.relu().sum()
    return loss


def convolution(x, W, b):  # type: ignore[no-untyped-def]
    out = F.conv2d(x, W, b, stride=2, padding=1)
    pooled = F.max_pool2d(out, 2)
    loss = (pooled**2).mean()
    return loss


def attention(x, Wq, Wk, Wv):  # type: ignore[no-untyped-def]
    B, T, E = x.shape
    q, k, v = x @ Wq, x @ Wk, x @ Wv
    scores = q @ k.transpose(-2, -1) / E**0.5
    mask = torch.tril(torch.ones(T, T)) == 0
    weights = F.softmax(scores.masked_fill(mask, float("-inf")), dim=-1)
    loss = ((weights @ v) ** 2).sum() / (B * T)
    return loss


def recurrent(x, Wx, Wh, b, Wy):  # type: ignore[no-untyped-def]
    T = x.shape[1]
    h = torch.zeros(x.shape[0], Wh.shape[0])
    for t in range(T):
        h = torch.tanh(x[:, t] @ Wx + h @ Wh + b)
    loss = (h @ Wy).pow(2).mean()
    return loss


def recurrent_with_all_states(x, Wx, Wh, Wy):  # type: ignore[no-untyped-def]
    h = torch.zeros(x.shape[0], Wh.shape[0])
    states = []
    for t in range(4):
        h = torch.tanh(x[:, t] @ Wx + h @ Wh)
        states.append(h)
    stacked = torch.stack(states, dim=1)
    out = stacked @ Wy
    loss = (out**2).mean()
    return loss


def written_in_place(x, w):  # type: ignore[no-untyped-def]
    y = x * w
    y[:, 0] = 0
    y[1] += w
    y.relu_()
    loss = (y * y).sum()
    return loss


FORWARDS: dict[str, tuple[Callable[..., torch.Tensor], list[torch.Tensor]]] = {
    "names": (
        names_model,
        [
            normal(27, 10), normal(30, 20), normal(20), normal(20, 27), normal(27), normal(1, 20),
            normal(1, 20, seed=1),
            torch.randint(27, (8, 3), generator=torch.Generator().manual_seed(1)), torch.arange(8) * 3,
        ],
    ),
    "cross-entropy": (cross_entropy, [normal(4, 3), normal(3, 5), normal(5), torch.tensor([0, 2, 4, 2])]),
    "softmax by hand": (softmax_by_hand, [normal(4, 3), normal(3, 5), torch.tensor([0, 2, 4, 2])]),
    "layer norm": (layer_norm, [normal(4, 6), normal(6), normal(6, seed=1)]),
    "convolution by index": (convolution_by_index, [normal(2, 3, 7), normal(4, 3, 3), normal(4)]),
    "convolution": (convolution, [normal(2, 3, 8, 8), normal(4, 3, 3, 3), normal(4)]),
    "attention": (attention, [normal(2, 4, 6), normal(6, 6), normal(6, 6, seed=1), normal(6, 6, seed=2)]),
    "recurrent": (recurrent, [normal(3, 5, 4).detach(), normal(4, 6), normal(6, 6), normal(6), normal(6, 2)]),
    "all states": (recurrent_with_all_states, [normal(3, 4, 2).detach(), normal(2, 5), normal(5, 5), normal(5, 3)]),
    "in place": (written_in_place, [normal(3, 4), normal(4)]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORWARDS)
def test_the_page_agrees_with_the_forward_and_with_autograd(name: str) -> None:
    forward, inputs = FORWARDS[name]

    text = derive(forward, *inputs).as_numpy()

    assert_agrees(forward, inputs, text)


@pytest.mark.parametrize("name", FORWARDS)
def test_the_text_is_the_same_every_time(name: str) -> None:
    forward, inputs = FORWARDS[name]
    backward = derive(forward, *inputs)

    first, again, anew = as_numpy(backward), as_numpy(backward), as_numpy(derive(forward, *inputs))

    assert first == again == anew


@pytest.mark.parametrize("name", FORWARDS)
def test_the_generated_test_passes_below_the_page_and_beside_it(name: str, tmp_path: Path) -> None:
    forward, inputs = FORWARDS[name]
    backward = derive(forward, *inputs)
    (tmp_path / "page.py").write_text(as_numpy(backward), encoding="utf-8")
    space: dict[str, Any] = {}

    exec(compile(f"{as_numpy(backward)}\n\n{numpy_test(backward)}", "<below>", "exec"), space)  # noqa: S102
    space["test_forward_backward_agrees_with_autograd"]()

    beside = numpy_test(backward, module="page")
    assert "from page import forward_backward\n" in beside
    assert torch.get_default_dtype() == torch.float32


def test_pytest_runs_the_generated_test_beside_the_page(tmp_path: Path) -> None:
    forward, inputs = FORWARDS["names"]
    backward = derive(forward, *inputs)
    (tmp_path / "page.py").write_text(backward.as_numpy(), encoding="utf-8")
    (tmp_path / "test_page.py").write_text(numpy_test(backward, module="page"), encoding="utf-8")

    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_page.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", ["names", "recurrent", "convolution", "cross-entropy"])
def test_the_page_runs_where_there_is_no_torch(name: str, tmp_path: Path) -> None:
    forward, inputs = FORWARDS[name]
    backward = derive(forward, *inputs)
    module = Module(backward, "forward_backward")
    np.savez(tmp_path / "given.npz", **{str(i): value.value.numpy() for i, value in enumerate(module.arguments)})
    (tmp_path / "page.py").write_text(backward.as_numpy(), encoding="utf-8")
    code = """
        import sys
        sys.modules["torch"] = None  # an import of it fails
        import numpy as np
        from page import forward_backward
        given = np.load("given.npz")
        result, gradients = forward_backward(*(given[key] for key in given.files))
        print(float(result))
    """

    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert float(ran.stdout) == pytest.approx(forward(*inputs).item(), rel=1e-4)


# -- how it reads


def test_the_names_model_reads_as_the_user_wrote_it() -> None:
    forward, inputs = FORWARDS["names"]

    text = derive(forward, *inputs).as_numpy()

    for line in (
        "def forward_backward(C, W1, b1, W2, b2, bngain, bnbias, Xb, Yb):",
        "    n = Xb.shape[0]",
        "    hprebn = embcat @ W1 + b1  # (n, 20)",
        "    logit_maxes = logits.max(1, keepdims=True)  # (n, 1)",
        "    loss = -logprobs[range(n), Yb].mean()  # ()",
        "    # logprobs = probs.log()",
        "    dlogits += np.eye(logits.shape[1])[logits.argmax(1)] * dlogit_maxes  # (n, 27)",
        "    np.add.at(dC, Xb, demb)  # (27, 10)",
        '    return loss, {"C": dC, "W1": dW1, "b1": db1, "W2": dW2, "b2": db2, "bngain": dbngain, "bnbias": dbnbias}',
    ):
        assert line in text.splitlines()
    assert "torch" not in text.replace("# h = torch.tanh(hpreact)", "")


def test_loops_over_time_are_loops() -> None:
    forward, inputs = FORWARDS["all states"]

    text = derive(forward, *inputs).as_numpy()

    assert text.count("for t in range(4):") == 1
    assert text.count("for t in reversed(range(4)):") == 1
    assert "np.stack([h_at[t] for t in range(4)], axis=1)" in text


def test_a_result_that_is_no_loss_takes_its_gradient() -> None:
    def forward(x, w):  # type: ignore[no-untyped-def]
        h = torch.tanh(x * w)
        return h

    text = derive(forward, normal(3), normal(3, seed=1)).as_numpy("tanh_layer")
    h, gradients = function_in(text, "tanh_layer")(np.ones(3), np.zeros(3), np.full(3, 2.0))

    assert "def tanh_layer(x, w, dh):" in text
    assert list(gradients) == ["x", "w"]
    np.testing.assert_array_equal(h, np.zeros(3))
    np.testing.assert_array_equal(gradients["w"], np.full(3, 2.0))


def test_what_is_drawn_at_random_is_an_argument() -> None:
    def forward(x):  # type: ignore[no-untyped-def]
        noise = torch.randn(3)
        loss = (x * noise).sum()
        return loss

    text = derive(forward, normal(3)).as_numpy()
    _, gradients = function_in(text)(np.ones(3), np.array([1.0, 2.0, 3.0]))

    assert "def forward_backward(x, noise):" in text
    np.testing.assert_array_equal(gradients["x"], [1.0, 2.0, 3.0])


def test_the_parts_of_a_split_stand_in_one_line() -> None:
    def forward(x, W):  # type: ignore[no-untyped-def]
        q, k = (x @ W).chunk(2, dim=1)
        loss = (q * k).sum()
        return loss

    text = derive(forward, normal(3, 4), normal(4, 6)).as_numpy()

    assert "    q, k = np.split(x @ W, 2, axis=1)  # (3, 3)" in text.splitlines()
    assert_agrees(forward, [normal(3, 4), normal(4, 6)], text)


def test_data_and_parameters_of_a_script_are_arguments(tmp_path: Path) -> None:
    script = """
        import torch
        X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        W = torch.zeros(2, 3, requires_grad=True)
        b = (torch.ones(3) * 0.1).requires_grad_()
        h = torch.tanh(X @ W + b)
        loss = h.sum()
        loss.backward()
        print(loss.item())
    """
    (tmp_path / "train.py").write_text(textwrap.dedent(script), encoding="utf-8")
    command = [sys.executable, "-m", "handgrad", "derive", "train.py", "--as", "numpy", "--test", "test_it.py"]

    text = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    function = function_in(text)
    assert list(inspect.signature(function).parameters) == ["X", "W", "b"]
    assert "as it was recorded" not in text
    np.testing.assert_allclose(function(np.eye(2), np.zeros((2, 3)), np.zeros(3))[1]["b"], [2.0, 2.0, 2.0])
    assert "def test_forward_backward_agrees_with_autograd" in (tmp_path / "test_it.py").read_text(encoding="utf-8")


def test_a_variable_with_the_name_of_a_function_hides_nothing() -> None:
    def forward(x, sigmoid):  # type: ignore[no-untyped-def]
        loss = (torch.sigmoid(x) * sigmoid).sum()
        return loss

    text = derive(forward, normal(3), normal(3, seed=1)).as_numpy()

    assert "def sigmoid_of(x):" in text
    assert_agrees(forward, [normal(3), normal(3, seed=1)], text)


def test_a_number_that_left_the_tensors_is_told() -> None:
    def forward(x):  # type: ignore[no-untyped-def]
        y = x * 2 if x.sum() > -100 else x
        loss = y.sum()
        return loss

    text = derive(forward, normal(3)).as_numpy()

    assert "# as it was recorded (test_numpy_page.py:" in text
    assert "x.sum() > -100" in text


def test_only_the_functions_that_are_called_are_copied() -> None:
    forward, inputs = FORWARDS["cross-entropy"]

    text = derive(forward, *inputs).as_numpy()

    copied = [line for line in text.splitlines() if line.startswith("def ")]
    assert [line.split("(")[0] for line in copied] == [
        "def softmax",
        "def log_softmax",
        "def reduced",
        "def nll_loss",
        "def cross_entropy",
        "def forward_backward",
    ]


# -- every rule


@pytest.mark.parametrize(("op", "one"), SAMPLES, ids=[f"{op}: {one.text}" for op, one in SAMPLES])
def test_a_sample_of_a_rule_has_a_page_with_a_test_or_says_why_not(op: str, one: Sample) -> None:
    backward = derive(function_of(one), *inputs_of(one, 0))
    module = _module_if_there_is_a_form(backward)
    if module is None:
        assert op in WITHOUT_A_FORM, f"{op}: enter a form in numpy_page/forms, or the operation in WITHOUT_A_FORM"
        return
    prove_test(module, GeneratedTest(module).text(None))


def _module_if_there_is_a_form(backward: Backward) -> Module | None:
    try:
        return _module(backward)
    except DeriveError as error:
        if "has no NumPy form" in error.message or "NumPy draws other numbers" in error.message:
            return None
        raise


def _module(backward: Backward) -> Module:
    module = Module(backward, "forward_backward")
    prove(module)
    return module


def test_an_operation_without_a_form_is_named_with_its_place() -> None:
    def forward(x):  # type: ignore[no-untyped-def]
        loss = torch.erfinv(x).sum()
        return loss

    backward = derive(forward, torch.full((3,), 0.3, requires_grad=True))
    with pytest.raises(DeriveError) as caught:
        backward.as_numpy()

    assert "test_numpy_page.py:" in caught.value.message
    assert "`erfinv` has no NumPy form: write it with other operations" in caught.value.message


def test_dropout_says_what_to_do() -> None:
    def forward(x):  # type: ignore[no-untyped-def]
        dropped = F.dropout(x, 0.5)
        loss = dropped.sum()
        return loss

    backward = derive(forward, torch.ones(8, requires_grad=True))
    with pytest.raises(DeriveError, match="draw the mask yourself, and multiply by it"):
        backward.as_numpy()


# -- a wrong page is found


@pytest.fixture
def broken_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = functions.TEXTS["log_softmax"].replace("x - x.max(dim, keepdims=True)", "x - 1.001 * x")
    monkeypatch.setitem(functions.TEXTS, "log_softmax", wrong)


def test_a_page_that_computes_something_else_is_not_shown(broken_softmax: None) -> None:
    forward, inputs = FORWARDS["cross-entropy"]

    with pytest.raises(NotVerifiedError, match="loss of the NumPy text differs"):
        derive(forward, *inputs).as_numpy()


def test_the_generated_test_can_fail() -> None:
    forward, inputs = FORWARDS["layer norm"]
    module = _module(derive(forward, *inputs))
    text = GeneratedTest(module).text(None)

    with pytest.raises(NotVerifiedError, match="the generated test does not pass: AssertionError"):
        prove_test(module, text.replace("loss = (out**3).mean()", "loss = (out**3).sum()"))
