"""The expected lines beside a report: what `handgrad derive` writes where a gradient is wrong or missing.

They are added when all is judged: the judge knows no rule, and no verdict depends on what stands here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from handgrad.checker.judging import judge_execution as judge_alone
from handgrad.claims import find_passes
from handgrad.deriver.derivation import Backward
from handgrad.deriver.files import around_all, derive_at
from handgrad.errors import HandgradError
from handgrad.graph import Graph, Value
from handgrad.report import Gradient, Report

if TYPE_CHECKING:
    from handgrad.runner.execution import Execution
    from handgrad.runner.options import Options

UNANSWERED = ("wrong", "missing")


def judge_execution(execution: Execution, options: Options) -> Report:
    """Judge what `handgrad.runner` ran, and add the expected lines; called in the child process.

    Raises:
        NothingToJudgeError: there is no loss or no gradient.
    """
    report = judge_alone(execution, options)
    if not any(gradient.verdict in UNANSWERED for gradient in report.gradients):
        return report
    graph = execution.tracer.recording
    passes = find_passes(graph, execution.tracer.backward_calls, gradient=options.gradient_names, loss=options.loss)
    return with_expected(report, graph, [claimed.loss for claimed in passes])


def with_expected(report: Report, graph: Graph, losses: Iterable[Value]) -> Report:
    """Return ``report`` with the expected lines of what is wrong or missing; ``losses`` are those of its passes."""
    passes = []
    for judged, loss in zip(report.passes, losses, strict=True):
        if any(gradient.verdict in UNANSWERED for gradient in judged.gradients):
            backward = _derived(graph, loss)
            if backward is not None:
                called = {g.of: g.name for g in judged.gradients if g.name.isidentifier()}
                answered = tuple(_answered(gradient, backward, called) for gradient in judged.gradients)
                judged = replace(judged, gradients=answered)
        passes.append(judged)
    return replace(report, passes=tuple(passes))


def _derived(graph: Graph, loss: Value) -> Backward | None:
    bindings = [binding for binding in graph.bindings if binding.value is loss]
    if not bindings:
        return None
    try:
        return derive_at(graph, around_all(graph, bindings))
    except HandgradError:
        return None  # a forward that cannot be derived can be judged all the same
    except RecursionError:
        return None


def _answered(gradient: Gradient, backward: Backward, called: dict[str, str]) -> Gradient:
    if gradient.verdict not in UNANSWERED:
        return gradient
    lines = [line for line in backward.lines if line.of is not None and line.of.name == gradient.of]
    if not lines:
        return gradient
    names = {line.target: called[str(line.of.name)] for line in backward.lines if line.of and line.of.name in called}
    code = "\n".join(row for line in lines for row in line.code)
    code = re.sub(r"\b\w+\b", lambda word: names.get(word[0], word[0]), code)
    reasons = dict.fromkeys(line.why for line in lines)
    return replace(gradient, expected=code, reason="; ".join(reasons))
