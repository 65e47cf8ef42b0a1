"""A GRU over the symbols of the context (Cho et al. 2014), its backward pass written by hand.

``by_hand``     the forward over time, and the backward through time, every gradient a line
``parameters``  what is trained
"""

from handgrad.models.catalogue import CARDS
from handgrad.models.gru import by_hand
from handgrad.models.gru.parameters import Parameters, initialise
from handgrad.models.model import Model, predictor_of

GRU = Model(
    **vars(CARDS["gru"]),
    parameters=Parameters,
    initialise=initialise,
    forward=by_hand.forward,
    backward=by_hand.backward,
    predictor=predictor_of(by_hand.forward, rows_at_a_time=1 << 12),
)

__all__ = ["GRU", "Parameters", "initialise"]
