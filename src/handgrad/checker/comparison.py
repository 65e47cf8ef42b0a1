"""Compare gradients written by hand with autograd's: shape first, then bits, then size of the difference.

Two correct ways to compute a gradient differ in the last bits, and no fixed tolerance tells that from a mistake: a
bound loose enough for the one hides the other. What tells them apart is the precision. Run in float64, the difference
of two correct backward passes shrinks by the 29 bits that float64 has more than float32, and a mistake stays as large
as it was. `compare_pass` runs both passes in both precisions and decides in the middle, at half of those bits.

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
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from handgrad.diagnosis import Mistake
from handgrad.diagnosis.shape import kind_mistake, shape_mistake
from handgrad.errors import NotComparableError
from handgrad.passes import WIDE, Named, Passes, as_dict, cast

Verdict = Literal["right", "wrong", "missing", "unverified"]
"""``right``; ``wrong``; ``missing``: not written; ``unverified``: could not be decided, and the note says why."""

ROUNDINGS = 16
"""How many roundings of the largest entry two correct gradients may lie apart, where no float64 run can tell."""

FLOAT64_NOISE = 2.0**-40
"""A float64 difference below this share of the largest gradient of the pass is rounding: it may come from large numbers
that cancel, and float32 may have missed it by luck."""


class Evidence(NamedTuple):
    """A gradient and autograd's, in a coarse dtype and in float64: what shrinks between the two is rounding."""

    coarse: Tensor
    coarse_autograd: Tensor
    fine: Tensor
    truth: Tensor
    scale: float  # the largest entry of all gradients of the pass: what float64 rounds against


@dataclass(frozen=True, repr=False)
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
    note: str | None = None  # what there is to say beside the verdict
    label: str | None = None  # what the row calls it, where that is not the name

    def __bool__(self) -> bool:
        return self.verdict == "right"

    def __repr__(self) -> str:
        return f"<Comparison of d{self.name}: {self.verdict}>"

    def __str__(self) -> str:
        """Return one row: the columns of the usual ``cmp``, then shape and verdict."""
        shape = "none" if self.shape is None else str(self.shape)
        if self.expected_shape not in (None, self.shape):
            shape = f"{shape} for {self.expected_shape}"
        maxdiff = "none" if self.maxdiff is None else str(self.maxdiff)
        because = [mistake.message for mistake in self.mistakes] + ([self.note] if self.note else [])
        return (
            f"{self.label or self.name:15s} | exact: {self.exact!s:5s} | approximate: {self.approximate!s:5s} | "
            f"maxdiff: {maxdiff:22s} | {shape:12s} | {self.verdict}{self._rounding()}"
            + (": " + "; ".join(because) if because else "")
        )

    def _rounding(self) -> str:
        if self.bits != "rounding":
            return ""
        if self.error is None:
            return " (rounding)"
        return f" (rounding: error {self.error:.1e}, autograd's {self.autograd_error:.1e})"

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain JSON data, with the keys of ``handgrad.report/1``."""
        numbers = {"maxdiff": self.maxdiff, "error": self.error, "autograd_error": self.autograd_error}
        return {
            "name": f"d{self.name}",
            "of": self.name,
            "shape": self.shape,
            "expected_shape": self.expected_shape,
            "exact": self.exact,
            "approximate": self.approximate,
            "verdict": self.verdict,
            "bits": self.bits,
            **{k: v if v is None or math.isfinite(v) else str(v) for k, v in numbers.items()},
            "mistakes": [mistake.to_dict() for mistake in self.mistakes],
            "note": self.note,
        }


def cmp(name: str, gradient: Tensor | None, value: Tensor) -> Comparison:
    """Compare ``gradient`` with ``value.grad``, print the row and return it.

    A drop-in for the ``cmp`` that every notebook on the subject defines, with two differences. A gradient whose shape
    is not that of ``value`` is wrong, even where broadcasting makes all its numbers agree. And the last column holds a
    verdict, as far as two tensors can tell (see `compare`).

    Raises:
        NotComparableError: ``value`` is no tensor or has no ``.grad``, or ``gradient`` is no tensor.
    """
    if not isinstance(name, str):
        raise NotComparableError(f"cmp(name, gradient, value): the name is a {type(name).__name__}, not a string")
    if not isinstance(value, Tensor):
        kind = type(value).__name__
        raise NotComparableError(f"cmp({name!r}, gradient, value): the value is a {kind}, not a tensor")
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
    comparison = replace(compare(_name_of(value, gradient, name, sys._getframe(1)), gradient, value.grad), label=name)
    print(comparison)  # noqa: T201  (printing the row is what cmp is for)
    return comparison


def _name_of(value: Tensor, gradient: object, label: str, caller: FrameType) -> str:
    """Return the name of ``value``: a label may be its own name, or that of its gradient (``dlogits``)."""
    scope = caller.f_globals | caller.f_locals
    name = label.removeprefix("d")
    if scope.get(label) is not value and (scope.get(name) is value or scope.get(label, value) is gradient):
        return name
    return label


def compare(name: str, gradient: Tensor | None, autograd: Tensor, *, evidence: Evidence | None = None) -> Comparison:
    """Compare one ``gradient`` with ``autograd``'s, of the value called ``name``.

    With ``evidence`` the verdict rests on what shrinks in float64. Two tensors alone do not say how large rounding is,
    so the verdict without it is cautious: ``right`` within `ROUNDINGS` roundings, ``wrong`` where the difference is a
    thousandth of the largest entry and that entry too large to be rounding itself (for numbers of order one), and
    ``unverified`` between. ``gradient=None`` is an unfinished line: ``missing``, not wrong.

    Raises:
        NotComparableError: ``gradient`` is neither a tensor nor None.

    >>> import torch
    >>> compare("h", None, torch.zeros(2)).note
    'dh is None: not written yet'
    """
    if not isinstance(autograd, Tensor):
        raise NotComparableError(f"autograd's gradient of {name} is a {type(autograd).__name__}, not a tensor")
    expected_shape = tuple(autograd.shape)
    if gradient is None:
        return Comparison(name, None, expected_shape, "missing", note=f"d{name} is None: not written yet")
    if not isinstance(gradient, Tensor):
        raise NotComparableError(f"d{name} is a {type(gradient).__name__}, not a tensor")
    gradient, autograd = _dense(gradient), _dense(autograd)
    shape = tuple(gradient.shape)
    maxdiff = _maxdiff(gradient, autograd)
    mistake = shape_mistake(name, shape, expected_shape) or kind_mistake(name, gradient, autograd)
    if mistake or maxdiff is None:
        mistakes = (mistake,) if mistake else ()
        return Comparison(name, shape, expected_shape, "wrong", maxdiff=maxdiff, mistakes=mistakes)
    if not autograd.isfinite().all():
        overflow = f"autograd's own gradient of {name} holds NaN or infinity: there is nothing to compare with"
        return Comparison(name, shape, expected_shape, "unverified", maxdiff=maxdiff, note=overflow)

    exact, approximate = torch.equal(gradient, autograd), torch.allclose(gradient, autograd)
    error = autograd_error = None
    if evidence is not None:
        error, autograd_error = _maxdiff(gradient, evidence.truth), _maxdiff(autograd, evidence.truth)
    mistakes = ()
    if exact:
        verdict, note = _RIGHT
    elif not gradient.isfinite().all():
        unfinite = int((~gradient.isfinite()).sum())
        mistakes = (Mistake("unknown", f"{unfinite} of {gradient.numel()} entries are NaN or infinite"),)
        verdict, note = "wrong", None
        if evidence and _right_in_float64(evidence):
            mistakes = ()
            verdict, note = (
                "unverified",
                f"right in float64; in {gradient.dtype} {unfinite} entries are NaN or infinite",
            )
    else:
        verdict, note = _by_shrinking(evidence) if evidence else _by_size(gradient, autograd, maxdiff)
        if verdict == "wrong":
            size = f"up to {maxdiff:.1e}, where the largest entry is {_largest(autograd):.1e}"
            mistakes = (Mistake("unknown", f"differs from autograd by {size}"),)
    bits: Literal["exact", "rounding"] | None = None
    if verdict == "right":
        bits = "exact" if exact else "rounding"
    return Comparison(
        name, shape, expected_shape, verdict, exact, approximate, maxdiff, bits, error, autograd_error, mistakes, note
    )


_RIGHT: tuple[Verdict, str | None] = ("right", None)


def _by_size(gradient: Tensor, autograd: Tensor, maxdiff: float) -> tuple[Verdict, str | None]:
    roundoff, largest = torch.finfo(gradient.dtype).eps / 2, _largest(autograd)
    if maxdiff <= min(ROUNDINGS * roundoff, 1e-5) * largest:
        return _RIGHT
    if maxdiff > max(1e-3, ROUNDINGS * roundoff) * largest and max(largest, maxdiff) > 1000 * roundoff:
        return "wrong", None
    return "unverified", (
        f"differs by up to {maxdiff:.1e}, where the largest entry is {largest:.1e}: a mistake, or rounding; "
        "handgrad.compare_pass can tell"
    )


def _right_in_float64(evidence: Evidence) -> bool:
    noise = max(FLOAT64_NOISE * evidence.scale, 1e-6 * _largest(evidence.truth))
    return _largest(evidence.fine - evidence.truth) <= noise


def _by_shrinking(evidence: Evidence) -> tuple[Verdict, str | None]:
    precision, fine_precision = torch.finfo(evidence.coarse.dtype).eps, torch.finfo(torch.float64).eps
    half_the_bits = math.sqrt(fine_precision / precision)
    float32_roundoff = min(precision, torch.finfo(torch.float32).eps) / 2
    error, autograd_error, remains = (
        (_wide(tensor) - evidence.truth).abs().max().item()
        for tensor in (evidence.coarse, evidence.coarse_autograd, evidence.fine)
    )
    largest = _largest(evidence.truth)
    difference = max(error, autograd_error)
    shrinks = remains <= half_the_bits * difference
    zero_in_truth = largest <= half_the_bits * difference
    if remains <= FLOAT64_NOISE * evidence.scale:
        return _RIGHT
    if shrinks and (zero_in_truth or remains <= 16 * float32_roundoff * largest):
        if not zero_in_truth and error > 100 * max(autograd_error, precision * largest):
            return "right", f"but it loses digits: its error is {error:.1e}, and autograd's {autograd_error:.1e}"
        return _RIGHT
    if remains <= float32_roundoff * largest:
        return "right", f"but a difference of {remains:.1e} remains in float64: a constant with few digits?"
    return "wrong", None


def compare_pass(
    forward: Callable[..., Named], backward: Callable[..., Named], parameters: Named, *batch: Tensor
) -> list[Comparison]:
    """Compare every gradient that a hand-written pair computes with autograd's, in the order of ``backward``.

    ``forward(parameters, *batch)`` returns a NamedTuple of values, with the scalar ``loss`` among them.
    ``backward(parameters, values, *batch)`` returns a NamedTuple of gradients, each named ``d`` + the name of its
    value or parameter. Both must work in float32 and float64, and give the same every time. Nothing that is given is
    changed.

    This compares numbers as they come out. A line that is wrong by something that is zero in truth, such as a missing
    branch through ``logit_maxes``, computes the right numbers and passes.

    Raises:
        NotComparableError: there is no scalar ``loss``, it differs from run to run, or a gradient is that of no value
            or parameter.

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
    as_dict(parameters, "the parameters are", "tensors")
    given = Passes.run(forward, backward, parameters, batch)
    fine = Passes.run(forward, backward, cast(parameters, torch.float64), cast(batch, torch.float64))
    coarse = given
    if all(p.dtype in WIDE for p in parameters):
        coarse = Passes.run(forward, backward, cast(parameters, torch.float32), cast(batch, torch.float32))
    scale = max(map(_largest, fine.autograd.values()))
    comparisons = []
    for key, gradient in given.by_hand.items():
        name = key[1:] if key.startswith("d") else ""
        if name not in given.autograd:
            raise NotComparableError(
                f"backward returns {key}, and forward has no value or parameter called {name} that autograd tracks"
                if name
                else f"backward returns {key}: call a gradient d + the name of its value"
            )
        tensors = coarse.by_hand[key], coarse.autograd[name], fine.by_hand[key], fine.autograd[name]
        comparison = compare(name, gradient, given.autograd[name], evidence=_evidence(*tensors, scale=scale))
        if comparison.verdict == "unverified" and isinstance(tensors[2], Tensor) and tensors[2].dtype not in WIDE:
            note = (
                f"d{name} is {tensors[2].dtype} even when all it reads is float64: use `torch.zeros_like` and the like"
            )
            comparison = replace(comparison, note=note)
        comparisons.append(comparison)
    return comparisons


def _evidence(coarse: Any, coarse_autograd: Tensor, fine: Any, truth: Tensor, *, scale: float) -> Evidence | None:
    usable = (
        isinstance(coarse, Tensor)
        and isinstance(fine, Tensor)
        and coarse.shape == fine.shape == truth.shape
        and fine.dtype == truth.dtype
        and fine.numel()
    )
    if not usable:
        return None
    return Evidence(_dense(coarse), _dense(coarse_autograd), _dense(fine), _dense(truth), scale)


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
