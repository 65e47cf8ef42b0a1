"""Models whose forward and backward are written by hand, one page each.

Nothing here is traced, derived or checked: these pages are a second witness, and import none of the pipeline.
"""

from handgrad.models.gru import GRU
from handgrad.models.mlp import MLP
from handgrad.models.model import Model
from handgrad.models.transformer import TRANSFORMER

MODELS: dict[str, Model] = {model.name: model for model in (MLP, GRU, TRANSFORMER)}

__all__ = ["MODELS", "Model"]
