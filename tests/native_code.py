"""Functions of tensors as native code, for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from handgrad.native.capture import capture
from handgrad.native.executor import Executor
from handgrad.native.lower import lower
from handgrad.native.planning import plan_of
from handgrad.native.program import Program


def natively(function: Callable[..., list[Tensor]], *inputs: Tensor) -> list[np.ndarray[Any, Any]]:
    """Return the results of ``function`` on ``inputs``, by native code."""
    program = Program()
    given = [program.give(tuple(x.shape), "float" if x.is_floating_point() else "whole", f"x{k}", "parameter")
             for k, x in enumerate(inputs)]  # fmt: skip
    results = [program.realise(r) for r in lower(capture(function, inputs), program, given)]
    loss = program.realise(program.reduce("sum", results[0], ()))
    arrays = [r.array for r in (loss, *results)]
    assert None not in arrays
    executor = Executor(plan_of(program, given, arrays, inputs[0].dtype.itemsize))  # type: ignore[arg-type]
    for place, tensor in zip(executor.plan.parameters, inputs, strict=True):
        np.copyto(executor.view(place), tensor.numpy(), casting="unsafe")
    executor.call(1, {}, np.zeros((1, 1), np.int32))
    return [executor.read(place) for place in executor.plan.gradients]
