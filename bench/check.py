"""What a check costs, beside `torch.autograd.gradcheck` on the same function; one thread, medians, interleaved.

Both judge the names model (H=64, batch 32). `handgrad.check` judges each of the 26 lines of its backward by hand;
`gradcheck` differentiates the forward numerically, entry by entry, and says whether the gradients of the parameters are
right.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import handgrad
from handgrad import source
from handgrad.models.mlp import atomic
from handgrad.models.mlp.parameters import Parameters, initialise

RUNS = 3


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds that one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(2147483647)
    parameters = initialise(27, 3, n_embd=10, n_hidden=64, generator=g)
    batch = torch.randint(27, (32, 3), generator=g), torch.randint(27, (32,), generator=g)
    wide = [p.double().requires_grad_() for p in parameters]

    def loss(*tensors: torch.Tensor) -> torch.Tensor:
        return atomic.forward(Parameters(*tensors), *batch).loss

    text = Path(atomic.__file__).read_text().replace("dprobs).sum(1, keepdim=True)", "dprobs)")
    source.register("<wrong>", text)
    wrong: dict[str, object] = {"__name__": "wrong"}
    exec(compile(text, "<wrong>", "exec"), wrong)  # noqa: S102  (our own page, with a sum left out)

    rows: dict[str, Callable[[], object]] = {
        "forward alone": lambda: atomic.forward(parameters, *batch),
        "handgrad.trace": lambda: handgrad.trace(atomic.forward, parameters, *batch),
        "handgrad.check, 26 right": lambda: handgrad.check(atomic.forward, atomic.backward, parameters, *batch),
        "handgrad.check, 1 wrong": lambda: handgrad.check(wrong["forward"], wrong["backward"], parameters, *batch),  # type: ignore[arg-type]
        "torch.autograd.gradcheck": lambda: torch.autograd.gradcheck(loss, wide),
    }
    for call in rows.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(RUNS):
        for name, call in rows.items():
            repeats = 200 if name == "forward alone" else 20 if name == "handgrad.trace" else 1
            times[name].append(seconds(lambda: [call() for _ in range(repeats)]) / repeats)  # noqa: B023  (called here)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{'':28s} {'ms':>9s}   ratio to gradcheck   ratio to forward")
    for name, value in medians.items():
        to_gradcheck, to_forward = value / medians["torch.autograd.gradcheck"], value / medians["forward alone"]
        print(f"{name:28s} {value * 1e3:9.2f}   {to_gradcheck:18.4f}   {to_forward:16.1f}")


if __name__ == "__main__":
    main()
