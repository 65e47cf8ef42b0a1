"""The text of a cell: what ``%%backward`` asks for in it, and the parts that IPython compiles apart."""

from __future__ import annotations

import argparse
import re
import shlex
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from handgrad.errors import InvalidOptionError
from handgrad.source import Source

BACKWARD = re.compile(r"\s*%%backward\b(?P<options>[^\n]*)")
TIMED = re.compile(r"^[ \t]*%time[ \t]+(?P<statement>[^\n]+)$", re.MULTILINE)
TIMED_CELL = re.compile(r"\s*%%time\b[^\n]*\n(?P<body>.*)", re.DOTALL)
MEASURED = re.compile(r"^[ \t]*%%?(timeit|prun|lprun|mprun|memit|debug)\b", re.MULTILINE)


@dataclass(frozen=True)
class Asked:
    """What ``%%backward`` was asked to do."""

    loss: str | None = None
    gradient: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parsed(cls, options: str) -> Asked:
        """Return the options of the magic's line.

        Raises:
            InvalidOptionError: it cannot be read.
        """
        parser = _Parser(prog="%%backward", add_help=False)
        parser.add_argument("--loss")
        parser.add_argument("--gradient", action="extend", nargs="+", default=[])
        try:
            given = parser.parse_args(shlex.split(options))
        except ValueError as error:
            raise InvalidOptionError(f"%%backward: {error}") from None
        pairs = [pair.partition("=") for text in given.gradient for pair in text.split(",") if pair]
        if not all(name and of for name, _, of in pairs):
            raise InvalidOptionError("%%backward --gradient dX=X: the name of the gradient, =, the name of the value")
        return cls(given.loss, {name.strip(): of.strip() for name, _, of in pairs})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidOptionError(f"%%backward: {message}; it is %%backward [--loss NAME] [--gradient dX=X ...]")


class Part(NamedTuple):
    """Text that IPython compiles apart from the lines above it, and the names that it may give to it."""

    text: str
    above: int
    names: tuple[str, ...] = ("<timed exec>", "<timed eval>")


@dataclass
class Cell:
    """A cell that runs."""

    raw: str
    asked: Asked | None = None  # by %%backward
    is_traced: bool = False
    sources: list[Source] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)


def without_backward(lines: list[str]) -> list[str]:
    """Make the line of ``%%backward`` a comment, so that the cell runs as any other, with its own line numbers."""
    if lines and BACKWARD.match(lines[0]):
        return [f"# {lines[0].lstrip()}", *lines[1:]]
    return lines


without_backward.has_side_effects = True  # type: ignore[attr-defined]  # a terminal asks for more lines of a %%cell
