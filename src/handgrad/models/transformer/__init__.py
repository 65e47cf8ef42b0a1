"""One Transformer block with causal attention (Vaswani et al. 2017), its backward pass written by hand.

``by_hand``     the forward, and the backward with the closed forms of layer norm, softmax and cross-entropy
``parameters``  what is trained
"""

from handgrad.models.catalogue import CARDS
from handgrad.models.model import Model, predictor_of
from handgrad.models.transformer import by_hand
from handgrad.models.transformer.parameters import Parameters, initialise

TRANSFORMER = Model(
    **vars(CARDS["transformer"]),
    parameters=Parameters,
    initialise=initialise,
    forward=by_hand.forward,
    backward=by_hand.backward,
    predictor=predictor_of(by_hand.forward, rows_at_a_time=1 << 11),
)

__all__ = ["TRANSFORMER", "Parameters", "initialise"]
