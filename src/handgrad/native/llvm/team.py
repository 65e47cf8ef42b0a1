"""Threads that run one program: who does what, and where they wait for each other."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir

from handgrad.native.llvm.builder import I8, I32, I64, Builder
from handgrad.native.loops import Division

LINE = 64  # bytes of a line of the cache
MEETING = 2 * LINE  # bytes of memory that a team takes: how many have arrived, and how often all have met
PATIENCE = 2000  # looks at the meeting's number before a thread offers its core to another one


class Team:
    """Writes what threads do, in order. Between what two threads may do lies a meeting of all."""

    def __init__(self, builder: Builder, offset: int) -> None:
        """Begin in a module; the memory where they meet is at ``offset`` in the arena."""
        self.b, self.offset = builder, offset
        self._meet()

    def begin(self, arena: Any, thread: Any, threads: Any) -> None:
        """Begin inside the function that all threads call, each with its number."""
        self.arena, self.thread, self.threads = arena, thread, threads
        self._alone: list[Callable[[], object]] = []
        self._shared = False  # whether something of this step was shared

    def alone(self, body: Callable[[], object]) -> None:
        """Let the first thread do something."""
        self._alone.append(body)

    def share(self, division: Division, body: Callable[[Any, Any], object]) -> None:
        """Let each thread do a part: ``body(first, end)``, which may be empty."""
        b = self.b
        self._do_alone()
        self._wait()
        ends: list[Any] = []
        for number in (self.thread, b.ir.add(self.thread, b.i64(1))):
            part = b.ir.udiv(b.ir.mul(number, b.i64(division.parts)), self.threads)
            ends.append(b.lesser(b.ir.mul(part, b.i64(division.grain)), b.i64(division.variable.extent)))
        body(*ends)
        self._shared = True

    def end_of_step(self) -> None:
        """Do what is left; the next step begins when all have arrived."""
        if self._alone:
            self._do_alone()
        elif self._shared:
            self._wait()
        self._shared = False

    def _do_alone(self) -> None:
        if not self._alone:
            return
        if self._shared:
            self._wait()
        bodies, self._alone = self._alone, []

        def all_of_them() -> None:
            for body in bodies:
                body()

        self.b.only(self.b.ir.icmp_signed("==", self.thread, self.b.i64(0)), all_of_them)

    def _wait(self) -> None:
        several = self.b.ir.icmp_signed(">", self.threads, self.b.i64(1))
        self.b.only(several, lambda: self.b.call("meet", ir.VoidType(), [self.arena, self.threads]))

    def _meet(self) -> None:
        """Write ``meet(arena, threads)``, which returns in each of the threads when it was called by all of them.

        A thread looks for the others a few microseconds long, and from then on offers its core between looks: where
        more threads run than there are cores, the one that all wait for gets there too.
        """
        b = self.b
        arena, threads = b.start("meet", [I8.as_pointer(), I64], apart=True)
        arrived, meeting = (
            b.address(arena, b.i64((self.offset + place) // 8), I64) for place in (0, LINE)
        )  # lines of their own: who waits does not disturb who arrives
        now = b.ir.load_atomic(meeting, "acquire", 8)
        others = b.ir.atomic_rmw("add", arrived, b.i64(1), "acq_rel")
        last = b.ir.icmp_signed("==", b.ir.add(others, b.i64(1)), threads)
        opening, waiting, yielding, after = map(b.ir.append_basic_block, ("opening", "waiting", "yielding", "after"))
        entered = b.ir.block
        b.ir.cbranch(last, opening, waiting)

        b.ir.position_at_end(opening)
        b.ir.store_atomic(b.i64(0), arrived, "monotonic", 8)
        b.ir.store_atomic(b.ir.add(now, b.i64(1)), meeting, "release", 8)
        b.ir.branch(after)

        b.ir.position_at_end(waiting)
        looks = b.ir.phi(I64)
        looks.add_incoming(b.i64(0), entered)
        more = b.ir.add(looks, b.i64(1))
        closed = b.ir.icmp_signed("==", b.ir.load_atomic(meeting, "acquire", 8), now)
        patient = b.ir.icmp_signed("<", looks, b.i64(PATIENCE))
        looks.add_incoming(more, waiting)
        impatient = b.ir.append_basic_block("impatient")
        b.ir.cbranch(b.ir.and_(closed, patient), waiting, impatient)
        b.ir.position_at_end(impatient)
        b.ir.cbranch(closed, yielding, after)

        b.ir.position_at_end(yielding)
        b.call("SwitchToThread" if sys.platform == "win32" else "sched_yield", I32, [])
        looks.add_incoming(more, yielding)
        b.ir.branch(waiting)

        b.ir.position_at_end(after)
        b.finish()
