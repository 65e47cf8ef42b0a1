"""A plugin of pytest: the fixture ``check_backward``, and ``pytest --handgrad FILE`` with a test for each gradient.

It is there in every run of pytest, so it loads nothing before it is asked.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from handgrad.assertions import WrongBackwardError, assert_backward, gradient_text
from handgrad.errors import HandgradError

if TYPE_CHECKING:
    from handgrad.report import Gradient, Report

FILES = pytest.StashKey[dict[Path, None]]()


@pytest.fixture
def check_backward() -> Callable[..., Report]:
    """`handgrad.assert_backward`: assert that ``backward`` reverses ``forward``, line by line."""
    return assert_backward


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--handgrad``."""
    parser.getgroup("handgrad").addoption(
        "--handgrad",
        action="append",
        default=[],
        metavar="FILE",
        help="run a notebook or script and make a test of each gradient that it computes by hand; "
        "a pattern such as 'lessons/*.ipynb' is several files (may be given more than once)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Put the files of ``--handgrad`` among those that are collected: alone, if no others are named."""
    patterns: list[str] = config.getoption("--handgrad")
    files: dict[Path, None] = {}
    config.stash[FILES] = files
    if not patterns:
        return
    for pattern in patterns:
        found = sorted(glob.glob(str(config.invocation_params.dir / pattern), recursive=True))  # noqa: PTH207 - absolute ones too
        if not found:
            raise pytest.UsageError(f"--handgrad {pattern}: there is no such file")
        files.update(dict.fromkeys(Path(path).resolve() for path in found))
    named = config.args if config.args_source is pytest.Config.ArgsSource.ARGS else []
    files.update(dict.fromkeys(Path(arg).resolve() for arg in named if arg.endswith(".ipynb")))
    known = {(config.invocation_params.dir / arg).resolve() for arg in named}
    config.args[:] = [*named, *(str(path) for path in files if path not in known)]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect a notebook."""
    if file_path.suffix != ".py" and file_path.resolve() in parent.config.stash[FILES]:
        return CheckedFile.from_parent(parent, path=file_path)
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect a script: it is run in a process of its own, not imported as a module of tests."""
    if module_path.resolve() in parent.config.stash[FILES]:
        return CheckedFile.from_parent(parent, path=module_path)
    return None


class CheckedFile(pytest.File):
    """A notebook or script; collecting it runs it."""

    def collect(self) -> Iterator[CheckedGradient]:
        """Yield a test for each gradient."""
        from handgrad.runner.process import check_file

        try:
            report = check_file(self.path)
        except HandgradError as error:
            raise self.CollectError(str(error)) from None
        for number, backward in enumerate(report.passes, 1):
            suffix = f"-pass{number}" if len(report.passes) > 1 else ""
            for gradient in backward.gradients:
                yield CheckedGradient.from_parent(
                    self, name=f"{gradient.name}{suffix}", gradient=gradient, report=report
                )


class CheckedGradient(pytest.Item):
    """A gradient of a file."""

    def __init__(self, *, gradient: Gradient, report: Report, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gradient, self.report = gradient, report

    def runtest(self) -> None:
        """Fail if the gradient is not right."""
        if self.gradient.verdict == "unverified" and not self.gradient.mistakes:
            pytest.skip(f"could not be tested: {self.gradient.note}")
        if self.gradient.verdict != "right":
            said = [*(f"{w.code} {w.kind}: {w.message}" for w in self.report.warnings), *self.report.notes]
            self.add_report_section("call", "handgrad", "\n".join(said)) if said else None
            raise WrongBackwardError(gradient_text(self.gradient), self.report)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the mistake, without a traceback of ours."""
        if isinstance(excinfo.value, WrongBackwardError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the gradient is computed."""
        line = self.gradient.line
        return self.path, None if line is None or self.gradient.cell is not None else line - 1, self.name
