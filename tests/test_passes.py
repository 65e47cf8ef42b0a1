"""The corpus: passes as different people write them, judged; what is expected stands on the faulty line itself."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

from handgrad import source
from handgrad.checker import judge
from handgrad.report import Report
from handgrad.tracer import Tracer

CORPUS = Path(__file__).parent / "passes"
TOO_LONG = {"mlp_long_training.py", "long_linear_training.py", "long_training_function.py"}  # for the runner alone
RIGHT = [path for path in sorted((CORPUS / "right").glob("*.py")) if path.name not in TOO_LONG]
WRONG = sorted((CORPUS / "wrong").glob("*.py"))
UNFINISHED = sorted((CORPUS / "unfinished").glob("*.py"))
NOT_LOCATED: set[str] = set()
"""Mistakes that are not found at their line; a fix takes a name from this list, and nothing else does."""


def judged(path: Path) -> Report:
    """Run a file here, under the tracer, and judge it."""
    text = path.read_text()
    source.register(str(path), text)
    generator = torch.get_rng_state()
    torch.seed()  # another one than the file's own, whatever ran before
    tracer = Tracer()
    with tracer, contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
        exec(compile(text, str(path), "exec"), {"__name__": "__main__", "__file__": str(path)})  # noqa: S102
    torch.set_rng_state(generator)
    torch.set_default_dtype(torch.float32)
    return judge(tracer.recording, tracer.backward_calls)


def expected(path: Path) -> dict[int, set[str]]:
    """Return the codes that the file's own comments name, by line."""
    marks = (re.search(r"# (HG\d{3}(?:\|HG\d{3})*)", line) for line in path.read_text().split("\n"))
    return {number: set(mark[1].split("|")) for number, mark in enumerate(marks, 1) if mark}


def test_the_corpus_is_large() -> None:
    assert len(RIGHT) >= 100
    assert len(WRONG) >= 130


@pytest.mark.filterwarnings("ignore")  # these are other people's files
@pytest.mark.parametrize("path", RIGHT, ids=lambda path: path.stem)
def test_a_right_pass_has_no_finding(path: Path) -> None:
    report = judged(path)

    assert [(g.name, g.verdict, g.mistakes) for g in report.gradients if g.verdict != "right"] == []
    assert report.gradients


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_a_mistake_is_found_at_its_line(path: Path) -> None:
    report = judged(path)

    found = {mistake.line for mistake in report.mistakes}
    missed = set(expected(path)) - found
    assert expected(path), "the file names no mistake"
    assert bool(missed) == (path.name in NOT_LOCATED), [str(m) for m in report.mistakes]
    assert report.exit_status != 0


@pytest.mark.filterwarnings("ignore")
def test_most_mistakes_have_the_kind_that_is_expected() -> None:
    explained = marks = 0
    for path in WRONG[::4]:
        found = {(mistake.line, mistake.code) for mistake in judged(path).mistakes}
        for line, codes in expected(path).items():
            marks += 1
            explained += any((line, code) in found for code in codes)

    assert marks > 30
    assert explained >= 0.7 * marks


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", UNFINISHED, ids=lambda path: path.stem)
def test_what_is_not_written_is_missing_and_not_wrong(path: Path) -> None:
    report = judged(path)

    wanted = set(path.read_text().split("\n")[0].partition(":")[2].split())
    missing = {g.name.rpartition(".")[2] for g in report.gradients if g.verdict == "missing"}
    assert missing == wanted
    assert report.summary["wrong"] == 0
