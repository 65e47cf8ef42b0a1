"""The numbers of values, the latest of them kept: a run may be long, and its tensors large."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torch import Tensor

from handgrad.graph import Value


class Place(NamedTuple):
    """A value on a shelf: where its numbers lie, and the id of the tensor that it was recorded from."""

    value: Value
    memory: int
    size: int
    number: int


class Shelf:
    """Values in the order in which they came; how much memory they hold, each piece counted once."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.size = 0
        self._places: deque[Place] = deque()
        self._pieces: dict[int, list[int]] = {}  # by memory: how many values hold it, and its size

    def put(self, value: Value, number: int) -> Iterator[Place]:
        """Put ``value`` on the shelf; yield the oldest ones, as long as the shelf holds too much, to be let go."""
        if self.limit == float("inf"):
            return
        memory, size = memory_of(value.kept) if isinstance(value.kept, Tensor) else (0, 0)
        self._hold(Place(value, memory, size, number))
        while self.size > self.limit and self._places:
            place = self._places.popleft()
            self._let_go(place)
            kept = place.value.kept
            if isinstance(kept, Tensor) and memory_of(kept)[0] == place.memory:  # else it has moved meanwhile
                yield place

    def keep_only(self, values: Iterable[Value]) -> None:
        """Take all other values off."""
        values, places = set(values), self._places
        self.size, self._places, self._pieces = 0, deque(), {}
        for place in places:
            if place.value in values:
                self._hold(place)

    def _hold(self, place: Place) -> None:
        self._places.append(place)
        piece = self._pieces.setdefault(place.memory, [0, place.size])
        if not piece[0]:
            self.size += piece[1]
        piece[0] += 1

    def _let_go(self, place: Place) -> None:
        piece = self._pieces[place.memory]
        piece[0] -= 1
        if not piece[0]:
            self.size -= piece[1]
            del self._pieces[place.memory]


def memory_of(tensor: Tensor) -> tuple[int, int]:
    """Return where the memory of ``tensor`` begins, and how large it is; a sparse tensor has none of its own."""
    try:
        storage = tensor.untyped_storage()
    except (RuntimeError, NotImplementedError):
        return -id(tensor), 0
    return storage.data_ptr(), storage.nbytes()
