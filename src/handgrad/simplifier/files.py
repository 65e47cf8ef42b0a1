"""The closed forms in the backward of somebody's notebook or script, found where the file was run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handgrad.deriver.files import derive_at, last_loss
from handgrad.errors import NothingToJudgeError
from handgrad.simplifier.result import Simplified
from handgrad.simplifier.simplification import simplify
from handgrad.tracer import name_modules

if TYPE_CHECKING:
    from handgrad.runner.execution import Execution
    from handgrad.runner.options import Options


def simplify_execution(execution: Execution, options: Options) -> Simplified:
    """Find the closed forms for the last loss of a program that has run; called in the child process.

    Raises:
        NothingToJudgeError: there is no loss.
        HandgradError: as `derive`.
    """
    name_modules(execution.tracer, execution.namespace)
    graph = execution.tracer.recording
    try:
        binding = last_loss(graph, execution.tracer.backward_calls, options.loss)
    except NothingToJudgeError as error:
        if execution.failures:
            raise NothingToJudgeError(f"{error.message} ({execution.failures[0].text})") from None
        raise
    found = simplify(derive_at(graph, binding))
    forms = [
        {
            "gradient": form.gradient,
            "head": form.head,
            "end": form.end,
            "code": [*form.prelude, form.code],
            "replaces": form.replaces,
            "proof": [step._asdict() for step in form.proof],
        }
        for form in found
    ]
    return Simplified(str(execution.program.path), str(binding.name), str(found), forms, list(execution.notes))
