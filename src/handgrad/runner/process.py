"""A file is run in a process of its own, watched, and ended with all that it started."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from handgrad import errors
from handgrad.errors import (
    HandgradError,
    MemoryLimitError,
    NoResultError,
    ProcessCrashedError,
    ProcessEndedError,
    ProcessKilledError,
    TimeLimitError,
)
from handgrad.report import Place, Report
from handgrad.runner.options import Options
from handgrad.runner.program import check_path

if TYPE_CHECKING:
    import psutil

JUDGE = "handgrad.answers:judge_execution"
MARK = "HANDGRAD_RUN"
"""The environment variable by which all that a file starts is known, wherever it went."""

PIPE_CLOSED = 113
START = 60.0
"""Seconds that Python and PyTorch may take before the file's own time begins."""

_GLANCE = 0.02  # seconds between two looks at the memory
_FAMILY = 10  # looks at the process alone between two looks at all that it started
_LAST_WORDS = 0.5  # seconds for a process that ran too long to say where it is
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGSYS, signal.SIGTRAP}


def check_file(
    path: str | Path,
    *,
    timeout: float = 120.0,
    memory: int = 4 * 2**30,
    iterations: int = 3,
    words: str | Path | None = None,
    gradient: tuple[str, ...] = (),
    loss: str | None = None,
) -> Report:
    """Run a notebook or script in a process of its own, and judge its backward passes.

    The file runs in its own folder, without a terminal and with plots to nowhere. Training loops are left after
    ``iterations`` iterations; a cell that fails is noted, and the next one is run. Whatever the file starts is ended.

    Raises:
        InvalidOptionError: an option has a value that cannot work.
        FileNotReadableError, FileTooLargeError, FileNotTextError, NotANotebookError, NoCodeError, BrokenSourceError:
            the file cannot be read as a notebook or script, as `program.load` says.
        TimeLimitError: it ran longer than ``timeout`` seconds.
        MemoryLimitError: it and what it started took more than ``memory`` bytes.
        ProcessEndedError: it ended its own process, as `os._exit(3)` does.
        ProcessKilledError, ProcessCrashedError, NoResultError: the process ended in another way.
        NothingToJudgeError: it ran, and there is no loss or no gradient in it.
    """
    return run(path, Options(timeout, memory, iterations, None if words is None else str(words), gradient, loss))


def run(path: str | Path, options: Options, *, judge: str = JUDGE) -> Report:
    """Run a file as `check_file` does, judged by the function ``judge``, written ``module:function``."""
    return Report.from_dict(ask(path, options, judge))


def ask(path: str | Path, options: Options, judge: str) -> dict[str, Any]:
    """Run a file as `check_file` does, and return what the function ``judge`` says of it."""
    check_path(Path(path))
    path = Path(path).absolute()
    with _Process(path, options, judge) as process:
        result = process.result()
    if "report" in result:
        said: dict[str, Any] = result["report"]
        return said
    raise _error_of(result["error"])(result["message"])


def _error_of(code: str) -> type[HandgradError]:
    known = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, HandgradError)]
    return next((c for c in known if c.code == code), HandgradError)


class _Process:
    """The child; leaving the context ends it and everything it started."""

    def __init__(self, path: Path, options: Options, judge: str) -> None:
        self.path, self.options, self.judge = path, options, judge
        self.mark = secrets.token_hex(8)
        self.until = time.monotonic() + START + options.timeout
        self.is_running = False  # the file's own code
        self.data = b""
        self.child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Process:
        self.crash: IO[bytes] = tempfile.TemporaryFile()
        self.pipe, theirs = os.pipe()
        os.set_blocking(self.pipe, False)
        options = self.options
        if options.words is not None:
            options = Options(**vars(options) | {"words": str(Path(options.words).absolute())})
        request = {
            "file": str(self.path),
            "options": options.to_json(),
            "judge": self.judge,
            "pipe": theirs,
            "parent": os.getpid(),
        }
        environment = os.environ | {MARK: f"{os.environ.get(MARK, '')}:{self.mark}", "MPLBACKEND": "Agg"}
        if list_of_names := os.environ.get("HANDGRAD_WORDS"):
            environment["HANDGRAD_WORDS"] = str(Path(list_of_names).absolute())
        try:
            self.child = subprocess.Popen(  # noqa: S603 - this Python, this module
                [sys.executable, "-P", "-m", "handgrad.runner.child", json.dumps(request)],
                cwd=self.path.parent,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.crash,
                pass_fds=(theirs,),
                start_new_session=True,
            )
        except OSError as error:
            self.__exit__(None, None, None)
            raise NoResultError(f"{self.path} could not be run: {error.strerror}; try again") from None
        finally:
            os.close(theirs)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if self.child is not None:
                self._end_all(self.child)
        finally:
            os.close(self.pipe)
            self.crash.close()

    # -- watching

    def result(self) -> dict[str, Any]:
        """Return what the child wrote; raises the error that says how it ended, if it wrote nothing."""
        import psutil

        assert self.child is not None
        watched = psutil.Process(self.child.pid)
        looks = 0
        with selectors.DefaultSelector() as selector:
            selector.register(self.pipe, selectors.EVENT_READ)
            is_open = True
            while True:
                if is_open:
                    selector.select(_GLANCE)
                    is_open = self._read()
                else:
                    time.sleep(_GLANCE)
                if self.data.endswith(b"\n"):
                    return self._parsed()
                if self._has_ended():
                    self._read()
                    return self._parsed() if self.data.endswith(b"\n") else self._raise_end()
                if self.data and not self.is_running:
                    self.is_running, self.until = True, time.monotonic() + self.options.timeout
                if time.monotonic() > self.until:
                    raise self._too_long()
                if self._memory(watched, whole=looks % _FAMILY == 0) > self.options.memory:
                    raise MemoryLimitError(
                        f"{self.path} took more than {self.options.memory / 2**30:g} GiB of memory; "
                        "make what it computes smaller, or allow more memory"
                    )
                looks += 1

    def _read(self) -> bool:
        """Take what is in the pipe; return whether more can come."""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self.pipe, 2**20):
                self.data += part
            return False
        return True

    def _parsed(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.data)
        return result

    def _has_ended(self) -> bool:
        """Tell whether the child has ended, and leave its number taken."""
        assert self.child is not None
        return os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _memory(self, watched: psutil.Process, *, whole: bool) -> int:
        import psutil

        with contextlib.suppress(psutil.Error):
            own: int = watched.memory_info().rss
            family = watched.children(recursive=True) if whole else []
            if not family:
                return own
            total = own + sum(_of_process(process, "rss") for process in family)
            if total <= self.options.memory:
                return total
            return sum(_of_process(process, "pss") for process in [watched, *family])  # what they share, once
        return 0

    # -- how it ended

    def _too_long(self) -> TimeLimitError:
        assert self.child is not None
        with contextlib.suppress(ProcessLookupError):
            self.child.send_signal(signal.SIGABRT)  # faulthandler says where it is
        until = time.monotonic() + _LAST_WORDS
        while not self._has_ended() and time.monotonic() < until:
            time.sleep(_GLANCE)
        return TimeLimitError(
            f"{self.path} ran longer than {self.options.timeout:g} s{self._where()}; "
            "leave out what the backward pass does not need, or allow more time"
        )

    def _raise_end(self) -> dict[str, Any]:
        assert self.child is not None
        status = self.child.wait()
        words = self._last_words()
        if status == PIPE_CLOSED:
            raise NoResultError(
                f"{self.path} closed files that are not its own, and its result was lost; leave that out"
            )
        if status >= 0 and words:
            raise NoResultError(f"{self.path} could not be run: {words.splitlines()[-1].strip()}")
        if status >= 0:
            raise ProcessEndedError(
                f"{self.path} ended its own process, as os._exit({status}) does, before it could be judged; "
                "leave that out, or use sys.exit()"
            )
        name = _name_of(-status)
        if -status in _CRASHES:
            raise ProcessCrashedError(
                f"{self.path} crashed with {name}{self._where()}; run that line alone to see what it does"
            )
        advice = " (the system does so when memory runs out)" if -status == signal.SIGKILL else ""
        raise ProcessKilledError(f"{self.path} was ended from outside with {name}{advice}; run it again")

    def _last_words(self) -> str:
        self.crash.seek(0)
        return self.crash.read(2**20).decode(errors="replace").strip()

    def _where(self) -> str:
        """Return the innermost line of the file that was running, if faulthandler told it."""
        name = re.escape(str(self.path).encode("ascii", "backslashreplace").decode())
        found = re.search(rf'File "{name}(?:#(\d+))?", line (\d+)', self._last_words())
        return f" (at {Place(int(found[1]) if found[1] else None, int(found[2]))})" if found else ""

    # -- the end of all of it

    def _end_all(self, child: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.kill()
        child.wait()
        for _ in range(3):  # what starts more while it is ended is met again
            if not self._end_marked():
                break

    def _end_marked(self) -> bool:
        """End what carries our mark in its environment, in whatever session it is."""
        import psutil

        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.status() != psutil.STATUS_ZOMBIE and self.mark in process.environ().get(MARK, ""):
                    process.kill()
                    found.append(process)
        if found:
            psutil.wait_procs(found, timeout=1)
        return bool(found)


def _of_process(process: psutil.Process, kind: str) -> int:
    import psutil

    with contextlib.suppress(psutil.Error):
        info = process.memory_info() if kind == "rss" else process.memory_full_info()
        return int(getattr(info, kind, info.rss))
    return 0


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
