"""The models by name: what their options are, known without loading torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Card:
    """What an option needs to know of a model."""

    name: str
    title: str
    smallest_batch: int
    sizes: tuple[str, ...]  # the options that shape its parameters, as `handgrad.training.Config` calls them
    defaults: Mapping[str, Any]  # of the options that it wants otherwise than Config has them
    activations: tuple[str, ...]  # the values that a plot shows


CARDS = {
    card.name: card
    for card in (
        Card(
            name="mlp",
            title="The MLP with batch norm",
            smallest_batch=2,  # batch norm divides by n - 1
            sizes=("block_size", "n_embd", "n_hidden"),
            defaults={},
            activations=("hprebn", "hpreact", "h", "logits"),
        ),
        Card(
            name="gru",
            title="The GRU over time",
            smallest_batch=1,
            sizes=("n_embd", "n_hidden"),
            defaults={"n_embd": 32, "n_hidden": 64, "block_size": 8, "lr": 1.0, "lr_final": 0.1, "steps": 40_000},
            activations=("z", "r", "c", "h"),
        ),
        Card(
            name="transformer",
            title="A Transformer block",
            smallest_batch=1,
            sizes=("block_size", "n_embd", "n_hidden", "n_head"),
            defaults={"n_embd": 32, "n_hidden": 128, "block_size": 8, "lr": 0.5, "lr_final": 0.05, "steps": 40_000},
            activations=("x", "att", "g", "logits"),
        ),
    )
}
