"""Training with gradients written by hand: forward, backward and update are plain arithmetic, autograd is off."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

import numpy as np

from handgrad.errors import DivergedError
from handgrad.training.config import Config
from handgrad.training.engines import Engine, engine_of
from handgrad.training.files import not_writable
from handgrad.training.runs import Run
from handgrad.training.state import State

if TYPE_CHECKING:
    from handgrad.models import Model

Progress = Callable[[int, float], None]
"""Called with the number of steps done and the mean loss of the last ones, each `log_every` steps."""


def _quiet(_step: int, _loss: float) -> None:
    pass


def train(
    run: Run,
    *,
    model: Model | None = None,
    progress: Progress = _quiet,
    stopped: Callable[[], bool] = lambda: False,
) -> State:
    """Train ``run`` from its last checkpoint to its last step, or until ``stopped()`` is true; return the state.

    The state is saved every `checkpoint_every` steps and at the end. The same run gives the same bits, however
    often it was interrupted, on the same machine with the same versions.

    Raises:
        DivergedError: the loss or a parameter is NaN or infinite. The last checkpoint stays as it is.
        LockStepError: a gradient differs from autograd's by more than rounding.
        RunBusyError, DamagedRunError, RunMismatchError: see `Run`.
    """
    config = run.config
    with run.locked():
        state = run.load_checkpoint()
        run.cut_metrics(state)
        engine = engine_of(run, state, model)
        with engine.running(), (run.path / "metrics.jsonl").open("ab", buffering=0) as metrics:
            while state.step < config.steps and not stopped():
                if config.lock_step and state.step % config.lock_step == 0:
                    engine.compare(state)
                losses = engine.take(state, _most(config, state.step))
                for k, loss in enumerate(losses):
                    if not math.isfinite(loss):
                        raise _diverged(run, state.step + k, f"the loss is {loss}")
                state.losses += losses
                state.step += len(losses)
                last = state.step == config.steps
                if state.step % config.log_every == 0 or last:
                    mean = math.fsum(state.losses) / len(state.losses)
                    line = {"step": state.step, "lr": config.lr_at(state.step - 1), "loss": mean}
                    state.metrics_bytes += _append(run, metrics, json.dumps(line))
                    state.losses.clear()
                    progress(state.step, mean)
                if state.step % config.checkpoint_every == 0 and not last:
                    _save(run, engine, state, metrics)
            _save(run, engine, state, metrics)
    return state


def _most(config: Config, step: int) -> int:
    """Return how many steps can be taken at once: up to the next at which something is to be done."""
    every = [config.log_every, config.checkpoint_every, *([config.lock_step] if config.lock_step else [])]
    return min(config.steps - step, *(n - step % n for n in every))


def _save(run: Run, engine: Engine, state: State, metrics: IO[bytes]) -> None:
    engine.save(state)
    for name, parameter in state.arrays.items():
        if not np.isfinite(parameter).all():
            raise _diverged(run, state.step, f"{name} holds NaN or infinity")
    os.fsync(metrics.fileno())  # the checkpoint relies on their length
    run.save_checkpoint(state)


def _diverged(run: Run, step: int, what: str) -> DivergedError:
    return DivergedError(
        f"at step {step} {what}, with learning rate {run.config.lr_at(max(step - 1, 0))}: try a smaller "
        f"--lr (a third, say) or a larger --batch-size in a new run; the checkpoint before it is kept in {run.path}"
    )


def _append(run: Run, metrics: IO[bytes], line: str) -> int:
    content = line.encode() + b"\n"
    try:
        if metrics.write(content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise not_writable(run.path / "metrics.jsonl", error) from None
    return len(content)
