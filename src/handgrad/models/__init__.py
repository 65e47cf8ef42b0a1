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

__all__ = ["CARDS", "MODELS", "Card", "Model"]


def __getattr__(name: str) -> Any:
    if name == "MODELS":
        pages = {card: importlib.import_module(f"handgrad.models.{card}") for card in CARDS}
        globals()["MODELS"] = {card: getattr(page, card.upper()) for card, page in pages.items()}
        return globals()["MODELS"]
    if name == "Model":
        return importlib.import_module("handgrad.models.model").Model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
