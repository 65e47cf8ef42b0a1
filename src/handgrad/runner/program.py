"""A file as people have it becomes a `Program`: the pieces of Python in it, in the order in which they run.

Lines keep their numbers: within the cell for a notebook, within the file for everything else.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import tokenize
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from handgrad.errors import (
    BrokenSourceError,
    FileNotReadableError,
    FileNotTextError,
    FileTooLargeError,
    NoCodeError,
)
from handgrad.report import Place
from handgrad.runner.magics import without_magics
from handgrad.runner.marimo import cells_of, is_marimo
from handgrad.runner.notebook import code_cells

MOST_CODE = 32 * 2**20
MOST_NOTEBOOK = 512 * 2**20  # with its plots, which are not kept
_PERCENT = re.compile(r"#\s?%%(?P<title>.*)")

Kind = Literal["notebook", "marimo", "percent", "script"]


@dataclass(frozen=True, eq=False)
class Cell:
    """A piece of the program that is run as one; when it fails, the next one is run all the same."""

    index: int | None  # among all cells of the notebook; None in a script
    source: str
    first_line: int  # in its file
    filename: str  # what it is compiled with
    tree: ast.Module

    def place(self, line: int | None) -> Place:
        """Return a line of it, as reports name it."""
        return Place(self.index, line)


@dataclass(frozen=True, eq=False)
class Program:
    """The code of a file, and what was left out of it."""

    path: Path
    kind: Kind
    cells: tuple[Cell, ...]
    notes: tuple[str, ...]
    text: str | None = None  # of a script: the whole of it, as its cells are compiled

    @property
    def sources(self) -> list[tuple[str, str, int | None]]:
        """What to register as the user's code: file name, text and cell."""
        if self.text is not None:
            return [(str(self.path), self.text, None)]
        return [(cell.filename, cell.source, cell.index) for cell in self.cells]


def check_path(path: Path) -> None:
    """Raise FileNotReadableError, or FileTooLargeError, unless ``path`` can be read."""
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise FileNotReadableError(f"{path} is a folder; give a notebook or a script in it")
        if not path.is_file():
            raise FileNotReadableError(f"{path} is not a file (a device or pipe); give a notebook or a script")
        if not os.access(path, os.R_OK):
            raise FileNotReadableError(f"{path} may not be read; check its permissions")
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotReadableError(f"{path} does not exist; check the path") from None
    except (OSError, ValueError) as error:
        raise FileNotReadableError(f"{path} cannot be read ({error}); check the path and its permissions") from None
    if size > (MOST_NOTEBOOK if path.suffix == ".ipynb" else MOST_CODE):
        advice = "clear the outputs and save it" if path.suffix == ".ipynb" else "is it data?"
        raise FileTooLargeError(f"{path} has {size / 2**20:,.0f} MB, too much for code; {advice}")


def load(path: str | Path) -> Program:
    """Read a notebook (.ipynb), a marimo file, a script in percent format, or any other script.

    Raises:
        FileNotReadableError: the file is missing, is a folder, or may not be read.
        FileTooLargeError: there are more than 32 MB of code.
        FileNotTextError: it is not text, or not UTF-8.
        NotANotebookError: an .ipynb file that is no notebook in Python.
        NoCodeError: there is nothing to run.
        BrokenSourceError: no part of it is valid Python.
    """
    path = Path(path)
    check_path(path)
    path = path.absolute()
    text = _text(path)
    program = _notebook(path, text) if path.suffix == ".ipynb" else _script(path, text)
    if not any(cell.tree.body for cell in program.cells):
        if broken := [note for note in program.notes if "syntax error" in note]:
            raise BrokenSourceError(f"{path}: {broken[0].partition(';')[0]}; nothing else is left to run")
        raise NoCodeError(f"{path} holds no code to run")
    return program


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileNotReadableError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    encoding = "utf-8-sig"
    if path.suffix != ".ipynb":
        with contextlib.suppress(SyntaxError):  # the error below says it better
            encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
        if encoding == "utf-8":
            encoding = "utf-8-sig"
    if b"\0" in data:
        raise FileNotTextError(f"{path} is binary, not text; give a notebook or a script")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise FileNotTextError(
            f"{path}, line {line}: the byte 0x{data[error.start]:02x} is not {encoding.removesuffix('-sig').upper()} "
            "text; save the file with the encoding UTF-8"
        ) from None
    return text


def _notebook(path: Path, text: str) -> Program:
    found = code_cells(text, path)
    if (size := sum(len(source) for _, source in found)) > MOST_CODE:
        raise FileTooLargeError(f"{path} has {size / 2**20:,.0f} MB of code, too much to be written by hand")
    cells, notes = [], []
    for index, source in found:
        cleaned = without_magics(_with_plain_line_ends(source))
        notes += [f"cell {index}: `{line}` not run" for _, line in cleaned.removed]
        tree = _parsed(cleaned.source, notes, Place(index, 1), "the cell was not run")
        if tree is not None:
            cells.append(Cell(index, cleaned.source, 1, f"{path}#{index}", tree))
    return Program(path, "notebook", tuple(cells), tuple(notes))


def _script(path: Path, text: str) -> Program:
    cleaned = without_magics(_with_plain_line_ends(text))
    notes = [f"line {line}: `{magic}` not run" for line, magic in cleaned.removed]
    source, name = cleaned.source, str(path)
    broken: list[str] = []
    tree = _parsed(source, broken, Place(None, 1), "the file was not run")
    if tree is not None and is_marimo(tree):
        return _marimo(path, source, tree, notes)

    lines = source.split("\n")
    starts = [i for i, line in enumerate(lines) if _PERCENT.match(line)]
    if not starts:
        cells = () if tree is None else (Cell(None, source, 1, name, tree),)
        return Program(path, "script", cells, (*notes, *broken), source)

    pieces: list[Cell] = []
    broken_pieces: list[str] = []
    for start, end in zip([0, *starts], [*starts, len(lines)], strict=True):
        marker = _PERCENT.match(lines[start]) if start < end else None
        if start == end or (marker and re.search(r"\[(markdown|md|raw)\]", marker["title"])):
            continue
        piece = "\n".join(lines[start:end])
        parsed = _parsed("\n" * start + piece, broken_pieces, Place(None, start + 1), "the cell was not run")
        if parsed is None:
            lines[start:end] = [""] * (end - start)
        elif parsed.body:
            pieces.append(Cell(None, piece, start + 1, name, parsed))
    if broken_pieces and tree is not None:  # the marks stand within a string, or a function
        return Program(path, "script", (Cell(None, source, 1, name, tree),), tuple(notes), source)
    return Program(path, "percent", tuple(pieces), (*notes, *broken_pieces), "\n".join(lines))


def _marimo(path: Path, source: str, tree: ast.Module, notes: list[str]) -> Program:
    found, disabled = cells_of(tree)
    cells = [Cell(None, source, c.line, str(path), ast.Module(c.body, [])) for c in found if c.body]
    notes += [f"line {line}: the cell is switched off, and was not run" for line in disabled]
    return Program(path, "marimo", tuple(cells), tuple(notes), source)


def _parsed(source: str, notes: list[str], place: Place, outcome: str) -> ast.Module | None:
    """Return the tree of ``source``, or None and a note that says where it is broken."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as an invalid escape in a plot's label
            tree = ast.parse(source)
            compile(tree, "<cell>", "exec", dont_inherit=True)  # finds `return` outside a function
            return tree
    except SyntaxError as error:
        place, problem = place._replace(line=error.lineno or place.line), error.msg
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        problem = str(error) or type(error).__name__
    notes.append(f"{place}: syntax error ({problem}); {outcome}")
    return None


def _with_plain_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
