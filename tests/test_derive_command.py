"""`handgrad derive` and `handgrad simplify` as a subprocess: what they print runs, and is right."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPT = """
import torch

g = torch.Generator().manual_seed(1)
n = 5
x = torch.randn(n, 3, generator=g)
W = torch.randn(3, 4, generator=g, requires_grad=True)
b = torch.zeros(4, requires_grad=True)
h = torch.tanh(x @ W + b)
p = torch.sigmoid(h * 2)
loss = (p**2).mean()
"""
GRADIENTS = """
right = dict(zip(("dW", "db"), torch.autograd.grad(loss, (W, b))))
"""


def handgrad(*arguments: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "handgrad", *arguments]
    completed = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert "Traceback" not in completed.stderr, completed.stderr
    assert completed.returncode == code, completed.stderr
    return completed


def executed(text: str) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "pasted"}
    exec(compile(text, "pasted.py", "exec"), space)  # noqa: S102 as a user pastes it
    return space


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path


# -- what is printed


def test_what_is_printed_runs_below_the_file_and_is_right(folder: Path) -> None:
    for example in ("names_model.py", "recurrent.py"):
        shutil.copy(EXAMPLES / example, folder)
        forward = (folder / example).read_text()

        page = handgrad("derive", example, cwd=folder).stdout

        space = executed(f"{forward}\n{page}")
        leaves = {
            name: value
            for name, value in space.items()
            if isinstance(value, torch.Tensor) and value.is_leaf and value.requires_grad and name != "p"  # a loop's
        }
        assert len(leaves) > 3
        gradients = torch.autograd.grad(space["loss"], list(leaves.values()))
        for name, gradient in zip(leaves, gradients, strict=True):
            torch.testing.assert_close(space[f"d{name}"], gradient, rtol=1e-4, atol=1e-6)


def test_only_as_far_as_is_asked_with_a_reason_above_each_line(folder: Path) -> None:
    page = handgrad("derive", "train.py", "--to", "h", "--reasons", cwd=folder).stdout
    lines = [line for line in page.splitlines() if line]

    assert lines[-1].startswith("dh = ")
    assert "dW" not in page
    made = [k for k, line in enumerate(lines) if re.match(r"d\w+ = ", line)]
    assert made
    assert all(lines[k - 1].startswith("# ") and lines[k - 2].startswith("# ") for k in made)  # the reason, the forward
    assert "h.shape" not in page


def test_the_exact_style_has_the_bits_of_autograd(folder: Path) -> None:
    page = handgrad("derive", "train.py", "--style", "exact", cwd=folder).stdout

    space = executed(SCRIPT + page + GRADIENTS)
    for name, right in space["right"].items():
        assert torch.equal(space[name], right)


def test_a_partial_backward_is_completed_from_where_it_ends(folder: Path) -> None:
    begun = "dp = 2 * p / p.numel()\ndh = p * (1 - p) * 2 * dp\n"
    (folder / "train.py").write_text(SCRIPT + begun)

    page = handgrad("derive", "train.py", "--complete", cwd=folder).stdout

    assert re.findall(r"^(d\w+) =", page, flags=re.MULTILINE)[-2:] in (["db", "dW"], ["dW", "db"])
    assert not re.search(r"^d[ph] =", page, flags=re.MULTILINE)
    space = executed(SCRIPT + begun + page + GRADIENTS)
    for name, right in space["right"].items():
        torch.testing.assert_close(space[name], right)


def test_a_wrong_line_of_a_partial_backward_is_told(folder: Path) -> None:
    (folder / "train.py").write_text(SCRIPT + "dp = 3 * p / p.numel()\n")

    found = handgrad("derive", "train.py", "--complete", cwd=folder)

    assert "dp" in found.stderr
    assert "wrong" in found.stderr


def test_json_alone_is_on_stdout(folder: Path) -> None:
    found = json.loads(handgrad("derive", "train.py", "--reasons", "--json", cwd=folder).stdout)

    assert found["file"] == "train.py"
    space = executed(SCRIPT + found["source"] + GRADIENTS)
    torch.testing.assert_close(space["dW"], space["right"]["dW"])


def test_a_notebook_has_a_cell_for_each_block_and_runs(folder: Path) -> None:
    shutil.copy(EXAMPLES / "first_attempt.ipynb", folder)

    handgrad("derive", "first_attempt.ipynb", "--notebook", "out.ipynb", cwd=folder)

    notebook = nbformat.read(folder / "out.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    cells = ["".join(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    assert sum(bool(re.search(r"^dlogprobs = ", cell, flags=re.MULTILINE)) for cell in cells) >= 1
    before = nbformat.read(folder / "first_attempt.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert len(notebook.cells) > len(before.cells) + 15
    executed("\n".join(cell for cell in cells if not re.search(r"^\s*[%!]", cell, flags=re.MULTILINE)))


# -- other forms


@pytest.mark.parametrize("form", ["function", "custom-op", "numpy"])
def test_a_form_comes_with_a_test_that_passes_and_that_finds_a_mistake(folder: Path, form: str) -> None:
    printed = handgrad("derive", "train.py", "--as", form, "--test", "test_it.py", cwd=folder).stdout
    written = (folder / "test_it.py").read_text()

    assert printed.strip() in written
    assert _pytest(folder) == 0
    line = next(line for line in re.findall(r"^ +dh = .*$", written, flags=re.MULTILINE))
    (folder / "test_it.py").write_text(written.replace(line, line.partition("  #")[0] + " * 1.01"))
    assert _pytest(folder) == 1


def _pytest(folder: Path) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(command, cwd=folder, capture_output=True, check=False, env=environment).returncode


# -- simplify


def test_simplify_prints_closed_forms_that_run(folder: Path) -> None:
    shutil.copy(EXAMPLES / "names_model.py", folder)

    page = handgrad("simplify", "names_model.py", cwd=folder).stdout
    found = json.loads(handgrad("simplify", "names_model.py", "--json", cwd=folder).stdout)

    assert "dlogits = (probs - F.one_hot(Yb, vocab_size)) / n" in page
    assert "bnraw * (bnraw * dhpreact).sum(0)" in page
    assert found["source"] == page
    derived = handgrad("derive", "names_model.py", cwd=folder).stdout
    forward = (folder / "names_model.py").read_text()
    line = next(line for line in page.splitlines() if line.startswith("dlogits = "))
    space = executed(f"{forward}\n{derived}\nimport torch.nn.functional as F\nfirst = dlogits\n{line}\n")
    torch.testing.assert_close(space["dlogits"], space["first"], rtol=1e-4, atol=1e-6)


def test_simplify_says_that_there_is_nothing_to_gain(folder: Path) -> None:
    (folder / "train.py").write_text("import torch\nx = torch.ones(3, requires_grad=True)\nloss = (x * 2).sum()\n")

    found = handgrad("simplify", "train.py", cwd=folder)

    assert "nothing" in found.stdout + found.stderr


# -- mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["derive", "missing.py"], "HG401: missing.py does not exist"),
        (["derive", "train.py", "--to", "nothing"], "HG507: no gradient dnothing; there are dp, dh, dh_in, db, dW"),
        (["derive", "train.py", "--loss", "nothing"], "HG503: --loss: no tensor is called nothing"),
        (["derive", "no_loss.py"], "HG503: no loss was computed"),
        (["derive", "no_rule.py"], "HG505: no_rule.py:3: `torch.special.i0(x)`: no rule for `special_i0` yet"),
        (["derive", "no_python.py"], "syntax error"),
        (["derive", "train.py", "--as", "numpy", "--reasons"], "leave --to, --reasons, --complete, --notebook out"),
        (["derive", "train.py", "--test", "test_it.py"], "--test goes with --as"),
        (["derive", "train.py", "--notebook", "missing/out.ipynb"], "missing/out.ipynb: No such file or directory"),
        (["simplify", "no_loss.py"], "HG503: no loss was computed"),
    ],
    ids=lambda item: " ".join(item) if isinstance(item, list) else "",
)
def test_a_mistake_is_told_in_a_line_and_exits_with_2(folder: Path, arguments: list[str], message: str) -> None:
    (folder / "no_loss.py").write_text("x = 1\n")
    (folder / "no_rule.py").write_text(
        "import torch\nx = torch.ones(3, requires_grad=True)\nloss = torch.special.i0(x).sum()\n"
    )
    (folder / "no_python.py").write_text("def f(:\n")

    found = handgrad(*arguments, cwd=folder, code=2)

    assert message in found.stderr
    assert found.stdout == ""
