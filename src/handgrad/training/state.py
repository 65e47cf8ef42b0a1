"""Where a run stands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]


@dataclass
class State:
    """Where a run stands after ``step`` steps, as arrays: torch is loaded when tensors are asked for."""

    step: int
    model: str
    arrays: dict[str, Array]  # parameters, by name
    draws: Array  # (5056,) uint8: the state of the generator, as torch keeps it
    losses: list[float]  # of the steps since the last line of metrics.jsonl
    metrics_bytes: int  # the length of metrics.jsonl

    @cached_property
    def parameters(self) -> Any:
        """The parameters as the model's NamedTuple of tensors, which share the memory of ``arrays``."""
        import torch

        from handgrad.models import MODELS

        return MODELS[self.model].parameters(**{name: torch.from_numpy(x) for name, x in self.arrays.items()})

    @property
    def generator(self) -> torch.Generator:
        """A new generator in the state of ``draws``."""
        import torch

        generator = torch.Generator()
        generator.set_state(torch.from_numpy(self.draws))
        return generator
