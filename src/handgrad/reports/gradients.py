"""A `Report` in the terminal: a table, then each mistake with its line, its reason and its fix."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from handgrad.reports.wording import (
    ASCII_MARKS,
    MARKS,
    counts,
    folded,
    headline,
    look,
    number_words,
    printable,
    shape_words,
    verdict_words,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from handgrad.report import Finding, Gradient, Pass, Place, Report

COLOURS = {
    "right": "green",
    "rounding": "green",
    "wrong": "bold red",
    "inherited": "magenta",
    "missing": "yellow",
    "unverified": "yellow",
}

WIDE = 108
"""Columns from which a table spells places and headings out."""

LINE = 120
"""Columns that a sentence takes at most: longer lines are hard to read."""


def print_report(console: Console, report: Report) -> None:
    """Print ``report``: a table for each pass, the mistakes, the warnings, the notes and the counts."""
    writer = _Writer(plain=console.options.ascii_only, wide=console.width >= WIDE)
    for part in writer.report(report):
        width = None if isinstance(part, Table) else min(console.width, LINE)
        console.print(part, width=width, markup=False, highlight=False, emoji=False)


def report_text(report: Report, *, width: int = 100) -> str:
    """Return what `print_report` prints, as plain text without colour."""
    text = io.StringIO()
    console = Console(file=text, width=width, color_system=None, force_terminal=False, force_jupyter=False)
    print_report(console, report)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


class _Writer:
    """The parts of a report as rich renderables; every word of the user's goes through `say`."""

    def __init__(self, *, plain: bool, wide: bool) -> None:
        self.plain = plain
        self.wide = wide
        self.marks = ASCII_MARKS if plain else MARKS

    def say(self, text: str, style: str = "") -> Text:
        text = printable(text)
        return Text(text.encode("ascii", "backslashreplace").decode() if self.plain else text, style)

    def report(self, report: Report) -> list[RenderableType]:
        parts: list[RenderableType] = [self.header(report)]
        for number, backward in enumerate(report.passes, 1):
            parts.append(Text())
            if len(report.passes) > 1:
                parts.append(self.say(f"pass {number} of {len(report.passes)}", "bold"))
            parts += self.gradients(backward)
        for gradient in report.gradients:
            for mistake in gradient.mistakes:
                parts += [Text(), self.mistake(gradient, mistake)]
        for warning in report.warnings:
            parts += [Text(), self.finding(warning, "warning  ", "yellow", "")]
        if report.notes:
            parts += [Text(), *(self.indented(f"note: {note}", "dim", 0) for note in report.notes)]
        return [*parts, Text(), self.say(counts(report), "bold")]

    def header(self, report: Report) -> Text:
        colour = {0: "bold green", 1: "bold red", 2: "bold yellow"}[report.exit_status]
        header = Text.assemble(self.say(report.file or "report", "bold"), "  ", self.say(headline(report), colour))
        facts = [f"torch {report.torch}"] if report.torch else []
        if report.loss_name:
            value = report.loss_value
            facts.insert(0, report.loss_name if value is None else f"{report.loss_name} = {value:.6g}")
        return Text("\n").join([header, self.say(", ".join(facts), "dim")]) if facts else header

    def gradients(self, backward: Pass) -> list[RenderableType]:
        written = [gradient for gradient in backward.gradients if gradient.verdict != "missing"]
        missing = [gradient for gradient in backward.gradients if gradient.verdict == "missing"]
        parts: list[RenderableType] = []
        if not backward.gradients:
            parts.append(Text("no gradient was found", "yellow"))
        elif all(gradient.verdict == "right" for gradient in backward.gradients):
            parts += self.short_list(written)
        elif written:
            parts.append(self.table(written))
        if missing:
            sentence = folded(missing, "is not written yet", "are not written yet")
            parts.append(self.indented(f"{self.marks['missing']} {sentence}", COLOURS["missing"], 0))
        notes = [f"{gradient.name}: {gradient.note}" for gradient in backward.gradients if gradient.note]
        return [*parts, *(self.indented(note, "dim", 0) for note in notes)]

    def short_list(self, gradients: Sequence[Gradient]) -> list[RenderableType]:
        parts: list[RenderableType] = []
        for kind, words in (("right", "right"), ("rounding", "right (rounding)")):
            alike = [gradient.name for gradient in gradients if look(gradient) == kind]
            if alike:
                mark = self.say(f"{self.marks[kind]} {len(alike)} {words}: ", COLOURS[kind])
                parts.append(Text.assemble(mark, self.say(", ".join(alike))))
        return parts

    def table(self, gradients: Sequence[Gradient]) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        table.add_column("verdict", no_wrap=True)
        table.add_column("gradient", overflow="fold")
        table.add_column("shape", overflow="fold")
        cells = any(gradient.cell is not None for gradient in gradients)
        table.add_column("place" if self.wide else "cell:line" if cells else "line", no_wrap=True)
        table.add_column("exact", no_wrap=True)
        table.add_column("approximate" if self.wide else "approx.", no_wrap=True)
        table.add_column("maxdiff", no_wrap=True, justify="right")
        for gradient in gradients:
            kind = look(gradient)
            quiet = "dim" if gradient.verdict == "right" else ""
            words = verdict_words(gradient) if self.wide else gradient.verdict
            table.add_row(
                self.say(f"{self.marks[kind]} {words}", COLOURS[kind]),
                self.say(gradient.name, quiet or "bold"),
                self.say(shape_words(gradient) if self.wide else shape_words(gradient).replace(" for", "\nfor"), quiet),
                self.say(self.place(gradient.place), quiet),
                self.say(str(gradient.exact) if self.wide else _yes(gradient.exact), quiet),
                self.say(str(gradient.approximate) if self.wide else _yes(gradient.approximate), quiet),
                self.say(number_words(gradient.maxdiff), quiet),
            )
        return table

    def place(self, place: Place) -> str:
        if place.line is None:
            return ""
        if self.wide:
            return str(place)
        return str(place.line) if place.cell is None else f"{place.cell}:{place.line}"

    def mistake(self, gradient: Gradient, mistake: Finding) -> RenderableType:
        return self.finding(mistake, "", COLOURS[gradient.verdict], gradient.name, gradient.code)

    def finding(self, finding: Finding, word: str, colour: str, name: str, code: str | None = None) -> RenderableType:
        place = f"{finding.place}  " if finding.line is not None else ""
        kind = self.say(f"{finding.code} {finding.kind}", colour)
        title = Text.assemble(self.say(f"{word}{place}", "bold"), kind, self.say(f"  {name}" if name else ""))
        parts: list[RenderableType] = [title]
        if code:
            parts.append(self.indented(code, "cyan", 4))
        parts.append(self.indented(finding.message, "", 2))
        if finding.fix is not None:
            lines = finding.fix.splitlines()
            if len(lines) == 1:
                fix = Text.assemble("did you mean: ", self.say(lines[0], "bold cyan"))
                parts.append(Padding(fix, (0, 0, 0, 2), expand=False))
            else:
                parts += [Text("  did you mean:"), self.indented(finding.fix, "bold cyan", 4)]
        return Group(*parts)

    def indented(self, text: str, style: str, columns: int) -> Padding:
        said = self.say(text, style)
        said.overflow = "fold"
        return Padding(said, (0, 0, 0, columns), expand=False)


def _yes(true: bool) -> str:
    return "yes" if true else "no"
