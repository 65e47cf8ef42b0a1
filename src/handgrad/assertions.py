"""Assertions for tests: a backward pass, or an `autograd.Function`, is right."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handgrad.reports.wording import folded, headline, printable, shape_words

if TYPE_CHECKING:
    from handgrad.function_check import FunctionReport
    from handgrad.report import Gradient, Report


class WrongBackwardError(AssertionError):
    """A backward pass is not right; ``report`` says where and why."""

    def __init__(self, message: str, report: Report | FunctionReport) -> None:
        super().__init__(message)
        self.report = report


def assert_backward(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    *inputs: Any,
    gradient: dict[str, str] | None = None,
    loss: str | None = None,
) -> Report:
    """Assert that every line of ``backward`` is right, and return the report.

    The arguments are those of `handgrad.check`. A gradient that could not be tested is not right.

    Raises:
        WrongBackwardError: a gradient is wrong, missing or could not be tested; wrong lines come first.
        NothingToJudgeError: as `handgrad.check`.

    >>> import torch
    >>> def forward(x, w):
    ...     loss = (x * w).sum()
    ...     return loss
    >>> def backward(x, w):
    ...     dw = 2 * x
    ...     dx = w
    >>> assert_backward(forward, backward, torch.ones(3), torch.ones(3))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    handgrad.assertions.WrongBackwardError: 1 of 2 gradients is wrong
    ...
    """
    __tracebackhide__ = True
    from handgrad.checker import check

    report = check(forward, backward, *inputs, gradient=gradient, loss=loss)
    if not report:
        raise WrongBackwardError(failure_text(report, _file_of(backward)), report)
    return report


def assert_function(
    function: Any, *inputs: Any, atol: float | None = None, rtol: float | None = None, seed: int = 0
) -> FunctionReport:
    """Assert that a `torch.autograd.Function` passes every check, and return the report.

    The arguments are those of `handgrad.check_function`.

    Raises:
        WrongBackwardError: a check found a mistake; wrong checks come first.
        NotComparableError: as `handgrad.check_function`.
    """
    __tracebackhide__ = True
    from handgrad.function_check import check_function

    report = check_function(function, *inputs, atol=atol, rtol=rtol, seed=seed)
    if not report:
        lines = [f"{report.function}: {len(report.wrong)} of {len(report.checks)} checks found a mistake"]
        for name in report.wrong:
            lines += ["", f"{report[name].code} {name}", f"  {report[name].message}"]
        lines += ["", *(f"warning {warned.code}: {warned.message}" for warned in report.warnings)]
        raise WrongBackwardError(printable("\n".join(lines).rstrip()), report)
    return report


def failure_text(report: Report, file: str | None = None) -> str:
    """Return ``report`` as the message of a failed test: what is wrong, then what else is not right."""
    blocks = [headline(report)]
    for verdict in ("wrong", "unverified", "inherited", "missing"):
        found = [gradient for gradient in report.gradients if gradient.verdict == verdict]
        if verdict == "missing" and found:
            blocks.append(folded(found, "is not written yet", "are not written yet"))
        elif verdict == "inherited" and found:
            blocks.append(folded(found, "inherits a mistake", "inherit a mistake"))
        else:
            blocks += [gradient_text(gradient, file) for gradient in found]
    blocks += [f"{warning.place}: {warning.code} {warning.kind}: {warning.message}" for warning in report.warnings]
    if report.notes:
        blocks.append("\n".join(f"note: {note}" for note in report.notes))
    return printable("\n\n".join(blocks))


def gradient_text(gradient: Gradient, file: str | None = None) -> str:
    """Return one gradient that is not right: where, its lines, why, and the fix if there is one."""
    lines = [f"{_place(gradient, file)}{gradient.name} is {gradient.verdict}, {shape_words(gradient)}".rstrip(", ")]
    lines += _indented(gradient.code or "", 4)
    for mistake in gradient.mistakes:
        lines += _indented(f"{mistake.code} {mistake.kind}: {mistake.message}", 2)
        if mistake.fix is not None:
            lines += ["  did you mean:", *_indented(mistake.fix, 4)]
    if gradient.note:
        lines += _indented(gradient.note, 2)
    return printable("\n".join(lines))


def _place(gradient: Gradient, file: str | None) -> str:
    if gradient.line is None:
        return f"{file}: " if file else ""
    if file and gradient.cell is None:
        return f"{file}:{gradient.line}: "
    return f"{gradient.place}: "


def _indented(text: str, columns: int) -> Iterator[str]:
    return (" " * columns + line for line in text.splitlines())


def _file_of(function: Callable[..., Any]) -> str | None:
    try:
        path = Path(inspect.getsourcefile(inspect.unwrap(function)) or "")
    except TypeError:
        return None
    if not path.is_file():
        return None
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
