"""The names list under another path: a missing text file is found beside the file, or the built-in list stands in."""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable
from email.message import Message
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.response import addinfourl

ORIGINAL = "names.txt"


class Names:
    """Finds the words that a file wants to read; `open` and `io.open` ask it, and so do downloads."""

    def __init__(self, folder: Path, words: str | None, note: Callable[[str], None]) -> None:
        self.folder, self.words, self.note = folder, words, note
        self._open = io.open

    def install(self) -> None:
        """Let `open` look here when a text file is missing."""
        builtins.open = io.open = self.open

    def remove(self) -> None:
        """Give `open` back."""
        builtins.open = io.open = self._open

    def open(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        """`open`, for which a missing text file is another list of words."""
        try:
            return self._open(file, mode, *args, **kwargs)
        except FileNotFoundError:
            if not isinstance(file, str | os.PathLike) or set(mode) & set("wax+"):
                raise
            name = os.fspath(file)
            if not isinstance(name, str) or not name.lower().endswith(".txt"):
                raise
            return self._open(self.instead_of(name), mode, *args, **kwargs)

    def instead_of(self, name: str) -> Path:
        """Return the file that is read instead of ``name``, and note it."""
        found = self._found(Path(name).name)
        if found is None:
            found = _built_in()
            with self._open(found, "rb") as file:
                count = sum(1 for line in file if line.strip())
            self.note(f"{name} not found: the built-in list of {count:,} names stands in")
        else:
            self.note(f"{name} not found: {found} stands in")
        return found

    def _found(self, name: str) -> Path | None:
        beside = [folder / name for folder in (self.folder, *self.folder.parents)]
        given = [Path(path) for path in (self.words, os.environ.get("HANDGRAD_WORDS")) if path]
        return next((path for path in [*beside, *given] if path.is_file()), None)

    # -- downloads

    def adapt_urllib(self, module: Any) -> None:
        """Let `urlopen` and `urlretrieve` answer for the names list without the network."""
        urlopen, urlretrieve = module.urlopen, module.urlretrieve

        def open_url(url: Any, *args: Any, **kwargs: Any) -> Any:
            address = url if isinstance(url, str) else url.full_url
            if not _is_names(address):
                return urlopen(url, *args, **kwargs)
            return addinfourl(io.BytesIO(self.instead_of(address).read_bytes()), Message(), address, 200)

        def retrieve(url: str, filename: str | None = None, *args: Any, **kwargs: Any) -> Any:
            if not _is_names(url):
                return urlretrieve(url, filename, *args, **kwargs)
            return filename or str(self.instead_of(url)), Message()  # a file of that name is "missing", and found

        module.urlopen, module.urlretrieve = open_url, retrieve

    def adapt_requests(self, module: Any) -> None:
        """Let `requests` answer for the names list without the network."""
        request = module.sessions.Session.request

        def answer(session: Any, method: str, url: Any, *args: Any, **kwargs: Any) -> Any:
            if not _is_names(str(url)):
                return request(session, method, url, *args, **kwargs)
            response = module.Response()
            response.status_code, response.url, response.encoding = 200, url, "utf-8"
            response._content = self.instead_of(str(url)).read_bytes()
            return response

        module.sessions.Session.request = answer


def _is_names(url: str) -> bool:
    return urlparse(url).path.rpartition("/")[2].lower() == ORIGINAL


def _built_in() -> Path:
    with resources.as_file(resources.files("handgrad.data").joinpath(ORIGINAL)) as path:
        return path
