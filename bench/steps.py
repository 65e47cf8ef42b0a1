"""Training steps a second: gradients by hand beside autograd, interleaved in one run.

    python bench/steps.py [--rounds 40] [--steps 50]

Every engine takes the same steps from the same parameters on the same minibatches. A round gives each of them
`--steps` steps, one engine after the other, so that a busy moment of the machine falls on all alike; the figure is the
median over the rounds, and the ratio is the median of the rounds' ratios. One thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import count

import torch
from torch import Tensor

from handgrad.data import build_dataset, load_words
from handgrad.models.mlp import Parameters, atomic, fast, initialise

LR = 0.1
Step = Callable[[Parameters, Tensor, Tensor], None]


def autograd_step(forward: Callable[..., atomic.Values | fast.Values]) -> Step:
    """Return the step as people write it with autograd."""

    def step(parameters: Parameters, Xb: Tensor, Yb: Tensor) -> None:
        for p in parameters:
            p.grad = None
        forward(parameters, Xb, Yb).loss.backward()
        for p in parameters:
            p.data += -LR * p.grad

    return step


def by_hand_step(parameters: Parameters, Xb: Tensor, Yb: Tensor) -> None:
    """Do the step that `handgrad train` does."""
    with torch.no_grad():
        gradients = fast.backward(parameters, fast.forward(parameters, Xb, Yb), Xb, Yb)
        for name, p in parameters._asdict().items():
            p.add_(getattr(gradients, f"d{name}"), alpha=-LR)


ENGINES: dict[str, tuple[Step, bool]] = {
    "autograd, atomic forward": (autograd_step(atomic.forward), True),
    "autograd, library calls": (autograd_step(fast.forward), True),
    "by hand": (by_hand_step, False),
}


def minibatches(X: Tensor, Y: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw minibatches without end, the same in every run."""
    for seed in count():
        g = torch.Generator().manual_seed(seed)
        ix = torch.randint(0, len(X), (batch_size,), generator=g)
        yield X[ix], Y[ix]


def measure(n_hidden: int, batch_size: int, rounds: int, steps: int) -> dict[str, list[float]]:
    """Return the seconds a step of every round, by engine; the first round warms up and is dropped."""
    dataset = build_dataset(load_words().words)
    X, Y = map(torch.from_numpy, dataset.train)
    start = initialise(len(dataset.vocabulary), 3, 10, n_hidden, generator=torch.Generator().manual_seed(1))
    parameters = {
        name: Parameters(*(p.clone().requires_grad_(needs_grad) for p in start))
        for name, (_, needs_grad) in ENGINES.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in ENGINES}
    batches = minibatches(X, Y, batch_size)
    for _ in range(rounds + 1):
        of_round = [next(batches) for _ in range(steps)]
        for name, (step, _) in ENGINES.items():
            begin = time.perf_counter()
            for Xb, Yb in of_round:
                step(parameters[name], Xb, Yb)
            seconds[name].append((time.perf_counter() - begin) / steps)
    return {name: measured[1:] for name, measured in seconds.items()}


def main() -> None:
    """Measure both sizes of the exercise and print a row for each engine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=50)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, {arguments.rounds} rounds of {arguments.steps} steps")
    print(f"{'n_hidden':>8} {'batch':>5}  {'engine':26} {'us a step':>10} {'steps/s':>8} {'ratio':>6}")
    for n_hidden, batch_size in ((64, 32), (200, 32)):
        seconds = measure(n_hidden, batch_size, arguments.rounds, arguments.steps)
        plain = seconds["autograd, atomic forward"]
        for name, measured in seconds.items():
            median = statistics.median(measured)
            ratio = statistics.median(p / m for p, m in zip(plain, measured, strict=True))
            print(f"{n_hidden:8} {batch_size:5}  {name:26} {median * 1e6:10.0f} {1 / median:8.0f} {ratio:5.2f}x")


if __name__ == "__main__":
    main()
