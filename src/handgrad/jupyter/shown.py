"""What a cell shows: one line, or a report of what it computed."""

from __future__ import annotations

from dataclasses import replace

from handgrad.report import Pass, Report


def say(text: str) -> None:
    """Print one line below the cell."""
    print(f"handgrad: {text}")  # noqa: T201 - the cell's output is where it belongs


def show(report: Report) -> None:
    """Show ``report`` below the cell: as HTML in a notebook, as text in a terminal."""
    from IPython.display import display

    display({"text/plain": str(report), "text/html": report._repr_html_()}, raw=True)  # type: ignore[no-untyped-call]


def part_of(report: Report, names: set[str]) -> Report:
    """Return the part about gradients with these names; iterations with the same verdicts once."""
    passes: list[Pass] = []
    repeated = 0
    for backward in report.passes:
        gradients = tuple(
            g for g in backward.gradients if g.name in names and (g.line is not None or g.verdict != "missing")
        )
        if not gradients:
            continue
        if passes and [(g.name, g.verdict, g.line) for g in passes[-1].gradients] == [
            (g.name, g.verdict, g.line) for g in gradients
        ]:
            repeated += 1
            continue
        passes.append(replace(backward, gradients=gradients))
    notes = [f"the same in {repeated} more {'iteration' if repeated == 1 else 'iterations'}"] if repeated else []
    return replace(report, passes=tuple(passes), notes=(*report.notes, *notes))
