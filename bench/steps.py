"""Training steps a second: gradients by hand, in eager PyTorch and compiled, beside autograd, interleaved in one run.

    python bench/steps.py [--rounds 20] [--steps 200]

Every engine takes the same steps from the same parameters on the same minibatches. A round gives each of them
`--steps` steps, one engine after the other, so that a busy moment of the machine falls on all alike; the figure is the
median over the rounds, and the ratio is the median of the rounds' ratios. One thread. Taking the rows of a minibatch
out of the data is part of a step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import handgrad
from handgrad.data import build_dataset, load_words
from handgrad.models.mlp import Parameters, atomic, fast, initialise

LR = 0.1
BATCH_SIZE = 32
Step = Callable[[Parameters, Tensor, Tensor], None]
Round = Callable[[Tensor], None]
"""Takes a step for each row of indices (steps, batch size)."""


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


STEPS: dict[str, tuple[Step, bool]] = {
    "autograd, atomic forward": (autograd_step(atomic.forward), True),
    "autograd, library calls": (autograd_step(fast.forward), True),
    "by hand": (by_hand_step, False),
}


def engines(start: Parameters, X: Tensor, Y: Tensor) -> dict[str, Round]:
    """Return every engine, each with parameters of its own."""
    found: dict[str, Round] = {}
    for name, (step, needs_grad) in STEPS.items():
        parameters = Parameters(*(p.clone().requires_grad_(needs_grad) for p in start))

        def take(rows: Tensor, step: Step = step, parameters: Parameters = parameters) -> None:
            for ix in rows:
                step(parameters, X[ix], Y[ix])

        found[name] = take
    batch = (X[:BATCH_SIZE], Y[:BATCH_SIZE])
    own = Parameters(*(p.clone() for p in start))
    compiled = handgrad.compile(fast.forward, fast.backward, params=own, batch=batch, update=handgrad.SGD(lr=LR))

    def run(rows: Tensor) -> None:
        compiled.run(len(rows), X, Y, rows=rows)

    found["compiled"] = run
    return found


def measure(n_hidden: int, rounds: int, steps: int) -> dict[str, list[float]]:
    """Return the seconds a step of every round, by engine; the first round warms up and is dropped."""
    dataset = build_dataset(load_words().words)
    X, Y = map(torch.from_numpy, dataset.train)
    start = initialise(len(dataset.vocabulary), 3, 10, n_hidden, generator=torch.Generator().manual_seed(1))
    taking = engines(start, X, Y)
    seconds: dict[str, list[float]] = {name: [] for name in taking}
    generator = torch.Generator().manual_seed(0)
    for _ in range(rounds + 1):
        rows = torch.randint(0, len(X), (steps, BATCH_SIZE), generator=generator)
        for name, take in taking.items():
            begin = time.perf_counter()
            take(rows)
            seconds[name].append((time.perf_counter() - begin) / steps)
    return {name: measured[1:] for name, measured in seconds.items()}


def main() -> None:
    """Measure both sizes of the exercise and print a row for each engine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, {arguments.rounds} rounds of {arguments.steps} steps")
    print(f"{'n_hidden':>8} {'batch':>5}  {'engine':26} {'us a step':>10} {'steps/s':>8} {'ratio':>6}")
    for n_hidden in (64, 200):
        seconds = measure(n_hidden, arguments.rounds, arguments.steps)
        plain = seconds["autograd, atomic forward"]
        for name, measured in seconds.items():
            median = statistics.median(measured)
            ratio = statistics.median(p / m for p, m in zip(plain, measured, strict=True))
            print(f"{n_hidden:8} {BATCH_SIZE:5}  {name:26} {median * 1e6:10.0f} {1 / median:8.0f} {ratio:5.2f}x")


if __name__ == "__main__":
    main()
