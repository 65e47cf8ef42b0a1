"""`handgrad.as_function`: a pair by hand in any model, and a clear word where it does not fit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import handgrad
from handgrad.errors import DeriveError


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise rows."""
    diff = x - x.mean(-1, keepdim=True)
    inv = ((diff**2).mean(-1, keepdim=True) + eps) ** -0.5
    raw = diff * inv
    return gain * raw + bias, raw, inv


def layer_norm_backward(dout: Tensor, gain: Tensor, raw: Tensor, inv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    draw = gain * dout
    dx = inv * (draw - draw.mean(-1, keepdim=True) - raw * (draw * raw).mean(-1, keepdim=True))
    return dx, (dout * raw).reshape(-1, raw.shape[-1]).sum(0), dout.reshape(-1, raw.shape[-1]).sum(0)


NORM = handgrad.as_function(layer_norm, layer_norm_backward)


class Norm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return NORM(x, self.gain, self.bias)


def model_of(norm: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), norm, nn.GELU(), nn.Linear(10, 3))


def gradients_of(model: Any, parameters: list[nn.Parameter], x: Tensor) -> list[Tensor]:
    for parameter in parameters:
        parameter.grad = None
    model(x).float().square().mean().backward()
    return [p.grad.clone() for p in parameters if p.grad is not None]


def inputs(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=g, dtype=torch.float64, requires_grad=True)
    gain, bias = (torch.randn(shape[-1], generator=g, dtype=torch.float64, requires_grad=True) for _ in "12")
    return x, gain, bias


@given(st.lists(st.integers(1, 4), min_size=0, max_size=2), st.integers(2, 6), st.integers(0, 99))
def test_its_gradients_are_those_of_the_pair(lead: list[int], size: int, seed: int) -> None:
    x, gain, bias = inputs(*lead, size, seed=seed)
    weight = torch.randn_like(x).detach()

    out = NORM(x, gain, bias)

    torch.testing.assert_close(out, layer_norm(x, gain, bias)[0])
    found = torch.autograd.grad((out * weight).sum(), (x, gain, bias))
    right = torch.autograd.grad((layer_norm(x, gain, bias)[0] * weight).sum(), (x, gain, bias))
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-7)


def test_gradcheck_passes_it() -> None:
    assert torch.autograd.gradcheck(NORM, inputs(4, 5))


def test_gradcheck_finds_a_wrong_pair() -> None:
    def wrong(*arguments: Tensor) -> tuple[Tensor, ...]:
        dx, dgain, dbias = layer_norm_backward(*arguments)
        return dx * 1.01, dgain, dbias

    def backward(dout: Tensor, gain: Tensor, raw: Tensor, inv: Tensor) -> tuple[Tensor, ...]:
        return wrong(dout, gain, raw, inv)

    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(handgrad.as_function(layer_norm, backward), inputs(4, 5))


def test_what_is_not_asked_for_gets_no_gradient() -> None:
    x, gain, bias = inputs(4, 5)

    NORM(x.detach(), gain, bias.detach()).sum().backward()

    assert gain.grad is not None
    assert x.grad is None
    assert bias.grad is None
    assert not NORM(x.detach(), gain.detach(), bias.detach()).requires_grad


def test_arguments_by_name_defaults_and_strides() -> None:
    x, gain, bias = inputs(5, 4)
    turned = torch.randn(4, 5, dtype=torch.float64).T.requires_grad_()

    assert torch.equal(NORM(x=x, gain=gain, bias=bias), NORM(x, gain, bias, 1e-5))
    assert not torch.equal(NORM(x, gain, bias, eps=1.0), NORM(x, gain, bias))
    found = torch.autograd.grad(NORM(turned, gain, bias).square().sum(), turned)[0]
    right = torch.autograd.grad(NORM(turned.detach().contiguous().requires_grad_(), gain, bias).square().sum(), gain)
    assert found.shape == turned.shape
    torch.testing.assert_close(torch.autograd.grad(NORM(turned, gain, bias).square().sum(), gain), right)
    assert NORM.__name__ == "layer_norm"
    assert NORM.__doc__ == "Normalise rows."


# -- in models


def test_in_a_module_it_trains_like_pytorchs() -> None:
    losses = []
    for norm in (Norm(10), nn.LayerNorm(10)):
        model = model_of(norm)
        optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
        x = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
        for _ in range(30):
            optimiser.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimiser.step()
        losses.append(loss.item())

    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # TorchDynamo itself does it
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_under_torch_compile_it_is_one_graph(backend: str) -> None:
    model = model_of(Norm(10))
    x, parameters = torch.randn(4, 6), list(model.parameters())
    plain = gradients_of(model, parameters, x)

    compiled = gradients_of(torch.compile(model, backend=backend, fullgraph=True), parameters, x)

    torch.compiler.reset()
    for one, other in zip(compiled, plain, strict=True):
        torch.testing.assert_close(one, other)


def test_under_autocast_the_backward_runs_in_the_same_dtypes() -> None:
    seen: list[torch.dtype] = []

    def forward(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        h = x @ w
        return torch.tanh(h), h

    def backward(dout: Tensor, x: Tensor, w: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        dh = dout * (1 - torch.tanh(h) ** 2)
        dx = dh @ w.T
        seen.append(dx.dtype)
        return dx, x.T @ dh

    layer = handgrad.as_function(forward, backward)
    x, w = torch.randn(5, 3, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x, w)
    out.float().sum().backward()  # outside, as in any training loop

    assert out.dtype == torch.bfloat16
    assert seen == [torch.bfloat16]
    assert x.grad is not None
    assert w.grad is not None
    assert (x.grad.dtype, w.grad.dtype) == (torch.float32, torch.float32)
    right = torch.autograd.grad(torch.tanh(x @ w).sum(), (x, w))
    torch.testing.assert_close((x.grad, w.grad), right, rtol=0.05, atol=0.05)


DDP = """
import sys
sys.path.insert(0, {tests!r})
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel
from test_as_function import Norm, gradients_of, model_of

def work(rank, address):
    dist.init_process_group("gloo", init_method="file://" + address, rank=rank, world_size=2)
    whole = torch.randn(8, 6, generator=torch.Generator().manual_seed(5))
    alone = model_of(Norm(10))
    right = gradients_of(alone, list(alone.parameters()), whole)
    model = model_of(Norm(10))
    found = gradients_of(DistributedDataParallel(model), list(model.parameters()), whole[rank * 4 : rank * 4 + 4])
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    dist.destroy_process_group()

if __name__ == "__main__":
    mp.spawn(work, (sys.argv[1],), nprocs=2)
"""


def test_in_distributed_data_parallel_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    if not torch.distributed.is_available():
        pytest.skip("this PyTorch has no torch.distributed")
    (tmp_path / "ddp.py").write_text(DDP.format(tests=str(Path(__file__).parent)))
    command = [sys.executable, "ddp.py", str(tmp_path / "meeting")]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip

    assert done.returncode == 0, done.stderr


# -- what does not fit


def test_a_gradient_of_a_gradient_is_refused() -> None:
    x, gain, bias = inputs(4, 5)
    (dx,) = torch.autograd.grad(NORM(x, gain, bias).square().sum(), x, create_graph=True)

    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


def square(x: Tensor, places: Tensor) -> Tensor:
    return (x[places] ** 2).sum()


@pytest.mark.parametrize(
    ("backward", "message"),
    [
        (lambda dout, x: x.sum(0) * dout, r"the gradient of x has shape \(4,\), and x has \(3, 4\)"),
        (lambda dout, x: (dout, x, x), "returned 3 gradients for 1 inputs that can have one: x"),
        (lambda dout, x: (dout * x, x), "places can have no gradient, and one was returned"),
        (lambda dout, h: dout * h, "the backward reads h beside the inputs, and the forward returns 0 tensors after"),
    ],
)
def test_what_does_not_fit_is_told_by_name(backward: Any, message: str) -> None:
    layer = handgrad.as_function(square, backward)
    x = torch.randn(3, 4, requires_grad=True)

    with pytest.raises(DeriveError, match=message):
        layer(x, torch.tensor([0, 0, 2])).backward()


def test_signatures_that_cannot_be_matched_are_refused_at_once() -> None:
    with pytest.raises(DeriveError, match="give each input of the forward a name"):
        handgrad.as_function(lambda *xs: xs[0], lambda dout: dout)
    with pytest.raises(DeriveError, match="first parameter of the backward is the gradient of the result"):
        handgrad.as_function(lambda x: x, lambda: None)
    with pytest.raises(DeriveError, match="the forward returns a tensor, then the tensors that the backward reads"):
        handgrad.as_function(lambda x: x.item(), lambda dout: dout)(torch.ones(()))
