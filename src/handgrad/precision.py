"""When two float64 results are the same but for rounding."""

from __future__ import annotations

import torch
from torch import Tensor

RELATIVE = 1e-9
"""Two float64 results that should be equal differ by less than this share of the largest entry."""

ABSOLUTE = 1e-12
"""What cancels to zero may leave this much, with inputs of order one."""

FEW_DIGITS = 3e-8
"""A difference of this share is a constant written with float32's digits, and no mistake."""


def close(a: Tensor, b: Tensor, relative: float = RELATIVE) -> bool:
    """Whether two float64 tensors have one shape and are equal but for rounding.

    >>> import torch
    >>> one = torch.ones(2, dtype=torch.float64)
    >>> close(one, one + 1e-12), close(one, one + 1e-6), close(one, torch.ones(2, 1, dtype=torch.float64))
    (True, False, False)
    """
    if a.shape != b.shape:
        return False
    if not a.numel():
        return True
    if not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
        return False
    scale = max(a.abs().max().item(), b.abs().max().item())
    return (a - b).abs().max().item() <= max(relative * scale, ABSOLUTE)


def largest(tensor: Tensor) -> float:
    """Return the largest absolute entry, 0 for a tensor without entries."""
    return tensor.abs().max().item() if tensor.numel() else 0.0


def vanishes(tensor: Tensor, beside: float = 1.0) -> bool:
    """Whether ``tensor`` is zero but for rounding, beside numbers of the size ``beside``."""
    return largest(tensor) <= 1e-10 * beside


def fitted(tensor: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Return ``tensor`` in ``shape``, where its numbers are the same ones in another shape; else None."""
    if tuple(tensor.shape) == shape:
        return tensor
    if [n for n in tensor.shape if n != 1] == [n for n in shape if n != 1]:
        return tensor.reshape(shape)
    if tensor.numel() and tensor.dim() <= len(shape):
        try:
            return tensor.expand(shape)
        except RuntimeError:
            return None
    return None
