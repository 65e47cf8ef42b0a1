"""Files that are written whole or not at all, also when the machine stops in between."""

from __future__ import annotations

import os
from pathlib import Path

from handgrad.errors import RunNotWritableError


def not_writable(path: Path, error: OSError) -> RunNotWritableError:
    """Return the error to raise when writing ``path`` failed."""
    return RunNotWritableError(f"{path} cannot be written ({error.strerror}): free some space, or check permissions")


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, also when the machine stops in between."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise not_writable(path, error) from None
    flush_folder(path.parent)


def flush_folder(path: Path) -> None:
    """Make the disk remember what was renamed in the folder."""
    if os.name == "posix":  # elsewhere a folder cannot be flushed
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
