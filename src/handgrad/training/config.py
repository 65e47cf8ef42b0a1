"""The options of a training run, and what they may be."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from handgrad.errors import InvalidOptionError
from handgrad.models import CARDS

ENGINES = ("native", "eager", "compile")
KINDS = {int: "a whole number", float: "a number", str: "a word"}


@dataclass(frozen=True)
class Config:
    """All that decides a run's numbers, apart from the words. The defaults are those of the exercise.

    Raises:
        InvalidOptionError: a value cannot work, alone or with another.
    """

    model: str = "mlp"
    engine: str = "native"  # what runs the steps; another one may round differently
    n_embd: int = 10  # numbers for each symbol
    n_hidden: int = 200  # neurons of the hidden layer
    n_head: int = 4  # heads of attention, in a model that has them
    block_size: int = 3  # symbols of context
    batch_size: int = 32  # rows in a minibatch
    steps: int = 200_000
    lr: float = 0.1  # learning rate of the first half
    lr_final: float = 0.01  # and of the second
    seed: int = 2147483647  # of the one generator that draws parameters and minibatches
    split: str = "shuffle"  # how words are divided, see handgrad.data.split_words
    lock_step: int = 0  # compare all gradients with autograd every so many steps; 0: never
    log_every: int = 100  # steps in a line of metrics.jsonl
    checkpoint_every: int = 1000
    threads: int = 1  # more do not help at these sizes; in PyTorch another number may round differently

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            fits = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
            self._require(field.name, fits, f"must be {KINDS[kind]}")
            self._require(field.name, kind is not int or value < 2**63, "is too large")
        sizes = ("n_embd", "n_hidden", "n_head", "block_size", "batch_size", "steps", "log_every")
        for name in (*sizes, "checkpoint_every", "threads"):
            self._require(name, getattr(self, name) >= 1, "must be 1 or more")
        for name in ("lr", "lr_final"):
            rate = getattr(self, name)
            self._require(name, math.isfinite(rate) and rate > 0, "must be a positive number")
            self._require(name, rate < 3.4e38, "must be a number that float32 can hold")
        self._require("model", self.model in CARDS, f"is none of the models: {', '.join(CARDS)}")
        self._require("engine", self.engine in ENGINES, f"is none of the engines: {', '.join(ENGINES)}")
        least = CARDS[self.model].smallest_batch
        self._require(
            "batch_size",
            self.batch_size >= least,
            f"is too small: batch norm divides by the batch size less one, so it must be {least} or more",
        )
        self._require("threads", self.threads <= 1024, "must be 1024 or less")
        self._require("lock_step", self.lock_step >= 0, "must be 0 (never) or more")
        self._require("seed", 0 <= self.seed < 2**63, "must lie between 0 and 2**63 - 1")
        self._require("split", self.split in ("shuffle", "distinct"), "must be `shuffle` or `distinct`")

    @classmethod
    def of(cls, model: str = "mlp", **options: Any) -> Config:
        """Return the options of ``model``: its own defaults, apart from those that are given.

        Raises:
            InvalidOptionError: a value cannot work, or the model has nothing that the option could size.

        >>> Config.of("gru", steps=10).block_size
        8
        """
        if model not in CARDS:
            return cls(model=model)
        for name in ("n_embd", "n_hidden", "n_head"):
            if name in options and name not in CARDS[model].sizes:
                option = "--" + name.replace("_", "-")
                having = ", ".join(other.name for other in CARDS.values() if name in other.sizes)
                raise InvalidOptionError(
                    f"{option} does not go with --model {model}, which has nothing of that size: leave it out, or "
                    f"choose a model that has ({having})"
                )
        return cls(**(dict(CARDS[model].defaults) | {"model": model} | options))

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            option = "--" + name.replace("_", "-")
            raise InvalidOptionError(f"{option} {getattr(self, name)} {rule}")

    def lr_at(self, step: int) -> float:
        """Return the learning rate of ``step``, counted from 0: ``lr`` for the first half, then ``lr_final``.

        >>> config = Config(steps=10)
        >>> config.lr_at(4), config.lr_at(5)
        (0.1, 0.01)
        """
        return self.lr if 2 * step < self.steps else self.lr_final

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON data."""
        return asdict(self)
