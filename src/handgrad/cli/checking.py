"""``handgrad check``: people's files, judged line by line; and ``handgrad explain``: the page about a mistake."""

from __future__ import annotations

import signal
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from handgrad.cli.app import app
from handgrad.cli.options import AsJson
from handgrad.cli.output import open_console
from handgrad.errors import HandgradError, InvalidOptionError

if TYPE_CHECKING:
    from handgrad.runner import Options


LOOK_AGAIN = 1000  # milliseconds: for a file saved during its check, and where the system tells of no changes


class ReportFormat(StrEnum):
    """How a report is printed."""

    terminal = "terminal"
    json = "json"
    junit = "junit"
    github = "github"


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Notebooks and scripts.", show_default=False)],
    gradient: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of which value a name is the gradient, where names do not tell."),
    ] = None,
    loss: Annotated[str | None, typer.Option(metavar="NAME", help="The loss. [default: found]")] = None,
    words: Annotated[
        Path | None, typer.Option(help="Names list for files that do not find theirs. [default: built-in names]")
    ] = None,
    iterations: Annotated[int, typer.Option(help="Iterations of a long training loop that are run.")] = 3,
    timeout: Annotated[float, typer.Option(help="Seconds that a file may run.")] = 120.0,
    memory: Annotated[float, typer.Option(help="GiB that a file may use.")] = 4.0,
    html: Annotated[Path | None, typer.Option(metavar="OUT", help="Write the report as one HTML page, too.")] = None,
    report_format: Annotated[
        ReportFormat, typer.Option("--format", help="Print for a terminal, as JSON, or for CI.")
    ] = ReportFormat.terminal,
    as_json: AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Check again whenever a file is saved; Ctrl-C ends it.")
    ] = False,
) -> None:
    """Judge every line of the backward passes in notebooks and scripts, and say what is wrong and why.

    The files are run, each in a process of its own, in its own folder. Exit status 1 if a gradient is wrong or
    missing, 2 if a file cannot be judged.
    """
    from handgrad.runner import Options

    options = Options(
        timeout=timeout,
        memory=int(memory * 2**30),
        iterations=iterations,
        words=None if words is None else str(words.resolve()),
        gradient=tuple(gradient or ()),
        loss=loss,
    )
    if as_json:
        report_format = ReportFormat.json
    if html is not None and len(files) > 1:
        raise InvalidOptionError(
            f"--html takes the report of one file, and {len(files)} are given: check them one by one"
        )
    if report_format in (ReportFormat.json, ReportFormat.junit) and len(files) > 1:
        raise InvalidOptionError(
            f"--format {report_format.value} prints the report of one file, and {len(files)} are given: "
            "check them one by one"
        )
    if watch:
        if report_format is not ReportFormat.terminal:
            raise InvalidOptionError(
                f"--watch prints for a terminal: leave out --format {report_format.value}, or check without --watch"
            )
        _watch_files(files, options, html)
    statuses = [_check_file(path, options, html, report_format, several=len(files) > 1) for path in files]
    if worst := (2 if 2 in statuses else max(statuses)):
        raise typer.Exit(worst)


def _check_file(
    path: Path, options: Options, html: Path | None, report_format: ReportFormat, *, several: bool = False
) -> int:
    """Check one file and print its report; return the exit status."""
    from handgrad.runner.process import run

    try:
        report = replace(run(path, options), file=str(path))
    except HandgradError as error:
        if not several:
            raise
        open_console(stderr=True).print(f"error: {error}", style="red", soft_wrap=True)
        return 2
    if html is not None:
        from handgrad.reports.page import page

        html.write_text(page(report), encoding="utf-8")
    if report_format is ReportFormat.terminal:
        from handgrad.reports.terminal import print_report

        print_report(open_console(), report)
        if html is not None:
            open_console().print(f"the report as a page: {html}", style="dim", soft_wrap=True)
    elif report_format is ReportFormat.json:
        typer.echo(report.to_json())
    else:
        from handgrad.reports import ci

        typer.echo(ci.junit(report) if report_format is ReportFormat.junit else ci.github(report))
    return report.exit_status


def _watch_files(files: list[Path], options: Options, html: Path | None) -> NoReturn:
    """Check the files now, and each again when it is another one than it was when its last check began."""
    from watchfiles import watch

    console = open_console()
    seen: dict[Path, tuple[int, int] | None] = {}

    def look() -> None:
        changed = [path for path in files if path not in seen or seen[path] != _stamp(path)]
        if changed and seen:
            console.clear()
        for path in changed:
            seen[path] = _stamp(path)
            try:
                _check_file(path, options, html, ReportFormat.terminal)
            except HandgradError as error:
                open_console(stderr=True).print(f"error: {error}", style="red", soft_wrap=True)
        if changed:
            console.print("watching; Ctrl-C ends", style="dim")

    folders = {path.resolve().parent for path in files}
    try:
        look()
        for _ in watch(*folders, recursive=False, yield_on_timeout=True, rust_timeout=LOOK_AGAIN):
            look()
    except KeyboardInterrupt:
        raise typer.Exit(128 + signal.SIGINT) from None
    raise typer.Exit


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


@app.command()
def explain(
    code: Annotated[str | None, typer.Argument(help="A code such as HG201, or a kind such as missing-sum.")] = None,
) -> None:
    """Print the page about a mistake: what it is, a wrong and a right example. Without a code, list them all."""
    from rich.markdown import Markdown

    from handgrad.codes import page_of, titles

    console = open_console()
    if code is None:
        for its_code, (kind, title) in titles().items():
            console.print(f"[bold]{its_code}[/bold]  {kind:18s} {title}", soft_wrap=True)
        return
    text = page_of(code)
    console.print(Markdown(text) if console.is_terminal else text, soft_wrap=not console.is_terminal, markup=False)
