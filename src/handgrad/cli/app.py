"""The command that all others belong to."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    help="Check, derive and compile backward passes written by hand in PyTorch.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"handgrad {version('handgrad')}")
        raise typer.Exit


@app.callback()
def _handgrad(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass
