"""``handgrad simplify``: the closed forms in the backward of a file's forward."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from handgrad.cli.app import app
from handgrad.cli.options import AsJson
from handgrad.cli.output import open_console, print_json


@app.command()
def simplify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A notebook or script that computes a loss.")],
    loss: Annotated[str | None, typer.Option(metavar="NAME", help="The loss. [default: the last one]")] = None,
    words: Annotated[
        Path | None, typer.Option(help="Names list for files that do not find theirs. [default: built-in names]")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that the file may run.")] = 120.0,
    memory: Annotated[float, typer.Option(help="GiB that the file may use.")] = 4.0,
    as_json: AsJson = False,
) -> None:
    """Print the closed forms in the backward of FILE: one line where several fold, and the equal lines that lead to it.

    The file is run, in a process of its own. Every line agrees with autograd in float64, at two points.
    """
    from handgrad.runner import Options
    from handgrad.runner.process import ask
    from handgrad.simplifier.result import Simplified

    options = Options(
        timeout=timeout,
        memory=int(memory * 2**30),
        words=None if words is None else str(words.resolve()),
        loss=loss,
    )
    found = Simplified.from_dict(ask(file, options, "handgrad.simplifier.files:simplify_execution"))
    if as_json:
        print_json({**found.to_dict(), "file": str(file)})
        return
    messages = open_console(stderr=True)
    for note in found.notes:
        messages.print(f"note: {note}", style="dim", soft_wrap=True)
    console = open_console()
    if console.is_terminal:
        from rich.syntax import Syntax

        console.print(Syntax(found.source, "python", background_color="default"))
    else:
        typer.echo(found.source, nl=False)
