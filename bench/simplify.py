# ruff: noqa: RET504 the results have names, which the gradients are called after
"""How long `handgrad.simplify` takes for each closed form that people know by heart.

    python bench/simplify.py [--rounds 5]

The figure is the median over the rounds, in seconds, of the derivation and of the simplification alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import handgrad
from handgrad.models.mlp import Parameters, atomic


def whole_model(C: Tensor, W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """Exercises 2 and 3 where they stand: in the names model, every step a line."""
    Xb, Yb = torch.arange(96).reshape(32, 3) % 27, torch.arange(32) % 27
    return atomic.forward(Parameters(C, W1, b1, W2, b2, gain, bias), Xb, Yb).loss


def softmax(x: Tensor) -> Tensor:
    """Softmax, less its maximum."""
    e = (x - x.max(1, keepdim=True).values).exp()
    p = e / e.sum(1, keepdim=True)
    return p


def log_softmax(x: Tensor) -> Tensor:
    """Softmax in logarithms."""
    log_total = x.exp().sum(1, keepdim=True).log()
    logp = x - log_total
    return logp


def layer_norm(x: Tensor) -> Tensor:
    """Layer norm without gain."""
    centred = x - x.mean(1, keepdim=True)
    var = (centred**2).mean(1, keepdim=True)
    inv = (var + 1e-5) ** -0.5
    xhat = centred * inv
    return xhat


def rms_norm(x: Tensor) -> Tensor:
    """RMS norm without gain."""
    inv = ((x**2).mean(1, keepdim=True) + 1e-5) ** -0.5
    xhat = x * inv
    return xhat


def l2(x: Tensor) -> Tensor:
    """Rows of length 1."""
    size = x.norm(dim=1, keepdim=True)
    y = x / size
    return y


def binary(x: Tensor) -> Tensor:
    """Sigmoid and binary cross-entropy."""
    p = torch.sigmoid(x)
    loss = -((x > 0) * p.log() + (x <= 0) * (1 - p).log()).mean()
    return loss


def picked(x: Tensor) -> Tensor:
    """Cross-entropy from the softmax of the library."""
    y = torch.zeros(32, dtype=torch.int64)
    p = F.softmax(x, 1)
    loss = -p[range(32), y].log().mean()
    return loss


def main() -> None:
    """Print a line for each form."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shapes = [(27, 10), (30, 64), (64,), (64, 27), (27,), (1, 64), (1, 64)]
    model = [torch.randn(shape, requires_grad=True) for shape in shapes]
    rows = [torch.randn(32, 27, requires_grad=True)]
    forms: list[tuple[Callable[..., Tensor], list[Tensor]]] = [
        (form, rows) for form in (softmax, log_softmax, layer_norm, rms_norm, l2, binary, picked)
    ]
    print(f"{'form':15} {'derive':>8} {'simplify':>9}  closed forms")
    for forward, inputs in [(whole_model, model), *forms]:
        times: list[tuple[float, float]] = []
        for _ in range(rounds):
            start = time.perf_counter()
            backward = handgrad.derive(forward, *inputs)
            derived = time.perf_counter()
            found = handgrad.simplify(backward)
            times.append((derived - start, time.perf_counter() - derived))
        one, other = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{forward.__name__:15} {one:8.2f} {other:9.2f}  {', '.join(form.gradient for form in found)}")


if __name__ == "__main__":
    main()
