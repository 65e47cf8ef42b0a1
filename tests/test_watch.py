"""The command `handgrad check --watch`, as a process: it waits on output, never on the clock."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

LONG = 240  # seconds that nothing here takes

RIGHT = """\
import torch
torch.manual_seed(0)
x = torch.randn(5, 3)
w = torch.randn(3, 3, requires_grad=True)
h = x @ w
loss = (h * h).sum()
dh = 2 * h
dw = x.T @ dh
"""
WRONG = RIGHT.replace("dh = 2 * h", "dh = 3 * h")
WAITS = "watching; Ctrl-C ends\n"


class Watching:
    """The running command, and what it prints."""

    def __init__(self, *arguments: str | Path) -> None:
        command = [sys.executable, "-m", "handgrad", "check", "--watch", *map(str, arguments)]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        environment = os.environ | {"COLUMNS": "120", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, text=True, env=environment, start_new_session=True, **pipes)  # type: ignore[call-overload]
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.printed: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def __enter__(self) -> Watching:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def until(self, text: str) -> str:
        """Return what is printed from here to the line ``text``."""
        found: list[str] = []
        while not found or found[-1] != text:
            line = self.lines.get(timeout=LONG)
            self.printed.append(str(line))
            assert line is not None, f"ended without {text!r}: {self.printed}"
            found.append(line)
        return "".join(found)

    def interrupt(self) -> tuple[int, str]:
        """Press Ctrl-C as a terminal does, for the whole group; return the exit status and what was still printed."""
        os.killpg(self.process.pid, signal.SIGINT)
        status = self.process.wait(LONG)
        rest = iter(lambda: self.lines.get(timeout=LONG), None)
        return status, "".join(rest)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pass.py"
    path.write_text(RIGHT)
    return path


@pytest.fixture
def watching(file: Path) -> Iterator[Watching]:
    with Watching(file) as watching:
        yield watching


def test_a_file_that_is_saved_is_checked_again(file: Path, watching: Watching) -> None:
    first = watching.until(WAITS)
    file.write_text(WRONG)
    second = watching.until(WAITS)
    replaced = file.with_name("pass.py.new")  # as editors do that never write in place
    replaced.write_text(RIGHT)
    replaced.replace(file)
    third = watching.until(WAITS)

    assert "2 right" in first
    assert "1 wrong" in second
    assert "dh = 2 * h" in second
    assert "2 right" in third
    assert "1 wrong" not in third


def test_ctrl_c_ends_it_without_a_traceback(watching: Watching) -> None:
    watching.until(WAITS)

    assert watching.interrupt() == (130, "")


def test_a_file_that_is_deleted_is_reported_and_checked_when_it_comes_back(file: Path, watching: Watching) -> None:
    watching.until(WAITS)
    file.unlink()
    gone = watching.until(WAITS)
    file.write_text(WRONG)
    back = watching.until(WAITS)

    assert f"error: HG401: {file}" in gone
    assert "1 wrong" in back


# A file that says when it runs, and waits to be let go.
HELD = """\
import os, time
open("runs", "w").close()
while not os.path.exists("go"):
    time.sleep(0.01)
"""


@pytest.fixture
def held(file: Path) -> Iterator[Watching]:
    file.write_text(HELD + RIGHT)
    with Watching(file) as watching:
        yield watching


def wait_for(path: Path) -> None:
    for _ in range(LONG * 20):
        if path.exists():
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"{path} was never made")


def test_a_file_that_is_saved_while_it_is_checked_is_checked_again(file: Path, held: Watching) -> None:
    wait_for(file.with_name("runs"))
    file.write_text(WRONG)
    file.with_name("go").touch()

    assert "2 right" in held.until(WAITS)
    assert "1 wrong" in held.until(WAITS)


def test_ctrl_c_in_the_middle_of_a_check_ends_what_it_started(file: Path, held: Watching) -> None:
    wait_for(file.with_name("runs"))
    children = psutil.Process(held.process.pid).children(recursive=True)

    status, printed = held.interrupt()

    assert status == 130
    assert "Traceback" not in printed
    _, alive = psutil.wait_procs(children, timeout=LONG)
    assert children
    assert alive == []


def test_several_files_are_watched_and_only_the_saved_one_is_checked_again(file: Path) -> None:
    other = file.with_name("other.py")
    other.write_text(RIGHT)
    with Watching(file, other) as watching:
        both = watching.until(WAITS)
        other.write_text(WRONG)
        again = watching.until(WAITS)
        status, _ = watching.interrupt()

    assert (str(file) in both, str(other) in both) == (True, True)
    assert (str(file) in again, str(other) in again) == (False, True)
    assert status == 130


def test_it_prints_for_a_terminal_alone(file: Path) -> None:
    command = [sys.executable, "-m", "handgrad", "check", "--watch", "--json", str(file)]
    completed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONG)

    assert completed.returncode == 2
    assert completed.stderr == (
        "error: HG701: --watch prints for a terminal: leave out --format json, or check without --watch\n"
    )
