"""What the gradients should be: autograd through the body of forward, checked by finite differences.

Autograd runs forward's own statements as plain PyTorch, with a stand-in for ctx. Where forward hides something from
autograd (``.detach()``, ``.item()``, NumPy), finite differences say so, and are the truth instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from handgrad.function_check.differences import DOUBLE, SINGLE, Differences, Entries
from handgrad.function_check.subject import Case, Subject, copied, seeded


class StandIn:
    """A ctx for a forward that is run as plain PyTorch."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self.saved_tensors: tuple[Any, ...] = ()
        self.materialize_grads = True

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep ``tensors``."""
        self.saved_tensors = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """Do nothing: there is no forward mode here."""

    def mark_dirty(self, *tensors: Any) -> None:
        """Do nothing: plain autograd follows in-place operations by itself."""

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Do nothing: nothing is asked of these outputs."""

    def set_materialize_grads(self, value: bool) -> None:
        """Do nothing: no backward comes."""


def plain_forward(subject: Subject, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Run the body of forward as plain PyTorch and return its outputs."""
    forward: Callable[..., Any] = subject.function.forward
    seeded(subject.seed)
    if subject.has_setup_context:
        outputs = forward(*arguments)
    else:
        needs = tuple(isinstance(x, Tensor) and x.requires_grad for x in arguments)
        outputs = forward(StandIn(needs), *arguments)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def leaves_of(subject: Subject, arguments: tuple[Any, ...]) -> tuple[dict[int, Tensor], tuple[Any, ...]]:
    """Return a leaf for each differentiable argument, and arguments computed from the leaves."""
    arguments = copied(arguments)
    leaves = {i: arguments[i].requires_grad_() for i in subject.differentiable}
    return leaves, tuple(leaves[i].clone() if i in leaves else x for i, x in enumerate(arguments))


def by_autograd(subject: Subject, case: Case) -> dict[int, Tensor] | str:
    """Return autograd's gradients by position, or why there are none."""
    try:
        leaves, arguments = leaves_of(subject, case.arguments)
        outputs = plain_forward(subject, arguments)
        pairs = [(outputs[k], u) for k, u in enumerate(case.upstream) if u is not None]
        tracked = [(out, u) for out, u in pairs if out.requires_grad]
        if not tracked:
            return "forward hides its outputs from autograd"
        gradients = torch.autograd.grad(
            [out for out, _ in tracked],
            list(leaves.values()),
            [u.to(out.dtype) for out, u in tracked],
            materialize_grads=True,
        )
    except Exception as error:
        return f"forward does not run as plain PyTorch: {subject.where(error)}"
    return dict(zip(leaves, (g.detach() for g in gradients), strict=True))


class Truth:
    """The gradients of one case."""

    def __init__(self, subject: Subject, case: Case, precision: float) -> None:
        self.subject, self.case, self.precision = subject, case, precision
        self.is_complex = any(
            isinstance(x, Tensor) and x.is_complex()
            for x in (*case.upstream, *(case.arguments[i] for i in subject.differentiable))
        )
        self._differences: Differences | None = None
        found = by_autograd(subject, case)
        self.autograd: dict[int, Tensor] = found if isinstance(found, dict) else {}
        self.why_not = None if isinstance(found, dict) else found
        self._entries: dict[int, Entries] = {}
        self._hidden: dict[int, bool] = {}

    @property
    def differences(self) -> Differences:
        """Finite differences at this case; for real numbers only."""
        if self._differences is None:
            self._differences = Differences(self.subject, self.case, self.precision)
        return self._differences

    def entries(self, index: int) -> Entries:
        """Return finite differences for an input."""
        if index not in self._entries:
            self._entries[index] = self.differences.some_entries(index)
        return self._entries[index]

    def is_hidden(self, index: int) -> bool:
        """Whether forward hides a part of the derivative from autograd: finite differences are sure of another."""
        if index not in self._hidden:
            usable = self.precision == DOUBLE and not self.is_complex
            self._hidden[index] = usable and all(self._contradicts(index, n) for n in range(3))
        return self._hidden[index]

    def _contradicts(self, index: int, number: int) -> bool:
        gradient = self.autograd[index]
        if not gradient.isfinite().all() or not gradient.numel():
            return False
        direction = self.differences.random_direction(index, number)
        expected = float((gradient.double() * direction).sum())
        slope = self.differences.along({index: direction})
        size = abs(expected) + abs(slope.value)
        sure = not slope.kink and slope.error <= 1e-3 * size
        return sure and abs(slope.value - expected) > 20 * slope.error + 2.0**-18 * size


def precision_of(subject: Subject, case: Case) -> float:
    """Return the precision forward works in: single where its float64 outputs hold no more digits than float32."""
    outputs = subject.outputs(case.arguments)
    return SINGLE if any(is_single(outputs[k]) for k, u in enumerate(case.upstream) if u is not None) else DOUBLE


def is_single(tensor: Tensor) -> bool:
    """Whether a tensor holds float32 numbers only, and not just short ones such as 0 and 0.5."""
    if tensor.dtype != torch.float64:
        return tensor.dtype != torch.complex128
    return bool(torch.equal(tensor, tensor.float().double()) and not torch.equal(tensor, tensor.bfloat16().double()))
