"""Threads that make one native call together."""

from __future__ import annotations

import threading
from collections.abc import Callable

from handgrad.errors import CompileError


def together(count: int, work: Callable[[int], object]) -> None:
    """Run ``work(0)`` to ``work(count - 1)`` at once, and return when all are done; ``work`` raises nothing.

    They wait for each other inside, so either all begin or none. None of them runs in the calling thread: whatever
    interrupts that, such as Ctrl-C, leaves no member waiting for it, and is raised when the members are done.

    Raises:
        CompileError: the system starts no more threads; nothing was run.
    """
    gate, complete = threading.Event(), False

    def member(number: int) -> None:
        gate.wait()
        if complete:
            work(number)

    members = [threading.Thread(target=member, args=(k,), name=f"handgrad {k}", daemon=True) for k in range(count)]
    started: list[threading.Thread] = []
    try:
        for one in members:
            one.start()
            started.append(one)
        complete = True
    except RuntimeError:
        raise CompileError(f"the system starts no {count} threads: ask for fewer, such as threads=1") from None
    finally:
        gate.set()
        _join(started)


def _join(members: list[threading.Thread]) -> None:
    try:
        for one in members:
            one.join()
    except BaseException:
        _join(members)
        raise
