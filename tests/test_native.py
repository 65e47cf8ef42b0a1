"""`handgrad.compile`: native code computes what PyTorch computes, and says what it cannot do."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import handgrad
from handgrad.errors import CompileError, NoLoweringError
from handgrad.native import planning
from handgrad.native.llvm.objects import object_of
from handgrad.native.updates import SGD, AdamW
from native_code import SIZES, Case, case, natively


def by_hand(c: Case, parameters: Any, X: Tensor, Y: Tensor) -> tuple[float, dict[str, Tensor]]:
    values = c.model.forward(parameters, X, Y)
    gradients = c.model.backward(parameters, values, X, Y)
    return values.loss.item(), {f"d{name}": getattr(gradients, f"d{name}") for name in parameters._fields}


def copied(parameters: Any, dtype: torch.dtype | None = None) -> Any:
    return type(parameters)(*(p.clone() if dtype is None else p.to(dtype) for p in parameters))


def rms(x: Any) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(x, dtype=np.float64)))))


@pytest.mark.parametrize("way", ["by hand", "derived"])
@pytest.mark.parametrize("name", SIZES)
def test_gradients_are_as_exact_as_those_of_pytorch(name: str, way: str) -> None:
    c = case(name)
    batch = (c.X[:7], c.Y[:7])

    compiled = handgrad.compile(c.model.forward, c.model.backward if way == "by hand" else None,
                                params=c.parameters, batch=batch)  # fmt: skip

    found = compiled.gradients(*batch)
    loss, single = by_hand(c, c.parameters, *batch)
    _, double = by_hand(c, copied(c.parameters, torch.float64), *batch)
    assert compiled.loss(*batch) == pytest.approx(loss, rel=1e-6)
    for name_, truth in double.items():
        scale = float(truth.abs().max())
        error, its = rms(found[name_] - truth.numpy()), rms(single[name_].double() - truth)
        assert found[name_].shape == tuple(truth.shape)
        assert error <= 2 * its + 1e-7 * scale + 1e-9, name_


@pytest.mark.parametrize("name", SIZES)
def test_a_thousand_steps_have_the_losses_of_eager_ones(name: str) -> None:
    c, steps = case(name), 1000 if name == "mlp" else 200
    rows = torch.randint(0, 40, (steps, 6), generator=torch.Generator().manual_seed(1))
    eager = copied(c.parameters)

    compiled = handgrad.compile(c.model.forward, c.model.backward, params=c.parameters,
                                batch=(c.X[:6], c.Y[:6]), update=SGD(lr=0.05))  # fmt: skip
    losses = compiled.run(steps, c.X, c.Y, rows=rows)

    for k in range(steps):
        loss, gradients = by_hand(c, eager, c.X[rows[k]], c.Y[rows[k]])
        assert losses[k] == pytest.approx(loss, abs=1e-4), k
        for field in eager._fields:
            getattr(eager, field).sub_(gradients[f"d{field}"], alpha=0.05)
    for field in eager._fields:
        torch.testing.assert_close(getattr(c.parameters, field), getattr(eager, field), atol=1e-4, rtol=1e-4)


def test_float64_agrees_to_its_own_precision() -> None:
    c = case("mlp", dtype=torch.float64)
    batch = (c.X[:9], c.Y[:9])

    found = handgrad.compile(c.model.forward, c.model.backward, params=c.parameters, batch=batch).gradients(*batch)

    for name, truth in by_hand(c, c.parameters, *batch)[1].items():
        np.testing.assert_allclose(found[name], truth.numpy(), rtol=1e-9, atol=1e-13)


# -- update rules


def quadratic(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    return ((torch.tanh(x @ params["W"] + params["b"]) - y) ** 2).mean()


OPTIMISERS: list[tuple[Any, Callable[[Any], torch.optim.Optimizer]]] = [
    (SGD(lr=0.2), lambda p: torch.optim.SGD(p, lr=0.2)),
    (
        SGD(lr=0.1, momentum=0.9, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    ),
    (SGD(lr=0.1, momentum=0.8, nesterov=True), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True)),
    (AdamW(lr=0.01, weight_decay=0.1), lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)),
    (SGD(lr=0.2, max_norm=0.05), lambda p: torch.optim.SGD(p, lr=0.2)),
]  # fmt: skip


@pytest.mark.parametrize(("update", "peer"), OPTIMISERS, ids=[str(u) for u, _ in OPTIMISERS])
def test_updates_are_those_of_torch_optim(update: Any, peer: Callable[[Any], torch.optim.Optimizer]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 5, generator=generator), torch.randn(8, 3, generator=generator)
    mine = {"W": torch.randn(5, 3, generator=generator), "b": torch.zeros(3)}
    theirs = {name: p.clone().requires_grad_() for name, p in mine.items()}

    compiled = handgrad.compile(quadratic, params=mine, batch=(x, y), update=update)
    optimiser = peer(theirs.values())
    for _ in range(20):
        compiled.step(x, y)
        optimiser.zero_grad()
        quadratic(theirs, x, y).backward()
        if update.max_norm:
            torch.nn.utils.clip_grad_norm_(theirs.values(), update.max_norm)
        optimiser.step()

    for name, p in mine.items():
        torch.testing.assert_close(p, theirs[name].detach(), atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize(
    ("update", "peer"),
    [
        (SGD(0.01), lambda p: torch.optim.SGD(p, 0.01)),
        (SGD(0.01, 0.9, 0.1), lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, weight_decay=0.1)),
        (AdamW(0.01), lambda p: torch.optim.AdamW(p, 0.01)),
    ],
    ids=["sgd", "momentum", "adamw"],
)
def test_an_update_reads_what_was_there_before_any_of_them(update: Any, peer: Any) -> None:
    def forward(p: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        W, U = p  # their gradients are formulas of each other, turned and reversed
        return ((W - W.T) ** 2).sum() + (x @ W).sum() + ((U.flip(0) * U) ** 2).sum() + (W * U.T).sum()

    g = torch.Generator().manual_seed(4)
    params, x = (torch.randn(20, 20, generator=g), torch.randn(20, 20, generator=g)), torch.randn(5, 20, generator=g)
    leaves = tuple(p.clone().requires_grad_() for p in params)
    step, optimiser = handgrad.compile(forward, params=params, batch=(x,), update=update), peer(leaves)

    for _ in range(5):
        step.step(x)
        optimiser.zero_grad()
        forward(leaves, x).backward()
        optimiser.step()

    assert step.engine == "native"
    for own, right in zip(params, leaves, strict=True):
        np.testing.assert_allclose(own.numpy(), right.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_schedule_gives_each_step_its_rate() -> None:
    x, y = torch.ones(2, 1), torch.zeros(2, 1)
    w = torch.ones(1, 1)

    def forward(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return (x @ w - y).sum() / 2

    handgrad.compile(forward, params=w, batch=(x, y)).run(3, x, y, rows=np.tile([0, 1], (3, 1)), lr=[0.5, 0.25, 0.125])

    assert w.item() == 1 - 0.875


def test_rows_are_drawn_as_torch_draws_them() -> None:
    def forward(w: Tensor, x: Tensor) -> Tensor:
        return (w * x).mean()

    x = torch.arange(100.0).reshape(100, 1)
    losses = handgrad.compile(forward, params=torch.ones(1, 1), batch=(x[:4],), update=SGD(lr=0.0)).run(5, x, seed=7)

    drawn = torch.randint(0, 100, (5, 4), generator=torch.Generator().manual_seed(7))
    np.testing.assert_allclose(losses, drawn.float().mean(1).numpy(), rtol=1e-6)


# -- every lowering, beside PyTorch


EXPRESSIONS = """
x + y; x - 2 * y; x * v; x / (y.abs() + 1); -x; x.exp(); (x.abs() + 0.1).log(); x.tanh(); x.sigmoid(); x.relu()
(x * x + 1).sqrt(); (x * x + 1).rsqrt(); x.abs(); x**2; x**3; (x.abs() + 1) ** -0.5; (x.abs() + 1) ** -1.5
x.sign(); (x.abs() + 1) ** 0.7; 2.0**x; torch.exp2(x); x.sin(); x.cos(); torch.erf(x); x.expm1(); (x * x).log1p()
x.square(); x.clamp(-0.5, 0.5); x.clamp(min=0.1); torch.maximum(x, y); torch.minimum(x, v)
torch.where(x > 0, x, 0.1 * y); x.masked_fill(x > 0.3, 2.0); F.gelu(x); F.gelu(x, approximate="tanh"); F.silu(x)
F.softplus(x); F.leaky_relu(x, 0.2); F.elu(x); (x > y).float(); x.floor(); x.ceil(); x.reciprocal(); x.lerp(y, 0.3)
(x > 0).float() * y; F.hardtanh(x); F.logsigmoid(x); x.sum(); x.sum(0); x.sum(1, keepdim=True); x.mean(); x.mean(1)
x.var(0); x.var(1, unbiased=False); x.std(0); x.amax(1); x.amin(0); x.max(); x.max(1).values
x.max(0).indices.float(); x.argmax(1).float(); x.prod(1); x.logsumexp(1); x.norm(dim=1); z.sum((0, 2))
z.mean((1, 2)); z.amax(1); z.var((0, 1)); (z - z.mean(-1, keepdim=True)).sum(1); x.cumsum(1)[:, -1]
(x > 0).any(1).float(); F.softmax(x, 1); F.softmax(x, 0); F.log_softmax(x, -1); F.layer_norm(x, (7,))
F.layer_norm(z, (3, 4), z[0], z[1]); F.cross_entropy(x, i7); F.cross_entropy(x, i7, reduction="sum")
F.nll_loss(F.log_softmax(x, 1), i7, ignore_index=2); F.mse_loss(x, y); F.cross_entropy(x, i7, label_smoothing=0.1)
F.cross_entropy(x, i7, weight=v.abs()); F.binary_cross_entropy_with_logits(x, y.sigmoid()); x.T; x.reshape(-1)
x.reshape(7, 5); z.permute(2, 0, 1); z.flatten(1); z.view(6, 4); x.unsqueeze(1); z[0]; z[:, 1]; z[..., -1]; x[::2]
x[1:4, 2:]; x[None].expand(3, 5, 7); x.flip(0); x.flip((0, 1)); x.roll(2, 1); x.roll((1, 3), (0, 1)); x.tril()
x.triu(1); F.pad(x, (1, 2)); F.pad(x, (0, 1, 2, 0), value=0.5); torch.cat([x, y], 0); torch.cat([x, y[:, :3]], 1)
torch.stack([x, y], 1); x.split(2, 0)[1]; x.chunk(2, 1)[1]; z.unbind(1)[2]; x.repeat(2, 3); x[i5]; x[:, i7]
x[torch.arange(5), i7]; x[i5][:, i7]; table[i7]; F.embedding(idx, table); x.gather(1, idx[:5, :2])
x.index_select(1, i7); x.index_add(0, i5, y); torch.zeros(9, 7).index_add(0, i5, x)
x.scatter_add(1, idx[:5, :2], y[:, :2]); table[idx].sum(1); F.one_hot(i7, 9).float()
torch.zeros(9, 4).index_put((idx,), z3, accumulate=True); x.index_put((torch.arange(5), i7), v5)
table[idx].reshape(-1, 8); x @ y.T; x.T @ y; x @ w; x @ w + b; F.linear(x, w.T, b); x @ v; v @ x.T
z @ z.transpose(1, 2); torch.bmm(z, z.mT); torch.einsum("bij,bkj->bik", z, z); torch.einsum("ij,ik->jk", x, y)
torch.outer(v, v5); torch.dot(v, v); x @ w @ w.T; torch.addmm(b, x, w); (x @ w).tanh().sum(0)
F.softmax(z @ z.mT / 2, -1) @ z; F.scaled_dot_product_attention(z[None], z[None], z[None]); big @ big.T
big.T @ big; (big @ big.T).softmax(1); big.sum(1); big.mean(0); big - big.mean(0); torch.arange(7.0) + x
torch.ones_like(x) * y; torch.full((5, 7), 2.5) * x; x.new_zeros(5) + v5; x.diagonal(); F.normalize(x, dim=1)
x.cumsum(1); z.cumsum(0); x.diagonal(1); z.diagonal(-1, 1, 2); x.tan(); x.sinh(); x.cosh(); (x / 4).asin()
(x / 4).acos(); x.atan(); x.asinh(); (x.abs() + 1.1).acosh(); (x / 9).atanh(); (x.abs() + 1).log2()
(x.abs() + 1).log10(); torch.erfc(x); torch.lgamma(x.abs() + 0.5); torch.atan2(x, y); torch.hypot(x, y)
torch.fmod(x, 0.7); (x / (x > 0)).isnan().float(); (x / (x > 0)).isinf().float(); (1 / (x > 0)).isfinite().float()
torch.fmax(x, v); torch.fmin(x, (x > 0) * y / (x > 0)); x.clamp_min(v); x.clamp_max(y); x.argmin(1).float()
torch.addmv(v5, x, v); F.batch_norm(x, None, None, v, v, training=True); F.batch_norm(z, None, None, training=True)
F.group_norm(z.reshape(1, 6, 4), 3); F.instance_norm(z); F.group_norm(table.reshape(3, 6, 2), 2, v[:6], v[:6])
x.diagonal_scatter(v5); x.diagonal_scatter(v5[:4], -1); F.conv1d(z, k1); F.conv1d(z, k1, v[:5], stride=2, padding=2)
F.conv1d(z, k1, dilation=2, padding=3); F.conv2d(image, k2, v5[:4])
F.conv2d(image, k2, stride=(2, 1), padding=(0, 2), dilation=(1, 2)); F.conv2d(image, k3, padding=1, groups=2)
F.conv_transpose1d(z, kt, stride=2, padding=1, output_padding=1)
F.conv_transpose2d(image, k4, stride=(1, 3), dilation=2); F.conv_transpose2d(image, k4, groups=2, padding=1)
F.conv1d(z[:1], k1[:1])
F.avg_pool2d(image, 2); F.avg_pool2d(image, (3, 2), stride=1, padding=(1, 0)); F.avg_pool1d(z, 2, 1)
F.max_pool2d(image, 2); F.max_pool2d(image, (2, 3), stride=(1, 2), padding=1, dilation=(2, 1)); F.max_pool1d(z, 3)
F.max_pool2d(image, 2, return_indices=True)[1].float(); x.unfold(1, 3, 2)
conv_backward(image[:, :, 2:, 1:], image, k2, [1], [0], [1], 1)[0]; conv_backward(x2, image, k3, [2], [1], [1, 2], 2)[1]
conv_backward(x2, image, k3, [2], [1], [1, 2], 2)[0]; conv_backward(x2, image, k3, [2], [1], [1, 2], 2)[2]
"""


def conv_backward(grad: Tensor, x: Tensor, w: Tensor, *options: Any) -> tuple[Tensor, ...]:
    *sizes, groups = options
    bias = [w.shape[0]]
    return torch.ops.aten.convolution_backward(grad, x, w, bias, *sizes, False, [0], groups, [True] * 3)


WRITTEN = [e.strip() for row in EXPRESSIONS.strip().split("\n") for e in row.split(";")]


def spaces() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g)

    return {
        "x": draw(5, 7), "y": draw(5, 7), "v": draw(7), "v5": draw(5), "w": draw(7, 37), "b": draw(37),
        "z": draw(2, 3, 4), "z3": draw(6, 3, 4), "table": draw(9, 4), "big": draw(33, 70),
        "i5": torch.tensor([3, 0, 3, 1, 4]), "i7": torch.tensor([2, 0, 6, 6, 3]),
        "idx": torch.randint(0, 7, (6, 3), generator=g),
        "k1": draw(5, 3, 2), "kt": draw(3, 2, 3), "image": draw(2, 4, 6, 5), "k2": draw(4, 4, 3, 2),
        "k3": draw(6, 2, 2, 3), "x2": draw(2, 6, 4, 2),
        "k4": draw(4, 3, 3, 2),
    }  # fmt: skip


@pytest.mark.parametrize("group", range(4))
def test_expressions_have_pytorchs_values(group: int) -> None:
    given = spaces()
    texts = WRITTEN[group::4]

    def function(*tensors: Tensor) -> list[Tensor]:
        names = dict(zip(given, tensors, strict=True))
        return [eval(e, {"torch": torch, "F": F, "conv_backward": conv_backward, **names}) for e in texts]  # noqa: S307 written above

    found = natively(function, *given.values())

    for text, value, truth in zip(texts, found, function(*given.values()), strict=True):
        assert value.shape == tuple(truth.shape), text
        np.testing.assert_allclose(value, truth.numpy(), rtol=2e-5, atol=2e-6, err_msg=text)


def test_a_convolutional_network_trains_as_in_pytorch() -> None:
    def forward(p: dict[str, Tensor], images: Tensor, Y: Tensor) -> Tensor:
        h = torch.relu(F.conv2d(images, p["k1"], p["b1"], padding=1))
        h = F.max_pool2d(h, 2)
        h = F.gelu(F.batch_norm(F.conv2d(h, p["k2"], stride=2), None, None, p["gain"], p["bias"], training=True))
        return F.cross_entropy(h.mean((2, 3)) @ p["W"], Y)

    g = torch.Generator().manual_seed(2)
    start = {
        "k1": torch.randn(4, 1, 3, 3, generator=g) / 3, "b1": torch.zeros(4),
        "k2": torch.randn(6, 4, 2, 2, generator=g) / 4,
        "gain": torch.ones(6), "bias": torch.zeros(6), "W": torch.randn(6, 3, generator=g) / 2,
    }  # fmt: skip
    images, Y = torch.randn(60, 1, 8, 8, generator=g), torch.randint(0, 3, (60,), generator=g)
    leaves = {name: x.clone().requires_grad_() for name, x in start.items()}
    batch = (images[:12], Y[:12])
    step = handgrad.compile(forward, params=start, batch=batch, update=SGD(0.1), fallback=False)
    rows = torch.randint(0, 60, (40, 12), generator=g)

    found = step.run(40, images, Y, rows=rows)

    for k, ix in enumerate(rows):
        loss = forward(leaves, images[ix], Y[ix])
        assert found[k] == pytest.approx(loss.item(), rel=1e-3)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        with torch.no_grad():
            for leaf, gradient in zip(leaves.values(), gradients, strict=True):
                leaf -= 0.1 * gradient


def test_what_is_written_in_place_is_a_new_value() -> None:
    def function(x: Tensor) -> list[Tensor]:
        h = x.clone()
        h[0] = 1.0
        h[:, 1] += h[:, 0]
        h[1:3, 2:] *= 2
        row = h[3]
        row.mul_(3.0)
        h += 1
        return [h, row]

    x = torch.randn(5, 7)

    found = natively(function, x)

    for value, truth in zip(found, function(x), strict=True):
        np.testing.assert_allclose(value, truth.numpy(), rtol=1e-6)


# -- hostile use


def simple(w: Tensor, x: Tensor, i: Tensor) -> Tensor:
    return (w[i] * x).sum()


def small() -> tuple[Any, Tensor, Tensor, Tensor]:
    w, x, i = torch.randn(4, 3), torch.randn(5, 3), torch.tensor([0, 3, 1, 1, 2])
    return handgrad.compile(simple, params=w, batch=(x, i)), w, x, i


def test_the_steps_of_a_loop_share_their_code(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    monkeypatch.setattr(planning, "object_of", lambda text: texts.append(text) or object_of(text))
    monkeypatch.setenv("HANDGRAD_CACHE", "/dev/null")

    def forward(p: tuple[Tensor, Tensor], X: Tensor) -> Tensor:
        W, U = p
        h = torch.zeros(X.shape[0], 5)
        for t in range(X.shape[1]):
            h = torch.tanh(X[:, t] @ W + h @ U)
        return (h**2).mean()

    params = (torch.randn(4, 5) / 2, torch.randn(5, 5) / 2)
    found = []
    for steps in (5, 20):
        X = torch.randn(6, steps, 4)
        step = handgrad.compile(forward, params=params, batch=(X,))
        leaves = tuple(p.clone().requires_grad_() for p in params)
        gradients = torch.autograd.grad(forward(leaves, X), leaves)
        for own, right in zip(step.gradients(X).values(), gradients, strict=True):
            np.testing.assert_allclose(own, right.numpy(), rtol=1e-4, atol=1e-6)
        found.append(sum(text.count("define internal") for text in texts))
        texts.clear()

    assert found[1] <= found[0]  # four times the steps


def test_what_does_not_fit_is_refused_before_anything_runs() -> None:
    compiled, w, x, i = small()
    before = w.clone()

    for call, message in [
        (lambda: compiled.step(x, i + 1), "holds 4, which is out of range for an index below 4"),
        (lambda: compiled.step(x, i - 1), "holds -1, which is out of range"),
        (lambda: compiled.step(x[:3], i[:3]), "is compiled for"),
        (lambda: compiled.step(x.double(), i), "is float64, and the step is compiled for float32"),
        (lambda: compiled.step(i, x), "compiled for"),
        (lambda: compiled.step(x), "1 arrays are given, and a batch has 2"),
        (lambda: compiled.step(x, i.float()), "compiled for whole numbers"),
        (lambda: compiled.run(2, x, i, rows=[[0, 1, 2, 3, 5]] * 2), "rows hold 5, and the data have 5 rows"),
        (lambda: compiled.run(2, x, i, rows=[[0, 1]] * 2), "rows are int64 of shape"),
        (lambda: compiled.run(2, x[:2], i), "rows: give as many of each"),
    ]:
        with pytest.raises(CompileError) as caught:
            call()
        assert message in str(caught.value)
    assert torch.equal(w, before)


def test_inputs_may_lie_anyhow_and_hold_nan() -> None:
    compiled, w, x, i = small()
    expected = x.sum(0)

    strided = compiled.gradients(x.T.contiguous().T, torch.stack([i, i], 1)[:, 0])
    assert strided["dw"].sum(0) == pytest.approx(expected.numpy(), rel=1e-5)

    x[0, 0] = math.nan
    assert math.isnan(compiled.step(x, i))
    assert w.isnan().sum() == 1


def test_an_index_that_the_step_computes_never_leads_outside() -> None:
    def forward(w: Tensor, x: Tensor, i: Tensor) -> Tensor:
        return (w[x.argmax(1)] * w[i - 2]).sum()

    w, x, i = torch.randn(4, 3), torch.randn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    compiled = handgrad.compile(forward, params=w, batch=(x, i))

    assert compiled.loss(x, i) == pytest.approx(forward(w, x, i).item(), rel=1e-5)
    x[:] = math.nan
    compiled.step(x, i + 2**30)


def test_a_step_without_a_native_form_is_named_with_its_place() -> None:
    def forward(w: Tensor, x: Tensor) -> Tensor:
        h = x @ w
        largest = h.sort(1).values[:, -1]
        return largest.sum()

    with pytest.raises(NoLoweringError, match=r"test_native.py:\d+: .*h.sort\(1\)"):
        handgrad.compile(forward, params=torch.randn(3, 2), batch=(torch.randn(4, 3),), fallback=False)


@pytest.mark.parametrize("update", [SGD(0.2), SGD(0.1, 0.9, 0.01, nesterov=True, max_norm=0.5), AdamW(0.01)], ids=str)
def test_what_has_no_native_form_runs_in_eager_pytorch_and_says_so(update: Any) -> None:
    def forward(w: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(torch.tanh(x @ w + b), y)

    def sorting(w: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(torch.tanh(x @ w + b), y) + 0 * x.sort(1).values.sum()

    generator = torch.Generator().manual_seed(0)
    start = {"w": torch.randn(3, 5, generator=generator), "b": torch.zeros(5)}
    X, Y = torch.randn(50, 3, generator=generator), torch.randint(0, 5, (50,), generator=generator)
    native_parameters, eager_parameters = ({name: x.clone() for name, x in start.items()} for _ in "12")
    given = {"batch": (X[:8], Y[:8]), "update": update}
    native = handgrad.compile(forward, params=native_parameters, **given)
    with pytest.warns(UserWarning, match=r"test_native.py:\d+: .*x.sort\(1\).*; the steps run in eager PyTorch"):
        eager = handgrad.compile(sorting, params=eager_parameters, **given)

    assert (native.engine, eager.engine) == ("native", "eager")
    assert eager.loss(X[:8], Y[:8]) == pytest.approx(native.loss(X[:8], Y[:8]), rel=1e-5)
    for found, right in zip(
        eager.gradients(X[:8], Y[:8]).values(), native.gradients(X[:8], Y[:8]).values(), strict=True
    ):
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-6)
    assert eager.step(X[:8], Y[:8]) == pytest.approx(native.step(X[:8], Y[:8]), rel=1e-5)
    np.testing.assert_allclose(eager.run(100, X, Y, seed=3), native.run(100, X, Y, seed=3), rtol=1e-3)
    for name, parameter in native_parameters.items():
        torch.testing.assert_close(eager_parameters[name], parameter, rtol=1e-3, atol=1e-5)
    with pytest.raises(CompileError, match="the step is compiled for"):
        eager.step(X[:7], Y[:7])
    with pytest.raises(CompileError, match="does not run on this batch"):
        eager.step(X[:8], Y[:8] + 5)


def assert_is_autograds(step: Any, forward: Callable[..., Tensor], w: Tensor, *batch: Tensor) -> None:
    """Compare loss and gradient of a step of one parameter with autograd's."""
    leaf = w.clone().requires_grad_()
    loss = forward(leaf, *batch)
    loss.backward()
    assert leaf.grad is not None
    assert step.loss(*batch) == pytest.approx(loss.item(), rel=1e-5)
    np.testing.assert_allclose(step.gradients(*batch)["dw"], leaf.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_a_mask_names_the_first_dimensions_and_what_it_picks_out_has_no_size() -> None:
    def put(w: Tensor, x: Tensor) -> Tensor:
        h = x @ w
        h[h.sum(1) > 0] = 2.0
        return (h**2).sum()

    def picked(w: Tensor, x: Tensor) -> Tensor:
        h = x @ w
        return (h[h.sum(1) > 0] ** 2).sum()

    g = torch.Generator().manual_seed(3)
    w = torch.randn(4, 4, generator=g)
    first = torch.randn(4, 4, generator=g)  # as many rows as columns: a mask on the wrong dimension would fit
    native = handgrad.compile(put, params=w, batch=(first,), fallback=False)
    with pytest.raises(
        NoLoweringError, match=r"test_native.py:\d+: how many numbers `h\[.*` makes depends on the data"
    ):
        handgrad.compile(picked, params=w, batch=(first,), fallback=False)
    with pytest.warns(UserWarning, match="the steps run in eager PyTorch"):
        eager = handgrad.compile(picked, params=w, batch=(first,))

    for _ in range(5):
        x = torch.randn(4, 4, generator=g)
        for step, forward in ((native, put), (eager, picked)):
            assert_is_autograds(step, forward, w, x)


def test_targets_that_a_loss_ignores_may_be_out_of_range() -> None:
    def forward(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(x @ w, y)

    g = torch.Generator().manual_seed(4)
    w, x = torch.randn(5, 7, generator=g), torch.randn(6, 5, generator=g)
    y = torch.tensor([3, -100, 0, 6, -100, 1])
    some = handgrad.compile(forward, params=w, batch=(x, y), fallback=False)
    for targets in (y, torch.tensor([1, 2, 3, 4, 5, -100]), torch.tensor([6, 5, 4, 3, 2, 1])):
        assert_is_autograds(some, forward, w, x, targets)
    with pytest.raises(CompileError, match=r"batch\[1\] holds -1, which is out of range for an index below 7"):
        some.loss(x, torch.tensor([1, 2, 3, 4, 5, -1]))

    none = handgrad.compile(forward, params=w, batch=(x, y.clamp(min=0)), fallback=False)
    with pytest.raises(CompileError, match=r"batch\[1\] holds -100, which is out of range"):  # the backward knows none
        none.gradients(x, y)


def test_a_forward_takes_a_batch_of_any_number_and_masks_given_or_made_outside() -> None:
    causal = torch.ones(4, 4).tril() > 0

    def forward(w: Tensor, *batch: Tensor) -> Tensor:
        x, keep = batch
        scores = (x @ w).masked_fill(~causal, -1e9).softmax(1)
        return (scores * x)[:, 1:].where(keep, 0.5).square().sum()

    g = torch.Generator().manual_seed(5)
    w = torch.randn(4, 4, generator=g)
    step = handgrad.compile(forward, params=w, batch=(w, torch.ones(4, 3, dtype=torch.bool)), fallback=False)
    for _ in range(3):
        x, keep = torch.randn(4, 4, generator=g), torch.rand(4, 3, generator=g) > 0.5
        assert_is_autograds(step, forward, w, x, keep)


def test_a_gradient_that_is_written_through_einsum_is_kept() -> None:
    def forward(w: Tensor, x: Tensor) -> Tensor:
        return (torch.einsum("iij->ij", w) * x).square().sum()

    w, x = torch.rand(3, 3, 2), torch.rand(3, 2)
    step = handgrad.compile(forward, params=w, batch=(x,), fallback=False)
    assert_is_autograds(step, forward, w, x)


def test_a_write_that_gets_lost_when_a_step_is_recorded_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(w: Tensor, x: Tensor) -> Tensor:
        h = x * w
        torch.einsum("ij->ji", h).mul_(torch.arange(3.0)[:, None])
        return h.sum()

    def backward(x: Tensor) -> Tensor:
        return (x * torch.arange(3.0)).sum(0)

    w, x = torch.ones(3), torch.rand(4, 3)
    step = handgrad.compile(forward, backward, params=w, batch=(x,), fallback=False)
    assert step.loss(x) == pytest.approx(forward(w, x).item())
    monkeypatch.setattr("handgrad.native.capture._view_by_einsum", lambda *_: None)
    with pytest.raises(NoLoweringError, match="the loss is another when the step is recorded"):
        handgrad.compile(forward, backward, params=w, batch=(x,), fallback=False)


def test_what_depends_on_a_number_taken_out_of_a_tensor_is_not_compiled() -> None:
    def forward(w: Tensor, x: Tensor) -> Tensor:
        h = x @ w
        largest = h.abs().max().item()
        return (h / largest).sum() if h.sum() > 0 else h.sum()

    def backward(w: Tensor, x: Tensor) -> Tensor:
        h = x @ w
        scale = 1 / h.abs().max().item() if h.sum() > 0 else 1
        return scale * x.sum(0)[:, None].expand_as(w)

    def in_numpy(w: Tensor, x: Tensor) -> Tensor:
        return (x @ w).sum() * float(np.abs(x.numpy()).max())

    w, x = torch.ones(3, 2), torch.rand(5, 3)
    with pytest.warns(UserWarning, match="a number is taken out"):
        step = handgrad.compile(in_numpy, lambda x: x.sum(0)[:, None].expand(3, 2), params=w, batch=(x,))
    assert step.loss(2 * x) == pytest.approx(in_numpy(w, 2 * x).item(), rel=1e-5)
    with pytest.raises(NoLoweringError, match=r"test_native.py:\d+: .*largest = .*a number is taken out of a tensor"):
        handgrad.compile(forward, backward, params=w, batch=(x,), fallback=False)
    with pytest.warns(UserWarning, match="a number is taken out"):
        step = handgrad.compile(forward, backward, params=w, batch=(x,))
    for given in (x, 3 * x, -x):
        assert step.loss(given) == pytest.approx(forward(w, given).item(), rel=1e-5)
        np.testing.assert_allclose(step.gradients(given)["dw"], backward(w, given).numpy(), rtol=1e-5)


def test_what_a_derived_backward_would_fix_runs_by_autograd_in_eager() -> None:
    def dropping(w: Tensor, x: Tensor) -> Tensor:
        mask = torch.rand(2) < 0.5
        return ((x @ w) * mask).sum()

    def scaled(w: Tensor, x: Tensor) -> Tensor:
        h = x @ w
        return (h / h.abs().max().item()).sum()

    x = torch.rand(5, 3)
    with pytest.warns(
        UserWarning, match=r"`torch.rand\(2\)` draws other numbers in every step; the steps run in eager"
    ):
        step = handgrad.compile(dropping, params=torch.ones(3, 2), batch=(x,))
    assert len({step.loss(x) for _ in range(20)}) > 1
    with pytest.warns(UserWarning, match="a number is taken out of a tensor"):
        step = handgrad.compile(scaled, params=torch.ones(3, 2), batch=(x,))
    for given in (x, 5 * x + 1):
        assert step.loss(given) == pytest.approx(scaled(torch.ones(3, 2), given).item(), rel=1e-5)
        largest = (given @ torch.ones(3, 2)).abs().max()
        right = given.sum(0)[:, None].expand(3, 2) / largest
        np.testing.assert_allclose(step.gradients(given)["dw"], right.numpy(), rtol=1e-5)


def test_functions_that_do_not_fit_together_are_refused() -> None:
    x = torch.randn(4, 3)

    def forward(w: Tensor, x: Tensor) -> Tensor:
        return (x @ w).sum()

    for backward, message in [
        (lambda x: x.sum(0), "dw has shape (3,), and w has (3, 2)"),
        (lambda x: {"dx": x}, "no gradient of w"),
    ]:
        with pytest.raises(CompileError) as caught:
            handgrad.compile(forward, backward, params=torch.randn(3, 2), batch=(x,))
        assert message in str(caught.value)
    with pytest.raises(CompileError, match="no scalar loss"):
        handgrad.compile(lambda w, x: x @ w, params=torch.randn(3, 2), batch=(x,))
    with pytest.raises(CompileError, match="float32, or float64"):
        handgrad.compile(forward, params=torch.randn(3, 2).double(), batch=(x,))


ENDLESS = """
import signal, torch, handgrad
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with it ignored
def forward(w, x):
    return ((x @ w) ** 2).mean()
w = torch.ones(64, 64)
update = handgrad.SGD(lr=1e-6)
step = handgrad.compile(forward, params=w, batch=(torch.ones(32, 64),), update=update, threads=THREADS)
x = torch.ones(100, 64)
try:
    step.run(50_000_000 // 32, x, progress=lambda done, loss: print(done, flush=True))
except KeyboardInterrupt:
    print("stopped", step.steps_done > 0, bool((w < 1).all()), bool(w.isfinite().all()))
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_ctrl_c_is_answered_and_keeps_what_was_done(tmp_path: Path, threads: str) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS.replace("THREADS", threads))
    with subprocess.Popen([sys.executable, str(tmp_path / "endless.py")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(5):
            assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        rest = process.stdout.read()
        waited = time.monotonic() - sent

    assert rest.strip().endswith("stopped True True True")
    assert waited < 30  # a second on a machine that has nothing else to do
