"""The loss of a trained model on whole splits, beside the bigram baseline."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from handgrad.data import Dataset, Rows
from handgrad.errors import DivergedError
from handgrad.models import bigram
from handgrad.models.mlp import MLP
from handgrad.models.model import Model, Predictor

ROWS_AT_A_TIME = 1 << 14


def evaluate(parameters: Any, dataset: Dataset, *, model: Model = MLP) -> dict[str, dict[str, float]]:
    """Return the mean negative log-likelihood (nats a symbol) of train, dev and test.

    ``{"mlp": {"train": ..., "dev": ..., "test": ...}, "bigram": {...}}``; batch norm, where the model has one, uses
    the statistics of the whole training set, and the bigram model is counted on it.

    Raises:
        DivergedError: the parameters are so large that a loss is not finite.
    """
    X, Y = (torch.from_numpy(data) for data in dataset.train)
    predict = model.predictor(parameters, X)
    pairs = bigram.count(X, Y, len(dataset.vocabulary))
    splits = {"train": dataset.train, "dev": dataset.dev, "test": dataset.test}
    losses = {
        model.name: {part: _loss(predict, rows) for part, rows in splits.items()},
        "bigram": {part: bigram.loss(pairs, *map(torch.from_numpy, rows)) for part, rows in splits.items()},
    }
    if not all(math.isfinite(loss) for loss in losses[model.name].values()):
        raise DivergedError(
            f"the loss of the trained model is {losses[model.name]['train']}: train with a smaller --lr"
        )
    return losses


def _loss(predict: Predictor, rows: Rows) -> float:
    X, Y = map(torch.from_numpy, rows)
    total = 0.0
    for k in range(0, len(Y), ROWS_AT_A_TIME):
        chunk = slice(k, k + ROWS_AT_A_TIME)
        logits = predict(X[chunk]).double()  # (rows, V)
        total += F.cross_entropy(logits, Y[chunk], reduction="sum").item()
    return total / len(Y)
