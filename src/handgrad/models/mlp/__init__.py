"""The character-level MLP with batch norm (Bengio et al. 2003), its backward pass written by hand three ways.

``atomic``         every step a line, every one of the 26 gradients a line (exercise 1)
``cross_entropy``  the closed form of the loss: eight lines in one (exercise 2)
``batch_norm``     the closed form of batch norm: seven lines in one (exercise 3)
``fast``           the pair made of both closed forms, with which the model is trained (exercise 4)

``parameters`` holds what is trained, ``inference`` runs the trained model on contexts that are no minibatch.
"""

from handgrad.models.catalogue import CARDS
from handgrad.models.mlp import fast, inference
from handgrad.models.mlp.parameters import Parameters, initialise
from handgrad.models.model import Model

MLP = Model(
    **vars(CARDS["mlp"]),
    parameters=Parameters,
    initialise=initialise,
    forward=fast.forward,
    backward=fast.backward,
    predictor=inference.predictor,
)

__all__ = ["MLP", "Parameters", "initialise"]
