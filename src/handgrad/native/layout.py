"""Where arrays lie: strides, rows that are padded to whole vectors, and places in one arena that are used again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from handgrad.native.arrays import Array
from handgrad.native.indices import Index, recombined
from handgrad.native.nests import Nest
from handgrad.native.program import Scatter, bodies_of, loads_of

LINE = 64  # bytes: arrays begin at a line of the cache
PAD_FROM = 5  # shorter rows are not padded
ALIASING = 1024  # bytes: rows as far apart fall on few sets of a cache, and drive each other out
SMALL = 1 << 15  # bytes: what is no larger stays in the cache all the same


@dataclass(frozen=True)
class Slot:
    """The place of an array: byte offset in the arena, strides in elements, elements in all."""

    offset: int
    strides: tuple[int, ...]
    size: int
    row: int  # elements of a row, with its padding; 0: rows are not padded

    def flat(self, position: Sequence[Index]) -> Index:
        """Return the number of the element at ``position``."""
        total = Index()
        for index, stride in zip(position, self.strides, strict=True):
            total = total + index * stride
        return recombined(total)


@dataclass(frozen=True)
class Layout:
    """The slots of all arrays, and the bytes of the arena."""

    slots: dict[Array, Slot]
    size: int


def layout_of(
    nests: Sequence[Nest], given: Sequence[Array], results: Sequence[Array], *, item: int, lanes: int
) -> Layout:
    """Place every array that is kept in memory; ``item`` is the bytes of a number, ``lanes`` those of a vector."""
    merged = _merged(nests)
    stored = [d.array for nest in nests for d in nest.definitions if d.array not in nest.unstored]
    lives = _lives(nests)
    slots: dict[Array, Slot] = {}
    free: list[tuple[int, int, int]] = []  # last nest that uses it, offset, bytes
    end = 0
    permanent = set(given) | set(results)
    for array in dict.fromkeys([*given, *results, *stored]):
        width = 4 if array.kind == "whole" else item
        strides, size, row = _strides(array, merged.get(array, set()), lanes, width)
        need = -(-(size + lanes) * width // LINE) * LINE
        offset = None
        if array not in permanent:
            first, last = lives[array]
            for k, (until, start, room) in enumerate(free):
                if until < first and room >= need:
                    offset = start
                    free[k] = (last, start, need)
                    if room > need:
                        free.append((until, start + need, room - need))
                    break
            else:
                free.append((last, end, need))
        if offset is None:
            offset, end = end, end + need
        slots[array] = Slot(offset, strides, size, row)
    return Layout(slots, end)


def _lives(nests: Sequence[Nest]) -> dict[Array, tuple[int, int]]:
    lives: dict[Array, tuple[int, int]] = {}
    for number, nest in enumerate(nests):
        for array in nest.reads | nest.writes:
            first, _ = lives.get(array, (number, number))
            lives[array] = (first, number)
    return lives


def _merged(nests: Sequence[Nest]) -> dict[Array, set[int]]:
    """Return the dimensions of each array that something reads as one with the next: ``x // n`` beside ``x % n``."""
    found: dict[Array, set[int]] = {}
    for nest in nests:
        for definition in nest.definitions:
            positions = [(node.array, node.position) for node in loads_of(*bodies_of(definition))]
            if isinstance(definition, Scatter):
                positions.append((definition.array, definition.position))
            for array, position in positions:
                for d in range(len(position) - 1):
                    pair = position[d] * array.shape[d + 1] + position[d + 1]
                    if recombined(pair) != pair:
                        found.setdefault(array, set()).add(d)
    return found


def _strides(array: Array, merged: set[int], lanes: int, width: int) -> tuple[tuple[int, ...], int, int]:
    """Return strides, elements and the padded length of a row; ``width`` is the bytes of an element."""
    shape = array.shape
    start = len(shape) - 1  # of the dimensions that make a row
    while start > 0 and start - 1 in merged:
        start -= 1
    row = math.prod(shape[start:]) if shape else 1
    rows = math.prod(shape[: max(start, 0)])
    padded = -(-row // lanes) * lanes if rows > 1 and row >= PAD_FROM else row
    if rows > 1 and padded * width % ALIASING == 0 and rows * padded * width > SMALL:
        padded += -(-LINE // width // lanes) * lanes  # a line of the cache
    strides: list[int] = []
    step = 1
    for d in reversed(range(len(shape))):
        if d == start - 1:
            step = padded
        strides.append(step)
        step *= shape[d]
    one_row = -(-row // lanes) * lanes if rows == 1 else padded
    return tuple(reversed(strides)), max(rows * padded, one_row), one_row if one_row % lanes == 0 else 0
