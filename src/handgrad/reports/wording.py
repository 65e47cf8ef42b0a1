"""What all reports say in the same words: marks, shapes, numbers and the sentence on top."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handgrad.report import Gradient, Report

MARKS = {"right": "✓", "rounding": "≈", "wrong": "✗", "inherited": "↳", "missing": "○", "unverified": "?"}
"""A sign for each verdict, and for ``right`` up to rounding: what colour says, for those who see none."""

ASCII_MARKS = {"right": "+", "rounding": "~", "wrong": "x", "inherited": ">", "missing": "o", "unverified": "?"}
"""The same for terminals that know only ASCII."""

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What a terminal obeys instead of showing it, and what XML cannot hold."""


def printable(text: str) -> str:
    r"""Return ``text`` with control characters written as Python writes them.

    >>> print(printable("a\x1b[31m"))
    a\x1b[31m
    """
    text = text.replace("\r\n", "\n")
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def look(gradient: Gradient) -> str:
    """Return the key of the gradient's mark in `MARKS`."""
    return "rounding" if gradient.verdict == "right" and gradient.bits == "rounding" else gradient.verdict


def verdict_words(gradient: Gradient) -> str:
    """Return the verdict as people read it: ``right (rounding)`` where the last bits differ from autograd's."""
    return "right (rounding)" if look(gradient) == "rounding" else gradient.verdict


def shape_words(gradient: Gradient) -> str:
    """Return the shape, and the one it should be where that is another: ``(64,) for (1, 64)``."""
    if gradient.shape is None or gradient.expected_shape in (None, gradient.shape):
        shape = gradient.expected_shape if gradient.shape is None else gradient.shape
        return "" if shape is None else str(shape)
    return f"{gradient.shape} for {gradient.expected_shape}"


def number_words(number: float | None) -> str:
    """Return ``number`` with three digits, or ``none``.

    >>> [number_words(x) for x in (0.0, 0.4619, 1.8626e-09, float("nan"), None)]
    ['0', '0.462', '1.86e-09', 'nan', 'none']
    """
    return "none" if number is None else f"{number:.3g}"


def headline(report: Report) -> str:
    """Return what the check found, as one sentence without its full stop."""
    count, summary = len(report.gradients), report.summary
    if not count:
        return "No gradient was found"
    if summary["right"] == count:
        return "The one gradient is right" if count == 1 else f"All {count} gradients are right"
    parts = [
        (summary["wrong"], "is wrong", "are wrong"),
        (summary["inherited"], "inherits a mistake", "inherit a mistake"),
        (summary["missing"], "is not written yet", "are not written yet"),
        (summary["unverified"], "could not be tested", "could not be tested"),
    ]
    said = [f"{number} {one if number == 1 else many}" for number, one, many in parts if number]
    first, rest = said[0].split(" ", 1)
    return ", ".join([f"{first} of {count} {'gradient' if count == 1 else 'gradients'} {rest}", *said[1:]])


def counts(report: Report) -> str:
    """Return how many gradients have each verdict, for the last line."""
    parts = [f"{number} {verdict}" for verdict, number in report.summary.items() if number]
    rounding = sum(look(gradient) == "rounding" for gradient in report.gradients)
    if rounding:
        parts[0] += f" ({rounding} up to rounding)"
    return ", ".join(parts) or "no gradient was found"


def folded(gradients: Sequence[Gradient], one: str, many: str, *, most: int = 30) -> str:
    """Return many gradients as one sentence: ``23 gradients are not written yet: dcounts_sum, dcounts, ...``."""
    names = [gradient.name for gradient in gradients]
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    said = ", ".join(names[:most] + more)
    return f"1 gradient {one}: {said}" if len(names) == 1 else f"{len(names)} gradients {many}: {said}"
