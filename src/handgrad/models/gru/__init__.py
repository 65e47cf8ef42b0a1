"""A GRU over the symbols of the context (Cho et al. 2014), its backward pass written by hand.

``by_hand``     the forward over time, and the backward through time, every gradient a line
``parameters``  what is trained
"""

from handgrad.models.gru import by_hand
from handgrad.models.gru.parameters import Parameters, initialise
from handgrad.models.model import Model, predictor_of

GRU = Model(
    name="gru",
    title="The GRU over time",
    smallest_batch=1,
    sizes=("n_embd", "n_hidden"),
    defaults={"n_embd": 32, "n_hidden": 64, "block_size": 8, "lr": 1.0, "lr_final": 0.1, "steps": 40_000},
    activations=("z", "r", "c", "h"),
    parameters=Parameters,
    initialise=initialise,
    forward=by_hand.forward,
    backward=by_hand.backward,
    predictor=predictor_of(by_hand.forward, rows_at_a_time=1 << 12),
)

__all__ = ["GRU", "Parameters", "initialise"]
