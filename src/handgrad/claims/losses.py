"""Which scalars are losses, and which of them a gradient is about."""

from __future__ import annotations

from handgrad.errors import NothingToJudgeError
from handgrad.graph import Graph, Value

LOSS_NAMES = ("loss", "total_loss", "L", "cost", "J", "nll", "objective", "error", "E", "l", "out")


class Losses:
    """The losses of a recording, each with the time from which it counts."""

    def __init__(self, graph: Graph, backward_calls: list[tuple[int, Value]], name: str | None) -> None:
        self.graph = graph
        self.known = self._found(backward_calls, name)
        self.ancestors = {value: graph.ancestors(value, unseen=True) for _, value in self.known}

    def is_forward(self, value: Value) -> bool:
        """Whether a loss was computed from ``value``."""
        return any(value in self.ancestors[loss] for _, loss in self.known)

    def _found(self, backward_calls: list[tuple[int, Value]], name: str | None) -> list[tuple[int, Value]]:
        """Return the candidates, each with the time from which it counts."""
        if name is not None:
            found = [(b.value.time, b.value) for b in self.graph.bindings if b.name == name and b.value is not None]
            if not found:
                raise NothingToJudgeError(f"--loss: no tensor is called {name}")
            wrong = found[-1][1]
            if any(size != 1 for size in wrong.shape) or not wrong.is_floating:
                raise NothingToJudgeError(
                    f"--loss: {name} has shape {wrong.shape} and type {wrong.dtype}: a loss is one floating number"
                )
            return found
        called = [(value.time, value) for _, value in backward_calls if value.step is not None]
        scalars = [
            b for b in self.graph.bindings if b.value is not None and is_scalar(b.value) and b.value.step is not None
        ]
        if called:
            also = [b.value for b in scalars if b.value is not None and b.name.startswith("loss")]
            return called + [(v.time, v) for v in dict.fromkeys(also) if v not in {value for _, value in called}]
        for wanted in LOSS_NAMES:
            named = [b for b in scalars if b.name == wanted or (wanted == "loss" and b.name.startswith("loss"))]
            if named:
                return [(b.value.time, b.value) for b in named if b.value is not None]
        return [(b.value.time, b.value) for b in scalars if b.value is not None]

    def of(self, value: Value, time: int) -> Value | None:
        """Return the loss that a gradient of ``value``, claimed at ``time``, is about."""
        fitting = [(start, loss) for start, loss in self.known if value in self.ancestors[loss]]
        before = [(start, loss) for start, loss in fitting if start <= time]
        if before:
            return max(before, key=lambda item: item[0])[1]
        return fitting[0][1] if fitting else None


def is_scalar(value: Value) -> bool:
    """Whether it is one floating number."""
    return value.is_floating and all(size == 1 for size in value.shape) and len(value.shape) <= 1
