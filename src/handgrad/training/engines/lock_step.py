"""Native gradients beside the pair's, and the pair's beside autograd's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from handgrad.errors import LockStepError
from handgrad.native.executor import Executor
from handgrad.native.plan import Plan
from handgrad.passes import cast
from handgrad.training.engines.eager import compare_with_autograd
from handgrad.training.state import State

if TYPE_CHECKING:
    from handgrad.models import Model

TIMES = 4.0  # as far from float64 as PyTorch's own float32 may native gradients lie
ROUNDING = 16 * 2.0**-23  # or so far, of the largest number of a gradient
VANISHING = 1e-4  # of the largest number of all: a gradient below it is a sum that cancels, and its rounding is theirs


def compare_native(plan: Plan, model: Model, state: State, minibatch: list[Any]) -> None:
    """Raise LockStepError if a gradient differs by more than rounding: the pair's from autograd's, or the native one.

    Native gradients are right if they lie about as near to those of the pair in float64 as the pair in float32 does.
    """
    Xb, Yb = map(torch.from_numpy, minibatch)
    parameters = state.parameters
    compare_with_autograd(model, parameters, Xb, Yb, state.step)
    executor = Executor(plan)
    executor.load_parameters([state.arrays[place.name] for place in plan.parameters])
    executor.set_batch(minibatch)
    executor.call(1, {}, None)
    with torch.no_grad():
        narrow, wide = (model.backward(p, model.forward(p, Xb, Yb), Xb, Yb) for p in
                        (parameters, cast(parameters, torch.float64)))  # fmt: skip
    largest = max(getattr(wide, f"d{place.name}").abs().max().item() for place in plan.parameters)
    wrong = []
    for parameter, place in zip(plan.parameters, plan.gradients, strict=True):
        name = f"d{parameter.name}"
        truth = getattr(wide, name)
        error = (torch.from_numpy(executor.read(place)).double() - truth).abs().max().item()
        bound = TIMES * (getattr(narrow, name).double() - truth).abs().max().item()
        scale = truth.abs().max().item()
        if not error <= bound + ROUNDING * (scale if scale > VANISHING * largest else largest):
            wrong.append(f"{name} is {error:.2g} from its value in float64, and PyTorch's float32 {bound / TIMES:.2g}")
    if wrong:
        raise LockStepError(f"at step {state.step} {len(wrong)} native gradients are off:\n" + "\n".join(wrong))
