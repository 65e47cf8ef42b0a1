"""New words from a trained model, a symbol at a time."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from handgrad.data import Dataset
from handgrad.errors import DivergedError, InvalidOptionError
from handgrad.models.mlp import MLP
from handgrad.models.model import Model

LONGEST = 100
"""A word that has not ended after so many symbols ends there: an untrained model may never draw the end."""


class Sample(NamedTuple):
    """A drawn word, and whether it stands in the training words."""

    word: str
    in_training: bool


@torch.no_grad()
def sample_words(
    parameters: Any,
    dataset: Dataset,
    *,
    count: int = 20,
    seed: int = 2147483647,
    temperature: float = 1.0,
    model: Model = MLP,
) -> list[Sample]:
    """Draw ``count`` words. The same seed gives the same words, and a larger count only adds to them.

    Logits are divided by ``temperature``: below 1 the likely symbols gain, above 1 the unlikely ones.

    Raises:
        DivergedError: the parameters are so large that a logit is not finite.
        InvalidOptionError: ``count`` is less than 1, or ``temperature`` is no positive number.
    """
    if count < 1:
        raise InvalidOptionError(f"--count {count} must be 1 or more")
    if not (math.isfinite(temperature) and temperature > 0):
        raise InvalidOptionError(f"--temperature {temperature} must be a positive number")
    if not 0 <= seed < 2**63:
        raise InvalidOptionError(f"--seed {seed} must lie between 0 and 2**63 - 1")
    generator = torch.Generator().manual_seed(seed)
    predict = model.predictor(parameters, torch.from_numpy(dataset.train.X))
    known = set(dataset.words.train)
    samples = []
    for _ in range(count):
        context, drawn = [0] * dataset.block_size, list[int]()
        while len(drawn) < LONGEST:
            logits = predict(torch.tensor([context])).double()  # (1, V)
            if not logits.isfinite().all():
                raise DivergedError("the trained model gives logits that are not finite: train with a smaller --lr")
            probs = F.softmax((logits - logits.max()) / temperature, 1)  # (1, V)
            symbol = int(torch.multinomial(probs, 1, generator=generator).item())
            if symbol == 0:
                break
            drawn.append(symbol)
            context = [*context[1:], symbol]
        word = dataset.vocabulary.decode(drawn)
        samples.append(Sample(word, word in known))
    return samples
