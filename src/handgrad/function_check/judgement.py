"""Whether the gradient of one input is right: by its shrinking with the precision, or by what differences know.

No fixed tolerance tells rounding from a mistake (see `handgrad.checker.comparison`). Here the Function and autograd run
in float64 and in float32: rounding shrinks between the two and a mistake does not. Where there are finite differences
only, the bound is their own estimate of their error. At a kink or a tie every subgradient is right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from handgrad.checker.comparison import FLOAT64_NOISE, ROUNDINGS, Evidence, compare
from handgrad.function_check.differences import DOUBLE, SINGLE, Entries
from handgrad.function_check.hypotheses import why
from handgrad.function_check.report import Finding, Verdict
from handgrad.function_check.subject import Case, Subject, cast
from handgrad.function_check.truth import Truth, by_autograd, is_single
from handgrad.function_check.watched import BackwardError, ForwardError, Returned, returned_for

NEARBY = 16
"""At how many points beside a kink autograd is asked for the range of its gradients."""

SUSPECTS = 24
"""How many entries that differ are looked at for a kink or a tie."""


@dataclass
class Judge:
    """Judges what backward returned for one case."""

    subject: Subject
    case: Case
    returned: Returned
    truth: Truth

    def finding(self, index: int) -> Finding:
        """Return the verdict on the gradient of input ``index``, whose shape must be right."""
        name, gradient = self.subject.names[index], self.returned.gradient(index).detach()
        if gradient.device != self.case.arguments[index].device:
            return Finding("unverified", f"the gradient of {name} is on {gradient.device}", name)
        if not gradient.numel():
            return Finding("right", "", name)
        wide = torch.complex128 if self.truth.is_complex and gradient.is_complex() else torch.float64
        verdict, message = self._judged(index, _dense(gradient).cpu().to(wide))
        return Finding(verdict, f"the gradient of {name} {message}" if message else "", name)

    def _judged(self, index: int, gradient: Tensor) -> tuple[Verdict, str]:
        if index not in self.truth.autograd:
            if self.truth.is_complex:
                return "unverified", f"has no truth to compare with: {self.truth.why_not}"
            return self._by_differences(index, gradient)
        truth = self.truth.autograd[index].cpu().to(gradient.dtype)
        if not truth.isfinite().all():
            return "unverified", "has no truth to compare with: autograd's holds NaN or infinity here"
        hidden = self.truth.is_hidden(index)
        verdict, message = self._by_autograd(index, gradient, truth)
        if not hidden:
            return verdict, message
        if verdict == "right":
            return "unverified", (
                "is autograd's through the body of forward, but finite differences disagree with both: "
                "forward hides something from autograd (`.detach()`, `.item()`, `no_grad`)"
            )
        return self._by_differences(index, gradient)

    # -- autograd

    def _by_autograd(self, index: int, gradient: Tensor, truth: Tensor) -> tuple[Verdict, str]:
        remains = float((gradient - truth).abs().max())
        single = self.truth.precision == SINGLE or is_single(self.returned.gradient(index))
        if remains == 0 or (not single and remains <= FLOAT64_NOISE * self._scale(index)):
            return "right", ""
        verdict: Verdict
        note: str | None
        if single:
            verdict, note = self._by_size(remains, truth)
        else:
            comparison = compare("it", gradient, truth, evidence=self._evidence(index, gradient, truth))
            verdict = "wrong" if comparison.verdict == "missing" else comparison.verdict
            note = f"is right: {comparison.note}" if comparison.note and verdict == "right" else comparison.note
        if verdict == "right":
            return verdict, note or ""
        if not gradient.isfinite().all() or self.truth.is_complex:
            return verdict, self._why(index, gradient, truth) if verdict == "wrong" else str(note)
        by_kinks = self._at_kinks(index, gradient, truth)
        if by_kinks is not None:
            return by_kinks
        return verdict, self._why(index, gradient, truth) if verdict == "wrong" else str(note)

    def _scale(self, index: int) -> float:
        """Return what float64 rounds against: the largest gradient, in the units of this one, and no more than all."""
        own = float(self.truth.autograd[index].abs().max())
        sizes = {i: self._size(i) for i in self.truth.autograd}
        finite = {i: g for i, g in self.truth.autograd.items() if g.numel() and g.isfinite().all()}
        largest = {i: float(g.abs().max()) for i, g in finite.items()}
        impact = max(largest[i] * sizes[i] for i in largest) / sizes[index]
        return max(own, min(impact, max(largest.values())))

    def _size(self, index: int) -> float:
        x = self.case.arguments[index]
        size = float(x.abs().max()) if x.numel() else 0.0
        return size if size and math.isfinite(size) else 1.0

    def _by_size(self, remains: float, truth: Tensor) -> tuple[Verdict, str | None]:
        """Judge in single precision: what sums of that many terms round to is right, a thousandth is wrong."""
        largest = float(truth.abs().max())
        if remains <= self._rounding() * largest:
            return "right", None
        if remains > 1e-3 * largest and max(remains, largest) > 1e-6:
            return "wrong", None
        return "unverified", f"differs by {remains:.1e}, which in float32 may be rounding: make forward work in float64"

    def _rounding(self) -> float:
        terms = max(x.numel() for x in self.case.arguments if isinstance(x, Tensor))
        return min(ROUNDINGS * math.sqrt(terms) * SINGLE / 2, 1e-4)

    def _evidence(self, index: int, gradient: Tensor, truth: Tensor) -> Evidence | None:
        case = Case(*(cast(part, torch.float32) for part in self.case))
        found = by_autograd(self.subject, case)
        try:
            coarse = returned_for(self.subject, case).gradient(index)
        except (ForwardError, BackwardError):
            return None
        if isinstance(found, str) or not isinstance(coarse, Tensor) or coarse.shape != truth.shape:
            return None
        narrow = torch.complex64 if gradient.is_complex() else torch.float32
        return Evidence(
            _dense(coarse).cpu().to(narrow), found[index].cpu().to(narrow), gradient, truth, self._scale(index)
        )

    # -- kinks and ties

    def _at_kinks(self, index: int, gradient: Tensor, truth: Tensor) -> tuple[Verdict, str] | None:
        """Judge a gradient that differs from autograd's; None where the function is smooth and no excuse is found."""
        flat, theirs = gradient.reshape(-1), truth.reshape(-1)
        single = self.truth.precision == SINGLE or is_single(self.returned.gradient(index))
        largest = float(theirs.abs().max())
        bound = max(1e-9 * largest, FLOAT64_NOISE * self._scale(index), self._rounding() * largest if single else 0.0)
        differing = ((flat - theirs).abs() > bound).nonzero().reshape(-1)[:SUSPECTS]
        if not len(differing):
            return None
        if self._is_smooth(index, truth, (gradient - truth).abs().argmax()[None], bound):
            return None
        found = self.truth.differences.entries(index, differing)
        low, high = (range_.reshape(-1)[differing] for range_ in self._nearby(index, truth, NEARBY))
        low, high = torch.minimum(low, found.tensor("low")), torch.maximum(high, found.tensor("high"))
        margin = self._blur * (low.abs() + high.abs()) + bound
        kinks = (high - low) > 10 * margin.clamp(min=1e-12)
        if not bool(kinks.all()) or not bool(low.isfinite().all() and high.isfinite().all()):
            return None
        here = flat[differing]
        outside = (here < low - margin) | (here > high + margin)
        if bool(outside.any()):
            at = int(outside.nonzero()[0])
            return "wrong", (
                f"is no subgradient where the function has a kink or a tie: it is {float(here[at]):.6g} at an entry "
                f"where every gradient nearby lies between {float(low[at]):.6g} and {float(high[at]):.6g}"
            )
        return self._is_conserved(len(differing))

    @property
    def _blur(self) -> float:
        """How far gradients of a smooth function may differ nearby, as a share."""
        return 1e-6 if self.truth.precision == DOUBLE else 1e-2

    def _is_smooth(self, index: int, truth: Tensor, position: Tensor, bound: float) -> bool:
        """Whether a glance at the entry that differs most finds neither kink nor tie there."""
        low, high = (range_.reshape(-1)[position] for range_ in self._nearby(index, truth, 4))
        apart = float(high - low) > self._blur * float(high.abs() + low.abs()) + bound
        return not apart and not self.truth.differences.entries(index, position).slopes[0].kink

    def _nearby(self, index: int, truth: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the range of autograd's gradients at points beside this one."""
        nearby = 2.0**-24 if self.truth.precision == DOUBLE else 2.0**-12
        low, high = truth.clone(), truth.clone()
        for number in range(count):
            arguments = list(self.case.arguments)
            for i in self.subject.differentiable:
                step = self.truth.differences.random_direction(i, 1000 + number * 64 + i)
                arguments[i] = arguments[i] + (nearby * step).to(arguments[i].dtype)
            found = by_autograd(self.subject, Case(tuple(arguments), self.case.upstream))
            if isinstance(found, dict) and found[index].isfinite().all():
                beside = found[index].cpu().double()
                low, high = torch.minimum(low, beside), torch.maximum(high, beside)
        return low, high

    def _is_conserved(self, differing: int) -> tuple[Verdict, str] | None:
        """Judge by the derivative along a shift of all inputs alike, which ties survive."""
        gradients = {i: self.returned.gradient(i) for i in self.subject.differentiable}
        if not all(isinstance(g, Tensor) and g.shape == self.case.arguments[i].shape for i, g in gradients.items()):
            return "unverified", f"is another subgradient than autograd's at {differing} entries"
        for chosen in [[i] for i in gradients] + [list(gradients)]:
            ones = {i: torch.ones_like(gradients[i], dtype=torch.float64) for i in chosen}
            slope = self.truth.differences.along(ones)
            total = sum(float(gradients[i].double().sum()) for i in chosen)
            size = abs(slope.value) + abs(total)
            sure = not slope.kink and slope.error <= 1e-4 * max(size, 1e-12)
            if sure and abs(total - slope.value) > 20 * slope.error + 1e-6 * size:
                return "wrong", (
                    f"counts ties more than once, or not at all: its entries sum to {total:.6g}, and the derivative "
                    f"along a shift of all entries is {slope.value:.6g}; give each tie a share, or one of them all"
                )
        return "right", f"is another subgradient than autograd's at {differing} entries (ties or kinks), a valid one"

    # -- finite differences

    def _by_differences(self, index: int, gradient: Tensor) -> tuple[Verdict, str]:
        found = self.truth.entries(index)
        value, error, low, high = (found.tensor(field) for field in ("value", "error", "low", "high"))
        if not value.isfinite().all():
            return "unverified", "has no truth to compare with: forward fails or gives NaN beside this point"
        here = gradient.reshape(-1)[found.positions]
        if not here.isfinite().all():
            return "wrong", "holds NaN or infinity"
        kinks = found.tensor("kink").bool()
        largest = float(value.abs().max())
        bound = 20 * error + 2.0**-20 * value.abs()
        off = ((here - value).abs() > bound) & ~kinks
        sure = error <= 1e-2 * max(largest, float(here.abs().max()))
        if bool((off & sure).any()):
            return "wrong", self._why_not(index, gradient, found)
        if len(found.positions) < gradient.numel() and self._misses_the_rest(index, gradient):
            return "wrong", "is not the derivative along random directions (finite differences)"
        outside = kinks & ((here < low - bound) | (here > high + bound))
        known = float((error / max(largest, 1e-300)).max()) if largest else 0.0
        if bool(outside.any()) or bool(off.any()) or known > 1e-4:
            what = "kinks" if bool(outside.any()) else f"their error is {known:.0e} of the largest entry"
            return "unverified", f"has finite differences only to compare with, and they cannot decide here: {what}"
        return "right", ""

    def _misses_the_rest(self, index: int, gradient: Tensor) -> bool:
        """Whether two dense directions contradict a gradient, of which only some entries were looked at."""
        for number in range(2):
            direction = self.truth.differences.random_direction(index, number)
            slope, found = self.truth.differences.along({index: direction}), float((gradient * direction.cpu()).sum())
            size = abs(slope.value) + abs(found)
            if slope.kink or slope.error > 1e-3 * size or abs(slope.value - found) <= 20 * slope.error + 1e-6 * size:
                return False
        return True

    def _why_not(self, index: int, gradient: Tensor, found: Entries) -> str:
        if len(found.positions) == gradient.numel():
            return self._why(index, gradient, found.tensor("value").reshape(gradient.shape)) + " (finite differences)"
        here, value = gradient.reshape(-1)[found.positions], found.tensor("value")
        reason = why(here, value, name=self.subject.names[index], value=here, others={}, plain=None)
        return f"{reason} (finite differences at {len(found.positions)} of {gradient.numel()} entries)"

    def _why(self, index: int, gradient: Tensor, truth: Tensor) -> str:
        names = self.subject.names
        others = {names[i]: g.cpu().to(gradient.dtype) for i, g in self.truth.autograd.items() if i != index}
        ones = Case(self.case.arguments, tuple(u if u is None else torch.ones_like(u) for u in self.case.upstream))
        plain = by_autograd(self.subject, ones)
        return why(
            gradient,
            truth,
            name=names[index],
            value=self.case.arguments[index],
            others=others,
            plain=plain[index].cpu().to(gradient.dtype) if isinstance(plain, dict) else None,
        )


def _dense(tensor: Tensor) -> Tensor:
    return tensor if tensor.layout == torch.strided else tensor.to_dense()
