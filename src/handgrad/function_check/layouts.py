"""Checks with the same numbers in another layout: strided inputs, strided upstream gradients, and no rows at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from handgrad.function_check.examination import Examination
from handgrad.function_check.report import Finding
from handgrad.function_check.subject import Case
from handgrad.function_check.truth import by_autograd
from handgrad.function_check.variants import LAYOUTS, UPSTREAM_LAYOUTS, emptied, upstream_for
from handgrad.function_check.watched import BackwardError, ForwardError, returned_for


def _laid_out(case: Case, layout: Callable[[Tensor], Tensor | None], chosen: tuple[int, ...]) -> Case | None:
    laid = {i: layout(case.arguments[i]) for i in chosen}
    if all(x is None for x in laid.values()):
        return None
    arguments = tuple(x if laid.get(i) is None else laid[i] for i, x in enumerate(case.arguments))
    return Case(arguments, case.upstream)


def strided_inputs(exam: Examination) -> Iterator[Finding]:
    """Check that transposed, strided and expanded inputs give the gradients of contiguous ones."""
    refused: list[Finding] = []
    for i in exam.subject.differentiable:
        name = exam.subject.names[i]
        for layout, change in LAYOUTS.items():
            case = _laid_out(exam.case, change, (i,))
            if case is None:
                continue
            dense = Case(tuple(x.contiguous() if isinstance(x, Tensor) else x for x in case.arguments), case.upstream)
            what = f"where {name} is {layout}"
            try:
                expected = returned_for(exam.subject, dense)
            except (ForwardError, BackwardError):
                continue
            try:
                found = list(exam.compared(what, returned_for(exam.subject, case), expected))
            except ForwardError as error:
                refused.append(exam.refused(what, error))
                continue
            except BackwardError as error:
                found = [exam.raised(what, error)]
            if found:
                yield from found[:1]
                break
    refused = [f for f in refused if "is expanded" not in f.message] or refused[:0]
    yield from refused[:1]


def strided_upstream(exam: Examination) -> Iterator[Finding]:
    """Check that transposed, strided and expanded upstream gradients give the gradients of contiguous ones."""
    for k, u in enumerate(exam.case.upstream):
        for layout, change in UPSTREAM_LAYOUTS.items() if u is not None else ():
            laid = change(u) if u is not None else None
            if laid is None:
                continue
            upstream = (*exam.case.upstream[:k], laid, *exam.case.upstream[k + 1 :])
            dense = (*exam.case.upstream[:k], laid.contiguous(), *exam.case.upstream[k + 1 :])
            why = ", as `.sum()` makes it" if layout == "constant" else ""
            shape = "expanded from one number" if layout == "constant" else layout
            what = f"where the upstream gradient{_of_output(exam, k)} is {shape}{why}"
            try:
                expected = returned_for(exam.subject, Case(exam.case.arguments, dense))
            except BackwardError:
                continue
            try:
                run = returned_for(exam.subject, Case(exam.case.arguments, upstream))
                found = list(exam.compared(what, run, expected))
            except BackwardError as error:
                found = [exam.raised(what, error)]
            if found:
                yield from found[:1]
                break


def _of_output(exam: Examination, k: int) -> str:
    return f" of output {k}" if len(exam.case.upstream) > 1 else ""


def empty_batch(exam: Examination) -> Iterator[Finding]:
    """Check that a batch of no rows gives gradients of the right shapes."""
    refused = []
    for names, arguments in emptied(exam.subject, exam.case.arguments):
        what = f"with no rows in {names}"
        try:
            case = upstream_for(exam.subject, arguments, 8)
        except ForwardError as error:
            refused.append(exam.refused(what, error))
            continue
        if not any(u is not None for u in case.upstream):
            continue
        try:
            run = returned_for(exam.subject, case)
        except BackwardError as error:
            if isinstance(by_autograd(exam.subject, case), str) and isinstance(
                by_autograd(exam.subject, exam.case), dict
            ):
                where = exam.subject.where(error.__cause__ or error)
                refused.append(Finding("unverified", f"{what}, backward raises {where}, and autograd's own raises too"))
                continue
            yield exam.raised(what, error)
            return
        except ForwardError as error:
            refused.append(exam.refused(what, error))
            continue
        truth = by_autograd(exam.subject, case)
        for i in exam.subject.differentiable:
            name, gradient, expected = exam.subject.names[i], run.gradient(i), case.arguments[i]
            if i in exam.misshapen:
                continue
            if not isinstance(gradient, Tensor):
                yield Finding("wrong", f"{what}, the gradient of {name} is {gradient}", name)
            elif gradient.shape != expected.shape:
                sizes = f"{tuple(gradient.shape)} for {tuple(expected.shape)}"
                yield Finding("wrong", f"{what}, the gradient of {name} has shape {sizes}", name)
            elif isinstance(truth, dict) and i not in exam.suspects and _differs(exam, gradient, truth[i]):
                largest = float(gradient.detach().to(truth[i].dtype).abs().max())
                message = f"{what}, the gradient of {name} is not autograd's: its largest entry is {largest:.1e}"
                yield Finding("wrong", message, name)
        return
    yield from refused[:1]


def _differs(exam: Examination, gradient: Tensor, truth: Tensor) -> bool:
    return gradient.numel() > 0 and bool(truth.isfinite().all()) and not exam.same(gradient, truth)
