"""The parameters that a run begins with. They are drawn by torch, and kept, so that it need not be loaded again."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np

from handgrad.models import CARDS, is_as_written
from handgrad.native.cache import code_of, key_of, read, write
from handgrad.training.config import Config
from handgrad.training.state import State


def first_state(vocab_size: int, config: Config) -> State:
    """Return the state at step 0: parameters drawn from a generator of the run's seed, and that generator."""
    from safetensors.numpy import load, save

    sizes = {name: getattr(config, name) for name in CARDS[config.model].sizes}
    key = key_of("start", code_of("models"), version("torch"), config.model, str(sizes), str(vocab_size),
                 str(config.seed))  # fmt: skip
    is_kept = is_as_written(config.model)
    kept = read(key) if is_kept else None
    found = _drawn(vocab_size, config, sizes) if kept is None else load(kept)
    if is_kept and kept is None:
        write(key, save(found))
    draws = found.pop("generator")
    return State(0, config.model, {name: found[name] for name in sorted(found)}, draws, [], 0)


def _drawn(vocab_size: int, config: Config, sizes: dict[str, int]) -> dict[str, np.ndarray[Any, Any]]:
    import torch

    from handgrad.models import MODELS

    generator = torch.Generator().manual_seed(config.seed)
    parameters = MODELS[config.model].initialise(vocab_size, **sizes, generator=generator)
    found = {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in parameters._asdict().items()}
    return found | {"generator": generator.get_state().numpy()}
