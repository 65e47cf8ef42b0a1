"""Checks of the values: at two points, with repeated indices, with ties, and whether given tolerances see anything."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from handgrad.function_check.examination import Examination
from handgrad.function_check.report import Finding, Verdict
from handgrad.function_check.subject import Arguments
from handgrad.function_check.truth import by_autograd
from handgrad.function_check.variants import repeated, tied, upstream_for
from handgrad.function_check.watched import BackwardError, ForwardError

ALLCLOSE = {"rtol": 1e-5, "atol": 1e-8}
GRADCHECK = {"rtol": 1e-3, "atol": 1e-5}


def values(exam: Examination) -> Iterator[Finding]:
    """Check that each gradient is the vector-Jacobian product, at two points, through each output."""
    for i, found in exam.judged.items():
        wrong = [f for f in found if f.verdict == "wrong"]
        unverified = [f for f in found if f.verdict == "unverified"]
        if wrong:
            yield wrong[-1] if len(wrong) == len(found) else wrong[0]
        elif unverified and found[len(exam.points) - 1].verdict == "unverified":
            yield unverified[-1]
        else:
            remarks = [f for f in found if f.message]
            yield from (Finding("right", f.message, f.input) for f in remarks[:1])
        if not found and isinstance(exam.base().gradient(i), Tensor):
            message = f"the gradient of {exam.subject.names[i]} has not its shape, so its values were not compared"
            yield Finding("unverified", message, exam.subject.names[i])


def _elsewhere(exam: Examination, what: str, arguments: Arguments, purpose: int) -> Iterator[Finding]:
    """Yield what is wrong with the values for other arguments, where they were right before."""
    try:
        case = upstream_for(exam.subject, arguments, purpose)
        judged = exam.judge(case)
    except ForwardError as error:
        yield exam.refused(what, error)
        return
    except BackwardError as error:
        yield exam.raised(what, error)
        return
    for i, finding in judged.items():
        if i not in exam.suspects and finding.message:
            yield Finding(finding.verdict, f"{what}, {finding.message}", finding.input)


def repeated_indices(exam: Examination) -> Iterator[Finding]:
    """Check that where an index comes twice, both contributions are added."""
    for i, arguments in repeated(exam.subject, exam.case.arguments):
        name = exam.subject.names[i]
        for finding in _elsewhere(exam, f"with repeated entries in {name}", arguments, 5):
            cure = ": add with `index_add_`, or `index_put_(..., accumulate=True)`" * (finding.verdict == "wrong")
            yield Finding(finding.verdict, finding.message + cure, finding.input)


def ties(exam: Examination) -> Iterator[Finding]:
    """Check that where entries are equal, the gradient is a subgradient."""
    found, refused, runs = [], [], 0
    for name, arguments in tied(exam.subject, exam.points[0].arguments):
        findings = list(_elsewhere(exam, f"with {name}", arguments, 6))
        undecided = [f for f in findings if f.verdict == "unverified"]
        if name.startswith("zeros"):  # many functions are not defined there
            findings = [f for f in findings if f not in undecided]
        elif undecided and not any(f.input for f in undecided):
            refused += findings
            continue
        runs += 1
        found += findings
    yield from found if runs else refused


def tolerance(exam: Examination, atol: float | None, rtol: float | None) -> Iterator[Finding]:
    """Check that a zero gradient does not pass with the tolerances that are asked about; the usual ones are noted."""
    given = {
        "atol": ALLCLOSE["atol"] if atol is None else atol,
        "rtol": ALLCLOSE["rtol"] if rtol is None else rtol,
    }
    truths = by_autograd(exam.subject, exam.points[0])
    gradients: dict[int, Tensor] = truths if isinstance(truths, dict) else {}
    for i in exam.subject.differentiable:
        name = exam.subject.names[i]
        truth = gradients.get(i, exam.base(0).gradient(i))
        if not isinstance(truth, Tensor) or not truth.numel():
            continue
        largest = float(truth.abs().max())
        if not largest:
            continue
        for tool, defaults in (("torch.allclose", ALLCLOSE), ("torch.autograd.gradcheck", GRADCHECK)):
            if _passes_zero(truth, **defaults):
                exam.notes.append(
                    f"with its default tolerances {tool} would take zero for the gradient of {name}, "
                    f"whose largest entry is {largest:.1e}"
                )
        if (atol is not None or rtol is not None) and _passes_zero(truth, **given):
            verdict: Verdict = "wrong"
            message = (
                f"atol={given['atol']:g}, rtol={given['rtol']:g} cannot fail: zero passes for the gradient of {name}, "
                f"whose largest entry is {largest:.1e}; take atol well below that, or none"
            )
            yield Finding(verdict, message, name)


def _passes_zero(truth: Tensor, atol: float, rtol: float) -> bool:
    return torch.allclose(torch.zeros_like(truth), truth, rtol=rtol, atol=atol)
