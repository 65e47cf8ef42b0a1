"""A gradient that has not the shape, dtype or device of its value."""

from __future__ import annotations

from torch import Tensor

from handgrad.diagnosis import Mistake


def shape_mistake(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> Mistake | None:
    """Return what is wrong with a gradient of ``shape`` for a value of shape ``expected``, if anything."""
    if shape == expected:
        return None
    sizes = f"its gradient has shape {shape} and {name} has shape {expected}"
    if [size for size in shape if size != 1] == [size for size in expected if size != 1]:
        cure = f"`.view({name}.shape)` gives it back"
        if not shape and len(expected) == 1:
            cure = "`.sum(0)` keeps the dimension, `.sum()` does not"
        elif len(shape) < len(expected):
            cure = "`keepdim=True` in a sum keeps the dimension"
        elif len(shape) > len(expected):
            cure = "a sum without `keepdim=True` drops the dimension"
        return Mistake("shape", f"{sizes}: {cure}")
    if dims := broadcast_dims(expected, shape):
        over = f"dim{'s' if len(dims) > 1 else ''} {', '.join(map(str, dims))}"
        cure = f"so its gradient needs `{sum_back(expected, shape)}`"
        return Mistake("missing-sum", f"{name} {expected} was broadcast over {over}, {cure}")
    return Mistake("shape", f"{sizes}: a gradient has the shape of its value")


def broadcast_dims(shape: tuple[int, ...], into: tuple[int, ...]) -> list[int]:
    """Return the dims of ``into`` over which a value of ``shape`` was broadcast; empty if it does not fit.

    >>> broadcast_dims((32, 1), (32, 27)), broadcast_dims((64,), (32, 64)), broadcast_dims((3,), (32, 64))
    ([1], [0], [])
    """
    added = len(into) - len(shape)
    if added < 0:
        return []
    padded = (1,) * added + shape
    if any(size not in (1, wide) for size, wide in zip(padded, into, strict=True)):
        return []
    return [d for d, size in enumerate(padded) if d < added or (size == 1 and into[d] != 1)]


def sum_back(shape: tuple[int, ...], into: tuple[int, ...]) -> str:
    """Return the sums that turn a gradient of shape ``into`` into one of ``shape``, as code.

    >>> sum_back((32, 1), (32, 27)), sum_back((64,), (32, 64)), sum_back((1, 3), (2, 5, 3))
    ('.sum(1, keepdim=True)', '.sum(0)', '.sum(0).sum(0, keepdim=True)')
    """
    added = len(into) - len(shape)
    dims = broadcast_dims(shape, into)
    dropped = [d for d in dims if d < added]
    kept = [d - added for d in dims if d >= added]
    code = f".sum({dropped[0] if len(dropped) == 1 else tuple(dropped)})" if dropped else ""
    return code + (f".sum({kept[0] if len(kept) == 1 else tuple(kept)}, keepdim=True)" if kept else "")


def kind_mistake(name: str, gradient: Tensor, autograd: Tensor) -> Mistake | None:
    """Return what is wrong with the dtype or device of ``gradient``, if anything."""
    for kind in ("dtype", "device"):
        found, expected = getattr(gradient, kind), getattr(autograd, kind)
        if found != expected:
            message = f"its gradient is {found} and {name} is {expected}: a gradient has the {kind} of its value"
            return Mistake(kind, message)
    return None
