"""What was compiled before, in files: in the folder that ``HANDGRAD_CACHE`` names, else in the user's cache folder.

An entry is the SHA-256 of its content, then the content. It appears whole or not at all, so that processes can write
the same one at once; one that does not fit its sum is as if it were not there. Where the folder cannot be written,
nothing is kept, and nothing fails.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path

LARGEST = 1 << 30  # bytes of all entries; the ones that were not used for the longest time go first
_SUM = hashlib.sha256().digest_size


def folder() -> Path:
    """Return where entries lie."""
    named = os.environ.get("HANDGRAD_CACHE")
    if named:
        return Path(named) / "native"
    import platformdirs

    return Path(platformdirs.user_cache_dir("handgrad")) / "native"


def key_of(*parts: str | bytes) -> str:
    """Return the name of the entry that depends on all ``parts``."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(content)}:".encode() + content)
    return digest.hexdigest()


def read(key: str) -> bytes | None:
    """Return what was kept under ``key``, None if there is nothing, or only something damaged."""
    path = folder() / key
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content[_SUM:]).digest() != content[:_SUM]:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return content[_SUM:]


def write(key: str, content: bytes) -> None:
    """Keep ``content`` under ``key``, if the folder lets us."""
    with contextlib.suppress(OSError):
        home = folder()
        home.mkdir(parents=True, exist_ok=True)
        number, part = tempfile.mkstemp(prefix=".", suffix=".part", dir=home)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
            Path(part).replace(home / key)
        except OSError:
            Path(part).unlink(missing_ok=True)
            raise
        _make_room(home)


def _make_room(home: Path) -> None:
    entries = sorted((path.stat() for path in home.iterdir()), key=lambda info: info.st_mtime)
    excess = sum(info.st_size for info in entries) - LARGEST
    if excess <= 0:
        return
    for path in sorted(home.iterdir(), key=lambda path: path.stat().st_mtime):
        if excess <= 0:
            return
        excess -= path.stat().st_size
        path.unlink(missing_ok=True)


@cache
def code_of(*packages: str) -> str:
    """Return a sum of the source of some of handgrad's packages: what they make is kept only as long as they stay."""
    home = Path(__file__).parents[1]
    files = sorted(path for package in packages for path in (home / package).rglob("*.py"))
    return key_of(*(path.read_bytes() for path in files))
