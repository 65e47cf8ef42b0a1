"""The command ``handgrad``. It parses options, calls the library and prints; it decides nothing itself.

A module for each topic, and each adds its commands to ``app``. Every command imports what it needs when it
runs, so that ``handgrad --help`` answers at once.
"""

from __future__ import annotations

import io
import signal
import sys

from handgrad.cli import checking, comparing, deriving, simplifying, training, words
from handgrad.cli.app import app
from handgrad.cli.output import crash, fail
from handgrad.errors import HandgradError, LockStepError

__all__ = ["checking", "comparing", "deriving", "main", "simplifying", "training", "words"]


def main() -> None:
    """Run the command; a user's mistake becomes one line on stderr and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter shows its number
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `handgrad ... | head` ends as other commands do
    try:
        app()
    except LockStepError as error:
        fail(str(error), status=1)
    except HandgradError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'the file system'}: {error.strerror}")
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):  # torch has no class for it on the CPU
            crash()
        fail("there is not enough memory for these sizes: choose smaller ones")
    except Exception:
        crash()
