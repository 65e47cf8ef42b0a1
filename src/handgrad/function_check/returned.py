"""Checks of what backward returns, before its values: how many gradients, of which shape, dtype and device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from handgrad.diagnosis.shape import kind_mistake, shape_mistake
from handgrad.function_check.examination import Examination
from handgrad.function_check.report import Finding
from handgrad.function_check.subject import cast
from handgrad.function_check.variants import upstream_for
from handgrad.function_check.watched import BackwardError, ForwardError, Returned, returned_for


def runs(exam: Examination) -> Iterator[Finding]:
    """Check that backward runs at all, on the inputs as given and in the working dtype."""
    if isinstance(exam.as_given, BackwardError):
        yield exam.raised("on the inputs as given", exam.as_given)
        return
    for number in range(len(exam.points)):
        try:
            exam.base(number)
        except BackwardError as error:
            yield exam.raised(f"in {exam.dtype}" if number == 0 else "beside the inputs as given", error)
            return


def _runs_of(exam: Examination) -> list[Returned]:
    """Return what backward returned for the inputs as given, and at the points."""
    assert isinstance(exam.as_given, Returned)
    return [exam.as_given, *(exam.base(n) for n in range(len(exam.points)))]


def count(exam: Examination) -> Iterator[Finding]:
    """Check that there are as many gradients as inputs, and None for those that are no tensors."""
    names, arguments = exam.subject.names, exam.subject.arguments
    run = _runs_of(exam)[0]
    found, expected = len(run.raw), len(names)
    if found < expected:
        lacking = ", ".join(names[found:])
        yield Finding(
            "wrong",
            f"backward returns {_number(found)} and forward takes {expected} inputs: nothing is returned for "
            f"{lacking}; return None for an input that has no gradient",
        )
    elif any(g is not None for g in run.raw[expected:]):
        yield Finding(
            "wrong",
            f"backward returns {_number(found)} and forward takes {expected} inputs ({', '.join(names)}): "
            "one gradient for each input, in their order",
        )
    for i, x in enumerate(arguments):
        gradient = run.gradient(i)
        if gradient is not None and not isinstance(x, Tensor):
            message = f"backward returns a {type(gradient).__name__} for {names[i]}, which is no tensor: return None"
            yield Finding("wrong", message, names[i])


def _number(count: int) -> str:
    return f"{count} gradient{'s' if count != 1 else ''}"


def none(exam: Examination) -> Iterator[Finding]:
    """Check that there is a tensor for each input that needs a gradient."""
    for i in exam.subject.differentiable:
        name = exam.subject.names[i]
        for run in _runs_of(exam):
            gradient = run.gradient(i)
            if i >= len(run.raw) or isinstance(gradient, Tensor):
                continue
            if gradient is not None:
                kind = type(gradient).__name__
                yield Finding("wrong", f"the gradient of {name} is a {kind}, not a tensor", name)
                break
            if exam.is_constant(i):
                yield Finding("right", f"the gradient of {name} is None, and the outputs do not change with it", name)
            else:
                message = (
                    f"the gradient of {name} is None, and the outputs change with {name}: autograd takes it for zero "
                    f"(call mark_non_differentiable on outputs, or detach {name}, where that is meant)"
                )
                yield Finding("wrong", message, name)
            break


def shape(exam: Examination) -> Iterator[Finding]:
    """Check that the shape of each gradient is that of its input, before autograd sums or expands it."""
    for i, x in enumerate(exam.subject.arguments):
        name = exam.subject.names[i]
        for run in _runs_of(exam):
            gradient = run.gradient(i)
            if isinstance(gradient, Tensor) and isinstance(x, Tensor):
                mistake = shape_mistake(name, tuple(gradient.shape), tuple(x.shape))
                if mistake:
                    yield Finding("wrong", mistake.message, name)
                    break


def dtype(exam: Examination) -> Iterator[Finding]:
    """Check that the dtype of each gradient is that of its input: as given, and in float64 if forward works in it."""
    for i in exam.subject.differentiable:
        x, name = exam.subject.arguments[i], exam.subject.names[i]
        for run, argument in zip(_runs_of(exam)[:2], (x, exam.points[0].arguments[i]), strict=True):
            gradient = run.gradient(i)
            if isinstance(gradient, Tensor) and gradient.dtype != argument.dtype:
                mistake = kind_mistake(name, gradient.to(argument.device), argument)
                casts = " (autograd casts it and the digits are lost): use `torch.zeros_like` and the like"
                yield Finding("wrong", str(mistake and mistake.message) + casts, name)
                break


def device(exam: Examination) -> Iterator[Finding]:
    """Check that the device of each gradient is that of its input."""
    for i in exam.subject.differentiable:
        x, gradient = exam.subject.arguments[i], _runs_of(exam)[0].gradient(i)
        if isinstance(gradient, Tensor) and gradient.device != x.device:
            name = exam.subject.names[i]
            message = (
                f"its gradient is on {gradient.device} and {name} is on {x.device}: a gradient is where its value is"
            )
            yield Finding("wrong", message, name)


def low_precision(exam: Examination) -> Iterator[Finding]:
    """Check that in float16 and bfloat16, or complex64, backward runs and gradients have the dtype of their inputs."""
    inputs = [exam.subject.arguments[i] for i in exam.subject.differentiable]
    dtypes = [torch.float32] if any(x.is_complex() for x in inputs) else [torch.float16, torch.bfloat16]
    refused = []
    for to in dtypes:
        try:
            case = upstream_for(exam.subject, cast(exam.subject.arguments, to), 3)
            run = returned_for(exam.subject, case)
        except ForwardError as error:
            refused.append(exam.refused(f"in {to}", error))
            continue
        except BackwardError as error:
            if "not implemented for" in str(error.__cause__):
                refused.append(Finding("unverified", f"in {to}: {exam.subject.where(error.__cause__ or error)}"))
            else:
                yield exam.raised(f"in {to}", error)
            continue
        keeps = all(u is None or u.dtype in (to, torch.complex64) for u in case.upstream)
        for i in exam.subject.differentiable if keeps else ():
            name, gradient = exam.subject.names[i], run.gradient(i)
            expected = case.arguments[i].dtype
            if isinstance(gradient, Tensor) and gradient.dtype != expected and exam.has_dtype(i):
                yield Finding("wrong", f"in {to}, the gradient of {name} is {gradient.dtype}", name)
    if len(refused) == len(dtypes):
        yield from refused
