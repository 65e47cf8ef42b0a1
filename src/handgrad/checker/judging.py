"""From a recording to a report: every gradient of every pass, with its verdict and its reasons."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from handgrad.checker.resolution import Resolution
from handgrad.checker.summary import add_missing, forward_lines
from handgrad.checker.verdicts import Verdicts
from handgrad.claims import ClaimedPass, find_passes
from handgrad.diagnosis.forward import forward_warnings
from handgrad.diagnosis.repair import Patience
from handgrad.errors import NothingToJudgeError
from handgrad.graph import Graph, Value
from handgrad.passes import using_threads
from handgrad.report import Gradient, Pass, Report
from handgrad.tracer import name_modules

if TYPE_CHECKING:
    from handgrad.runner.execution import Execution
    from handgrad.runner.options import Options


def judge(
    graph: Graph,
    backward_calls: Iterable[tuple[int, Value]] = (),
    *,
    gradient: dict[str, str] | None = None,
    loss: str | None = None,
    file: str | None = None,
    notes: Iterable[str] = (),
    explained: bool = True,
    expected: Iterable[Value] | None = None,
) -> Report:
    """Judge every gradient by hand in ``graph``.

    ``gradient`` and ``loss`` are as in `handgrad.claims.find_passes`. Without ``explained`` wrong lines are found
    and not explained. ``expected`` are values whose gradient must be there; without it, the parameters that require a
    gradient, and where one of them is missing also the values with `retain_grad`.

    Raises:
        NothingToJudgeError: there is no loss, no gradient, or the numbers are not finite.
    """
    passes = find_passes(graph, backward_calls, gradient=gradient, loss=loss)
    with using_threads(1):
        return _judge(graph, passes, file, notes, explained, expected)


def _judge(
    graph: Graph,
    passes: list[ClaimedPass],
    file: str | None,
    notes: Iterable[str],
    explained: bool,
    expected: Iterable[Value] | None,
) -> Report:
    judged: list[tuple[ClaimedPass, list[Gradient]]] = []
    patience = Patience()
    for number, claimed in enumerate(passes):
        forward = graph.ancestors(claimed.loss)
        earlier = [p for p in passes[:number] if any(c.of in forward for c in p.claims)]
        known = Resolution(graph, claimed, earlier, passes[:number])
        judged.append((claimed, Verdicts(known, patience, explain=explained).gradients()))
    add_missing(graph, judged, expected)
    last = passes[-1].loss
    return Report(
        passes=tuple(Pass(forward_lines(graph, c.loss), tuple(gradients)) for c, gradients in judged),
        file=file,
        torch=torch.__version__.split("+")[0],
        loss_name=last.name or "loss",
        loss_value=last.value.item(),
        warnings=tuple(forward_warnings(graph, last)),
        notes=tuple(notes),
    )


def judge_execution(execution: Execution, options: Options) -> Report:
    """Judge what `handgrad.runner` ran; called in the child process.

    Raises:
        NothingToJudgeError: as `judge`; the message says what failed in the file, where that is the likely reason.
    """
    name_modules(execution.tracer, execution.namespace)
    try:
        return judge(
            execution.tracer.recording,
            execution.tracer.backward_calls,
            gradient=options.gradient_names,
            loss=options.loss,
            file=str(execution.program.path),
            notes=execution.notes,
        )
    except NothingToJudgeError as error:
        if execution.failures:
            raise NothingToJudgeError(f"{error.message} ({execution.failures[0].text})") from None
        raise
