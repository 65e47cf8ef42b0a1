"""Minibatch indices as ``torch.randint`` draws them, without torch: both use the Mersenne Twister MT19937.

The generator is that of Matsumoto and Nishimura (1998). A state is the bytes of ``torch.Generator.get_state()``, so
that a run that one engine began can be continued by another one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from handgrad.errors import CompileError

STATE_BYTES = 5056
_WORDS = 624
_STATE = np.dtype([
    ("seed", "<u8"), ("left", "<i4"), ("seeded", "<i4"), ("next", "<u8"), ("words", "<u8", _WORDS), ("rest", "V32"),
])  # fmt: skip
_MOST = 1 << 28  # from here on torch.randint takes 64 bits for a number


class Draws:
    """A generator of whole numbers, equal to ``torch.Generator`` on the CPU, draw for draw.

    >>> Draws.seeded(5).below(1000, (2, 3)).tolist()
    [[411, 814, 767], [885, 6, 70]]
    """

    def __init__(self, state: np.ndarray[Any, Any]) -> None:
        """Begin at ``state``, (5056,) bytes as ``torch.Generator.get_state()`` returns them."""
        self._bytes = np.array(state, np.uint8)
        if self._bytes.shape != (STATE_BYTES,):
            raise CompileError(f"the state of a generator has {STATE_BYTES} bytes, and not {self._bytes.size}")
        found = self._fields[0]
        self._generator = np.random.MT19937()
        position = _WORDS if found["left"] == 1 else int(found["next"])  # 1 left: the words are made anew first
        self._generator.state = {
            "bit_generator": "MT19937",
            "state": {"key": found["words"].astype(np.uint32), "pos": position},
        }

    @classmethod
    def seeded(cls, seed: int) -> Draws:
        """Return what ``torch.Generator().manual_seed(seed)`` is."""
        state = np.zeros(STATE_BYTES, np.uint8)
        fields = state[: _STATE.itemsize].view(_STATE)
        fields["seed"], fields["left"], fields["seeded"] = seed % 2**64, 1, 1
        fields["words"] = np.random.RandomState(seed % 2**32).get_state(legacy=False)["state"]["key"]
        return cls(state)

    @property
    def _fields(self) -> np.ndarray[Any, Any]:
        return self._bytes[: _STATE.itemsize].view(_STATE)

    @property
    def state(self) -> np.ndarray[Any, Any]:
        """The state, as the bytes of ``torch.Generator.get_state()``."""
        found = self._generator.state["state"]
        fields = self._fields
        used_up = found["pos"] == _WORDS
        if not (used_up and fields["left"][0] == 1 and (fields["words"][0] == found["key"]).all()):  # it has moved on
            fields["words"] = found["key"]
            fields["left"], fields["next"] = 1 if used_up else _WORDS + 1 - found["pos"], found["pos"]
        return self._bytes.copy()

    def below(self, count: int, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Return ``torch.randint(0, count, shape)`` as int32.

        Raises:
            CompileError: ``count`` is 2**28 or more: from there on torch draws otherwise.
        """
        if not 0 < count < _MOST:
            raise CompileError(f"rows are drawn of 1 to {_MOST - 1:,}, and not of {count:,}: give them as `rows`")
        size = int(np.prod(shape))
        return (self._generator.random_raw(size).astype(np.uint32) % np.uint32(count)).astype(np.int32).reshape(shape)
