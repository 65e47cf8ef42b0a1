"""The command `handgrad check`, on notebooks and scripts as people have them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
SEEDS = sorted((ROOT / "../shared/seeds").glob("*.ipynb"))
needs_seeds = pytest.mark.skipif(
    not SEEDS, reason="the two documents that the project starts from lie in ../shared/seeds"
)

SCRIPT = """\
import torch
torch.manual_seed(0)
x = torch.randn(5, 3)
w = torch.randn(3, 3, requires_grad=True)
h = x @ w
loss = (h * h).sum()
h.retain_grad()
loss.backward()
dh = 2 * h
dw = x.T @ dh
"""


def run(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "handgrad", "check", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"COLUMNS": "120"},
        check=False,
    )


def report_of(*arguments: str | Path) -> dict[str, object]:
    completed = run(*arguments, "--json")
    assert completed.stderr == ""
    return dict(json.loads(completed.stdout))


def verdicts(report: dict[str, object], verdict: str) -> list[str]:
    return [g["name"] for p in report["passes"] for g in p["gradients"] if g["verdict"] == verdict]  # type: ignore[attr-defined]


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pass.py"
    path.write_text(text)
    return path


@needs_seeds
def test_the_first_document_lacks_a_sum_and_23_gradients() -> None:
    report = report_of(SEEDS[0])

    assert report["summary"] == {"right": 2, "wrong": 1, "inherited": 0, "missing": 23, "unverified": 0}
    (wrong,) = (g for p in report["passes"] for g in p["gradients"] if g["verdict"] == "wrong")  # type: ignore[attr-defined]
    assert (wrong["name"], wrong["cell"], wrong["line"]) == ("dcounts_sum_inv", 16, 18)
    assert wrong["mistakes"][0]["kind"] == "missing-sum"
    assert wrong["mistakes"][0]["fix"] == "dcounts_sum_inv = (counts * dprobs).sum(1, keepdim=True)"


@needs_seeds
def test_the_second_document_is_right_but_for_two_shapes_and_an_epsilon() -> None:
    report = report_of(SEEDS[1])

    assert verdicts(report, "wrong") == ["dbnmeani", "db1"]
    assert report["summary"] == {"right": 26, "wrong": 2, "inherited": 0, "missing": 0, "unverified": 0}
    kinds = [(w["kind"], w["cell"], w["line"]) for w in report["warnings"]]  # type: ignore[attr-defined]
    assert kinds == [("epsilon-dominates", 8, 12), ("unseeded-random", 6, 13), ("unseeded-random", 6, 14)]


def test_the_examples_hold_the_same_mistakes() -> None:
    first, second = report_of("examples/first_attempt.ipynb"), report_of("examples/all_rows_pass.ipynb")

    assert verdicts(first, "wrong") == ["dcounts_sum_inv"]
    assert verdicts(second, "wrong") == ["dbnmeani", "db1"]
    assert "epsilon-dominates" in [w["kind"] for w in second["warnings"]]  # type: ignore[attr-defined]


def test_the_examples_are_committed_without_outputs() -> None:
    for path in (ROOT / "examples").glob("*.ipynb"):
        notebook = nbformat.read(path, 4)
        assert all(not cell.get("outputs") for cell in notebook.cells)


def test_a_right_script_ends_with_status_0(tmp_path: Path) -> None:
    completed = run(script(tmp_path, SCRIPT))

    assert completed.returncode == 0, completed.stdout
    assert "2 right" in completed.stdout


def test_a_wrong_line_is_the_only_one_that_is_wrong(tmp_path: Path) -> None:
    completed = run(script(tmp_path, SCRIPT.replace("dh = 2 * h", "dh = h")))

    assert completed.returncode == 1
    assert "1 inherited" in completed.stdout
    assert "did you mean" in completed.stdout


def test_the_report_is_written_as_a_page_as_junit_and_for_github(tmp_path: Path) -> None:
    path = script(tmp_path, SCRIPT.replace("x.T @ dh", "x.T @ -dh"))

    page = run(path, "--html", tmp_path / "report.html")
    junit = run(path, "--format", "junit")
    github = run(path, "--format", "github")

    assert page.returncode == junit.returncode == github.returncode == 1
    assert "HG213" in (tmp_path / "report.html").read_text()
    assert ET.fromstring(junit.stdout).findall(".//failure")  # noqa: S314  (our own output)
    assert github.stdout.startswith("::error file=")


def test_names_and_loss_can_be_told(tmp_path: Path) -> None:
    text = SCRIPT.replace("loss", "penalty").replace("dh =", "foo =").replace("@ dh", "@ foo")
    path = script(tmp_path, text.replace("penalty.backward()", ""))

    told = run(path, "--gradient", "foo=h", "--loss", "penalty", "--json")
    unknown = run(path, "--gradient", "foo=nothing")

    assert told.returncode == 0, told.stderr
    assert [g["name"] for g in json.loads(told.stdout)["passes"][0]["gradients"]] == ["foo", "dw"]
    assert unknown.returncode == 2
    assert "no tensor is called nothing" in unknown.stderr


HOSTILE = {
    "no loss": ("import torch\nx = torch.ones(2)\n", "no loss"),
    "no gradient": (SCRIPT.partition("dh =")[0], "no gradient by hand"),
    "not scalar": (SCRIPT.replace(".sum()\n", "\n").replace("loss.backward()", "loss.sum().backward()"), ""),
    "nan": (SCRIPT.replace("loss = ", "x[0] = float('nan')\nh = x @ w\nloss = "), "nan"),
    "integers": ("import torch\nw = torch.ones(2, dtype=torch.int64)\nloss = w.sum()\ndw = torch.ones(2)\n", "loss"),
    "not python": ("this is not python\n", ""),
    "empty": ("", ""),
    "os._exit": ("import os\nos._exit(3)\n", ""),
    "sys.exit": ("import sys\nsys.exit()\n", ""),
    "endless": ("while True: pass\n", "longer than 1 s"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_judged_is_one_sentence_and_status_2(name: str, tmp_path: Path) -> None:
    text, expected = HOSTILE[name]

    completed = run(script(tmp_path, text), *(["--timeout", "1"] if name == "endless" else []))

    if name == "not scalar":  # a scalar was made of it: that is the loss
        assert completed.returncode in (0, 1)
        return
    assert completed.returncode == 2, completed.stdout
    assert completed.stdout == ""
    assert completed.stderr.startswith("error: HG")
    assert completed.stderr.count("\n") == 1
    assert "Traceback" not in completed.stderr
    assert expected in completed.stderr


def test_several_files_are_judged_one_after_the_other(tmp_path: Path) -> None:
    right = script(tmp_path, SCRIPT)
    (tmp_path / "empty.py").write_text("")

    completed = run(right, tmp_path / "empty.py")
    refused = run(right, tmp_path / "empty.py", "--json")

    assert completed.returncode == 2
    assert "2 right" in completed.stdout
    assert refused.returncode == 2
    assert "one by one" in refused.stderr
