"""Steps on minibatches: what is given, checked before each call, and calls short enough for Ctrl-C. No torch."""

from __future__ import annotations

import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from handgrad.errors import CompileError
from handgrad.native.draws import Draws
from handgrad.native.plan import Limit, Numbers, Place, Plan

SECONDS_A_CALL = 0.2  # after so long a call comes back, so that Ctrl-C is answered


class Steps(ABC):
    """Takes steps of a plan; how one is taken is not said here."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.real = plan, plan.real
        self._data: list[Numbers] = []
        self._seen: dict[Place, tuple[Any, int | None, Numbers | None]] = {}
        self.chunk = 1  # steps of a call, as many as fit in `SECONDS_A_CALL`

    @abstractmethod
    def load_parameters(self, given: Sequence[Any]) -> None:
        """Take the parameters as they are: arrays or tensors."""

    @abstractmethod
    def store_parameters(self, given: Sequence[Any]) -> None:
        """Write the parameters back."""

    @abstractmethod
    def read(self, place: Place) -> Numbers:
        """Return a copy of an array that the plan names, such as a gradient."""

    @abstractmethod
    def call(self, steps: int, numbers: Mapping[str, Numbers], rows: Numbers | None) -> Numbers:
        """Run ``steps`` steps and return the loss before each; without rows, on the first rows of the data."""

    def set_batch(self, batch: Sequence[Any]) -> None:
        """Take one batch, whose shapes are the compiled ones."""
        self.set_data(batch)
        for place, given in zip(self.plan.batch, self._data, strict=True):
            if given.shape != place.shape:
                raise CompileError(
                    f"{place} has shape {given.shape}, and the step is compiled for {place.shape}: compile it again "
                    "for another batch size"
                )

    def set_data(self, data: Sequence[Any]) -> None:
        """Take whole arrays, of which batches are rows; each index in them is checked."""
        if len(data) != len(self.plan.batch):
            raise CompileError(f"{len(data)} arrays are given, and a batch has {len(self.plan.batch)}")
        limits = self.plan.limits
        found = [self._known(*one) for one in zip(self.plan.batch, data, limits, strict=True)]
        lengths = {len(d) for d in found}
        if len(lengths) > 1:
            raise CompileError(f"the arrays have {', '.join(map(str, sorted(lengths)))} rows: give as many of each")
        self._data = found

    def _known(self, place: Place, given: Any, limit: Limit | None) -> Numbers:
        """Return what is given as it is read; a tensor that was given before, and not changed, is not read again."""
        version = _version(given)
        before, its_version, found = self._seen.get(place, (None, None, None))
        if before is not given or version is None or its_version != version or found is None:
            found = self._checked(place, given, limit)
            self._seen[place] = (given, version, found)
        return found

    def _checked(self, place: Place, given: Any, limit: Limit | None) -> Numbers:
        raw = numbers_of(given)
        if raw.shape[1:] != place.shape[1:] or not raw.ndim:
            rows = ", ".join(["n", *map(str, place.shape[1:])])
            raise CompileError(f"{place} has shape {raw.shape}, and the step is compiled for ({rows})")
        is_float = place.kind == "float"
        if is_float != (raw.dtype.kind == "f") or (not is_float and raw.dtype.kind not in "iub"):
            wanted = np.dtype(self.real).name if is_float else "whole numbers"
            raise CompileError(f"{place} is {raw.dtype}, and the step is compiled for {wanted}")
        if is_float and raw.dtype != self.real:
            raise CompileError(f"{place} is {raw.dtype}, and the step is compiled for {np.dtype(self.real).name}")
        if limit is not None:
            _check_indices(place, raw, *limit)
        if not is_float:
            return np.array(raw, np.int32, order="C")  # a copy: what was checked stays as it is
        return np.ascontiguousarray(raw, self.real)

    def drawn_rows(self, steps: int, draws: Draws) -> Numbers:
        """Return rows for every minibatch, as ``draws`` has them."""
        return draws.below(self._row_count(), (steps, self.plan.batch[0].shape[0]))

    def checked_rows(self, rows: Any, steps: int) -> Numbers:
        """Return the rows of every minibatch as they are read."""
        size, count = self.plan.batch[0].shape[0], self._row_count()
        found = numbers_of(rows)
        if found.shape != (steps, size) or found.dtype.kind not in "iu":
            raise CompileError(
                f"rows are {found.dtype} of shape {found.shape}, not whole numbers of shape {(steps, size)}: a row of "
                "indices for each step"
            )
        if found.size and (found.min() < 0 or found.max() >= count):
            wrong = int(found.min() if found.min() < 0 else found.max())
            raise CompileError(f"rows hold {wrong}, and the data have {count} rows")
        return np.ascontiguousarray(found, np.int32)

    def _row_count(self) -> int:
        if len(self._data[0]) == 0:
            raise CompileError("the data have no rows")
        return len(self._data[0])

    def run(
        self, rows: Numbers, numbers: Mapping[str, Numbers], done: Callable[[Numbers], object] = lambda _: None
    ) -> None:
        """Take a step for each of ``rows``, checked ones, in calls short enough for Ctrl-C.

        ``numbers`` holds what every step gets, by name. ``done(losses)`` is called after each call.
        """
        first = 0
        while first < len(rows):
            part = slice(first, min(first + self.chunk, len(rows)))
            began = time.perf_counter()
            with _interrupts_wait():
                done(self.call(part.stop - first, {k: v[part] for k, v in numbers.items()}, rows[part]))
            spent = max(time.perf_counter() - began, 1e-6)
            if part.stop - first == self.chunk:
                self.chunk = max(1, int(self.chunk * min(SECONDS_A_CALL / spent, 16)))
            first = part.stop


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Answer Ctrl-C at the end of the block: what a call did and what is known of it stay together."""
    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    caught: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught and callable(before):
        before(*caught[0])


def _check_indices(place: Place, numbers: Numbers, below: int, ignored: int | None) -> None:
    counted = numbers if ignored is None else numbers[numbers != ignored]
    low, high = (int(counted.min()), int(counted.max())) if counted.size else (0, 0)
    if low < 0 or high >= below:
        raise CompileError(
            f"{place} holds {low if low < 0 else high}, which is out of range for an index below {below}"
        )


def numbers_of(given: Any) -> Numbers:
    """Return an array, or the memory of a tensor as one."""
    if hasattr(given, "detach"):
        given = given.detach().cpu().numpy()
    return np.asarray(given)


def _version(given: Any) -> int | None:
    """Return a number that changes when a tensor does; None for what has none."""
    if not hasattr(given, "is_inference") or given.is_inference():
        return None
    return int(given._version)
