"""Where arrays lie: strides, rows that are padded to whole vectors, and places in one arena that are used again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from handgrad.native.arrays import Array
from handgrad.native.indices import Index, recombined
from handgrad.native.nests import Nest
from handgrad.native.panels import Group
from handgrad.native.program import Map, Scatter, bodies_of, loads_of

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


class _Arena:
    """Memory that is lent to arrays, from the first to the last group that uses them."""

    def __init__(self) -> None:
        self.size = 0
        self._lent: list[tuple[int, int, int]] = []  # last group that uses it, offset, bytes

    def keep(self, need: int) -> int:
        """Return the offset of memory that stays."""
        self.size += need
        return self.size - need

    def lend(self, need: int, first: int, last: int) -> int:
        """Return the offset of memory that nothing uses in ``first``, and lend it until ``last``."""
        for k, (until, offset, room) in enumerate(self._lent):
            if until < first and room >= need:
                self._lent[k] = (last, offset, need)
                if room > need:
                    self._lent.append((until, offset + need, room - need))
                return offset
        offset = self.keep(need)
        self._lent.append((last, offset, need))
        return offset

    def extend(self, offset: int, last: int) -> int:
        """Lend what is at ``offset`` until ``last`` instead."""
        self._lent = [(last if o == offset else until, o, room) for until, o, room in self._lent]
        return offset


def layout_of(
    groups: Sequence[Group], given: Sequence[Array], results: Sequence[Array], *, item: int, lanes: int
) -> Layout:
    """Place every array that is kept in memory; ``item`` is the bytes of a number, ``lanes`` those of a vector."""
    nests = [nest for group in groups for nest in group.nests]
    merged = _merged(nests)
    stored = [d.array for nest in nests for d in nest.definitions if d.array not in nest.unstored]
    lives = _lives(groups)
    slots: dict[Array, Slot] = {}
    arena = _Arena()
    permanent = set(given) | set(results)
    bequeathed: set[Array] = set()  # arrays whose memory another one has by now

    def inherited(array: Array, slot: Slot) -> int | None:
        """Return the offset of an array of the same form that dies where this one is born."""
        first, last = lives[array]
        for before in _read_in_place(array, groups[first]):
            if before in slots and before not in permanent | bequeathed and lives[before][1] == first:
                offset = slots[before].offset
                if slots[before] == replace(slot, offset=offset):
                    bequeathed.add(before)
                    return arena.extend(offset, last)
        return None

    for array in dict.fromkeys([*given, *results, *stored]):
        width = 4 if array.kind == "whole" else item
        slot = _slot(array, merged.get(array, set()), lanes, width)
        need = -(-(slot.size + lanes) * width // LINE) * LINE
        offset = arena.keep(need) if array in permanent else inherited(array, slot)
        slots[array] = replace(slot, offset=arena.lend(need, *lives[array]) if offset is None else offset)
    return Layout(slots, arena.size)


def _read_in_place(array: Array, group: Group) -> Iterator[Array]:
    """Yield what the nest that makes ``array`` reads at the very place that it writes, and nothing reads after it.

    Both can share their memory, which is in the cache then.
    """
    number, nest = next((k, n) for k, n in enumerate(group.nests) if array in n.writes)
    made = next(d for d in nest.definitions if d.array is array)
    if isinstance(made, Map):
        later = {a for n in group.nests[number + 1 :] for a in n.reads} | nest.writes
        reads = [node for d in nest.definitions for node in loads_of(*bodies_of(d))]
        for other in dict.fromkeys(node.array for node in loads_of(made.body)):
            if (
                other not in later
                and (other.shape, other.kind) == (array.shape, array.kind)
                and all(node.position == made.position for node in reads if node.array is other)
                and group.is_aligned(other, array)
            ):
                yield other


def _lives(groups: Sequence[Group]) -> dict[Array, tuple[int, int]]:
    lives: dict[Array, tuple[int, int]] = {}
    for number, group in enumerate(groups):
        for array in group.reads | group.writes:
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


def _slot(array: Array, merged: set[int], lanes: int, width: int) -> Slot:
    """Return how an array lies, at offset 0; ``width`` is the bytes of an element."""
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
    return Slot(0, tuple(reversed(strides)), max(rows * padded, one_row), one_row if one_row % lanes == 0 else 0)
