"""A `Report` as HTML: one file to keep and to send, and a fragment for notebooks.

Both work without a script and load nothing. The page's one script draws the lines between a value and its gradient.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from handgrad.report import Place
from handgrad.reports import wording
from handgrad.reports.heatmap import picture

if TYPE_CHECKING:
    from handgrad.report import Finding, ForwardLine, Gradient, Report


def page(report: Report, *, source: str | Sequence[str] | None = None) -> str:
    """Return ``report`` as one self-contained HTML file.

    Args:
        report: what the check found.
        source: the text of the script, or the text of each cell of the notebook, to be listed below with its marks.
    """
    cells = [source] if isinstance(source, str) else source
    return _environment().get_template("page.html").render(_context(report, cells))


def fragment(report: Report) -> str:
    """Return ``report`` as HTML to put into another page: no script, and no style that reaches outside."""
    return _environment().get_template("fragment.html").render(_context(report, None))


class _Value(NamedTuple):
    """A forward line, the key that it shares with its gradient, and the warnings that stand on it."""

    line: ForwardLine
    key: str
    gradient: str | None  # the id of its gradient
    warnings: list[tuple[int, Finding]]


class _Row(NamedTuple):
    """A gradient, its id, and the key and id of the value it is the gradient of."""

    gradient: Gradient
    id: str
    key: str | None
    value: str | None


class _Pass(NamedTuple):
    values: list[_Value]
    rows: list[_Row]


class _SourceLine(NamedTuple):
    number: int
    text: str
    id: str
    look: str | None  # the verdict of the gradient that this line computes, or "warning"


def _context(report: Report, cells: Sequence[str] | None) -> dict[str, Any]:
    passes = [_pass(report, number) for number in range(len(report.passes))]
    content = json.dumps([report.to_dict(), cells], sort_keys=True)
    return {
        "report": report,
        "passes": passes,
        "cells": [_listing(report, number, text) for number, text in enumerate(cells or [])],
        "sourced": _sourced(report, cells),
        "uid": "hg-" + hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:10],
        "keys": sorted({row.key for one in passes for row in one.rows if row.key}),
        "rounding": sum(wording.look(gradient) == "rounding" for gradient in report.gradients),
    }


def _pass(report: Report, number: int) -> _Pass:
    forward, gradients = report.passes[number].forward, report.passes[number].gradients
    keys = {line.name: f"p{number}v{i}" for i, line in enumerate(forward)}  # a name bound twice: the last one
    rows = [
        _Row(gradient, f"p{number}g{i}", keys.get(gradient.of), keys.get(gradient.of))
        for i, gradient in enumerate(gradients)
    ]
    gradient_of = {row.key: row.id for row in rows}
    numbered = list(enumerate(report.warnings))
    values = [
        _Value(
            line,
            f"p{number}v{i}",
            gradient_of.get(f"p{number}v{i}"),
            [(n, w) for n, w in numbered if w.line is not None and w.place == (line.cell, line.line)],
        )
        for i, line in enumerate(forward)
    ]
    return _Pass(values, rows)


def _listing(report: Report, cell: int, text: str) -> list[_SourceLine]:
    """Return the lines of a cell or script, each with the worst that was said of it."""
    looks: dict[int | None, str] = {}
    for gradient in report.gradients:
        if (gradient.cell or 0) == cell:
            looks.setdefault(gradient.line, wording.look(gradient))
    for warning in report.warnings:
        if (warning.cell or 0) == cell:
            looks[warning.line] = "warning"
    for gradient in report.gradients:
        looks.update({mistake.line: gradient.verdict for mistake in gradient.mistakes if (mistake.cell or 0) == cell})
    return [_SourceLine(i, line, f"s{cell}l{i}", looks.get(i)) for i, line in enumerate(text.splitlines(), 1)]


def _sourced(report: Report, cells: Sequence[str] | None) -> dict[Place, str]:
    """Return the id of the listed line for each place that the report names."""
    places = {gradient.place for gradient in report.gradients} | {f.place for f in [*report.mistakes, *report.warnings]}
    places |= {Place(line.cell, line.line) for one in report.passes for line in one.forward}
    lines = [text.count("\n") + 1 for text in cells or []]
    return {
        place: f"s{place.cell or 0}l{place.line}"
        for place in places
        if place.line is not None and (place.cell or 0) < len(lines) and place.line <= lines[place.cell or 0]
    }


COMMENT = re.compile(r"""('[^'\n]*'|"[^"\n]*")|(\#[^\n]*)""")


def _code(text: str) -> Markup:
    """Return source as HTML, its comments marked."""
    text = wording.printable(text)
    parts, end = [], 0
    for found in COMMENT.finditer(text):
        if found[2]:
            parts += [escape(text[end : found.start()]), Markup("<i>{}</i>").format(found[2])]
            end = found.end()
    return Markup("").join([*parts, escape(text[end:])])


def _prose(text: str) -> Markup:
    """Return a message as HTML, what stands between backticks as code."""
    parts = wording.printable(text).split("`")
    if len(parts) % 2 == 0:
        return escape("`".join(parts))
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


def _short(place: Place) -> str:
    """Return a place for the margin: ``10:7`` is cell 10, line 7."""
    if place.line is None:
        return ""
    return str(place.line) if place.cell is None else f"{place.cell}:{place.line}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("handgrad.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda said: wording.printable(said) if type(said) is str else said,
    )
    filters: dict[str, Callable[[Any], str]] = {"code": _code, "prose": _prose, "short": _short}
    environment.filters |= filters
    environment.globals |= {
        "MARKS": wording.MARKS,
        "headline": wording.headline,
        "look": wording.look,
        "number": wording.number_words,
        "picture": picture,
        "shape_words": wording.shape_words,
        "verdict_words": wording.verdict_words,
    }
    return environment
