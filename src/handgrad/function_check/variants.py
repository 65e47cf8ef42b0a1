"""Other arguments of the same kind: jittered, tied, with repeated indices, in other layouts, without entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from handgrad.function_check.subject import Arguments, Case, Subject
from handgrad.function_check.watched import Applied, with_strides

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def upstream_for(subject: Subject, arguments: Arguments, purpose: int, scale: float = 1.0) -> Case:
    """Return ``arguments`` with a random upstream gradient for each differentiable output.

    Raises:
        ForwardError: forward raised.
    """
    applied = Applied(subject, arguments)
    generator = torch.Generator().manual_seed(subject.seed * 1009 + purpose)
    upstream: list[Tensor | None] = [None] * len(applied.outputs)
    for k in applied.differentiable_outputs:
        out = applied.outputs[k]
        dtype = torch.complex128 if out.is_complex() else torch.float64
        noise = torch.randn(out.shape, generator=generator, dtype=dtype)
        upstream[k] = (scale * noise).to(out.device, out.dtype)
    return Case(arguments, tuple(upstream))


def jittered(subject: Subject, arguments: Arguments) -> Iterator[Arguments]:
    """Yield points near ``arguments``, each more careful than the last to stay where forward is defined."""
    for relative, absolute in ((0.15, 0.05), (0.15, 0.0), (1e-3, 0.0)):
        generator = torch.Generator().manual_seed(subject.seed + 17)

        def moved(
            x: Tensor, generator: torch.Generator = generator, r: float = relative, a: float = absolute
        ) -> Tensor:
            wide = torch.complex128 if x.is_complex() else torch.float64
            noise = torch.randn((2, *x.shape), generator=generator, dtype=wide).to(x.device)
            size = float(x.abs().square().mean().sqrt()) if x.numel() else 0.0
            shift = a * (size or 1.0)
            return (x.to(wide) * (1 + r * noise[0]) + shift * noise[1]).to(x.dtype)

        yield tuple(moved(x) if i in subject.differentiable else x for i, x in enumerate(arguments))


def repeated(subject: Subject, arguments: Arguments) -> Iterator[tuple[int, Arguments]]:
    """Yield for each integer tensor its position, and arguments where it holds some of its values repeatedly."""
    generator = torch.Generator().manual_seed(subject.seed + 29)
    for i, x in enumerate(arguments):
        if isinstance(x, Tensor) and x.dtype in INTEGERS and x.numel() > 1:
            values = x.reshape(-1)
            drawn = values[torch.randint(len(values), (len(values),), generator=generator).to(x.device)]
            drawn[1] = drawn[0]
            if x.dim() == 1 and bool((values.diff() >= 0).all()):
                drawn = drawn.sort().values  # offsets and the like
            yield i, (*arguments[:i], drawn.reshape(x.shape), *arguments[i + 1 :])


def tied(subject: Subject, arguments: Arguments) -> Iterator[tuple[str, Arguments]]:
    """Yield arguments with equal entries, within an input and between inputs of one shape, and a name for them."""
    generator = torch.Generator().manual_seed(subject.seed + 43)
    for i in subject.differentiable:
        x = arguments[i]
        if x.numel() > 1:
            few = x.reshape(-1)[torch.randperm(x.numel(), generator=generator)[:3].to(x.device)]
            drawn = few[torch.randint(len(few), (x.numel(),), generator=generator).to(x.device)].reshape(x.shape)
            yield f"equal entries in {subject.names[i]}", (*arguments[:i], drawn, *arguments[i + 1 :])
            zeros = torch.rand(x.shape, generator=generator).to(x.device) < 0.5
            yield f"zeros in {subject.names[i]}", (*arguments[:i], x.masked_fill(zeros, 0), *arguments[i + 1 :])
    for n, i in enumerate(subject.differentiable):
        for j in subject.differentiable[n + 1 :]:
            if arguments[i].shape == arguments[j].shape and arguments[i].numel():
                equal = (*arguments[:j], arguments[i].clone(), *arguments[j + 1 :])
                yield f"equal entries in {subject.names[i]} and {subject.names[j]}", equal


def _transposed(x: Tensor) -> Tensor | None:
    if x.dim() < 2:
        return None
    reverse = tuple(range(x.dim()))[::-1]
    return with_strides(x, x.permute(reverse).contiguous().permute(reverse).stride())


def _strided(x: Tensor) -> Tensor | None:
    return with_strides(x, tuple(2 * stride for stride in x.contiguous().stride())) if x.dim() else None


def _expanded(x: Tensor) -> Tensor | None:
    if x.dim() == 0 or x.shape[0] < 2:
        return None
    return with_strides(x, (0, *x[0].contiguous().stride()))


def _constant(x: Tensor) -> Tensor | None:
    return with_strides(x, (0,) * x.dim()) if x.dim() else None


LAYOUTS: dict[str, Callable[[Tensor], Tensor | None]] = {
    "transposed": _transposed,
    "strided": _strided,
    "expanded": _expanded,
}
"""Ways a tensor may lie in memory; None where a tensor has no such way."""

UPSTREAM_LAYOUTS = LAYOUTS | {"constant": _constant}
"""The same for upstream gradients, which `.sum()` makes with all strides 0."""


def emptied(subject: Subject, arguments: Arguments) -> Iterator[tuple[str, Arguments]]:
    """Yield arguments with no rows: all that share the first one's rows, then each one alone, and their names.

    Integers may be indices into a tensor, and kernels without a check of bounds would read beyond its end: no tensor is
    emptied without all integers.
    """
    tensors = [i for i, x in enumerate(arguments) if isinstance(x, Tensor) and x.dim()]
    leading = next((i for i in subject.differentiable if arguments[i].dim()), None)
    integers = [i for i in tensors if arguments[i].dtype in INTEGERS]
    if leading is None or any(isinstance(x, Tensor) and x.dtype in INTEGERS and not x.dim() for x in arguments):
        return
    rows = arguments[leading].shape[0]
    sharing = [i for i in tensors if arguments[i].shape[0] == rows]
    candidates = [tuple(sharing), *((i,) for i in tensors)]
    if integers:
        candidates = [tuple(sorted({*sharing, *integers})), tuple(integers)]
    for chosen in dict.fromkeys(candidates):
        names = ", ".join(subject.names[i] for i in chosen)
        yield names, tuple(x[:0] if i in chosen else x for i, x in enumerate(arguments))
