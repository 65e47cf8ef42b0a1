"""The pages of `handgrad explain`: each wrong example has exactly that mistake, each right one none."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from handgrad import function_check
from handgrad.codes import page_of, titles
from handgrad.diagnosis import CODES, WARNINGS
from handgrad.errors import UnknownCodeError
from handgrad.report import Report
from test_passes import judged

PAGES = {code: page_of(code) for code in [*CODES.values(), *WARNINGS.values()]}
EXAMPLES = {code: re.findall(r"```python\n(.*?)```", page, re.DOTALL) for code, page in PAGES.items()}
WITHOUT = {"HG204"}  # it needs an accelerator
OF_FUNCTIONS = {code: page_of(code) for code in function_check.CODES.values()}
FOLLOW = {"HG319": {"HG307"}}  # a gradient that is another one each time is also wrong


def report_on(text: str, tmp_path: Path) -> Report:
    path = tmp_path / "example.py"
    path.write_text(text)
    return judged(path)


def test_every_code_has_a_page_with_two_examples() -> None:
    assert {code for code, examples in EXAMPLES.items() if len(examples) != 2} == WITHOUT
    assert all(titles()[code][1].endswith(".") for code in PAGES)


@pytest.mark.parametrize("code", sorted(set(PAGES) - WITHOUT))
def test_the_wrong_example_has_that_mistake_at_that_line(code: str, tmp_path: Path) -> None:
    text = EXAMPLES[code][0]
    (line,) = (number for number, row in enumerate(text.split("\n"), 1) if code in row)

    report = report_on(text, tmp_path)

    assert {(f.line, f.code) for f in [*report.mistakes, *report.warnings]} == {(line, code)}


@pytest.mark.parametrize("code", sorted(set(PAGES) - WITHOUT))
def test_the_right_example_has_none(code: str, tmp_path: Path) -> None:
    report = report_on(EXAMPLES[code][1], tmp_path)

    assert [(g.name, g.verdict) for g in report.gradients if g.verdict != "right"] == []
    assert report.warnings == ()
    assert report.gradients


def test_every_kind_stands_on_its_page() -> None:
    kinds = {code: kind for group in (CODES, WARNINGS, function_check.CODES) for kind, code in group.items()}

    assert {code: kind for code, (kind, _) in titles().items() if kind != "error"} == kinds


@pytest.mark.parametrize("code", OF_FUNCTIONS)
def test_the_examples_of_functions_have_that_mistake_and_none(code: str, tmp_path: Path) -> None:
    wrong, right = re.findall(r"```python\n(.*?)```", OF_FUNCTIONS[code], re.DOTALL)

    assert codes_of(wrong, tmp_path / "wrong.py") - FOLLOW.get(code, set()) == {code}
    assert codes_of(right, tmp_path / "right.py") == set()
    assert wrong.count(f"# {code}\n") == 1
    assert titles()[code][1].endswith(".")


def codes_of(example: str, path: Path) -> set[str]:
    path.write_text(example)
    names = runpy.run_path(str(path))
    report = names["report"]
    return {c.code for c in report.checks if c.verdict == "wrong"} | {w.code for w in report.warnings}


def explain(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "handgrad", "explain", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_prints_a_page_by_code_and_by_kind() -> None:
    assert explain("HG201").stdout == explain("missing-sum").stdout == PAGES["HG201"] + "\n"
    assert "HG101" in explain("101").stdout
    assert len(explain().stdout.splitlines()) == len(titles()) > 75
    assert explain("shape").stdout == PAGES["HG202"] + "\n" + OF_FUNCTIONS["HG304"] + "\n"


def test_pages_are_read_without_loading_torch() -> None:
    script = "import sys\nfrom handgrad.codes import page_of\npage_of('HG307')\nassert 'torch' not in sys.modules"

    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_unknown_code_is_one_sentence_with_the_nearest_ones() -> None:
    completed = explain("missing-sums")

    assert completed.returncode == 2
    assert completed.stderr == (
        "error: HG504: no page about missing-sums: did you mean missing-sum or missing-factor or missing-branch? "
        "`handgrad explain` lists all\n"
    )
    with pytest.raises(UnknownCodeError, match="no page about HG999"):
        page_of("HG999")
