"""A run of somebody's PyTorch code becomes a `Graph`: every operation, every name, every place.

Two things are watched. A `TorchFunctionMode` sees each call of PyTorch as it was written, with its real arguments; the
running frame says which expression that is. And Python's own line events tell when a statement has run, so that the
names it mentions can be looked up: this is how ``dlogits = dnorm_logits``, which is no operation, is seen.

An in-place write makes a new value. Other tensors that share the memory get one too, as soon as they are read again.
"""

from handgrad.tracer.memory import GIVEN_BYTES, KEPT_BYTES
from handgrad.tracer.naming import name_modules, name_values
from handgrad.tracer.operations import Tracer
from handgrad.tracer.tracing import trace

__all__ = ["GIVEN_BYTES", "KEPT_BYTES", "Tracer", "name_modules", "name_values", "trace"]
