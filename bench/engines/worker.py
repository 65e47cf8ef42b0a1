"""An engine in a process of its own: says when its first step was done, then takes steps as it is asked to.

    python bench/engines/worker.py ENGINE CASE STARTED

Reads a line ``SEED STEPS`` and answers with the seconds that the steps took and the loss of the last; at the end of
input it answers with the largest memory that it had. ``STARTED`` is when the process was started (`time.time`).
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engines.cases import CASES

MODULES = {
    "peak": ("native", "peak"),
    "handgrad": ("native", "handgrad_one"),
    "handgrad, 2 threads": ("native", "handgrad_two"),
    "autograd": ("in_torch", "autograd"),
    "autograd, library calls": ("in_torch", "autograd_library"),
    "torch.compile": ("in_torch", "compiled_autograd"),
    "by hand": ("in_torch", "by_hand"),
    "torch.compile, by hand": ("in_torch", "compiled_by_hand"),
    "jax.jit": ("in_jax", "jit"),
    "jax.jit + scan": ("in_jax", "scan"),
    "jax.jit + scan, one-hot": ("in_jax", "scan_one_hot"),
}


def main() -> None:
    """Answer until the input ends."""
    engine, name, started = sys.argv[1:]
    case, (module, function) = CASES[name], MODULES[engine]
    make = getattr(__import__(f"engines.{module}", fromlist=[function]), function)
    imported = time.time()
    take = make(case)
    count = len(case.data()[0])

    def rows(seed: int, steps: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        return np.random.default_rng(seed).integers(0, count, (steps, case.batch_size))

    loss = take(rows(0, 1))
    now = time.time()
    _say({"first_step": now - float(started), "after_imports": now - imported, "loss": loss})
    for line in sys.stdin:
        seed, steps = map(int, line.split())
        given = rows(seed, steps)
        begin = time.perf_counter()
        loss = take(given)
        _say({"seconds": time.perf_counter() - begin, "loss": loss})
    _say({"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})


def _say(answer: dict[str, float]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
