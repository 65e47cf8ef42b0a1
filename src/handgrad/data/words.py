"""Reads a word list: a text file with one word a line, in any alphabet."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from handgrad.errors import MarkerInWordError, TooFewWordsError, WordsNotReadableError, WordsNotTextError

MARKER = "."
"""The symbol that marks where a word begins and ends."""

_LINE_END = re.compile(r"\r\n|\r|\n")  # str.splitlines would also split at \x0b, \x85 and \u2028


@dataclass(frozen=True)
class WordList:
    """The words of a list in the order of its lines, where they come from, and what was noticed on the way."""

    words: tuple[str, ...]
    source: str
    notes: tuple[str, ...]


def load_words(path: str | Path | None = None) -> WordList:
    """Read the word list at ``path``, else the one that ``HANDGRAD_WORDS`` names, else the built-in names.

    The file is UTF-8 text with one word a line. White space around a word is dropped, and every word is
    brought to Unicode's composed form (NFC), so that both spellings of ``é`` are one symbol.

    Raises:
        WordsNotReadableError: the file is missing, is a folder, or may not be read.
        WordsNotTextError: the file is not UTF-8.
        TooFewWordsError: the file holds no word, or a single one.
        MarkerInWordError: a word holds ``.``, which marks where a word begins and ends.

    >>> load_words().source
    'built-in names'
    """
    origin = ""
    if path is None:
        path, origin = os.environ.get("HANDGRAD_WORDS") or None, " (from HANDGRAD_WORDS)"
    if path is None:
        return _parse(resources.files("handgrad.data").joinpath("names.txt").read_bytes(), "built-in names", "")
    return _parse(_read(Path(path), origin), str(path), origin)


def _read(path: Path, origin: str) -> bytes:
    try:
        return path.read_bytes()
    except IsADirectoryError:
        problem, advice = "is a folder", "give a text file with one word a line"
    except (FileNotFoundError, NotADirectoryError):
        files = [entry.name for entry in path.parent.glob("*") if entry.is_file()]
        nearest = difflib.get_close_matches(path.name, files, n=1)
        problem = "does not exist"
        advice = f"did you mean {path.with_name(nearest[0])}?" if nearest else "check the path"
    except OSError as error:
        problem, advice = f"cannot be read ({error.strerror})", "check its permissions"
    raise WordsNotReadableError(f"{path}{origin} {problem}; {advice}")


def _parse(data: bytes, source: str, origin: str) -> WordList:
    try:
        text = unicodedata.normalize("NFC", data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = _line_after(error.object[: error.start].decode())
        raise WordsNotTextError(
            f"{source}:{line}{origin}: the byte 0x{error.object[error.start]:02x} is not UTF-8 text; "
            "save the file with the encoding UTF-8"
        ) from None

    lines = [line.strip() for line in _LINE_END.split(text)]
    if not lines[-1]:
        lines.pop()  # a final newline is no blank line
    words = tuple(word for word in lines if word)

    for number, word in enumerate(lines, start=1):
        if MARKER in word:
            raise MarkerInWordError(
                f"{source}:{number}{origin}: the word {word!r} holds {MARKER!r}, which marks where a word begins "
                "and ends; remove it from the word"
            )
    if len(words) < 2:
        raise TooFewWordsError(
            f"{source}{origin} holds {'a single word' if words else 'no words'}; give many words, one a line"
        )

    notes = []
    if "\r\n" in text:
        first = _line_after(text.partition("\r\n")[0])
        notes.append(f"{source}:{first}{origin}: Windows line ends (CRLF) from here on are read as plain line ends")
    if blank := len(lines) - len(words):
        notes.append(f"{source}:{lines.index('') + 1}{origin}: blank lines are skipped ({blank}, this is the first)")
    return WordList(words, source, tuple(notes))


def _line_after(text: str) -> int:
    return len(_LINE_END.split(text))
