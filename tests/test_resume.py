"""A real process is killed at arbitrary moments and resumed; the run equals one that nobody touched."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

STEPS = {"eager": "6000", "native": "20000"}
OPTIONS = ["--n-hidden", "16", "--log-every", "10", "--checkpoint-every", "25", "--names", "3"]
FILES = ["checkpoint.safetensors", "metrics.jsonl", "result.json", "config.json", "words.txt"]


def handgrad(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "handgrad", *arguments]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=300)
    return process.returncode, stdout, stderr


def wait_until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> bool:
    """Return whether the condition came true before the process ended."""
    while not condition():
        if process.poll() is not None:
            return False
        time.sleep(0.001)
    return True


def metrics_size(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.stat().st_size if metrics.exists() else 0


@pytest.fixture(scope="module", params=STEPS)
def options(request: pytest.FixtureRequest) -> list[str]:
    return [*OPTIONS, "--engine", request.param, "--steps", STEPS[request.param]]


@pytest.fixture(scope="module")
def untouched(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untouched")
    code, _, stderr = finish(handgrad("train", "--out", "run", *options, cwd=folder))
    assert code == 0, stderr
    return folder / "run"


def assert_same_run(run: Path, other: Path) -> None:
    for name in FILES:
        assert (run / name).read_bytes() == (other / name).read_bytes(), f"{name} differs"


def test_a_run_killed_several_times_and_resumed_equals_one_that_was_not(
    untouched: Path, options: list[str], tmp_path: Path
) -> None:
    run, moments = tmp_path / "run", random.Random(7)  # noqa: S311
    kills = 0

    process = handgrad("train", "--out", "run", *options, cwd=tmp_path)
    for _ in range(5):
        goal = metrics_size(run) + moments.randint(1, 5000)
        if wait_until(process, lambda goal=goal: metrics_size(run) > goal):
            process.kill()
            kills += finish(process)[0] == -signal.SIGKILL
        process = handgrad("train", "--resume", "run", cwd=tmp_path)
    code, _, stderr = finish(process)

    assert code == 0, stderr
    assert kills >= 3, "the process ended before it could be killed"
    assert_same_run(run, untouched)


def test_a_run_killed_while_its_folder_is_made_leaves_no_half_run(options: list[str], tmp_path: Path) -> None:
    process = handgrad("train", "--out", "run", *options, cwd=tmp_path)
    wait_until(process, lambda: any(tmp_path.iterdir()))
    process.kill()
    finish(process)

    code, _, stderr = finish(handgrad("train", "--resume", "run", cwd=tmp_path))

    assert (code, (tmp_path / "run").exists()) in ((0, True), (2, False)), stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_saves_and_says_how_to_go_on(
    untouched: Path, options: list[str], tmp_path: Path, number: int, status: int
) -> None:
    run = tmp_path / "run"
    process = handgrad("train", "--out", "run", *options, cwd=tmp_path)
    assert wait_until(process, lambda: metrics_size(run) > 0)
    os.kill(process.pid, number)
    code, stdout, stderr = finish(process)

    assert code == status
    assert "everything is saved. Go on with:\n  handgrad train --resume run" in stdout
    assert "Traceback" not in stderr
    assert finish(handgrad("train", "--resume", "run", cwd=tmp_path))[0] == 0
    assert_same_run(run, untouched)
