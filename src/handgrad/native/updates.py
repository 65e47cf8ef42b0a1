"""Update rules, as formulas of parameter, gradient and state that the native step computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from handgrad.native.arrays import Tensor, variables_of
from handgrad.native.lowering.pointwise import pointwise
from handgrad.native.program import Program, loads_of
from handgrad.native.scalars import Scalar, op, real

Numbers = np.ndarray[Any, Any]


class Update(Protocol):
    """A rule. Its options are plain numbers; what it keeps for each parameter and gets for each step it names."""

    @property
    def lr(self) -> float:
        """The learning rate, where a run does not give another."""
        ...

    @property
    def max_norm(self) -> float | None:
        """The largest norm of all gradients together; None: any."""
        ...

    @property
    def states(self) -> tuple[str, ...]:
        """The arrays that it keeps for each parameter."""
        ...

    def numbers(self, step: Numbers, lr: Numbers) -> dict[str, Numbers]:
        """Return the numbers that steps get: for each, one of every array. ``step`` counts from 0."""
        ...

    def change(self, p: Scalar, g: Scalar, states: Sequence[Scalar], numbers: dict[str, Scalar]) -> list[Scalar]:
        """Return the new parameter and the new states."""
        ...


def _plus(a: Scalar, b: Scalar, factor: Scalar | float) -> Scalar:
    """Return a + factor * b."""
    return op("add", a, op("mul", factor if isinstance(factor, Scalar) else real(factor), b))


@dataclass(frozen=True)
class SGD:
    """``p -= lr * g``; with ``momentum``, ``v = momentum * v + g`` and ``p -= lr * v``, as `torch.optim.SGD`.

    ``weight_decay`` adds ``weight_decay * p`` to the gradient; ``max_norm`` scales all gradients together so that their
    norm is at most so large, as `torch.nn.utils.clip_grad_norm_`.
    """

    lr: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    max_norm: float | None = None

    @property
    def states(self) -> tuple[str, ...]:
        """The arrays that it keeps for each parameter."""
        return ("velocity",) if self.momentum else ()

    def numbers(self, step: Numbers, lr: Numbers) -> dict[str, Numbers]:
        """Return the numbers that steps get."""
        del step
        return {"lr": lr}

    def change(self, p: Scalar, g: Scalar, states: Sequence[Scalar], numbers: dict[str, Scalar]) -> list[Scalar]:
        """Return the new parameter and the new states."""
        if self.weight_decay:
            g = _plus(g, p, self.weight_decay)
        if not self.momentum:
            return [op("sub", p, op("mul", numbers["lr"], g))]
        velocity = _plus(g, states[0], self.momentum)
        step = _plus(g, velocity, self.momentum) if self.nesterov else velocity
        return [op("sub", p, op("mul", numbers["lr"], step)), velocity]


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), as `torch.optim.AdamW`."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01
    max_norm: float | None = None

    @property
    def states(self) -> tuple[str, ...]:
        """The arrays that it keeps for each parameter: running means of the gradient and of its square."""
        return ("mean", "square")

    def numbers(self, step: Numbers, lr: Numbers) -> dict[str, Numbers]:
        """Return the numbers that steps get: the rate, and the corrections of the means, which begin at zero."""
        first, second = (1 - beta ** (step + 1) for beta in self.betas)
        return {"lr": lr, "rate": lr / first, "root": 1 / second**0.5}

    def change(self, p: Scalar, g: Scalar, states: Sequence[Scalar], numbers: dict[str, Scalar]) -> list[Scalar]:
        """Return the new parameter and the new states."""
        b1, b2 = self.betas
        mean = _plus(op("mul", real(b1), states[0]), g, 1 - b1)
        square = _plus(op("mul", real(b2), states[1]), op("mul", g, g), 1 - b2)
        decayed = op("sub", p, op("mul", op("mul", numbers["lr"], real(self.weight_decay)), p))
        size = op("add", op("mul", op("sqrt", square), numbers["root"]), real(self.eps))
        return [op("sub", decayed, op("mul", numbers["rate"], op("div", mean, size))), mean, square]


def clipped(program: Program, gradients: Sequence[Tensor], max_norm: float) -> list[Tensor]:
    """Return gradients scaled so that the norm of all together is at most ``max_norm``."""
    squares = [program.reduce("sum", pointwise(program, lambda a: op("mul", a, a), g), ()) for g in gradients]
    total = squares[0]
    for square in squares[1:]:
        total = pointwise(program, lambda a, b: op("add", a, b), total, square)

    def factor(s: Scalar) -> Scalar:
        return op("min", real(1), op("div", real(max_norm), op("add", op("sqrt", s), real(1e-6))))

    scale = program.realise(pointwise(program, factor, total))
    return [pointwise(program, lambda g, s: op("mul", g, s), gradient, scale) for gradient in gradients]


def add_updates(
    program: Program, update: Update, parameters: Sequence[Tensor], gradients: Sequence[Tensor],
    give: Callable[[str, Tensor], Tensor], numbers: dict[str, Tensor],
) -> None:  # fmt: skip
    """Add the update of every parameter to the program; ``give`` makes the arrays of states."""
    if update.max_norm is not None:
        gradients = clipped(program, gradients, update.max_norm)
    overwritten = {p.array for p in parameters}
    gradients = [_kept_if_mixed(program, g, p, overwritten) for g, p in zip(gradients, parameters, strict=True)]
    names = list(numbers)
    count = len(update.states)

    def part(k: int, *values: Scalar) -> Scalar:
        given = dict(zip(names, values[2 + count :], strict=True))
        return update.change(values[0], values[1], values[2 : 2 + count], given)[k]

    for parameter, gradient in zip(parameters, gradients, strict=True):
        kept = [parameter, *(give(name, parameter) for name in update.states)]
        every = [parameter, gradient, *kept[1:], *numbers.values()]
        made = [pointwise(program, partial(part, k), *every) for k in range(1 + count)]
        for target, tensor in zip(kept, made, strict=True):
            assert target.array is not None
            program.write(target.array, tensor)


def _kept_if_mixed(program: Program, gradient: Tensor, parameter: Tensor, overwritten: set[Any]) -> Tensor:
    """Return a gradient, in memory if it is a formula of elements that another point's update overwrites."""
    position = variables_of(parameter.shape)
    for node in loads_of(gradient.at(position)):
        if node.array in overwritten and not (node.array is parameter.array and node.position == position):
            return program.realise(gradient)
    return gradient


__all__ = ["SGD", "AdamW", "Update", "add_updates", "clipped"]
