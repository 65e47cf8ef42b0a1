"""``handgrad derive``: the backward of the forward in a file, written for you."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from handgrad.cli.app import app
from handgrad.cli.options import AsJson
from handgrad.cli.output import open_console, print_json
from handgrad.errors import InvalidOptionError


class StyleName(StrEnum):
    """Which of two ways of writing a line is taken, where there are two."""

    plain = "plain"
    exact = "exact"


class FormName(StrEnum):
    """What the forward and its backward are written as."""

    function = "function"
    custom_op = "custom-op"
    numpy = "numpy"


@app.command()
def derive(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A notebook or script that computes a loss.")],
    to: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only as far as this gradient; may be given again.")
    ] = None,
    reasons: Annotated[bool, typer.Option("--reasons", help="Say above each line why it is so.")] = False,
    style: Annotated[
        StyleName, typer.Option(help="As written by hand, or rounded as autograd rounds.")
    ] = StyleName.plain,
    complete: Annotated[
        bool, typer.Option("--complete", help="Only the gradients that the file does not compute yet.")
    ] = False,
    form: Annotated[
        FormName | None,
        typer.Option("--as", help="Forward and backward as a torch.autograd.Function, an operator, or in NumPy."),
    ] = None,
    test: Annotated[Path | None, typer.Option(metavar="OUT", help="With --as: write its test to this file.")] = None,
    notebook: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write a notebook: the file, and a cell for each block.")
    ] = None,
    loss: Annotated[str | None, typer.Option(metavar="NAME", help="The loss. [default: the last one]")] = None,
    words: Annotated[
        Path | None, typer.Option(help="Names list for files that do not find theirs. [default: built-in names]")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that the file may run.")] = 120.0,
    memory: Annotated[float, typer.Option(help="GiB that the file may use.")] = 4.0,
    as_json: AsJson = False,
) -> None:
    """Print the backward of the forward in FILE, in its own names; it runs when pasted below the loss.

    The file is run, in a process of its own. What is printed has been executed, and agrees with autograd.
    """
    from handgrad.deriver.result import Derivation
    from handgrad.runner import Options
    from handgrad.runner.process import ask

    if form is None and test is not None:
        raise InvalidOptionError("--test goes with --as: it is the test of a function")
    if form is not None and (to or reasons or complete or notebook):
        raise InvalidOptionError("--as writes the whole function: leave --to, --reasons, --complete, --notebook out")
    asked = {
        "style": style.value, "reasons": reasons, "to": to, "complete": complete,
        "form": None if form is None else form.value,
    }  # fmt: skip
    options = Options(
        timeout=timeout,
        memory=int(memory * 2**30),
        words=None if words is None else str(words.resolve()),
        loss=loss,
        asked=asked,
    )
    found = Derivation.from_dict(ask(file, options, "handgrad.deriver.files:derive_execution"))
    if notebook is not None:
        from handgrad.deriver.notebook import write_notebook

        write_notebook(found, file, notebook)
    if test is not None and found.test is not None:
        test.write_text(f"{found.source}\n\n{found.test}", encoding="utf-8")
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
