"""Functions of tensors as native code, and the same nests in NumPy, for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from handgrad.models import MODELS
from handgrad.native import reference
from handgrad.native.arrays import Array
from handgrad.native.capture import capture
from handgrad.native.executor import Executor
from handgrad.native.lower import given, lower
from handgrad.native.nests import nests_of
from handgrad.native.planning import plan_of
from handgrad.native.program import Program
from handgrad.native.tables import with_tables

Numbers = np.ndarray[Any, Any]


SIZES: dict[str, dict[str, int]] = {
    "mlp": {"n_embd": 5, "n_hidden": 19, "block_size": 3},
    "gru": {"n_embd": 5, "n_hidden": 11},
    "transformer": {"n_embd": 8, "n_hidden": 13, "n_head": 2, "block_size": 3},
}
TIMES = {"gru": 3}


class Case(NamedTuple):
    model: Any
    parameters: Any
    X: Tensor
    Y: Tensor


def case(name: str, rows: int = 40, dtype: torch.dtype = torch.float32) -> Case:
    model, generator = MODELS[name], torch.Generator().manual_seed(3)
    parameters = model.initialise(11, **SIZES[name], generator=generator)
    parameters = type(parameters)(*(p.to(dtype) for p in parameters))
    X = torch.randint(0, 11, (rows, TIMES.get(name, 3)), generator=generator)
    return Case(model, parameters, X, torch.randint(0, 11, (rows,), generator=generator))


class Lowered:
    """A function of tensors as a program, to be run in two ways."""

    def __init__(self, function: Callable[..., Sequence[Tensor]], *inputs: Tensor) -> None:
        self.program, self.inputs = Program(), inputs
        self.given = [given(self.program, x, f"x{k}", "parameter") for k, x in enumerate(inputs)]
        results = [self.program.realise(r) for r in lower(capture(function, inputs), self.program, self.given)]
        loss = self.program.realise(self.program.reduce("sum", results[0], ()))
        self.arrays = [_array(r) for r in (loss, *results)]

    def by_machine_code(self) -> list[Numbers]:
        item = next((x.dtype.itemsize for x in self.inputs if x.is_floating_point()), 8)
        executor = Executor(plan_of(self.program, self.given, self.arrays, item))
        for place, tensor in zip(executor.plan.parameters, self.inputs, strict=True):
            np.copyto(executor.view(place), tensor.detach().numpy(), casting="unsafe")
        executor.call(1, {}, np.zeros((1, 1), np.int32))
        return [executor.read(place) for place in executor.plan.gradients]

    def by_numpy(self, real: Any = np.float64) -> list[Numbers]:
        numbers = {_array(x): tensor.detach().numpy() for x, tensor in zip(self.given, self.inputs, strict=True)}
        numbers |= self.program.constants
        arrays = reference.run(nests_of(with_tables(self.program, self.arrays), self.arrays), numbers, real)
        return [arrays[array] for array in self.arrays[1:]]


def _array(formula: Any) -> Array:
    assert formula.array is not None
    return formula.array  # type: ignore[no-any-return]


def natively(function: Callable[..., list[Tensor]], *inputs: Tensor) -> list[Numbers]:
    """Return the results of ``function`` on ``inputs``, by native code."""
    return Lowered(function, *inputs).by_machine_code()
