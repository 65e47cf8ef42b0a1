"""Why the values of a gradient are wrong: simple hypotheses, each tried on the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

CLOSE = 1e-5


def why(
    gradient: Tensor,
    truth: Tensor,
    *,
    name: str,
    value: Tensor,
    others: Mapping[str, Tensor],
    plain: Tensor | None,
) -> str:
    """Return what is wrong with ``gradient``, as a phrase.

    ``others`` are the true gradients of the other inputs by name; ``plain`` is the truth for an upstream gradient of
    ones. Both tell which mistake it is, and neither is needed.

    >>> why(torch.ones(2), -torch.ones(2), name="x", value=torch.ones(2), others={}, plain=None)
    'has the wrong sign'
    """
    return next(_phrases(gradient, truth, name, value, others, plain))


def _phrases(
    gradient: Tensor, truth: Tensor, name: str, value: Tensor, others: Mapping[str, Tensor], plain: Tensor | None
) -> Iterator[str]:
    if not bool(gradient.isfinite().all()):
        yield f"holds NaN or infinity in {int((~gradient.isfinite()).sum())} of {gradient.numel()} entries"
    if not bool(gradient.abs().max() > 0):
        yield "is zero everywhere, and should not be"
    if not bool(truth.abs().max() > 0):
        yield (
            f"is not zero, and the outputs do not change with {name} (a straight-through estimator, if it is meant to "
            "be one, has no truth to compare with)"
        )
    if alike(gradient, -truth):
        yield "has the wrong sign"
    if (factor := _factor(gradient, truth)) is not None:
        yield f"is {_named(factor, value)} times what it should be"
    if truth.is_complex() and alike(gradient, truth.conj()):
        yield "is the complex conjugate of what it should be"
    yield from _transposed(gradient, truth)
    for other, theirs in others.items():
        if theirs.shape == gradient.shape and alike(gradient, theirs):
            yield f"is that of {other}: backward returns the gradients in the order of forward's inputs"
    if plain is not None and alike(gradient, plain):
        yield "does not depend on the upstream gradient: multiply by it"
    yield _where(gradient, truth)


def alike(a: Tensor, b: Tensor, relative: float = CLOSE) -> bool:
    """Whether two tensors of one shape are equal up to a small share of the largest entry, and not zero."""
    largest = float(b.abs().max()) if b.numel() else 0.0
    return a.shape == b.shape and largest > 0 and float((a - b).abs().max()) <= relative * largest


def _factor(gradient: Tensor, truth: Tensor) -> float | None:
    if gradient.is_complex() or gradient.numel() < 2:
        return None
    at = truth.abs().argmax()
    factor = float(gradient.reshape(-1)[at] / truth.reshape(-1)[at])
    return factor if factor and alike(gradient, factor * truth) else None


def _named(factor: float, value: Tensor) -> str:
    sizes = {"n": value.numel()} | {f"size {size} of dim {dim}": size for dim, size in enumerate(value.shape)}
    sign = "minus " if factor < 0 else ""
    for name, n in sizes.items():
        if n > 2 and math.isclose(abs(factor), n, rel_tol=CLOSE):
            return f"{sign}{n} ({'the number of entries' if name == 'n' else name})"
        if n > 2 and math.isclose(abs(factor), 1 / n, rel_tol=CLOSE):
            return f"{sign}1/{n} ({'one over the number of entries' if name == 'n' else 'one over ' + name})"
    return f"{factor:.6g}"


def _transposed(gradient: Tensor, truth: Tensor) -> Iterator[str]:
    if gradient.dim() >= 2 and gradient.shape[-1] == gradient.shape[-2]:
        for sign, words in ((1, ""), (-1, "and negated ")):
            if alike(gradient, sign * truth.transpose(-1, -2)):
                yield f"is transposed {words}: swap the last two dims".replace(" :", ":")
    for dim in range(gradient.dim()):
        if alike(gradient, truth.flip(dim)):
            yield f"is flipped along dim {dim}"


def _where(gradient: Tensor, truth: Tensor) -> str:
    difference = (gradient - truth).abs()
    worst = int(difference.argmax())
    largest = float(truth.abs().max())
    differing = int((difference > CLOSE * largest).sum())
    at = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), truth.shape)) if truth.dim() else ()
    found, expected = gradient.reshape(-1)[worst].item(), truth.reshape(-1)[worst].item()
    entries = f"in {differing} of {truth.numel()} entries" if differing else f"by {float(difference.max()):.1e}"
    return f"differs {entries}; at {at} it is {found:.6g} and should be {expected:.6g}"
