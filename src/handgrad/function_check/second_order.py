"""Check of the second derivative: right, refused clearly, or silently wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from handgrad.function_check.differences import DOUBLE
from handgrad.function_check.examination import Examination
from handgrad.function_check.report import Finding, Warned
from handgrad.function_check.subject import Subject, apply, seeded
from handgrad.function_check.truth import leaves_of, plain_forward

ONCE = "mark backward @once_differentiable, if one derivative is all that is needed"
SHARE = 1e-7


def second_derivative(exam: Examination) -> Iterator[Finding | Warned]:
    """Check that the derivative of the gradients is right, or asking for it fails."""
    if exam.suspects:
        yield Finding("unverified", "the first derivative is not right yet")
        return
    if exam.miscounted:
        yield Finding("unverified", "autograd refuses that number of gradients")
        return
    if exam.dtype != torch.float64 or exam.precision != DOUBLE:
        yield Finding("unverified", "forward does not compute in float64, which tells mistakes from rounding")
        return
    try:
        expected = _second(exam, _plain)
    except Exception as error:
        yield Finding("unverified", f"forward does not run as plain PyTorch: {exam.subject.where(error)}")
        return
    try:
        found = _second(exam, _applied)
    except Exception as error:
        if "once_differentiable" in str(error):
            yield Finding("right", "refused: backward is marked @once_differentiable")
            return
        yield Finding("unverified", f"a second derivative raises {exam.subject.where(error)}")
        yield Warned("no-second-derivative", f"a second derivative raises {exam.subject.where(error)}; {ONCE}")
        return
    largest = max((float(t.abs().max()) for t in expected.values() if t.numel()), default=0.0)
    zero: list[str] = []
    off: list[str] = []
    for name, truth in expected.items():
        usable = truth.numel() and truth.isfinite().all()
        if usable and not float((found[name] - truth).abs().max()) <= SHARE * largest + 1e-10:
            (off if found[name].abs().max() else zero).append(name)
    for names, how in ((zero, "zero"), (off, "another one")):
        if names:
            yield Finding(
                "wrong",
                f"the second derivative with respect to {', '.join(names)} is {how}, where its entries reach "
                f"{largest:.1e}, and nothing is raised: compute gradients from saved inputs and outputs with "
                f"differentiable operations, or {ONCE}",
            )


def _plain(subject: Subject, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return plain_forward(subject, arguments)


def _applied(subject: Subject, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    seeded(subject.seed)
    outputs = apply(subject.function, *arguments)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _second(exam: Examination, forward: Any) -> dict[str, Tensor]:
    """Return the derivatives of the gradients, weighted with random numbers, by the inputs and upstream gradients."""
    subject = exam.subject
    leaves, arguments = leaves_of(subject, exam.case.arguments)
    outputs = forward(subject, arguments)
    chosen = [k for k, u in enumerate(exam.case.upstream) if u is not None and outputs[k].requires_grad]
    upstream = {k: _copy(exam.case.upstream[k]).requires_grad_() for k in chosen}
    first = torch.autograd.grad(
        [outputs[k] for k in chosen],
        list(leaves.values()),
        list(upstream.values()),
        create_graph=True,
        materialize_grads=True,
    )
    generator = torch.Generator().manual_seed(subject.seed + 71)
    weights = [torch.randn(g.shape, generator=generator, dtype=torch.float64).to(g.device, g.dtype) for g in first]
    names = {subject.names[i]: leaf for i, leaf in leaves.items()}
    names |= {f"the upstream gradient of output {k}": u for k, u in upstream.items()}
    if any(_refuses(g) for g in first):
        raise RuntimeError("backward is marked once_differentiable")
    tracked = [(g, w) for g, w in zip(first, weights, strict=True) if g.requires_grad]
    if not tracked:
        return {name: torch.zeros_like(leaf) for name, leaf in names.items()}
    second = torch.autograd.grad(
        [g for g, _ in tracked], list(names.values()), [w for _, w in tracked], materialize_grads=True
    )
    return dict(zip(names, second, strict=True))


def _refuses(gradient: Tensor) -> bool:
    """Whether the derivative of ``gradient`` is the error of `once_differentiable`, which lies on no path to a leaf."""
    return gradient.grad_fn is not None and "Error" in gradient.grad_fn.name()


def _copy(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor.detach().clone()
