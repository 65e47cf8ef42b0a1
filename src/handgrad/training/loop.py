"""Training with gradients written by hand: forward, backward and update are plain arithmetic, autograd is off."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import torch

from handgrad.checker import compare_pass
from handgrad.errors import DivergedError, LockStepError
from handgrad.models.mlp import MLP
from handgrad.models.model import Model
from handgrad.training.runs import Run, State

Progress = Callable[[int, float], None]
"""Called with the number of steps done and the mean loss of the last ones, each `log_every` steps."""


def _quiet(_step: int, _loss: float) -> None:
    pass


def train(
    run: Run,
    *,
    model: Model = MLP,
    progress: Progress = _quiet,
    stopped: Callable[[], bool] = lambda: False,
) -> State:
    """Train ``run`` from its last checkpoint to its last step, or until ``stopped()`` is true; return the state.

    The state is saved every `checkpoint_every` steps and at the end. The same run gives the same bits, however
    often it was interrupted, on the same machine with the same versions.

    Raises:
        DivergedError: the loss is NaN or infinite. The last checkpoint stays as it is.
        LockStepError: a gradient differs from autograd's by more than rounding.
        RunBusyError, DamagedRunError, RunMismatchError: see `Run`.
    """
    config = run.config
    torch.set_num_threads(config.threads)
    with run.locked(), torch.no_grad():
        state = run.load_checkpoint()
        run.cut_metrics(state)
        X, Y = (torch.from_numpy(data) for data in run.dataset().train)
        with (run.path / "metrics.jsonl").open("ab", buffering=0) as metrics:
            while state.step < config.steps and not stopped():
                loss = _step(run, model, state, X, Y)
                state.losses.append(loss)
                state.step += 1
                last = state.step == config.steps
                if state.step % config.log_every == 0 or last:
                    mean = math.fsum(state.losses) / len(state.losses)
                    line = {"step": state.step, "lr": config.lr_at(state.step - 1), "loss": mean}
                    state.metrics_bytes += metrics.write(json.dumps(line).encode() + b"\n")
                    state.losses.clear()
                    progress(state.step, mean)
                if state.step % config.checkpoint_every == 0 and not last:
                    run.save_checkpoint(state)
            run.save_checkpoint(state)
    return state


def _step(run: Run, model: Model, state: State, X: torch.Tensor, Y: torch.Tensor) -> float:
    """Draw a minibatch, run the pair, update the parameters in place, and return the loss before the update."""
    config, parameters = run.config, state.parameters
    ix = torch.randint(0, X.shape[0], (config.batch_size,), generator=state.generator)  # (n,)
    Xb, Yb = X[ix], Y[ix]  # (n, T), (n,)
    if config.lock_step and state.step % config.lock_step == 0:
        _compare_with_autograd(model, state, Xb, Yb)
    values = model.forward(parameters, Xb, Yb)
    loss: float = values.loss.item()
    lr = config.lr_at(state.step)
    if not math.isfinite(loss):
        raise DivergedError(
            f"the loss of step {state.step} is {loss} at learning rate {lr}: try a smaller --lr (a third, say), "
            f"or a larger --batch-size; the checkpoint before it is kept in {run.path}"
        )
    gradients = model.backward(parameters, values, Xb, Yb)
    for name, parameter in zip(parameters._fields, parameters, strict=True):
        parameter.add_(getattr(gradients, f"d{name}"), alpha=-lr)
    return loss


def _compare_with_autograd(model: Model, state: State, Xb: torch.Tensor, Yb: torch.Tensor) -> None:
    different = [c for c in compare_pass(model.forward, model.backward, state.parameters, Xb, Yb) if not c]
    if different:
        rows = "\n".join(str(comparison) for comparison in different)
        raise LockStepError(f"at step {state.step} {len(different)} gradients are not autograd's:\n{rows}")
