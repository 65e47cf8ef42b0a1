"""The backward of the forward in somebody's notebook or script, derived where the file was run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handgrad.deriver.derivation import Backward, derive_graph
from handgrad.deriver.function_page import FunctionPage
from handgrad.deriver.result import Derivation
from handgrad.deriver.scope import Scope
from handgrad.errors import DeriveError, NotDifferentiableError, NothingToJudgeError
from handgrad.graph import Binding, Graph, Value
from handgrad.tracer import name_modules

if TYPE_CHECKING:
    from handgrad.runner.execution import Execution
    from handgrad.runner.options import Options


def derive_execution(execution: Execution, options: Options) -> Derivation:
    """Derive the backward of the last loss of a program that has run; called in the child process.

    ``options.asked`` holds ``style``, ``reasons``, ``to``, ``complete`` and ``form``, as `handgrad derive` takes them.

    Raises:
        NothingToJudgeError: there is no loss.
        HandgradError: as `derive`.
    """
    name_modules(execution.tracer, execution.namespace)
    graph, asked = execution.tracer.recording, options.asked
    try:
        binding = last_loss(graph, execution.tracer.backward_calls, options.loss)
    except NothingToJudgeError as error:
        if execution.failures:
            raise NothingToJudgeError(f"{error.message} ({execution.failures[0].text})") from None
        raise
    loss = binding.value
    assert loss is not None
    form, notes = asked.get("form"), list(execution.notes)
    backward = derive_at(graph, binding, style=asked.get("style", "plain"), upstream=form in ("function", "custom-op"))
    if form is not None:
        return _in_form(execution, backward, form, loss.name or "loss", notes)
    wanted = asked.get("to") or None
    if asked.get("complete"):
        wanted = _unwritten(backward, graph, execution, options, notes)
    source = backward.source(reasons=bool(asked.get("reasons")), to=wanted, only_these=bool(asked.get("complete")))
    lines = [
        {
            "gradient": line.target,
            "of": line.of.name if line.of is not None else None,
            "code": line.code,
            "shape": list(map(int, line.shape)),
            "why": line.why,
            "cell": line.statement.source.cell if line.statement is not None else None,
            "line": line.statement.line if line.statement is not None else None,
        }
        for line in backward.lines
        if wanted is None or line.target in wanted or (line.of is not None and line.of.name in wanted)
    ]
    return Derivation(
        str(execution.program.path),
        str(loss.name),
        source,
        lines,
        notes,
        place=[binding.statement.source.cell, _last_line(binding)],
    )


def _last_line(binding: Binding) -> int:
    return binding.statement.node.end_lineno or binding.statement.line


def last_loss(graph: Graph, backward_calls: list[tuple[int, Value]], name: str | None) -> Binding:
    """Return where the last loss got its name.

    Raises:
        NothingToJudgeError: there is none, or the one that is named is no floating number.
    """
    named = [b for b in graph.bindings if b.value is not None and b.value.step is not None]
    if name is not None:
        found = [b for b in named if name in (b.name, str(b.access))]
        if not found:
            raise NothingToJudgeError(f"--loss: no tensor is called {name}")
        value = found[-1].value
        if value is None or not value.is_floating:
            raise NothingToJudgeError(f"--loss: {name} is no floating number")
        return around_all(graph, [b for b in found if b.value is value])
    scalars = [b for b in named if b.value is not None and b.value.is_floating and not b.value.shape]
    called = {value for _, value in backward_calls}
    for fitting in (
        [b for b in scalars if b.value in called],
        [b for b in scalars if b.name.startswith("loss") or b.name in ("nll", "cost")],
        [b for b in scalars if b.value is not None and b.value.requires_grad],
    ):
        if fitting:
            return around_all(graph, [b for b in named if b.value is fitting[-1].value])
    raise NothingToJudgeError(
        "no loss was computed: the forward must end in a scalar of floating type; name it with --loss NAME"
    )


def around_all(graph: Graph, bindings: list[Binding]) -> Binding:
    """Return the innermost of ``bindings`` of one loss whose frame holds all that the loss was computed by."""
    assert bindings[0].value is not None
    frames = {value.step.frame for value in graph.ancestors(bindings[0].value) if value.step and value.requires_grad}
    around = [_scopes(graph, frame) for frame in frames]
    for binding in bindings:
        scope = graph.frames[binding.frame].scope
        if all(scope in scopes for scopes in around):
            return binding
    return bindings[-1]


def _scopes(graph: Graph, frame: int | None) -> set[Any]:
    found = set()
    while frame is not None:
        found.add(graph.frames[frame].scope)
        frame = graph.frames[frame].caller
    return found


def _in_form(execution: Execution, backward: Backward, form: str, loss: str, notes: list[str]) -> Derivation:
    """Return the forward and the backward as one function."""
    file = str(execution.program.path)
    if form == "numpy":
        from handgrad.deriver.numpy_page import as_numpy, numpy_test

        return Derivation(file, loss, as_numpy(backward), [], notes, numpy_test(backward))
    page = FunctionPage(backward)
    page.prove(form)  # type: ignore[arg-type]
    return Derivation(file, loss, page.source(form), [], notes, page.test(form))  # type: ignore[arg-type]


def derive_at(graph: Graph, binding: Binding, *, style: Any = "plain", upstream: bool = False) -> Backward:
    """Return the backward of the loss that ``binding`` names, as it can be pasted below that statement."""
    loss = binding.value
    assert loss is not None
    frame, until = binding.frame, binding.time
    try:
        return derive_graph(graph, [loss], style=style, upstream=upstream, scope=lambda: Scope(graph, frame, until))
    except NotDifferentiableError as error:
        raise NotDifferentiableError(f"{binding.statement.text.splitlines()[0]!r}: {error.message}") from None


def _unwritten(backward: Backward, graph: Graph, execution: Execution, options: Options, notes: list[str]) -> list[str]:
    """Return the gradients that no line of the file computes, as the judge of the file sees it."""
    from handgrad.checker.judging import judge

    try:
        report = judge(
            graph, execution.tracer.backward_calls, gradient=options.gradient_names, loss=options.loss,
            file=str(execution.program.path), notes=[],
        )  # fmt: skip
    except NothingToJudgeError:
        return list(backward.gradients)
    verdicts = {f"d{g.of}": g for g in report.passes[-1].gradients}
    for name, gradient in verdicts.items():
        if gradient.verdict == "wrong":
            notes.append(f"{gradient.name} ({gradient.place}) is wrong: `handgrad check` says why")
        if name in backward.gradients and gradient.name != name and gradient.verdict != "missing":
            notes.append(f"{gradient.name} stands for {name}")
    left = [name for name in backward.gradients if name not in verdicts or verdicts[name].verdict == "missing"]
    if not left:
        raise DeriveError("every gradient has a line already: `handgrad check` judges them")
    return left
