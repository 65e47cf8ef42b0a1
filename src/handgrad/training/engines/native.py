"""Steps in one native loop. With a plan that was kept, it starts and runs without torch."""

from __future__ import annotations

import contextlib
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from handgrad.models import CARDS, is_as_written
from handgrad.native.cache import code_of, key_of, read, write
from handgrad.native.draws import Draws
from handgrad.native.plan import Plan
from handgrad.training.config import Config
from handgrad.training.state import State

if TYPE_CHECKING:
    from handgrad.models import Model
    from handgrad.training.runs import Run


class Native:
    """The model's pair and the update, compiled for the run's sizes; see `handgrad.native`."""

    def __init__(self, run: Run, state: State, model: Model | None = None) -> None:
        from handgrad.native.executor import Executor

        self._run, self._model = run, model
        self._executor = Executor(_plan(run.config, state, model, with_update=True), run.config.threads)
        self._executor.load_parameters(self._ordered(state))
        self._executor.set_data(run.dataset.train)
        self._draws = Draws(state.draws)

    def running(self) -> contextlib.AbstractContextManager[object]:
        """Return a context that does nothing."""
        return contextlib.nullcontext()

    def take(self, state: State, most: int) -> list[float]:
        """Take so many steps that Ctrl-C need not wait."""
        steps = min(most, self._executor.chunk)
        config = self._run.config
        rows = self._executor.drawn_rows(steps, self._draws)
        rates = np.array([config.lr_at(state.step + k) for k in range(steps)])
        losses: list[float] = []
        self._executor.run(rows, {"lr": rates}, lambda made: losses.extend(made.tolist()))
        return losses

    def compare(self, state: State) -> None:
        """Compare the pair with autograd on the next minibatch, and the native gradients with the pair's."""
        from handgrad.training.engines.lock_step import compare_native

        self.save(state)
        (rows,) = self._executor.drawn_rows(1, Draws(self._draws.state))
        judging = _plan(self._run.config, state, self._model, with_update=False)
        compare_native(judging, self._model or self._run.model, state, [data[rows] for data in self._run.dataset.train])

    def save(self, state: State) -> None:
        """Copy the parameters and the generator."""
        self._executor.store_parameters(self._ordered(state))
        state.draws = self._draws.state

    def _ordered(self, state: State) -> list[Any]:
        return [state.arrays[place.name] for place in self._executor.plan.parameters]


def _plan(config: Config, state: State, model: Model | None, *, with_update: bool) -> Plan:
    """Return the plan of a run's step: what was kept, or compiled now. Only what is the catalogue's own is kept."""
    from handgrad.native.llvm.objects import processor

    sizes = [(name, getattr(config, name)) for name in (*CARDS[config.model].sizes, "block_size", "batch_size")]
    shapes = [(name, *array.shape) for name, array in state.arrays.items()]
    key = key_of("plan", code_of("models", "native"), processor(), version("torch"), platform.python_version(),
                 config.model, str(sizes), str(shapes), str(with_update))  # fmt: skip
    kept = model is None and is_as_written(config.model)
    content = read(key) if kept else None
    if content is not None:
        return Plan.from_bytes(content)
    plan = _compiled(config, state, model, with_update=with_update)
    if kept:
        write(key, plan.to_bytes())
    return plan


def _compiled(config: Config, state: State, model: Model | None, *, with_update: bool) -> Plan:
    import torch

    from handgrad.models import MODELS
    from handgrad.native.calling import Parameters, flat
    from handgrad.native.planning import Planner
    from handgrad.native.updates import SGD

    pair = model or MODELS[config.model]

    def forward(parameters: Any, Xb: Any, Yb: Any) -> Any:
        return pair.forward(parameters, Xb, Yb)

    def backward(parameters: Any, values: Any, Xb: Any, Yb: Any) -> Any:
        return pair.backward(parameters, values, Xb, Yb)

    parameters = Parameters(state.parameters)
    n = config.batch_size
    batch = (torch.zeros((n, config.block_size), dtype=torch.int64), torch.zeros(n, dtype=torch.int64))
    with torch.no_grad():
        planner = Planner(flat(forward, backward, parameters, batch), parameters, batch, torch.float32)
        return planner.plan(SGD() if with_update else None)


def why_not() -> str | None:
    """Return why native code cannot run here, None if it can."""
    try:
        from handgrad.native.llvm.objects import processor

        processor()
    except (ImportError, OSError, RuntimeError) as error:
        return f"LLVM cannot be loaded ({error})"
    return None
