"""Steps in PyTorch, call for call, or through `torch.compile`."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from handgrad.checker import compare_pass
from handgrad.errors import LockStepError
from handgrad.passes import using_threads
from handgrad.training.state import State

if TYPE_CHECKING:
    from handgrad.models import Model
    from handgrad.training.runs import Run

Step = Callable[[Any, Tensor, Tensor, Any], Tensor]


class Eager:
    """Forward, backward and update as plain calls; autograd is off."""

    def __init__(self, run: Run, state: State, model: Model | None = None, *, compiled: bool = False) -> None:
        self.config, self.model = run.config, model or run.model
        self.X, self.Y = (torch.from_numpy(data) for data in run.dataset.train)
        self.parameters, self.generator = state.parameters, state.generator
        self._step: Step = _step_of(self.model)
        if compiled:
            self._step = torch.compile(self._step, fullgraph=True, dynamic=False)
        self._rate: Any = torch.tensor if compiled else float  # a number would be compiled in

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Keep autograd off, and torch at the run's threads."""
        with torch.no_grad(), using_threads(self.config.threads):
            yield

    def take(self, state: State, most: int) -> list[float]:
        """Draw a minibatch, run the pair, update the parameters in place, and return the loss before the update."""
        del most
        rate = self._rate(-self.config.lr_at(state.step))
        return [self._step(self.parameters, *self._minibatch(self.generator), rate).item()]

    def compare(self, state: State) -> None:
        """Compare the pair with autograd on the next minibatch."""
        again = torch.Generator()
        again.set_state(self.generator.get_state())
        compare_with_autograd(self.model, self.parameters, *self._minibatch(again), state.step)

    def save(self, state: State) -> None:
        """Note where the generator stands; the parameters lie in the memory of ``state``."""
        state.draws = self.generator.get_state().numpy()

    def _minibatch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        ix = torch.randint(0, self.X.shape[0], (self.config.batch_size,), generator=generator)  # (n,)
        return self.X[ix], self.Y[ix]  # (n, T), (n,)


def _step_of(model: Model) -> Step:
    def step(parameters: Any, Xb: Tensor, Yb: Tensor, minus_lr: Any) -> Tensor:
        values = model.forward(parameters, Xb, Yb)
        gradients = model.backward(parameters, values, Xb, Yb)
        for name, parameter in zip(parameters._fields, parameters, strict=True):
            gradient = getattr(gradients, f"d{name}")
            if isinstance(minus_lr, Tensor):
                parameter += minus_lr * gradient
            else:
                parameter.add_(gradient, alpha=minus_lr)
        loss: Tensor = values.loss
        return loss

    return step


def compare_with_autograd(model: Model, parameters: Any, Xb: Tensor, Yb: Tensor, step: int) -> None:
    """Raise LockStepError if a gradient of the pair differs from autograd's by more than rounding."""
    if not model.forward(parameters, Xb, Yb).loss.isfinite():
        return  # the step itself says so
    different = [c for c in compare_pass(model.forward, model.backward, parameters, Xb, Yb) if not c]
    if different:
        rows = "\n".join(str(comparison) for comparison in different)
        raise LockStepError(f"at step {step} {len(different)} gradients are not autograd's:\n{rows}")


def why_not_compile() -> str | None:
    """Return why `torch.compile` cannot run here, None if it can."""
    if not any(map(shutil.which, ("g++", "clang++", "c++", "cl"))):
        return "torch.compile needs a C++ compiler, and there is none on the path"
    return None
