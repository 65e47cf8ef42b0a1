"""Runs the machine code of a plan in its arena. It needs no torch."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handgrad.native.llvm.objects import Code
from handgrad.native.plan import Numbers, Place, Plan
from handgrad.native.steps import Steps, numbers_of
from handgrad.native.team import together

_SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p,
                              ctypes.c_int64, ctypes.c_int64)  # fmt: skip


class Executor(Steps):
    """Machine code with its memory, run by ``threads`` threads: the same bits for every number of them."""

    def __init__(self, plan: Plan, threads: int = 1) -> None:
        super().__init__(plan)
        self.threads = threads
        self._code = Code.of(plan.code)
        self._function = _SIGNATURE(self._code.address)
        memory = np.empty(plan.arena + 64, np.uint8)  # for this NumPy asks for large pages, and not for zeros
        memory.fill(0)
        self._memory = memory[-memory.ctypes.data % 64 :]
        for place, numbers in plan.constants:
            np.copyto(self.view(place), numbers, casting="same_kind" if place.kind == "float" else "unsafe")
        self.losses = np.empty(1, self.real)

    # -- memory

    def view(self, place: Place) -> Numbers:
        """Return an array of the arena as it stands there."""
        kind: Any = np.int32 if place.kind == "whole" else self.real
        item = np.dtype(kind).itemsize
        flat = self._memory[place.offset : place.offset + place.size * item].view(kind)
        return np.lib.stride_tricks.as_strided(flat, place.shape, [s * item for s in place.strides])

    def read(self, place: Place) -> Numbers:
        """Return a copy of an array."""
        return self.view(place).copy()

    def load_parameters(self, given: Sequence[Any]) -> None:
        """Take the parameters as they are: arrays or tensors."""
        for place, one in zip(self.plan.parameters, given, strict=True):
            np.copyto(self.view(place), numbers_of(one))

    def store_parameters(self, given: Sequence[Any]) -> None:
        """Write the parameters back."""
        for place, one in zip(self.plan.parameters, given, strict=True):
            np.copyto(numbers_of(one), self.view(place))

    # -- running

    def call(self, steps: int, numbers: Mapping[str, Numbers], rows: Numbers | None) -> Numbers:
        """Run ``steps`` steps and return the loss before each; without rows, on the first rows of the data."""
        if rows is None:
            rows = np.tile(np.arange(self.plan.batch[0].shape[0], dtype=np.int32), (steps, 1))
        rows = np.ascontiguousarray(rows, np.int32)
        of = (numbers[place.name] for place in self.plan.numbers)
        fed = [*self._data, *(np.ascontiguousarray(one, self.real) for one in of)]
        pointers = (ctypes.c_void_p * max(len(fed), 1))(*(f.ctypes.data for f in fed))
        if len(self.losses) < steps:
            self.losses = np.empty(steps, self.real)
        given = (self._memory.ctypes.data, ctypes.addressof(pointers), rows.ctypes.data, steps, self.losses.ctypes.data)
        if self.threads == 1:
            self._function(*given, 0, 1)
        else:
            together(self.threads, lambda thread: self._function(*given, thread, self.threads))
        return self.losses[:steps].copy()
