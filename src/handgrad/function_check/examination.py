"""What all checks share: the Function run as given and in float64, at two points, and the truth there."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cached_property

import torch
from torch import Tensor

from handgrad.checker.comparison import FLOAT64_NOISE, ROUNDINGS
from handgrad.errors import NotComparableError
from handgrad.function_check.differences import DOUBLE, SINGLE
from handgrad.function_check.judgement import Judge
from handgrad.function_check.report import Finding
from handgrad.function_check.subject import Case, Subject, cast, is_differentiable
from handgrad.function_check.truth import Truth, precision_of
from handgrad.function_check.variants import jittered, upstream_for
from handgrad.function_check.watched import Applied, BackwardError, ForwardError, Returned, returned_for

LOUD = 30.0
"""How large the upstream gradients are at the second point, so that a clipped or compared one shows."""


class Examination:
    """A Function under examination.

    Raises:
        NotComparableError: forward raises, returns nothing differentiable, or other values every time.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.notes: list[str] = []
        self.applied = self._first_run()
        self.given = upstream_for(subject, subject.arguments, 0)
        self.dtype = self._working_dtype()
        self.points = self._points()
        self.precision = precision_of(subject, self.points[-1]) if self.dtype == torch.float64 else SINGLE
        if self.dtype == torch.float64 and self.precision == SINGLE:
            self.notes.append("forward computes in float32 inside: compared at that precision")
        self._base: dict[int, Returned] = {}

    def _first_run(self) -> Applied:
        subject = self.subject
        try:
            applied = Applied(subject, subject.arguments)
        except ForwardError as error:
            raise NotComparableError(
                f"forward of {subject.name} raises {subject.where(error.__cause__ or error)}: "
                "give check_function inputs that it takes"
            ) from error.__cause__
        tensors = [out for out in applied.outputs if isinstance(out, Tensor)]
        if not tensors:
            kinds = ", ".join(type(out).__name__ for out in applied.outputs)
            raise NotComparableError(f"forward of {subject.name} returns {kinds}: it must return a tensor, or tensors")
        if not applied.differentiable_outputs:
            raise NotComparableError(f"no output of {subject.name} is differentiable, so backward is never called")
        again = Applied(subject, subject.arguments)
        if not all(_equal(a, b) for a, b in zip(applied.outputs, again.outputs, strict=True)):
            raise NotComparableError(
                f"forward of {subject.name} gives other values every time: draw its random numbers from the global "
                "generator, which check_function seeds, or from one that forward seeds itself"
            )
        return applied

    def _working_dtype(self) -> torch.dtype:
        subject = self.subject
        try:
            outputs = Applied(subject, cast(subject.arguments, torch.float64))
            dtypes = {outputs.outputs[k].dtype for k in outputs.differentiable_outputs}
            if dtypes <= {torch.float64, torch.complex128}:
                return torch.float64
            reason = "its outputs are " + ", ".join(sorted(str(d) for d in dtypes))
        except ForwardError as error:
            reason = subject.where(error.__cause__ or error)
        dtype: torch.dtype = subject.arguments[subject.differentiable[0]].dtype
        self.notes.append(f"forward does not work in float64 ({reason}): compared in {dtype}, with its few digits")
        return dtype

    def _points(self) -> list[Case]:
        """Return the given point and one beside it, in the working dtype, each with upstream gradients."""
        subject = self.subject
        given = subject.arguments if self.dtype != torch.float64 else cast(subject.arguments, self.dtype)
        points = [upstream_for(subject, given, 1)]
        for arguments in jittered(subject, given):
            try:
                case = upstream_for(subject, arguments, 2, scale=LOUD)
                outputs = subject.outputs(arguments)
            except ForwardError:
                continue
            if all(
                bool((out.isfinite() | (out == before)).all())  # an infinity that stays is meant, as in a mask
                for out, before, u in zip(outputs, subject.outputs(given), case.upstream, strict=True)
                if u is not None
            ):
                return [*points, case]
        self.notes.append("checked at the given inputs only: beside them forward raises, or gives NaN or infinity")
        return points

    @property
    def case(self) -> Case:
        """The point that hides the least."""
        return self.points[-1]

    def base(self, number: int = -1) -> Returned:
        """Return what backward returned at a point; raises BackwardError."""
        number %= len(self.points)
        if number not in self._base:
            self._base[number] = returned_for(self.subject, self.points[number])
        return self._base[number]

    @cached_property
    def as_given(self) -> Returned | BackwardError:
        """What backward returned for the inputs as given, dtype and all."""
        try:
            return returned_for(self.subject, self.given)
        except BackwardError as error:
            return error

    @cached_property
    def judged(self) -> dict[int, list[Finding]]:
        """What there is to say of the values of each input's gradient, at both points and by each output."""
        found: dict[int, list[Finding]] = {i: [] for i in self.subject.differentiable}
        cases = list(self.points)
        upstream = self.case.upstream
        outputs = [k for k, u in enumerate(upstream) if u is not None]
        if len(outputs) > 1:
            cases += [
                Case(
                    self.case.arguments,
                    tuple(u if u is None or k == only else torch.zeros_like(u) for k, u in enumerate(upstream)),
                )
                for only in outputs
            ]
        for number, case in enumerate(cases):
            for i, finding in self.judge(case, self.base(number) if number < len(self.points) else None).items():
                found[i].append(finding)
        return found

    @property
    def miscounted(self) -> bool:
        """Whether autograd refuses the number of gradients: too few, or something for what is no input."""
        raw, n = self.base().raw, len(self.subject.names)
        extra = [g for g, x in zip(raw, self.subject.arguments, strict=False) if not isinstance(x, Tensor)]
        return len(raw) < n or any(g is not None for g in (*raw[n:], *extra))

    @cached_property
    def suspects(self) -> set[int]:
        """The positions of the inputs whose gradient is wrong already, so that nothing else is said of it."""
        return {i for i, found in self.judged.items() if any(f.verdict == "wrong" for f in found)} | self.misshapen

    @cached_property
    def misshapen(self) -> set[int]:
        """The positions of the inputs whose gradient is None, or has not the shape, at some point."""
        runs = [self.base(n) for n in range(len(self.points))]
        return {i for i in self.subject.differentiable if any(not self.fits(run, i) for run in runs)}

    def is_constant(self, index: int) -> bool:
        """Whether the outputs do not change with an input, as far as autograd and finite differences see."""
        truth = Truth(self.subject, self.case, self.precision)
        if index in truth.autograd and bool((truth.autograd[index] != 0).any()):
            return False
        if truth.is_complex:
            return index in truth.autograd
        return not bool((truth.entries(index).tensor("value").nan_to_num(1.0).abs() > 1e-9).any())

    def has_dtype(self, index: int) -> bool:
        """Whether the gradient of an input has its dtype as given and in the working dtype, so that all is said."""
        runs = ((self.as_given, self.subject.arguments), (self.base(0), self.points[0].arguments))
        for run, arguments in runs:
            gradient = run.gradient(index) if isinstance(run, Returned) else None
            if isinstance(gradient, Tensor) and gradient.dtype != arguments[index].dtype:
                return False
        return True

    def fits(self, run: Returned, index: int) -> bool:
        """Whether there is a gradient for input ``index``, of the shape and on the device that it should have."""
        gradient, x = run.gradient(index), self.subject.arguments[index]
        return isinstance(gradient, Tensor) and gradient.shape == x.shape and gradient.device == x.device

    def judge(self, case: Case, run: Returned | None = None) -> dict[int, Finding]:
        """Return the verdict on each gradient that has the shape of its input.

        Raises:
            ForwardError, BackwardError: it does not run.
        """
        run = run or returned_for(self.subject, case)
        outputs = self.subject.outputs(case.arguments)
        if any(bool(outputs[k].isnan().any()) for k, u in enumerate(case.upstream) if u is not None):
            why = "forward gives NaN"
            return {i: Finding("unverified", why, self.subject.names[i]) for i in self.subject.differentiable}
        truth = Truth(self.subject, case, self.precision)
        judge = Judge(self.subject, case, run, truth)
        fitting = [
            i
            for i in self.subject.differentiable
            if isinstance(run.gradient(i), Tensor) and run.gradient(i).shape == case.arguments[i].shape
        ]
        return {i: judge.finding(i) for i in fitting}

    def same(self, a: Tensor, b: Tensor) -> bool:
        """Whether two gradients that one backward returned differ by no more than rounding."""
        if a.shape != b.shape or a.device != b.device:
            return False
        if not a.numel():
            return True
        a, b = _wide(a), _wide(b)
        if not bool((a.isfinite() == b.isfinite()).all()):
            return False
        share = FLOAT64_NOISE if self.precision == DOUBLE else 16 * ROUNDINGS * SINGLE
        return _largest(a - b) <= share * max(_largest(b), self._largest)

    @cached_property
    def _largest(self) -> float:
        fitting = [i for i in self.subject.differentiable if self.fits(self.base(), i)]
        return max((_largest(self.base().gradient(i)) for i in fitting), default=0.0)

    def compared(
        self, what: str, run: Returned, to: Returned, only: Collection[int] | None = None
    ) -> Iterator[Finding]:
        """Yield what differs between two runs of backward that should return the same."""
        for i in sorted(self.subject.differentiable if only is None else only):
            name, a, b = self.subject.names[i], run.gradient(i), to.gradient(i)
            if not isinstance(b, Tensor) or i in self.misshapen:
                continue
            if not isinstance(a, Tensor):
                yield Finding("wrong", f"{what}, the gradient of {name} is {a}", name)
            elif a.shape != b.shape:
                shapes = f"{tuple(a.shape)} for {tuple(b.shape)}"
                yield Finding("wrong", f"{what}, the gradient of {name} has shape {shapes}", name)
            elif not self.same(a, b):
                size = f"by up to {_largest(_wide(a) - _wide(b)):.1e}" if a.device == b.device else f"on {a.device}"
                numbers = f"{size}, where the largest entry is {_largest(b):.1e}"
                yield Finding("wrong", f"{what}, the gradient of {name} is another one, {numbers}", name)

    def raised(self, what: str, error: BackwardError) -> Finding:
        """Return that backward raised where it should not."""
        return Finding("wrong", f"{what}, backward raises {self.subject.where(error.__cause__ or error)}")

    def refused(self, what: str, error: ForwardError) -> Finding:
        """Return that forward raised, which is no mistake of backward."""
        return Finding("unverified", f"{what}, forward raises {self.subject.where(error.__cause__ or error)}")


def _equal(a: object, b: object) -> bool:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return True
    if a.shape != b.shape or not is_differentiable(a):
        return a.shape == b.shape and bool((a == b).all())
    return torch.allclose(a.detach(), b.detach(), rtol=1e-3, atol=1e-6, equal_nan=True)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.complex128 if tensor.is_complex() else torch.float64)


def _largest(tensor: Tensor) -> float:
    """Return the size of the largest finite entry, 0 where there is none."""
    sizes = _wide(tensor).abs()
    return float(sizes.nan_to_num(0.0, posinf=0.0).max()) if sizes.numel() else 0.0
