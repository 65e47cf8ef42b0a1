"""Training steps: forward, backward and update of several engines, interleaved in one run, beside the peak of a core.

    python bench/steps.py [--cases 64x32 200x32 ...] [--rounds 15] [--starts] [--write]

Every engine is a process of its own, on one core, and takes the same steps from the same parameters on the same
minibatches of the built-in names; taking the rows out of the data is part of a step. A round asks each of them for
about `ROUND` seconds of steps, one after the other, so that a busy moment of the machine falls on all alike. Figures
are medians over the rounds; a ratio is the median of the rounds' ratios. Beside them runs a loop of multiply-adds on
registers: the peak of the core, of which the matrix products of a step take a share. With ``--starts`` each engine is
also started with an empty cache and again with a full one, and the time to its first step is taken. ``--write`` writes
`bench/results.json` and `docs/speed.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from engines.cases import CASES, Case
from engines.worker import MODULES

HERE = Path(__file__).resolve().parent
ROUND = 0.15  # seconds that an engine gets in a round
MOST = 20_000  # steps in a round
PLAIN, SCAN, OURS = "autograd", ("jax.jit + scan", "jax.jit + scan, one-hot"), "handgrad"
AGREE = 1e-3  # how far from the plain engine's a loss may be after 50 steps, relatively


@dataclass
class Engine:
    """A worker, and what was measured of it."""

    name: str
    process: subprocess.Popen[str]
    start: dict[str, float]
    steps: int = 1  # of a round
    seconds: list[float] = field(default_factory=list)  # a step, by round

    def ask(self, seed: int, steps: int) -> dict[str, float]:
        """Let it take steps."""
        print(seed, steps, file=self.process.stdin, flush=True)
        return _answer(self.name, self.process)

    def end(self) -> float:
        """End it, and return the MiB that it took at most."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        memory = _answer(self.name, self.process)["memory"]
        self.process.wait()
        return memory


def _answer(name: str, process: subprocess.Popen[str]) -> dict[str, float]:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        said = process.stderr.read() if process.stderr is not None else ""
        raise SystemExit(f"{name} ended: {said.strip()[-2000:]}")
    return dict(json.loads(line))


def begin(name: str, case: Case, cache: Path) -> Engine:
    """Start an engine on one core, and wait for its first step."""
    cores = sorted(os.sched_getaffinity(0))[-2:] if "2 threads" in name else sorted(os.sched_getaffinity(0))[-1:]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TORCHINDUCTOR_FX_GRAPH_CACHE": "1", "HANDGRAD_CACHE": str(cache / "handgrad"), "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    }  # fmt: skip
    command = [sys.executable, str(HERE / "engines/worker.py"), name, case.name, str(time.time())]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )  # fmt: skip
    return Engine(name, process, _answer(name, process))


def engines_of(case: Case) -> list[str]:
    """Return which engines run a case."""
    return [name for name in MODULES if name != "handgrad, 2 threads" or case.name == "4096x1024"]


def measure(case: Case, rounds: int, *, starts: bool) -> list[dict[str, Any]]:
    """Return a row for each engine."""
    engines: list[Engine] = []
    cold, warm = dict[str, dict[str, float]](), dict[str, dict[str, float]]()
    with tempfile.TemporaryDirectory() as folder:
        for name in engines_of(case):
            cache = Path(folder) / str(len(engines))
            engine = begin(name, case, cache)
            cold[name] = engine.start
            if starts:
                engine.end()
                engine = begin(name, case, cache)
                warm[name] = engine.start
            engines.append(engine)
        _check_that_they_agree(engines)
        for engine in engines:  # warm, and find out how many steps fit into a round
            for seed in (1, 2):
                taken = engine.ask(seed, engine.steps)["seconds"]
                engine.steps = max(1, min(MOST, int(engine.steps * ROUND / taken)))
        for seed in range(rounds):
            for engine in engines:
                engine.seconds.append(engine.ask(seed, engine.steps)["seconds"] / engine.steps)
        memory = {engine.name: engine.end() for engine in engines}
    return [_row(case, e, engines) | _starts(cold[e.name], warm.get(e.name)) | {"peak_memory_mib": memory[e.name]}
            for e in engines]  # fmt: skip


def _check_that_they_agree(engines: list[Engine]) -> None:
    """End the run if an engine does not take the steps of the others: its time would mean nothing."""
    losses = {engine.name: engine.ask(0, 49)["loss"] for engine in engines if engine.name != "peak"}
    plain = losses[PLAIN]
    wrong = [f"{name} {loss:.6f}" for name, loss in losses.items() if not abs(loss - plain) <= AGREE * plain]
    if wrong:
        raise SystemExit(f"after 50 steps the loss of {PLAIN} is {plain:.6f}, and of {', '.join(wrong)}")


def _starts(cold: dict[str, float], warm: dict[str, float] | None) -> dict[str, float | None]:
    """Return the seconds to the first step, from the start of the process and from the end of its imports."""
    return {
        "first_step_cold_s": cold["first_step"],
        "first_step_cold_after_imports_s": cold["after_imports"],
        "first_step_warm_s": warm and warm["first_step"],
        "first_step_warm_after_imports_s": warm and warm["after_imports"],
    }


def _row(case: Case, engine: Engine, engines: list[Engine]) -> dict[str, Any]:
    by_name = {e.name: e.seconds for e in engines}

    def ratio(other: list[float]) -> float:
        return statistics.median(a / b for a, b in zip(other, engine.seconds, strict=True))

    scan = [by_name[name] for name in SCAN if name in by_name]
    best_scan = min(scan, key=statistics.median, default=None)
    row: dict[str, Any] = {
        "engine": engine.name,
        "case": case.name,
        "H": case.sizes["n_hidden"],
        "B": case.batch_size,
        "us": statistics.median(engine.seconds) * 1e6,
        "ratio_to_autograd": ratio(by_name[PLAIN]),
        "ratio_to_jax_scan": None if best_scan is None else ratio(best_scan),
        "share_of_peak": None,
    }
    if case.model == "mlp" and engine.name != "peak":
        a_core = [2**20 / s for s in by_name["peak"]]  # multiply-adds a second
        done = case.multiply_adds_of_tables if OURS in engine.name else case.multiply_adds
        share = (done / s / p for s, p in zip(engine.seconds, a_core, strict=True))
        row["share_of_peak"] = statistics.median(share)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows of a case as text."""
    lines = [f"{'engine':26} {'us a step':>10} {'x autograd':>10} {'x jax scan':>10} {'of peak':>8} {'MiB':>6} "
             f"{'cold s':>7} {'warm s':>7}"]  # fmt: skip
    for row in rows:
        if row["engine"] == "peak":
            lines.append(f"peak of a core: {2 * 2**20 / row['us'] / 1e3:.0f} GFLOP/s")
            continue
        share = "" if row["share_of_peak"] is None else f"{row['share_of_peak']:.0%}"
        warm = "" if row["first_step_warm_s"] is None else f"{row['first_step_warm_s']:.1f}"
        lines.append(f"{row['engine']:26} {row['us']:10.1f} {row['ratio_to_autograd']:9.1f}x "
                     f"{row['ratio_to_jax_scan']:9.2f}x {share:>8} {row['peak_memory_mib']:6.0f} "
                     f"{row['first_step_cold_s']:7.1f} {warm:>7}")  # fmt: skip
    return "\n".join(lines)


PAGE = """# Speed

A training step is forward, backward, update, and taking the rows of a minibatch out of the data. This page was
written by `python bench/steps.py {arguments}`. Every engine is a process on one core; all take the same steps on
the same minibatches, and rounds of about {round} s alternate between them. Figures are medians of the rounds,
ratios are medians of the rounds' ratios. After 50 steps the losses of all must agree to {agree:g}, or nothing is
printed. *Of peak* is the share of the multiply-adds that a core can do in registers which the matrix products of a
step use. handgrad multiplies the table of an embedding instead of the rows of a large batch: of it only what it does
is counted. *Cold* and *warm* are the seconds from the start of the process to the end of its first step, with an
empty cache and with a full one; behind them, from the end of its imports. MiB is the most memory that the process
had.

{about}

{tables}
* `autograd`: the forward in atomic steps as the exercise has it, `loss.backward()`, a loop over the parameters.
* `autograd, library calls`: a call of `torch.nn.functional` for each layer.
* `torch.compile`: forward and backward by `torch.compile(fullgraph=True, dynamic=False)`, and one fused update.
* `by hand`: forward and backward by hand in eager PyTorch; `torch.compile, by hand`: the same with the update in
  one graph.
* `jax.jit`: a jitted step with donated parameters; `+ scan`: all steps of a round in one `lax.scan`; `one-hot`: the
  embedding as a product with one-hot rows.
* `handgrad`: `handgrad.compile` of forward and backward by hand, all steps of a round in one run.
"""
TITLES = {
    "attention": "A Transformer block on the names: width 64, context 16, batch 32, MLP of 256, 4 heads",
}


def page(about: str, rows: list[dict[str, Any]], arguments: str) -> str:
    """Return the rows as a page of Markdown."""
    tables = []
    for name in dict.fromkeys(row["case"] for row in rows):
        of_case = [row for row in rows if row["case"] == name]
        peak = next(row["us"] for row in of_case if row["engine"] == "peak")
        first = of_case[0]
        title = TITLES.get(name, f"The names model: {first['H']} hidden, batch {first['B']}")
        tables.append(
            f"## {title}\n\nPeak of a core: {2 * 2**20 / peak / 1e3:.0f} GFLOP/s.\n\n"
            "| engine | us a step | x autograd | x best jax scan | of peak | MiB | cold s | warm s |\n"
            "|---|---:|---:|---:|---:|---:|---:|---:|\n"
        )
        tables += [_line(row) for row in of_case if row["engine"] != "peak"]
        tables.append("\n")
    return PAGE.format(about=about, tables="".join(tables), arguments=arguments, round=ROUND, agree=AGREE)


def _line(row: dict[str, Any]) -> str:
    share = "" if row["share_of_peak"] is None else f"{row['share_of_peak']:.0%}"
    starts = [
        "" if row[f"first_step_{kind}_s"] is None
        else f"{row[f'first_step_{kind}_s']:.1f} ({row[f'first_step_{kind}_after_imports_s']:.2f})"
        for kind in ("cold", "warm")
    ]  # fmt: skip
    digits = 1 if row["us"] < 1000 else 0
    cells = [
        row["engine"], f"{row['us']:,.{digits}f}", f"{row['ratio_to_autograd']:.1f}", f"{row['ratio_to_jax_scan']:.2f}",
        share, f"{row['peak_memory_mib']:.0f}", *starts,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def versions() -> str:
    """Return what was measured with what."""
    from importlib.metadata import version

    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())  # fmt: skip
    named = ", ".join(f"{name} {version(name)}" for name in ("torch", "jax", "llvmlite"))
    return f"{cpu}, {os.cpu_count()} cores; Python {platform.python_version()}, {named}"


def main() -> None:
    """Measure, and print a table for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--starts", action="store_true", help="also measure first steps with an empty cache")
    parser.add_argument("--write", action="store_true", help="write bench/results.json and docs/speed.md")
    arguments = parser.parse_args()
    about = versions()
    print(about, flush=True)
    rows: list[dict[str, Any]] = []
    for name in arguments.cases:
        found = measure(CASES[name], arguments.rounds, starts=arguments.starts)
        rows += found
        print(f"\n{name}\n{table(found)}", flush=True)
    if arguments.write:
        (HERE / "results.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
        (HERE.parent / "docs/speed.md").write_text(page(about, rows, " ".join(sys.argv[1:])))


if __name__ == "__main__":
    main()
