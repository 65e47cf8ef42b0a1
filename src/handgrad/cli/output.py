"""What commands print, and how they fail."""

from __future__ import annotations

import json
import sys
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console


def open_console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False)


def print_json(content: dict[str, Any]) -> None:
    """Print ``content`` as JSON on stdout, in letters that the terminal has."""
    ascii_only = sys.stdout.encoding.lower() not in ("utf-8", "utf8")
    typer.echo(json.dumps(content, indent=2, ensure_ascii=ascii_only, allow_nan=False))


def fail(message: str, *, status: int = 2) -> NoReturn:
    """End the command with one line on stderr."""
    open_console(stderr=True).print(f"error: {message}", style="red", soft_wrap=True)
    sys.exit(status)


def crash() -> NoReturn:
    """Show a fault of handgrad's own, with a status that is not taken for a wrong gradient."""
    traceback.print_exc()
    sys.exit(70)
