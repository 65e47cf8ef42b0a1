"""Documentation proves itself: examples run, shown output is what the command prints, links lead somewhere."""

from __future__ import annotations

import difflib
import doctest
import importlib
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import handgrad
from handgrad.rules import RULES

ROOT = Path(__file__).parent.parent
MODULES = [m.name for m in pkgutil.walk_packages(handgrad.__path__, "handgrad.") if not m.name.endswith("__main__")]
PAGES = sorted(path for path in ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md"))


@pytest.fixture(autouse=True)
def _rules_of_examples_do_not_stay() -> Iterator[None]:
    before = dict(RULES)
    yield
    RULES.clear()
    RULES.update(before)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_docstrings_run(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name))

    assert failed == 0


@pytest.mark.parametrize(("page", "fewest"), [("README.md", 20), ("docs/derive.md", 5), ("docs/compile.md", 10)])
def test_the_examples_of_a_page_run(page: str, fewest: int) -> None:
    failed, attempted = doctest.testfile(str(ROOT / page), module_relative=False, encoding="utf-8")

    assert attempted > fewest
    assert failed == 0


CONSOLE = [
    shown
    for page in (ROOT / "README.md", ROOT / "docs/derive.md")
    for shown in re.findall(r"```console\n\$ (.*)\n([\s\S]*?)```", page.read_text())
]


@pytest.mark.parametrize(("command", "shown"), CONSOLE, ids=[command for command, _ in CONSOLE])
def test_a_page_shows_what_the_command_prints(command: str, shown: str, tmp_path: Path) -> None:
    assert command.startswith("handgrad ")

    (tmp_path / "examples").symlink_to(ROOT / "examples")

    completed = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert completed.returncode in (0, 1), completed.stderr  # 1: a gradient is wrong, and that is what is shown
    matches = doctest.OutputChecker().check_output(
        shown, completed.stdout, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert matches, "\n".join(difflib.unified_diff(shown.splitlines(), completed.stdout.splitlines(), "README", "ran"))


def test_the_picture_of_the_readme_is_what_cmp_prints() -> None:
    draw = runpy.run_path(str(ROOT / "docs/picture.py"))["draw"]

    shown, drawn = (ROOT / "docs/cmp.svg").read_text(encoding="utf-8"), draw()

    last_digits = r"(?<=\.\d{5})\d+"  # another processor rounds otherwise
    assert re.sub(last_digits, "", shown) == re.sub(last_digits, "", drawn), "draw it again: python docs/picture.py"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))

    assert [target for target in targets if not (page.parent / target).exists()] == []


SHOWN = re.findall(r"^handgrad (.*?)(?:  +#.*)?$", (ROOT / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", SHOWN)
def test_commands_shown_in_the_readme_take_the_options_they_show(command: str) -> None:
    words = shlex.split(command)
    name = words[0]
    options = [word for word in words if word.startswith("--")]

    completed = subprocess.run(
        [sys.executable, "-m", "handgrad", name, "--help"], capture_output=True, text=True, check=True
    )

    assert len(SHOWN) >= 6
    assert all(option in completed.stdout for option in options)
