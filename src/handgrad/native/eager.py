"""Steps in eager PyTorch, for what has no native form: the same interface, the same formulas of the update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from handgrad.errors import CompileError
from handgrad.native.arrays import Array
from handgrad.native.calling import Flat, Parameters
from handgrad.native.plan import Numbers, Place, Plan
from handgrad.native.scalars import Scalar, load
from handgrad.native.steps import Steps, numbers_of
from handgrad.native.updates import Update

_OPS: dict[str, Callable[..., Tensor]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "sqrt": torch.sqrt, "neg": torch.neg,
}  # fmt: skip


class EagerSteps(Steps):
    """Takes steps in PyTorch, without autograd; without an update, it leaves the gradients."""

    def __init__(self, both: Flat, parameters: Parameters, batch: Sequence[Tensor], update: Update | None) -> None:
        super().__init__(_described(parameters, batch))
        self._both, self._batch, self._update = both, batch, update
        self._parameters = [p.detach().clone() for p in parameters.tensors]
        self._states = [[torch.zeros_like(p) for _ in update.states] if update else [] for p in self._parameters]
        self._gradients: dict[Place, Tensor] = {}

    def load_parameters(self, given: Sequence[Any]) -> None:
        """Take the parameters as they are: arrays or tensors."""
        for own, one in zip(self._parameters, given, strict=True):
            own.copy_(torch.from_numpy(np.array(numbers_of(one))))

    def store_parameters(self, given: Sequence[Any]) -> None:
        """Write the parameters back."""
        for own, one in zip(self._parameters, given, strict=True):
            np.copyto(numbers_of(one), own.numpy())

    def read(self, place: Place) -> Numbers:
        """Return a copy of a gradient of the last call."""
        return numbers_of(self._gradients[place]).copy()

    @torch.no_grad()
    def call(self, steps: int, numbers: Mapping[str, Numbers], rows: Numbers | None) -> Numbers:
        """Run ``steps`` steps and return the loss before each; without rows, on the first rows of the data."""
        data = [torch.from_numpy(x).to(like.dtype) for x, like in zip(self._data, self._batch, strict=True)]
        losses = np.empty(steps, self.real)
        for k in range(steps):
            size = len(self._batch[0])
            minibatch = [x[:size] if rows is None else x[torch.from_numpy(rows[k]).long()] for x in data]
            try:
                loss, *gradients = self._both(*self._parameters, *minibatch)
            except (IndexError, RuntimeError) as error:
                raise CompileError(f"the step does not run on this batch: {error}") from error
            losses[k] = loss.item()
            if self._update is None:
                self._gradients = dict(zip(self.plan.gradients, gradients, strict=True))
            else:
                self._change(self._update, gradients, {name: float(given[k]) for name, given in numbers.items()})
        return losses

    def _change(self, update: Update, gradients: Sequence[Tensor], numbers: dict[str, float]) -> None:
        if update.max_norm is not None:
            norm = torch.stack([(g * g).sum() for g in gradients]).sum().sqrt()
            factor = (update.max_norm / (norm + 1e-6)).clamp(max=1.0)
            gradients = [g * factor for g in gradients]
        for parameter, gradient, states in zip(self._parameters, gradients, self._states, strict=True):
            kept = [parameter, *states]
            for target, made in zip(kept, _changed(update, kept, gradient, numbers), strict=True):
                target.copy_(made)


def _changed(update: Update, kept: Sequence[Tensor], gradient: Tensor, numbers: dict[str, float]) -> list[Tensor]:
    """Return a new parameter and its new states, by the update's own formulas."""
    parameter, *states = kept
    given = [parameter, gradient, *states, *(parameter.new_tensor(x) for x in numbers.values())]
    leaves = [load(Array(()), ()) for _ in given]
    count = 2 + len(states)
    named = dict(zip(numbers, leaves[count:], strict=True))
    values = dict(zip(map(id, leaves), given, strict=True))
    return [_value(f, values, parameter) for f in update.change(leaves[0], leaves[1], leaves[2:count], named)]


def _value(node: Scalar, values: dict[int, Tensor], like: Tensor) -> Tensor:
    if id(node) in values:
        return values[id(node)]
    if node.op == "number":
        return like.new_tensor(node.payload[0])
    return _OPS[node.op](*(_value(one, values, like) for one in node.args))


def _described(parameters: Parameters, batch: Sequence[Tensor]) -> Plan:
    """Return a plan without code: what is given and asked for, by name and shape."""

    def place(name: str, like: Tensor) -> Place:
        kind = "float" if like.is_floating_point() else "whole"
        return Place(name, kind, tuple(like.shape), 0, tuple(like.contiguous().stride()), like.numel())

    named = dict(zip(parameters.names, parameters.tensors, strict=True))
    return Plan(
        item=parameters.tensors[0].dtype.itemsize,
        arena=0,
        work=0,
        parameters=[place(name, p) for name, p in named.items()],
        batch=[place(f"batch[{k}]", x) for k, x in enumerate(batch)],
        states=[],
        numbers=[],
        loss=Place("loss", "float", (), 0, (), 1),
        gradients=[place(f"d{name}", p) for name, p in named.items()],
        limits=[None for _ in batch],
        constants=[],
        code=b"",
    )
