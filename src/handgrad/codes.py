"""Every HG code, and its page: what `handgrad explain` prints, with a wrong and a right example."""

from __future__ import annotations

import difflib
import inspect
from importlib.resources import files

from handgrad import errors
from handgrad.errors import HandgradError, UnknownCodeError

FOLDERS = ("diagnosis/pages", "function_check/pages")  # read as files: what they are about is not loaded


def titles() -> dict[str, tuple[str, str]]:
    """Return the kind and the title of every code, in order."""
    found = {}
    for code, page in _pages().items():
        heading, _, title = page.split("\n")[:3]
        found[code] = heading.split()[-1], title
    for error in vars(errors).values():
        if inspect.isclass(error) and issubclass(error, HandgradError) and error is not HandgradError:
            found[error.code] = "error", " ".join((inspect.getdoc(error) or "").split())
    return dict(sorted(found.items()))


def page_of(code: str) -> str:
    """Return the page of a code such as ``HG201``, or the pages of a kind such as ``missing-sum``, as Markdown.

    Raises:
        UnknownCodeError: there is no such code or kind.

    >>> print(page_of("missing-sum").partition(chr(10))[0])
    # HG201 missing-sum
    """
    known, pages = titles(), _pages()
    wanted = [its_code for its_code in pages if known[its_code][0] == code.lower()]
    wanted = wanted or [code.upper() if code[:1].isalpha() else f"HG{code}"]
    if wanted[0] not in known:
        names = dict.fromkeys([*(known[its_code][0] for its_code in pages), *map(str.lower, known)])
        near = difflib.get_close_matches(code.lower(), names, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UnknownCodeError(f"no page about {code}: {hint}`handgrad explain` lists all")
    if wanted[0] in pages:
        return "\n".join(pages[its_code] for its_code in wanted)
    return f"# {wanted[0]}\n\n{known[wanted[0]][1]} The message itself says where, and what to do.\n"


def _pages() -> dict[str, str]:
    found = {}
    for folder in FOLDERS:
        for file in files("handgrad").joinpath(folder).iterdir():
            if file.name.endswith(".md"):
                found[file.name.removesuffix(".md")] = file.read_text(encoding="utf-8")
    return dict(sorted(found.items()))
