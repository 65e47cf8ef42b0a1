"""Models whose forward and backward are written by hand, one page each.

Nothing here is traced, derived or checked: these pages are a second witness, and import none of the pipeline.
`CARDS` says what models there are without loading torch; ``MODELS`` and ``Model`` load it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from handgrad.models.catalogue import CARDS, Card

if TYPE_CHECKING:
    from handgrad.models.model import Model

    MODELS: dict[str, Model]

__all__ = ["CARDS", "MODELS", "Card", "Model", "is_as_written"]


def __getattr__(name: str) -> Any:
    if name == "MODELS":
        pages = {card: importlib.import_module(f"handgrad.models.{card}") for card in CARDS}
        globals()["MODELS"] = {card: getattr(page, card.upper()) for card, page in pages.items()}
        return globals()["MODELS"]
    if name == "Model":
        return importlib.import_module("handgrad.models.model").Model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def is_as_written(name: str) -> bool:
    """Whether ``MODELS[name]`` holds the functions of its page: nothing was put in their place in this process."""
    loaded = globals().get("MODELS")
    if loaded is None:
        return True
    model = loaded[name]
    return all(f.__module__.startswith(f"{__name__}.{name}") for f in (model.initialise, model.forward, model.backward))
