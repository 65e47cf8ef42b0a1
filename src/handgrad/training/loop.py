"""Training with gradients written by hand: forward, backward and update are plain arithmetic, autograd is off."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable
from typing import IO

import torch

from handgrad.checker import compare_pass
from handgrad.errors import DivergedError, LockStepError
from handgrad.models.model import Model
from handgrad.passes import using_threads
from handgrad.training.files import not_writable
from handgrad.training.runs import Run, State

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
    config, model = run.config, model or run.model
    with run.locked(), torch.no_grad(), using_threads(config.threads):
        state = run.load_checkpoint()
        run.cut_metrics(state)
        X, Y = (torch.from_numpy(data) for data in run.dataset.train)
        with (run.path / "metrics.jsonl").open("ab", buffering=0) as metrics:
            while state.step < config.steps and not stopped():
                loss = _step(run, model, state, X, Y)
                state.losses.append(loss)
                state.step += 1
                last = state.step == config.steps
                if state.step % config.log_every == 0 or last:
                    mean = math.fsum(state.losses) / len(state.losses)
                    line = {"step": state.step, "lr": config.lr_at(state.step - 1), "loss": mean}
                    state.metrics_bytes += _append(run, metrics, json.dumps(line))
                    state.losses.clear()
                    progress(state.step, mean)
                if state.step % config.checkpoint_every == 0 and not last:
                    _save(run, state, metrics)
            _save(run, state, metrics)
    return state


def _step(run: Run, model: Model, state: State, X: torch.Tensor, Y: torch.Tensor) -> float:
    """Draw a minibatch, run the pair, update the parameters in place, and return the loss before the update."""
    config, parameters = run.config, state.parameters
    ix = torch.randint(0, X.shape[0], (config.batch_size,), generator=state.generator)  # (n,)
    Xb, Yb = X[ix], Y[ix]  # (n, T), (n,)
    values = model.forward(parameters, Xb, Yb)
    loss: float = values.loss.item()
    if not math.isfinite(loss):
        raise _diverged(run, state, f"the loss is {loss}")
    if config.lock_step and state.step % config.lock_step == 0:
        _compare_with_autograd(model, state, Xb, Yb)
    gradients = model.backward(parameters, values, Xb, Yb)
    for name, parameter in zip(parameters._fields, parameters, strict=True):
        parameter.add_(getattr(gradients, f"d{name}"), alpha=-config.lr_at(state.step))
    return loss


def _save(run: Run, state: State, metrics: IO[bytes]) -> None:
    for name, parameter in state.parameters._asdict().items():
        if not parameter.isfinite().all():
            raise _diverged(run, state, f"{name} holds NaN or infinity")
    os.fsync(metrics.fileno())  # the checkpoint relies on their length
    run.save_checkpoint(state)


def _diverged(run: Run, state: State, what: str) -> DivergedError:
    return DivergedError(
        f"at step {state.step} {what}, with learning rate {run.config.lr_at(max(state.step - 1, 0))}: try a smaller "
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


def _compare_with_autograd(model: Model, state: State, Xb: torch.Tensor, Yb: torch.Tensor) -> None:
    different = [c for c in compare_pass(model.forward, model.backward, state.parameters, Xb, Yb) if not c]
    if different:
        rows = "\n".join(str(comparison) for comparison in different)
        raise LockStepError(f"at step {state.step} {len(different)} gradients are not autograd's:\n{rows}")
