"""The plugin of pytest, in runs of pytest of its own: what is right passes, and what is planted fails, readably."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from torch import Tensor

import handgrad
from handgrad.assertions import WrongBackwardError

FORWARD = """
import torch
from handgrad import assert_backward, assert_function

def forward(x, w, b):
    h = x @ w + b
    y = torch.tanh(h)
    loss = (y * y).mean()
    return loss

inputs = torch.linspace(-1, 1, 15).view(5, 3), torch.linspace(-2, 1, 12).view(3, 4), torch.ones(4)
"""
BACKWARD = """
def backward(x, w, b, y):
    dy = 2 * y / y.numel()
    dh = (1 - y * y) * dy
    dw = x.T @ dh
    db = dh.sum(0)
    dx = dh @ w.T
"""
WRONG = BACKWARD.replace("(1 - y * y)", "(1 - y)").replace("dh.sum(0)", "dh")
FUNCTION = """
class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return 2 * x * dy
"""
SCRIPT = """
import torch
g = torch.Generator().manual_seed(5)
x = torch.randn(6, 5, generator=g)
w = torch.randn(5, 4, generator=g, requires_grad=True)
h = x @ w
loss = (h * h).sum()
dh = 2 * h
dw = x.T @ dh
""".lstrip()


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments],
        cwd=folder,
        env=environment | {"COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def outcomes(output: str) -> dict[str, int]:
    last = output.strip().splitlines()[-1]
    return {word.removesuffix("s"): int(number) for number, word in re.findall(r"(\d+) (\w+)", last) if word != "in"}


# the assertions and the fixture


def test_right_passes_pass_and_wrong_ones_fail_with_the_line_and_the_reason(tmp_path: Path) -> None:
    (tmp_path / "test_right.py").write_text(
        f"{FORWARD}{BACKWARD}\n"
        "def test_assertion():\n    report = assert_backward(forward, backward, *inputs)\n"
        "    assert report['dh'].verdict == 'right'\n"
        "def test_fixture(check_backward):\n    check_backward(forward, backward, *inputs, loss='loss')\n"
    )
    (tmp_path / "test_wrong.py").write_text(
        f"{FORWARD}{WRONG}\n"
        "def test_assertion():\n    assert_backward(forward, backward, *inputs)\n"
        "def test_fixture(check_backward):\n    check_backward(forward, backward, *inputs)\n"
    )

    right, wrong = run(tmp_path, "test_right.py"), run(tmp_path, "test_wrong.py")

    assert outcomes(right.stdout) == {"passed": 2}
    assert outcomes(wrong.stdout) == {"failed": 2}
    line = 1 + (FORWARD + WRONG).splitlines().index("    dh = (1 - y) * dy")
    shown = re.sub(r"^E +", "", wrong.stdout, flags=re.MULTILINE)
    assert "handgrad.assertions.WrongBackwardError: 2 of 5 gradients are wrong, 2 inherit a mistake\n" in shown
    assert f"test_wrong.py:{line}: dh is wrong, (5, 4)\ndh = (1 - y) * dy\nHG2" in shown
    assert f"test_wrong.py:{line + 2}: db is wrong, (5, 4) for (4,)\ndb = dh\nHG201 missing-sum: " in shown
    assert "did you mean:\ndb = dh.sum(0)\n" in shown
    assert "2 gradients inherit a mistake: dw, dx\n" in shown
    assert "assertions.py" not in wrong.stdout, "no line of ours in the traceback"


def test_right_functions_pass_and_wrong_ones_fail_with_the_check(tmp_path: Path) -> None:
    test = "\ndef test_it():\n    assert_function(Square, inputs[0])\n"
    (tmp_path / "test_right.py").write_text(f"{FORWARD}{FUNCTION}{test}")
    (tmp_path / "test_wrong.py").write_text(f"{FORWARD}{FUNCTION.replace('2 * x', 'x')}{test}")

    done = run(tmp_path)

    assert outcomes(done.stdout) == {"failed": 1, "passed": 1}
    assert re.search(r"^E +handgrad.assertions.WrongBackwardError: Square: ", done.stdout, re.MULTILINE)
    assert re.search(r"^E +HG307 values$", done.stdout, re.MULTILINE)
    assert "test_wrong.py" in done.stdout.split("short test summary")[1]


def test_the_error_holds_the_report_and_is_an_assertion() -> None:
    def forward(x: Tensor) -> Tensor:
        y = x.tanh()
        loss = y.sum()
        return loss  # noqa: RET504 - a loss has a name

    def backward(y: Tensor) -> None:
        dy = 3 * y  # noqa: F841

    with pytest.raises(AssertionError, match="dy is wrong") as caught:
        handgrad.assert_backward(forward, backward, torch.linspace(-1, 1, 6))

    assert isinstance(caught.value, WrongBackwardError)
    assert caught.value.report["dy"].verdict == "wrong"  # type: ignore[index, union-attr]


def test_a_gradient_that_could_not_be_tested_fails_the_assertion(tmp_path: Path) -> None:
    cheat = "def backward(x, w, b, y):\n    dw = torch.autograd.grad(forward(x, w, b), w)[0]\n"
    (tmp_path / "test_cheat.py").write_text(
        f"{FORWARD}{cheat}\ndef test_it():\n    assert_backward(forward, backward, *inputs)\n"
    )

    assert outcomes(run(tmp_path).stdout) == {"failed": 1}


# files


def test_each_gradient_of_a_script_is_a_test(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text(SCRIPT.replace("dw = x.T @ dh", "dw = 3 * x.T @ dh"))

    done = run(tmp_path, "-v", "--handgrad", "*.py")

    results = dict(re.findall(r"^(\S+::\S+) (\w+)", done.stdout, re.MULTILINE))
    assert results == {
        "right.py::dh": "PASSED",
        "right.py::dw": "PASSED",
        "wrong.py::dh": "PASSED",
        "wrong.py::dw": "FAILED",
    }
    assert "line 8: dw is wrong, (5, 4)\n    dw = 3 * x.T @ dh\n  HG214 scale: " in done.stdout
    assert "Traceback" not in done.stdout
    assert done.returncode == 1


def test_notebooks_are_collected_beside_ordinary_tests(tmp_path: Path) -> None:
    def write(name: str, *cells: str) -> None:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
        nbformat.write(notebook, tmp_path / name)

    forward, backward = SCRIPT.split("dh = ")
    write("right.ipynb", "%matplotlib inline", forward, f"dh = {backward}")
    write("wrong.ipynb", forward, "dh = 3 * h\ndw = x.T @ dh")
    (tmp_path / "test_plain.py").write_text("def test_plain():\n    pass\n")

    alone = run(tmp_path, "--handgrad", "right.ipynb", "-q")
    several = run(tmp_path, "--handgrad", "right.ipynb", "wrong.ipynb", "test_plain.py")

    assert outcomes(alone.stdout) == {"passed": 2}
    assert outcomes(several.stdout) == {"failed": 2, "passed": 3}
    assert "cell 1, line 1: dh is wrong" in several.stdout
    assert "dw is inherited" in several.stdout


def test_a_file_that_cannot_be_judged_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "nothing.py").write_text("x = 1\n")

    nothing, missing = run(tmp_path, "--handgrad", "nothing.py"), run(tmp_path, "--handgrad", "none.py")

    assert outcomes(nothing.stdout) == {"error": 1}
    assert "HG503: no loss was computed" in nothing.stdout
    assert missing.returncode == 4
    assert "--handgrad none.py: there is no such file" in missing.stderr


def test_scripts_that_nobody_named_are_not_run(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text("raise SystemExit('it was run')")
    (tmp_path / "test_plain.py").write_text("def test_plain():\n    pass\n")

    done = run(tmp_path)

    assert outcomes(done.stdout) == {"passed": 1}


# start-up

SLOW = ["torch", "numpy", "rich", "jinja2", "nbformat", "IPython"]


@pytest.mark.parametrize(("plugin", "loaded"), [("", []), ("import torch, numpy", ["torch", "numpy"])])
def test_the_plugin_loads_nothing_slow(tmp_path: Path, plugin: str, loaded: list[str]) -> None:
    (tmp_path / "conftest.py").write_text(
        f"import sys\n{plugin}\n"
        "def pytest_collection_finish(session):\n"
        f"    print('plugin', 'handgrad.pytest_plugin' in sys.modules, [m for m in {SLOW} if m in sys.modules])\n"
    )
    (tmp_path / "test_plain.py").write_text("def test_plain():\n    pass\n")

    done = run(tmp_path, "-p", "no:hypothesispytest")

    assert f"plugin True {loaded}" in done.stdout
