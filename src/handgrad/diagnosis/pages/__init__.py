"""The pages that `handgrad explain` prints: one for each code, with a wrong and a right example."""

from __future__ import annotations

import difflib
import inspect
from importlib.resources import files

from handgrad import errors
from handgrad.diagnosis import CODES, WARNINGS
from handgrad.errors import HandgradError, UnknownCodeError


def titles() -> dict[str, tuple[str, str]]:
    """Return the kind and the title of every code, in order."""
    found = {code: (kind, _title(code)) for kind, code in (CODES | WARNINGS).items()}
    for error in vars(errors).values():
        if inspect.isclass(error) and issubclass(error, HandgradError) and error is not HandgradError:
            found[error.code] = "error", _sentence(error)
    return dict(sorted(found.items()))


def page_of(code: str) -> str:
    """Return the page of a code such as ``HG201``, or of a kind such as ``missing-sum``, as Markdown.

    Raises:
        UnknownCodeError: there is no such code or kind.

    >>> print(page_of("missing-sum").partition(chr(10))[0])
    # HG201 missing-sum
    """
    kinds = CODES | WARNINGS
    wanted = kinds.get(code.lower(), code.upper() if code[:1].isalpha() else f"HG{code}")
    known = titles()
    if wanted not in known:
        near = difflib.get_close_matches(code.lower(), [*kinds, *map(str.lower, known)], n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UnknownCodeError(f"no page about {code}: {hint}`handgrad explain` lists all")
    if wanted in kinds.values():
        return (files(__package__) / f"{wanted}.md").read_text(encoding="utf-8")
    return f"# {wanted}\n\n{known[wanted][1]} The message itself says where, and what to do.\n"


def _title(code: str) -> str:
    lines = (files(__package__) / f"{code}.md").read_text(encoding="utf-8").split("\n")
    return lines[2]


def _sentence(error: type[HandgradError]) -> str:
    return " ".join((inspect.getdoc(error) or "").split())
