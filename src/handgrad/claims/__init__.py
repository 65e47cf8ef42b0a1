"""Which of the user's statements claim to compute which gradient, and of which loss.

A claim is found by its name (``dX``, ``grad_X``, ``X_grad``, ``grads["X"]``, ...), by the tensor that it is compared
with (``cmp("X", dX, X)``, or anything else that sets it beside ``X.grad``), or by what the user says with
``--gradient dX=X``. Claims about one loss that belong together form a pass.
"""

from handgrad.claims.claim import Claim, ClaimedPass, Event
from handgrad.claims.losses import LOSS_NAMES
from handgrad.claims.names import assigned, is_argument, names_of_gradient, same_names
from handgrad.claims.search import find_passes

__all__ = [
    "LOSS_NAMES",
    "Claim",
    "ClaimedPass",
    "Event",
    "assigned",
    "find_passes",
    "is_argument",
    "names_of_gradient",
    "same_names",
]
