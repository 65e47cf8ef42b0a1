"""IPython's own lines are taken out of a cell; every other line keeps its number.

`%matplotlib inline`, `!pip install`, `files = !ls`, `?obj` and `obj?` become blank statements. Of `%time x = f()` the
statement stays, and so does the body under `%%time`. A cell in another language (`%%bash`) is blank as a whole.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_CELL_MAGIC = re.compile(r"%%(\w+)")
_LINE_MAGIC = re.compile(r"(?P<indent>\s*)(?:[%!?]\S?.*|[\w.]+\s*(?:,\s*\w+\s*)*=\s*[!%].*|[^#'\"]*[\w\])]\?{1,2}\s*)$")
_TIMED = re.compile(r"(?P<indent>\s*)%(?:time|prun|memit|lprun)\s+(?:-\w+\s+)*(?P<statement>[^\s-].*)$")
_PYTHON_CELLS = frozenset({"time", "timeit", "capture", "prun", "memit", "debug", "snakeviz", "scalene"})
_TOKEN = re.compile(r"""\"""|'''|"|'|\#|[(\[{]|[)\]}]|\\.|[^"'#()\[\]{}\\]+|\\""", re.DOTALL)


class Cleaned(NamedTuple):
    """A cell without IPython's lines, and what was taken out."""

    source: str
    removed: tuple[tuple[int, str], ...]  # line, text


def without_magics(source: str) -> Cleaned:
    """Return ``source`` as plain Python with the same lines, and each line that was taken out."""
    lines = source.split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    removed: list[tuple[int, str]] = []
    if magic := _CELL_MAGIC.match(lines[first]):
        if magic[1] not in _PYTHON_CELLS:
            return Cleaned("\n" * (len(lines) - 1), ((first + 1, lines[first].strip()),))
        removed.append((first + 1, lines[first].strip()))
        lines[first] = ""

    scanner, i = _Scanner(), 0
    while i < len(lines):
        if scanner.at_start:
            if timed := _TIMED.match(lines[i]):
                lines[i] = timed["indent"] + timed["statement"]
            elif magic := _LINE_MAGIC.match(lines[i]):
                removed.append((i + 1, lines[i].strip()))
                while lines[i].endswith("\\") and i + 1 < len(lines):
                    lines[i] = f"{magic['indent']}pass"
                    i += 1
                lines[i] = f"{magic['indent']}pass"
        scanner.read(lines[i])
        i += 1
    return Cleaned("\n".join(lines), tuple(removed))


class _Scanner:
    """Knows whether a line begins a statement: not within a string, brackets, or after a backslash."""

    def __init__(self) -> None:
        self.quote, self.depth, self.continued = "", 0, False

    @property
    def at_start(self) -> bool:
        return not self.quote and self.depth == 0 and not self.continued

    def read(self, line: str) -> None:
        self.continued = False
        for part in _TOKEN.findall(line):
            if self.quote:
                if part == self.quote or (len(self.quote) == 1 and part[0] == self.quote):
                    self.quote = ""
            elif part in ('"', "'", '"""', "'''"):
                self.quote = part
            elif part == "#":
                break
            elif part in "([{":
                self.depth += 1
            elif part in ")]}":
                self.depth = max(0, self.depth - 1)
        if len(self.quote) == 1 and not line.endswith("\\"):
            self.quote = ""  # a string in one quote ends with its line
        elif not self.quote:
            self.continued = line.endswith("\\") and "#" not in line
