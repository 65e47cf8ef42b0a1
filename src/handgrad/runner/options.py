"""How a file is run: limits, the names list, and what to look for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

from handgrad.errors import InvalidOptionError

LEAST_MEMORY = 512 * 2**20
"""PyTorch itself takes about half of this."""


@dataclass(frozen=True)
class Options:
    """The options of `check_file`.

    Raises:
        InvalidOptionError: an option has a value that cannot work.
    """

    timeout: float = 120.0  # seconds on the clock, from the file's first line to its report
    memory: int = 4 * 2**30  # bytes, of the file's process and all that it starts
    iterations: int = 3  # of each training loop
    words: str | None = None  # where the file's own names list is missing
    gradient: tuple[str, ...] = ()  # "dX=X": of which value a name is the gradient, where names do not tell
    loss: str | None = None  # the loss; found, if not named
    asked: dict[str, Any] = field(default_factory=dict)  # what the judge is asked, where it is not the checker

    def __post_init__(self) -> None:
        if not (isfinite(self.timeout) and self.timeout > 0):
            raise InvalidOptionError(f"timeout is {self.timeout:g}; give a number of seconds above 0")
        if self.memory < LEAST_MEMORY:
            raise InvalidOptionError(
                f"memory is {self.memory} bytes; give at least {LEAST_MEMORY}: PyTorch alone takes half of it"
            )
        if self.iterations < 1:
            raise InvalidOptionError(f"iterations is {self.iterations}; give 1 or more")
        for pair in self.gradient:
            if not all(part.strip() for part in pair.partition("=")):
                raise InvalidOptionError(f"gradient is {pair!r}; give NAME=VALUE, such as dlogits=logits")

    @property
    def gradient_names(self) -> dict[str, str]:
        """The pairs of ``gradient``."""
        pairs = (pair.partition("=") for pair in self.gradient)
        return {name.strip(): value.strip() for name, _, value in pairs}

    def to_json(self) -> str:
        """Return the options as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Options:
        """Return the options that `to_json` wrote."""
        fields = json.loads(text)
        return cls(**fields | {"gradient": tuple(fields["gradient"])})
