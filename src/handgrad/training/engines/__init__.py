"""What takes the steps of a run: PyTorch, call for call; one native loop; or `torch.compile`.

All draw the same minibatches and do the same arithmetic; the last bits differ, since they add in another order.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from handgrad.training.state import State

if TYPE_CHECKING:
    from handgrad.models import Model
    from handgrad.training.runs import Run


class Engine(Protocol):
    """Takes steps, and keeps parameters and generator between them in its own way."""

    def running(self) -> AbstractContextManager[object]:
        """Return what holds while steps are taken."""
        ...

    def take(self, state: State, most: int) -> list[float]:
        """Take one to ``most`` steps from ``state.step`` on, and return the loss before each update."""
        ...

    def compare(self, state: State) -> None:
        """Compare the gradients of the next minibatch with autograd's; raises LockStepError if one differs."""
        ...

    def save(self, state: State) -> None:
        """Write parameters and generator into ``state``."""
        ...


def engine_of(run: Run, state: State, model: Model | None = None) -> Engine:
    """Return the engine of a run, which begins at ``state``; ``model`` stands in for the run's own."""
    if run.config.engine == "native":
        from handgrad.training.engines.native import Native

        return Native(run, state, model)
    from handgrad.training.engines.eager import Eager

    return Eager(run, state, model, compiled=run.config.engine == "compile")


def problem_of(engine: str) -> str | None:
    """Return why ``engine`` cannot run here, None if it can."""
    if engine == "native":
        from handgrad.training.engines.native import why_not

        return why_not()
    if engine == "compile":
        from handgrad.training.engines.eager import why_not_compile

        return why_not_compile()
    return None
