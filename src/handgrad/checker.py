"""Compare gradients written by hand with autograd's: shape first, then bits, then size of the difference.

Two correct ways to compute a gradient differ in the last bits, and no fixed tolerance tells that from a mistake:
a bound loose enough for the one hides the other. What tells them apart is the precision. Run in float64, the
difference of two correct backward passes shrinks by the 29 bits that float64 has more than float32, and a mistake
stays as large as it was. `compare_pass` runs both passes in both precisions and decides in the middle, at half of
those bits.

>>> import torch
>>> x = torch.tensor([[3.0, 4.0]], requires_grad=True)
>>> (x**2).sum().backward()
>>> _ = cmp("x", 2 * x.detach(), x)
x               | exact: True  | approximate: True  | maxdiff: 0.0                    | (1, 2)       | right
>>> _ = cmp("x", torch.tensor([6.0, 8.0]), x)
x               | exact: False | approximate: False | maxdiff: 0.0                    | (2,) for (1, 2) | \
wrong: its gradient has shape (2,) and x has shape (1, 2): `keepdim=True` in a sum keeps the dimension
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from handgrad.errors import NotComparableError

Verdict = Literal["right", "wrong", "missing", "unverified"]
"""``right``; ``wrong``; ``missing``: nothing computes it; ``unverified``: could not be decided, the note says why."""

ROUNDINGS = 64
"""Without a float64 run: how many roundings of the largest entry two correct gradients may lie apart."""


class Named(Protocol):
    """A NamedTuple of tensors: parameters, values or gradients."""

    def _asdict(self) -> dict[str, Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Mistake(NamedTuple):
    """Why a gradient is wrong."""

    code: str  # HG code
    kind: str
    message: str


class InFloat64(NamedTuple):
    """A gradient and autograd's, both computed anew in float64."""

    gradient: Tensor
    truth: Tensor


@dataclass(frozen=True)
class Comparison:
    """One gradient beside autograd's. True in a condition if, and only if, the verdict is ``right``."""

    name: str
    shape: tuple[int, ...] | None
    expected_shape: tuple[int, ...] | None
    verdict: Verdict
    exact: bool = False  # equal shape and equal bits
    approximate: bool = False  # equal shape and torch.allclose with its defaults
    maxdiff: float | None = None  # None where the shapes do not even broadcast
    bits: Literal["exact", "rounding"] | None = None
    error: float | None = None  # largest difference from the float64 truth
    autograd_error: float | None = None  # the same for autograd in the gradient's dtype
    mistakes: tuple[Mistake, ...] = ()
    note: str | None = None  # why it is unverified or missing
    label: str | None = None  # what the row calls it, where that is not the name

    def __bool__(self) -> bool:
        return self.verdict == "right"

    def __str__(self) -> str:
        """Return one row: the columns of the usual ``cmp``, then shape and verdict."""
        shape = "none" if self.shape is None else str(self.shape)
        if self.expected_shape not in (None, self.shape):
            shape = f"{shape} for {self.expected_shape}"
        maxdiff = "none" if self.maxdiff is None else str(self.maxdiff)
        return (
            f"{self.label or self.name:15s} | exact: {self.exact!s:5s} | approximate: {self.approximate!s:5s} | "
            f"maxdiff: {maxdiff:22s} | {shape:12s} | {self.verdict}{self._because()}"
        )

    def _because(self) -> str:
        if self.mistakes:
            return ": " + "; ".join(mistake.message for mistake in self.mistakes)
        if self.note:
            return ": " + self.note
        if self.bits == "rounding" and self.error is not None:
            return f" (rounding: error {self.error:.1e}, autograd's {self.autograd_error:.1e})"
        return " (rounding)" if self.bits == "rounding" else ""

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain JSON data, with the keys of ``handgrad.report/1``."""
        finite = {k: v if v is None or math.isfinite(v) else str(v) for k, v in self._numbers().items()}
        return {
            "name": f"d{self.name}",
            "of": self.name,
            "shape": self.shape,
            "expected_shape": self.expected_shape,
            "exact": self.exact,
            "approximate": self.approximate,
            "verdict": self.verdict,
            "bits": self.bits,
            **finite,
            "mistakes": [mistake._asdict() for mistake in self.mistakes],
            "note": self.note,
        }

    def _numbers(self) -> dict[str, float | None]:
        return {"maxdiff": self.maxdiff, "error": self.error, "autograd_error": self.autograd_error}


def cmp(name: str, gradient: Tensor | None, value: Tensor) -> Comparison:
    """Compare ``gradient`` with ``value.grad``, print the row and return it.

    A drop-in for the ``cmp`` that every notebook on the subject defines, with two differences. A gradient whose
    shape is not that of ``value`` is wrong, even where broadcasting makes all its numbers agree. And the last column
    holds a verdict. Two tensors alone do not say how large rounding is, so a difference that is neither within
    `ROUNDINGS` roundings of the largest entry nor beyond `torch.allclose` is ``unverified``; `compare_pass` decides
    those.

    Raises:
        NotComparableError: ``value`` is no tensor, or has no ``.grad``.
    """
    if not isinstance(value, Tensor):
        raise NotComparableError(f"cmp({name!r}, gradient, value): the value is a {type(value).__name__}, not a tensor")
    if not value.is_leaf and not value.retains_grad:
        raise NotComparableError(
            f"{name} keeps no gradient, since it is computed from other tensors: "
            f"call `{name}.retain_grad()` before `loss.backward()`"
        )
    if value.grad is None:
        raise NotComparableError(
            f"{name} has no gradient yet: call `loss.backward()` first, on a loss that depends on {name}"
            + ("" if value.requires_grad else f", and set `{name}.requires_grad = True` before the forward")
        )
    comparison = replace(compare(_name_of(value, name, sys._getframe(1)), gradient, value.grad), label=name)
    print(comparison)  # noqa: T201  (printing the row is what cmp is for)
    return comparison


def _name_of(value: Tensor, label: str, caller: FrameType) -> str:
    """Return the name of ``value`` where its label may be that of the gradient: ``dlogits`` for ``logits``."""
    name = label.removeprefix("d")
    return name if caller.f_locals.get(name, caller.f_globals.get(name)) is value else label


def compare(name: str, gradient: Tensor | None, autograd: Tensor, *, in_float64: InFloat64 | None = None) -> Comparison:
    """Compare one ``gradient`` with ``autograd``'s, of the value called ``name``.

    Both have any floating dtype. ``in_float64`` holds the same two computed in float64; without it the verdict rests
    on the two tensors alone (see `cmp`). ``gradient=None`` is an unfinished line: ``missing``, not wrong.

    >>> import torch
    >>> print(compare("h", None, torch.zeros(2)))
    h               | exact: False | approximate: False | maxdiff: none                   | none for (2,) | \
missing: dh is None: not written yet
    """
    expected_shape = tuple(autograd.shape)
    if gradient is None:
        return Comparison(name, None, expected_shape, "missing", note=f"d{name} is None: not written yet")
    if not isinstance(gradient, Tensor):
        raise NotComparableError(f"d{name} is a {type(gradient).__name__}, not a tensor")
    gradient, autograd = _dense(gradient), _dense(autograd)
    shape = tuple(gradient.shape)
    maxdiff = _maxdiff(gradient, autograd)
    mistake = _shape_mistake(name, shape, expected_shape) or _dtype_mistake(name, gradient.dtype, autograd.dtype)
    if mistake:
        return Comparison(name, shape, expected_shape, "wrong", maxdiff=maxdiff, mistakes=(mistake,))
    if not autograd.isfinite().all():
        overflow = f"autograd's own gradient of {name} holds NaN or infinity: the forward has overflowed"
        return Comparison(name, shape, expected_shape, "unverified", maxdiff=maxdiff, note=overflow)
    assert maxdiff is not None  # noqa: S101  (equal shapes)

    exact = torch.equal(gradient, autograd)
    approximate = torch.allclose(gradient, autograd)
    error: float | None = None
    autograd_error: float | None = None
    note: str | None = None
    if in_float64 is not None:
        error = _maxdiff(gradient, in_float64.truth)
        autograd_error = _maxdiff(autograd, in_float64.truth)
    if exact:
        verdict: Verdict = "right"
    elif in_float64 is not None and gradient.dtype not in (torch.float64, torch.complex128):
        verdict = "right" if _shrinks(gradient, autograd, in_float64) else "wrong"
    elif maxdiff <= ROUNDINGS * _unit_roundoff(gradient) * _largest(autograd):
        verdict = "right"
    elif approximate:
        verdict = "unverified"
        note = "too different for plain rounding and too small to call wrong; a float64 run can tell"
    else:
        verdict = "wrong"
    return Comparison(
        name, shape, expected_shape, verdict, exact, approximate, maxdiff,
        bits=("exact" if exact else "rounding") if verdict == "right" else None,
        error=error, autograd_error=autograd_error, note=note,
        mistakes=(_value_mistake(gradient, autograd, maxdiff),) if verdict == "wrong" else (),
    )  # fmt: skip


def compare_pass(
    forward: Callable[..., Named], backward: Callable[..., Named], parameters: Named, *batch: Tensor
) -> list[Comparison]:
    """Compare every gradient that a hand-written pair computes with autograd's, in the order of ``backward``.

    ``forward(parameters, *batch)`` returns a NamedTuple of values, with the scalar ``loss`` among them.
    ``backward(parameters, values, *batch)`` returns a NamedTuple of gradients, each named ``d`` + the name of its
    value or parameter. Both must work in any floating dtype. Nothing that is given is changed.

    This compares numbers as they come out. A line that is wrong by something that is zero in truth, such as a missing
    branch through ``logit_maxes``, computes the right numbers and passes.

    Raises:
        NotComparableError: there is no scalar ``loss``, or a gradient is that of no value or parameter.

    >>> import torch
    >>> from handgrad.models.mlp import atomic
    >>> from handgrad.models.mlp.parameters import initialise
    >>> g = torch.Generator().manual_seed(2147483647)
    >>> parameters = initialise(27, 3, n_embd=10, n_hidden=64, generator=g)
    >>> Xb, Yb = torch.randint(27, (32, 3), generator=g), torch.randint(27, (32,), generator=g)
    >>> comparisons = compare_pass(atomic.forward, atomic.backward, parameters, Xb, Yb)
    >>> len(comparisons), all(comparisons)
    (26, True)
    """
    gradients = _by_hand(forward, backward, parameters, batch)
    autograd = autograd_gradients(forward, parameters, *batch)
    parameters64, batch64 = _in_float64(parameters), tuple(_to_float64(data) for data in batch)
    gradients64 = _by_hand(forward, backward, parameters64, batch64)
    truth = autograd_gradients(forward, parameters64, *batch64)
    comparisons = []
    for key, gradient in gradients.items():
        name = key.removeprefix("d")
        if name not in autograd:
            raise NotComparableError(f"backward returns {key}, but forward has no value or parameter called {name}")
        gradient64 = gradients64[key]
        both = None if gradient64 is None else InFloat64(gradient64, truth[name])
        comparisons.append(compare(name, gradient, autograd[name], in_float64=both))
    return comparisons


def autograd_gradients(forward: Callable[..., Named], parameters: Named, *batch: Tensor) -> dict[str, Tensor]:
    """Return autograd's gradient of every parameter and every value of ``forward``, by name.

    A value on which the loss does not depend has a gradient of zeros.

    Raises:
        NotComparableError: ``forward`` returns no scalar ``loss`` that depends on the parameters.
    """
    leaves = _map(parameters, lambda p: p.detach().clone().requires_grad_())
    with torch.enable_grad():
        values = forward(leaves, *batch)._asdict()
        loss = values.get("loss")
        if not isinstance(loss, Tensor) or loss.dim() or not loss.requires_grad:
            found = f"of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) and loss.dim() else "of another kind"
            problem = "no value called loss" if loss is None else f"a loss {found}"
            raise NotComparableError(f"forward returns {problem}: it must return a scalar loss of its parameters")
        tensors = {
            name: t for name, t in (leaves._asdict() | values).items() if isinstance(t, Tensor) and t.requires_grad
        }
        gradients = torch.autograd.grad(values["loss"], list(tensors.values()), materialize_grads=True)
    return dict(zip(tensors, gradients, strict=True))


def _by_hand(
    forward: Callable[..., Named],
    backward: Callable[..., Named],
    parameters: Named,
    batch: tuple[Tensor, ...],
) -> dict[str, Tensor | None]:
    with torch.no_grad():
        return backward(parameters, forward(parameters, *batch), *batch)._asdict()


def _shrinks(gradient: Tensor, autograd: Tensor, in_float64: InFloat64) -> bool:
    """Whether the difference falls, from this dtype to float64, by at least half of the bits between them."""
    difference = max(
        (_wide(gradient) - in_float64.truth).abs().max().item(),
        (_wide(autograd) - in_float64.truth).abs().max().item(),
    )
    difference64 = (in_float64.gradient - in_float64.truth).abs().max().item()
    half_the_bits = math.sqrt(torch.finfo(torch.float64).eps / torch.finfo(gradient.dtype).eps)
    return math.isfinite(difference) and difference64 <= half_the_bits * difference


def _dense(tensor: Tensor) -> Tensor:
    return tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def _maxdiff(a: Tensor, b: Tensor) -> float | None:
    try:
        difference = (_wide(a) - _wide(b)).abs()
    except RuntimeError:
        return None
    return difference.max().item() if difference.numel() else 0.0


def _largest(tensor: Tensor) -> float:
    return tensor.abs().max().item() if tensor.numel() else 0.0


def _unit_roundoff(tensor: Tensor) -> float:
    return torch.finfo(tensor.dtype).eps / 2


def _shape_mistake(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> Mistake | None:
    if shape == expected:
        return None
    sizes = f"its gradient has shape {shape} and {name} has shape {expected}"
    if [size for size in shape if size != 1] == [size for size in expected if size != 1]:
        return Mistake("HG202", "shape", f"{sizes}: `keepdim=True` in a sum keeps the dimension")
    if dims := broadcast_dims(expected, shape):
        which = str(dims[0]) if len(dims) == 1 else str(tuple(dims))
        keepdim = ", keepdim=True" if len(shape) == len(expected) else ""
        over = f"dim{'s' if len(dims) > 1 else ''} {which.strip('()')}"
        cure = f"so its gradient needs `.sum({which}{keepdim})`"
        return Mistake("HG201", "missing-sum", f"{name} {expected} was broadcast over {over}, {cure}")
    return Mistake("HG202", "shape", f"{sizes}: a gradient has the shape of its value")


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


def _dtype_mistake(name: str, dtype: torch.dtype, expected: torch.dtype) -> Mistake | None:
    if dtype == expected:
        return None
    message = f"its gradient is {dtype} and {name} is {expected}: a gradient has the dtype of its value"
    return Mistake("HG203", "dtype", message)


def _value_mistake(gradient: Tensor, autograd: Tensor, maxdiff: float) -> Mistake:
    unfinite = int((~gradient.isfinite()).sum())
    if unfinite:
        return Mistake("HG299", "unknown", f"{unfinite} of {gradient.numel()} entries are NaN or infinite")
    message = f"differs from autograd by up to {maxdiff:.1e}, where the largest entry is {_largest(autograd):.1e}"
    return Mistake("HG299", "unknown", message)


def _in_float64(parameters: Named) -> Named:
    return _map(parameters, _to_float64)


def _to_float64(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _map(parameters: Named, change: Callable[[Tensor], Tensor]) -> Named:
    return type(parameters)(*(change(p) for p in parameters))
