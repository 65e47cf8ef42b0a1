"""The engines of training: the same run, whoever takes the steps."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from typer.testing import CliRunner

from handgrad.cli.app import app
from handgrad.data import load_words
from handgrad.errors import DivergedError, LockStepError, RunMismatchError
from handgrad.models import MODELS, Model
from handgrad.models.mlp import MLP
from handgrad.native.executor import Executor
from handgrad.training import Config, Run, train
from handgrad.training.engines import problem_of
from pairs import with_line_changed

WORDS = load_words().words[::10]
SMALL = Config(n_hidden=16, steps=60, log_every=7, checkpoint_every=20, engine="native")
SIZES = {
    "mlp": {"n_hidden": 24},
    "gru": {"n_embd": 5, "n_hidden": 11, "block_size": 3},
    "transformer": {"n_embd": 8, "n_hidden": 13, "n_head": 2, "block_size": 3},
}


def new_run(folder: Path, config: Config = SMALL) -> Run:
    return Run.create(folder, config, WORDS, "some names")


def contents(run: Run) -> dict[str, bytes]:
    names = ("checkpoint.safetensors", "metrics.jsonl", "config.json", "words.txt")
    return {name: (run.path / name).read_bytes() for name in names}


def stop_after(asked: int) -> Callable[[], bool]:
    times = iter(range(asked + 1))
    return lambda: next(times) == asked


def patched(tmp_path: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``handgrad`` after some lines of somebody's own."""
    command = [sys.executable, "-c", script + "from handgrad.cli import main\nmain()\n", *arguments]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)


# -- the native engine


@pytest.mark.parametrize("name", SIZES)
def test_a_thousand_native_steps_have_the_losses_of_eager_ones(tmp_path: Path, name: str) -> None:
    lines = []
    for engine in ("eager", "native"):
        run = new_run(tmp_path / engine, Config.of(name, **SIZES[name], steps=1000, engine=engine))
        train(run)
        lines.append([line["loss"] for line in run.metrics()])

    assert len(lines[0]) == 10
    assert lines[1] == pytest.approx(lines[0], abs=1e-4)


def test_a_native_run_draws_the_minibatches_of_an_eager_one(tmp_path: Path) -> None:
    states = [train(new_run(tmp_path / engine, replace(SMALL, engine=engine))) for engine in ("eager", "native")]

    assert states[0].draws.tolist() == states[1].draws.tolist()


def test_a_native_run_of_two_threads_has_the_bits_of_one(tmp_path: Path) -> None:
    made = []
    for threads in (1, 2):
        run = new_run(tmp_path / str(threads), replace(SMALL, n_hidden=512, steps=20, threads=threads))
        train(run)
        made.append(load_file(run.path / "checkpoint.safetensors"))

    assert made[0].keys() == made[1].keys()
    assert all(made[0][name].tobytes() == made[1][name].tobytes() for name in made[0])


def test_the_same_native_run_twice_gives_the_same_bits(tmp_path: Path) -> None:
    first, second = new_run(tmp_path / "1"), new_run(tmp_path / "2")

    train(first)
    train(second)

    assert contents(first) == contents(second)


@pytest.mark.parametrize("stops", [[1], [4], [3, 2], [1, 1, 1, 1]])
def test_a_native_run_that_was_stopped_and_resumed_equals_one_that_was_not(tmp_path: Path, stops: list[int]) -> None:
    whole, stopped = new_run(tmp_path / "whole"), new_run(tmp_path / "stopped")
    train(whole)

    for calls in stops:
        train(stopped, stopped=stop_after(calls))
    train(Run.open(stopped.path))

    assert contents(stopped) == contents(whole)


def test_a_native_run_whose_loss_is_not_finite_says_at_which_step(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", replace(SMALL, lr=1e30, steps=2000, checkpoint_every=1000, log_every=1000))
    losses = []
    eager = replace(SMALL, lr=1e30, steps=2000, engine="eager", log_every=1)
    with pytest.raises(DivergedError) as expected:
        train(new_run(tmp_path / "eager", eager), progress=lambda _, loss: losses.append(loss))

    with pytest.raises(DivergedError) as found:
        train(run)

    assert str(found.value).split(",")[0] == str(expected.value).split(",")[0]
    assert run.load_checkpoint().step == 0


def test_lock_step_of_the_native_engine_passes(tmp_path: Path) -> None:
    assert train(new_run(tmp_path / "run", replace(SMALL, lock_step=20))).step == 60


def test_lock_step_changes_no_bit(tmp_path: Path) -> None:
    plain, checked = new_run(tmp_path / "1"), new_run(tmp_path / "2", replace(SMALL, lock_step=13))

    train(plain)
    train(checked)

    assert contents(plain)["checkpoint.safetensors"] == contents(checked)["checkpoint.safetensors"]


def test_lock_step_finds_native_gradients_that_are_a_little_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Executor.read
    monkeypatch.setattr(Executor, "read", lambda self, place: read(self, place) * np.float32(1.0001))

    with pytest.raises(LockStepError, match=r"at step 0 .* native gradients are off:\ndC is .* from its value in fl"):
        train(new_run(tmp_path / "run", replace(SMALL, lock_step=20)))


def wrong_mlp() -> Model:
    from handgrad.models.mlp import fast

    return replace(MLP, backward=with_line_changed(fast.backward, "db2 = dlogits.sum(0)", "db2 = dlogits.mean(0)"))


def test_lock_step_of_the_native_engine_finds_a_wrong_pair(tmp_path: Path) -> None:
    with pytest.raises(LockStepError, match=r"1 gradients are not autograd's:\nb2 "):
        train(new_run(tmp_path / "run", replace(SMALL, lock_step=20)), model=wrong_mlp())


def test_a_pair_of_ones_own_is_what_runs(tmp_path: Path) -> None:
    first, second = new_run(tmp_path / "1"), new_run(tmp_path / "2")

    assert train(first).arrays["b2"].tolist() != train(second, model=wrong_mlp()).arrays["b2"].tolist()


# -- the start


START = """
import sys
import handgrad.cli
from handgrad.training.engines.native import Native

take = Native.take

def first(self, state, most):
    losses = take(self, state, most)
    print("\\nfirst step:", "torch" if "torch" in sys.modules else "no torch", losses[0])
    raise SystemExit(0)

Native.take = first
sys.argv = ["handgrad", "train", "--out", sys.argv[1], "--steps", "50", "--n-hidden", "8"]
handgrad.cli.main()
"""


def test_the_second_start_needs_no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDGRAD_CACHE", str(tmp_path / "cache"))
    said = []
    for name in ("first", "second", "third"):
        done = subprocess.run([sys.executable, "-c", START, str(tmp_path / name)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.splitlines()[-1].removeprefix("first step: ").rsplit(" ", 1))

    assert [torch_or_not for torch_or_not, _ in said] == ["torch", "no torch", "no torch"]
    assert len({loss for _, loss in said}) == 1


def test_what_was_kept_belongs_to_its_seed_and_its_sizes(tmp_path: Path) -> None:
    states = [
        new_run(tmp_path / str(k), replace(SMALL, **change)).load_checkpoint()
        for k, change in enumerate([{}, {"seed": 1}, {"n_hidden": 17}, {}])
    ]

    C = [state.arrays["C"].tolist() for state in states]
    assert C[0] == C[3]
    assert C[0] != C[1]
    assert states[2].arrays["b1"].shape == (17,)
    expected = MODELS["mlp"].initialise(len(C[0]), 3, 10, 16, generator=torch.Generator().manual_seed(SMALL.seed))
    assert torch.equal(expected.W1, states[0].parameters.W1)


# -- the command


def test_the_command_trains_natively_unless_told_otherwise(tmp_path: Path) -> None:
    for engine in ([], ["--engine", "eager"]):
        run = tmp_path / f"run{len(engine)}"
        done = CliRunner().invoke(app, ["train", "--out", str(run), "--steps", "3", "--n-hidden", "8", *engine])
        assert done.exit_code == 0, done.output
        assert json.loads((run / "config.json").read_text())["config"]["engine"] == (engine or [0, "native"])[1]


def test_what_cannot_run_here_is_said_and_runs_in_eager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handgrad.training.engines.native.why_not", lambda: "LLVM cannot be loaded (no such file)")

    done = CliRunner().invoke(app, ["train", "--out", str(tmp_path / "run"), "--steps", "3", "--n-hidden", "8"])

    assert done.exit_code == 0, done.output
    assert "note: LLVM cannot be loaded (no such file); the steps run in eager PyTorch" in done.stderr
    assert Run.open(tmp_path / "run").config.engine == "eager"


def test_a_run_keeps_its_engine(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")

    done = CliRunner().invoke(app, ["train", "--resume", str(run.path), "--engine", "eager"])

    assert isinstance(done.exception, RunMismatchError)
    assert "--engine eager does not fit" in str(done.exception)


def test_a_run_from_before_there_were_engines_is_eager(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", replace(SMALL, engine="eager"))
    about = json.loads((run.path / "config.json").read_text())
    del about["config"]["engine"]
    (run.path / "config.json").write_text(json.dumps(about))

    assert train(Run.open(run.path)).step == 60


@pytest.mark.skipif(problem_of("compile") is not None, reason=str(problem_of("compile")))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_torch_compile_takes_the_same_steps(tmp_path: Path) -> None:
    config = replace(SMALL, steps=12, log_every=4, checkpoint_every=5)
    runs = [new_run(tmp_path / engine, replace(config, engine=engine)) for engine in ("eager", "compile")]

    for run in runs:
        train(run)

    eager, compiled = ([line["loss"] for line in run.metrics()] for run in runs)
    assert compiled == pytest.approx(eager, abs=1e-4)


def test_a_pair_put_in_the_place_of_another_leaves_nothing_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDGRAD_CACHE", str(tmp_path / "cache"))
    wrong = (
        "from dataclasses import replace\n"
        "from handgrad import models\n"
        "right = models.MODELS['mlp']\n"
        "def backward(*arguments):\n"
        "    return right.backward(*arguments)._replace(dW2=right.backward(*arguments).dW2 * 2)\n"
        "models.MODELS['mlp'] = replace(right, backward=backward)\n"
    )
    arguments = ("train", "--steps", "5", "--n-hidden", "8", "--names", "0", "--lock-step", "1")

    first, second = patched(tmp_path, wrong, *arguments), patched(tmp_path, "", *arguments)

    assert "HG707" in first.stderr
    assert second.returncode == 0, second.stderr
