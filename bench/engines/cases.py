"""The cases of `bench/steps.py`: models, sizes, their data and their parameters at the start. No torch is needed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from handgrad.data import build_dataset, load_words
from handgrad.native.tables import ROWS

LR = 0.1
Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """A model, its sizes, and rows in a minibatch."""

    name: str
    model: str
    sizes: dict[str, int]
    block_size: int
    batch_size: int

    @property
    def multiply_adds(self) -> int:
        """Multiplications in the matrix products of a step of the names model: forward, and twice that backward."""
        columns = self.block_size * self.sizes["n_embd"] + VOCAB
        return 3 * self.batch_size * self.sizes["n_hidden"] * columns

    @property
    def multiply_adds_of_tables(self) -> int:
        """Those that are left where an embedding's table is multiplied instead of the rows of a large batch."""
        rows = VOCAB if self.batch_size >= ROWS * VOCAB else self.batch_size
        embedded = rows * self.block_size * self.sizes["n_embd"]
        return 3 * self.sizes["n_hidden"] * (embedded + self.batch_size * VOCAB)

    def data(self) -> tuple[Numbers, Numbers]:
        """Return contexts and targets of the built-in names."""
        train = build_dataset(load_words().words, self.block_size).train
        return train.X, train.Y

    def start(self) -> dict[str, Numbers]:
        """Return parameters in float32, the same in every process."""
        random = np.random.default_rng(1)
        return {name: (mean + scale * random.standard_normal(shape)).astype(np.float32)
                for name, (shape, scale, mean) in self._shapes().items()}  # fmt: skip

    def _shapes(self) -> dict[str, tuple[tuple[int, ...], float, float]]:
        """Return of every parameter its shape, and the scale and the mean of its numbers."""
        E, H, T, V = self.sizes["n_embd"], self.sizes["n_hidden"], self.block_size, VOCAB
        if self.model == "mlp":
            return {
                "C": ((V, E), 1, 0), "W1": ((T * E, H), 5 / 3 / math.sqrt(T * E), 0), "b1": ((H,), 0.1, 0),
                "W2": ((H, V), 0.1, 0), "b2": ((V,), 0.1, 0), "bngain": ((1, H), 0.1, 1), "bnbias": ((1, H), 0.1, 0),
            }  # fmt: skip
        A = self.sizes["n_head"]
        head, square, row = (A, 1, E // A), ((E, E), E**-0.5, 0.0), ((E,), 0.1, 0.0)
        gain = ((E,), 0.1, 1.0)
        return {
            "C": ((V, E), 1, 0), "P": ((T, E), 1, 0), "gain1": gain, "bias1": row,
            "Wq": square, "bq": (head, 0.1, 0), "Wk": square, "bk": (head, 0.1, 0), "Wv": square, "bv": (head, 0.1, 0),
            "Wo": ((E, E), 0.5 * E**-0.5, 0), "bo": row, "gain2": gain, "bias2": row,
            "W1": ((E, H), E**-0.5, 0), "b1": ((H,), 0.1, 0), "W2": ((H, E), 0.5 * H**-0.5, 0), "b2": row,
            "gain3": gain, "bias3": row, "W3": ((E, V), 0.1, 0), "b3": ((V,), 0.1, 0),
        }  # fmt: skip


VOCAB = 27


def _mlp(n_hidden: int, batch_size: int) -> Case:
    return Case(f"{n_hidden}x{batch_size}", "mlp", {"n_embd": 10, "n_hidden": n_hidden}, 3, batch_size)


CASES = {
    case.name: case
    for case in (
        _mlp(64, 32), _mlp(200, 32), _mlp(1024, 256), _mlp(4096, 1024),
        Case("attention", "transformer", {"n_embd": 64, "n_hidden": 256, "n_head": 4}, 16, 32),
    )
}  # fmt: skip
