"""Check a hand-written `torch.autograd.Function`: what its backward returns, and what it does.

Better than `torch.autograd.gradcheck` in that it sees what backward itself returns before autograd expands, sums or
casts it, needs no tolerance, and tries what gradcheck does not: a (64,) gradient for a (1, 64) input, repeated indices,
ties, strided and expanded tensors, empty batches, subsets of inputs, overwritten tensors, state kept between calls.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

from handgrad.function_check import layouts, returned, state, values
from handgrad.function_check.examination import Examination
from handgrad.function_check.report import CODES, Check, Finding, FunctionReport, Warned
from handgrad.function_check.second_order import second_derivative
from handgrad.function_check.subject import as_found, subject_of
from handgrad.function_check.variants import INTEGERS
from handgrad.function_check.watched import BackwardError, ForwardError
from handgrad.passes import using_threads

__all__ = ["CODES", "Check", "Finding", "FunctionReport", "Warned", "check_function"]

SMALL = 100_000
"""How many numbers one thread computes with sooner than several do."""

Checks = dict[str, Callable[[Examination], Iterable[Finding | Warned]]]

OF_WHAT_IS_RETURNED: Checks = {
    "count": returned.count,
    "none": returned.none,
    "shape": returned.shape,
    "dtype": returned.dtype,
    "device": returned.device,
}
OF_THE_REST: Checks = {
    "values": values.values,
    "repeated-indices": values.repeated_indices,
    "ties": values.ties,
    "strided-inputs": layouts.strided_inputs,
    "strided-upstream": layouts.strided_upstream,
    "empty-batch": layouts.empty_batch,
    "needs-input-grad": state.needs_input_grad,
    "overwritten-input": state.overwritten_input,
    "overwritten-upstream": state.overwritten_upstream,
    "overwritten-saved": state.overwritten_saved,
    "second-backward": state.second_backward,
    "leaked-state": state.leaked_state,
    "deterministic": state.deterministic,
    "unused-outputs": state.unused_outputs,
    "low-precision": returned.low_precision,
    "second-derivative": second_derivative,
}


def check_function(
    function: Any, *inputs: Any, atol: float | None = None, rtol: float | None = None, seed: int = 0
) -> FunctionReport:
    """Check a `torch.autograd.Function` on ``inputs``, and return what was found.

    ``function`` is the class, its ``.apply``, or a function that calls ``.apply`` of one Function. Tensors of any
    shape; those that require a gradient are differentiated, or every floating one if none does. All is computed on
    copies: tensors, generators and the caller's grad mode are left as they are.

    The truth is autograd through the body of forward in float64, checked by finite differences. Right and wrong are
    told by precision, not by a tolerance: ``atol`` and ``rtol`` are only asked whether a gradient of zero would pass
    with them.

    Raises:
        NotComparableError: ``function`` is no Function, no input is a floating tensor, forward raises, gives other
            values every time, or returns nothing differentiable.

    >>> import torch
    >>> class Square(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x**2
    ...     @staticmethod
    ...     def backward(ctx, dy):
    ...         (x,) = ctx.saved_tensors
    ...         return x * dy
    >>> report = check_function(Square, torch.linspace(0.5, 2, 6).view(2, 3))
    >>> bool(report), report.wrong
    (False, ['values'])
    >>> report["values"].message
    'the gradient of x is 0.5 times what it should be'
    """
    small = sum(x.numel() for x in inputs if isinstance(x, Tensor)) < SMALL
    with as_found(), using_threads(1) if small else contextlib.nullcontext():
        exam = Examination(subject_of(function, inputs, seed))
        checks, warnings = _checked(exam, atol, rtol)
        return FunctionReport(exam.subject.name, tuple(checks), tuple(warnings), tuple(dict.fromkeys(exam.notes)))


def _checked(exam: Examination, atol: float | None, rtol: float | None) -> tuple[list[Check], list[Warned]]:
    checks = [_check("runs", returned.runs(exam))[0]]
    warnings = list(state.saved_on_ctx(exam))
    if checks[0].verdict == "wrong":
        exam.notes.append("backward raises, so nothing else could be checked")
        return checks, warnings
    for name, check in OF_WHAT_IS_RETURNED.items():
        checks.append(_check(name, check(exam))[0])
    miscounted = len(exam.base().raw) < len(exam.subject.names)
    if miscounted:
        exam.notes.append("the gradients cannot be told apart, so nothing else could be checked")
        return checks, warnings
    for name, check in OF_THE_REST.items():
        if reason := _does_not_apply(name, exam):
            exam.notes.append(f"{name} does not apply: {reason}")
            continue
        done, warned = _check(name, _caught(check, exam))
        checks.append(done)
        warnings += warned
    tolerance = _check("tolerance", values.tolerance(exam, atol, rtol))[0]
    if atol is not None or rtol is not None:
        checks.append(tolerance)
    return checks, warnings


def _caught(
    check: Callable[[Examination], Iterable[Finding | Warned]], exam: Examination
) -> Iterator[Finding | Warned]:
    """Yield what ``check`` finds; that the Function fails where nobody expected it is a finding too."""
    try:
        yield from check(exam)
    except BackwardError as error:
        yield exam.raised("in this check", error)
    except ForwardError as error:
        yield exam.refused("in this check", error)


def _check(name: str, found: Iterable[Finding | Warned]) -> tuple[Check, list[Warned]]:
    everything = list(found)
    findings = tuple(f for f in everything if isinstance(f, Finding))
    return Check(name, findings), [w for w in everything if isinstance(w, Warned)]


def _does_not_apply(name: str, exam: Examination) -> str | None:
    """Return why a check has nothing to look at, if it has not."""
    arguments = exam.subject.arguments
    integers = [x for x in arguments if isinstance(x, Tensor) and x.dtype in INTEGERS and x.numel() > 1]
    if name == "repeated-indices" and not integers:
        return "no input holds integers"
    if name == "needs-input-grad" and len(exam.subject.differentiable) == 1:
        return "one input is differentiable"
    if name == "unused-outputs" and len(exam.applied.differentiable_outputs) == 1:
        return "one output is differentiable"
    if name == "ties" and all(arguments[i].numel() < 2 for i in exam.subject.differentiable):
        return "no input has two entries"
    if name == "empty-batch" and not any(isinstance(x, Tensor) and x.dim() for x in arguments):
        return "the inputs are single numbers"
    return None
