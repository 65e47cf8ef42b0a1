"""The process that runs a file: `python -P -m handgrad.runner.child REQUEST`.

The request is JSON: the file, the options, where the judge is, and the descriptor of the pipe that takes the result.
A blank in the pipe tells that the file's code begins; the result is one line of JSON, a report or an error. Then this
process ends at once, whatever threads the file left behind.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import gc
import importlib
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, Protocol

from handgrad.errors import HandgradError, MemoryLimitError, NoResultError
from handgrad.runner.options import Options
from handgrad.runner.program import load

PIPE_CLOSED = 113
"""The exit status when the file's code closed the pipe."""

_DEATH_OF_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


class Said(Protocol):
    """What a judge returns."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""


def main(request: str) -> None:
    """Run the request, write the result, and end this process."""
    fields = json.loads(request)
    pipe = _out_of_reach(fields["pipe"])
    crash = os.fdopen(_out_of_reach(2, keep=True), "wb", buffering=0)
    faulthandler.enable(crash)
    _end_with_parent(fields["parent"])
    options = Options.from_json(fields["options"])
    result: dict[str, Any]
    try:
        result = {"report": _run(fields["file"], options, fields["judge"], pipe, crash.fileno()).to_dict()}
    except HandgradError as error:
        result = {"error": error.code, "message": error.message}
    except MemoryError:
        result = {"error": MemoryLimitError.code, "message": _too_much(fields["file"], options)}
    except Exception as error:
        result = {"error": NoResultError.code, "message": _our_mistake(fields["file"], error)}
    _write(pipe, f"{json.dumps(result)}\n".encode("ascii"))
    os._exit(0)


def _run(file: str, options: Options, judge: str, pipe: int, crash: int) -> Said:
    program = load(file)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.ftruncate(crash, 0)  # warnings of our own start
    judge_execution = _judge(judge)  # imports torch

    import torch

    from handgrad.runner.execution import execute

    torch.set_num_threads(1)  # one order of sums
    _limit_memory(options.memory)
    _write(pipe, b" ")  # the time of the file begins
    execution = execute(program, options)
    with contextlib.suppress(ValueError, AttributeError):
        signal.alarm(0)
    sys.setrecursionlimit(max(1000, min(sys.getrecursionlimit(), 10_000)))
    gc.collect()
    return judge_execution(execution, options)


def _judge(name: str) -> Callable[[Any, Options], Said]:
    module, _, function = name.partition(":")
    judge: Callable[[Any, Options], Said] = getattr(importlib.import_module(module), function)
    return judge


def _out_of_reach(descriptor: int, *, keep: bool = False) -> int:
    """Return a copy of ``descriptor`` above those that a file opens and closes, and that no program it starts gets."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = 512 if soft == resource.RLIM_INFINITY or soft > 600 else max(10, soft // 2)
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
    if not keep:
        os.close(descriptor)
    return copy


def _end_with_parent(parent: int) -> None:
    """Ask the system to end this process when the one that started it is killed; only Linux can."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_DEATH_OF_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)


def _limit_memory(memory: int) -> None:
    """Let one giant request fail at once, in the line that asks; what grows is watched from outside."""
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = 2 * memory
        resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _too_much(file: str, options: Options) -> str:
    return f"{file} left too little of its {options.memory / 2**30:g} GiB of memory to be judged; make it smaller"


def _our_mistake(file: str, error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{file} could not be judged, since handgrad itself failed: {type(error).__name__}: {error} "
        f"({os.path.basename(where.filename)}:{where.lineno}); please report it"  # noqa: PTH119
    )


def _write(pipe: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(pipe, data) :]
    except OSError:
        os._exit(PIPE_CLOSED)


if __name__ == "__main__":
    main(sys.argv[1])
