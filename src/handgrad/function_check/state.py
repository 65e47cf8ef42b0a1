"""Checks of what backward does beside returning gradients: what it overwrites, remembers, draws and assumes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import torch
from torch import Tensor

from handgrad.function_check.examination import Examination
from handgrad.function_check.report import Finding, Warned
from handgrad.function_check.subject import Case
from handgrad.function_check.watched import Applied, BackwardError, ForwardError, returned_for

SUBSETS = 16
"""How many subsets of the differentiable inputs are tried, beyond which only each one alone."""


def needs_input_grad(exam: Examination) -> Iterator[Finding]:
    """Check that an input that needs a gradient gets the same one, whichever others need one."""
    inputs = exam.subject.differentiable
    sizes = range(1, len(inputs)) if 2 ** len(inputs) <= SUBSETS else (1,)
    reported = set()
    for subset in (s for size in sizes for s in combinations(inputs, size)):
        names = " and ".join(exam.subject.names[i] for i in subset)
        what = f"where only {names} need{'s' if len(subset) == 1 else ''} a gradient"
        try:
            run = returned_for(exam.subject, exam.case, needs=subset)
        except ForwardError as error:
            yield Finding("wrong", exam.refused(what, error).message)
            return
        except BackwardError as error:
            yield exam.raised(what, error)
            return
        for finding in exam.compared(what, run, exam.base(), only=subset):
            if finding.input not in reported:
                yield finding
            reported.add(finding.input)


def overwritten_input(exam: Examination) -> Iterator[Finding]:
    """Check that neither forward nor backward changes an input in place, unless ``ctx.mark_dirty`` says so."""
    applied = Applied(exam.subject, exam.case.arguments)
    for i in applied.overwritten:
        name = exam.subject.names[i]
        message = (
            f"forward overwrites {name} without `ctx.mark_dirty({name})`: work on a copy, or mark it and return it"
        )
        yield Finding("wrong", message, name)
    for i in exam.base().overwritten_inputs:
        name = exam.subject.names[i]
        yield Finding("wrong", f"backward overwrites the input {name} of the caller: work on a copy", name)


def overwritten_upstream(exam: Examination) -> Iterator[Finding]:
    """Check that backward does not change the upstream gradient, which others may read."""
    for k in exam.base().overwritten_upstream:
        which = f" of output {k}" if len(exam.case.upstream) > 1 else ""
        message = f"backward overwrites its upstream gradient{which}, which belongs to autograd: work on a copy"
        yield Finding("wrong", message)


def overwritten_saved(exam: Examination) -> Iterator[Finding]:
    """Check that backward does not change a saved tensor, which a second backward reads again."""
    for saved in exam.base().overwritten_saved:
        position, shape = saved.split(" ", 1)
        message = f"backward overwrites ctx.saved_tensors[{position}], of shape {shape}: work on a copy"
        yield Finding("wrong", message)


def second_backward(exam: Examination) -> Iterator[Finding]:
    """Check that with ``retain_graph=True`` backward runs again and returns the same."""
    applied = Applied(exam.subject, exam.case.arguments)
    first = applied.backward(exam.case.upstream, again=True)
    what = "in a second backward of one forward (retain_graph=True)"
    try:
        second = applied.backward(exam.case.upstream, again=True)
    except BackwardError as error:
        yield exam.raised(what, error)
        return
    yield from exam.compared(what, second, first)


def leaked_state(exam: Examination) -> Iterator[Finding]:
    """Check that two calls of ``apply`` before their backwards do not meet: no state is kept on the class."""
    first, second = exam.points[0], exam.case
    if len(exam.points) == 1:
        yield Finding("unverified", "there is one point only, so two calls would be the same")
        return
    a = Applied(exam.subject, first.arguments)
    b = Applied(exam.subject, second.arguments)
    cure = "keep what backward needs with ctx.save_for_backward, and not on the class or in a global"
    for applied, case, number, what in (
        (a, first, 0, "when apply was called again before its backward"),
        (b, second, 1, "when the backward of an earlier call has run"),
    ):
        try:
            found = list(exam.compared(what, applied.backward(case.upstream), exam.base(number)))
        except BackwardError as error:
            found = [exam.raised(what, error)]
        if found:
            yield Finding("wrong", f"{found[0].message}: {cure}", found[0].input)
            return


def deterministic(exam: Examination) -> Iterator[Finding]:
    """Check that backward returns the same twice, whatever the state of the random generators."""
    for draw in (2, 3):
        try:
            run = returned_for(exam.subject, exam.case, draw=draw)
        except BackwardError as error:
            yield exam.raised("in another run", error)
            return
        if found := list(exam.compared("in another run on the same numbers", run, exam.base())):
            cure = "what forward drew must be saved, and nothing drawn again"
            yield Finding("wrong", f"{found[0].message}: {cure}", found[0].input)
            return


def unused_outputs(exam: Examination) -> Iterator[Finding]:
    """Check that outputs that are not used count as zero, or are None after ``set_materialize_grads(False)``."""
    upstream = exam.case.upstream
    outputs = [k for k, u in enumerate(upstream) if u is not None]
    for only in outputs:
        zeros = tuple(u if u is None or k == only else torch.zeros_like(u) for k, u in enumerate(upstream))
        alone = tuple(u if k == only else None for k, u in enumerate(upstream))
        what = f"where only output {only} is used"
        try:
            expected = returned_for(exam.subject, Case(exam.case.arguments, zeros))
            run = returned_for(exam.subject, Case(exam.case.arguments, alone))
        except BackwardError as error:
            yield exam.raised(what, error)
            return
        for finding in exam.compared(what, run, expected):
            i = exam.subject.names.index(str(finding.input))
            if run.gradient(i) is not None or bool((expected.gradient(i) != 0).any()):
                yield finding


def saved_on_ctx(exam: Examination) -> Iterator[Warned]:
    """Warn of inputs and outputs kept as attributes of ctx, which leak and miss autograd's checks."""
    applied = exam.applied
    named = {id(x): f"the input {exam.subject.names[i]}" for i, x in enumerate(applied.arguments)}
    named |= {id(x): f"output {k}" if k else "the output" for k, x in enumerate(applied.outputs)}
    for attribute, value in vars(applied.ctx).items() if hasattr(applied.ctx, "__dict__") else ():
        for x in value if isinstance(value, list | tuple) else (value,):
            if isinstance(x, Tensor) and id(x) in named:
                yield Warned(
                    "saved-on-ctx",
                    f"ctx.{attribute} holds {named[id(x)]}: kept by ctx.save_for_backward it would not leak memory, "
                    "and autograd would notice when it is overwritten",
                )
