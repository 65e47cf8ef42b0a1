"""Train the names model with gradients written by hand, measure it, and sample from it.

A run starts without torch where its steps run natively; what needs it loads it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from handgrad.training.config import Config
from handgrad.training.loop import train
from handgrad.training.runs import Run
from handgrad.training.state import State

if TYPE_CHECKING:
    from handgrad.training.evaluation import evaluate
    from handgrad.training.sampling import Sample, sample_words

__all__ = ["Config", "Run", "Sample", "State", "evaluate", "sample_words", "train"]

_MODULE_OF = {"evaluate": "evaluation", "Sample": "sampling", "sample_words": "sampling"}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"handgrad.training.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
