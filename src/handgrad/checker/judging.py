"""From a recording to a report: every gradient of every pass, with its verdict and its reasons."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from handgrad.checker.hidden import Hidden, Series, apart
from handgrad.checker.lines import Judged, Lines
from handgrad.checker.truth import FinePoint, Point, autograd_gradients
from handgrad.claims import Claim, ClaimedPass, Event, assigned, find_passes, names_of_gradient
from handgrad.diagnosis import Mistake
from handgrad.diagnosis.calls import cure_of_call
from handgrad.diagnosis.explanation import explain
from handgrad.diagnosis.forward import forward_warnings
from handgrad.diagnosis.hazards import alias_hazards, early_reads, wrong_references
from handgrad.diagnosis.problem import Problem, WrongBlock
from handgrad.diagnosis.repair import Patience, find_cure
from handgrad.diagnosis.shape import kind_mistake, shape_mistake
from handgrad.errors import NothingToJudgeError
from handgrad.graph import Binding, Escape, Graph, Value
from handgrad.passes import using_threads
from handgrad.precision import FEW_DIGITS, close, fitted, largest
from handgrad.report import Finding, ForwardLine, Gradient, HeatMap, Pass, Place, Report, Verdict
from handgrad.source import Statement, enclosing
from handgrad.tracer import name_modules

if TYPE_CHECKING:
    from handgrad.runner.execution import Execution
    from handgrad.runner.options import Options

JITTERS = (0.15, 0.04, 0.01, 0.0)
TILES = 32


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
        judge = _PassJudge(graph, claimed, earlier, passes[:number], explain=explained, patience=patience)
        judged.append((claimed, judge.gradients()))
    _add_missing(graph, judged, expected)
    last = passes[-1].loss
    return Report(
        passes=tuple(Pass(_forward_lines(graph, c.loss), tuple(gradients)) for c, gradients in judged),
        file=file,
        torch=torch.__version__.split("+")[0],
        loss_name=last.name or "loss",
        loss_value=last.value.item(),
        warnings=tuple(forward_warnings(graph, last)),
        notes=tuple(notes),
    )


class _PassJudge:
    def __init__(
        self,
        graph: Graph,
        claimed: ClaimedPass,
        same_loss: list[ClaimedPass],
        earlier: list[ClaimedPass],
        *,
        explain: bool,
        patience: Patience,
    ) -> None:
        self.patience = patience
        self.graph, self.claimed, self.loss, self.explain = graph, claimed, claimed.loss, explain
        self.claims = [claim for claim in claimed.claims if claim.final is not None]
        ancestors = graph.ancestors(self.loss)
        self.before = [c for p in same_loss for c in p.claims if c.final is not None and c.of in ancestors]
        used = {v for p in earlier for c in p.claims for v in c.values if v.step is not None} & ancestors
        boundary = max((v.time for v in used), default=0)
        self.stop = lambda value: value.is_parameter or value.time <= boundary or value.grad_of is not None
        if not bool(torch.isfinite(self.loss.value).all()):
            raise NothingToJudgeError(
                f"{self.loss.name or 'the loss'} is {self.loss.value.item()}: there are no gradients to judge; "
                "look for a division by zero, a log of zero, or NaN in the data"
            )

    # -- points

    def _points(self, targets: list[Value]) -> list[Point]:
        escapes = self._escapes()
        points = []
        for seed in (1, 2):
            for jitter in JITTERS:
                point = Point(self.graph, self.loss, targets, seed=seed, jitter=jitter, stop=self.stop)
                if point.is_usable and not point.steers_elsewhere(escapes):
                    break
            points.append(point)
        return points

    def _escapes(self) -> list[Escape]:
        """Return the numbers taken out of the forward that may have steered it."""
        forward = self.graph.ancestors(self.loss)
        return [e for e in self.graph.escapes if e.value in forward and e.value is not self.loss and _steers(e)]

    # -- the claims of the pass

    def gradients(self) -> list[Gradient]:
        unfinished = [c for c in self.claimed.claims if c.final is None]
        everyone = [*self.before, *self.claims]
        failed = [claim for claim in unfinished if claim.failure]
        candidates = list(dict.fromkeys(v for claim in [*everyone, *failed] for v in claim.candidates))
        self.points = self._points(candidates)
        self.given: dict[Value, Value] = {}
        self.lines = Lines(self.graph, self.points, self.given)
        self.of: dict[Claim, Value] = {}
        self.series: dict[Claim, bool] = {}
        read_grads = {v: v.grad_of for v in self.graph.values if v.grad_of is not None and v.grad_of in candidates}
        for claim in sorted(everyone, key=lambda c: c.events[0].bindings[0].time):
            self._resolve(claim, read_grads)
        self.of |= {claim: claim.of for claim in failed}
        self.stopped = bool(failed)
        self.lines.settle([of for claim, of in self.of.items() if claim not in self.series])
        self._prepare_numbers(candidates)
        self.results: dict[Claim, Judged | None] = {}
        for claim in self.claims:
            if claim not in self.series:
                self.results[claim] = self.lines.judge(claim, self.of[claim])
        self.hidden: Hidden | None = None
        self._look_behind()
        self.hazards, self.spoilt = alias_hazards(self.graph, self.claims, self.of)
        self.early = early_reads(self.claims, self.given)
        found = [self._verdict(claim) for claim in self.claims]
        found += [self._failed(claim) if claim.failure else self._unfinished(claim) for claim in unfinished]
        found += self._stopped_elsewhere()
        if self.hidden is not None:
            found += [self._hidden(series, judged) for series, judged in self.hidden.wrong_lines()]
        return found

    def _look_behind(self) -> None:
        """Where something is wrong: give also the gradients that belong to no named value, and judge it again."""
        wrong = [claim for claim, judged in self.results.items() if judged is not None and not self._is_right(judged)]
        loops = [claim for claim, is_right in self.series.items() if not is_right and claim in self.claims]
        if not wrong and not loops:
            return
        hidden = Hidden(self.graph, self.lines, [(claim, self.of[claim]) for claim in (*wrong, *loops)])
        if hidden.series:
            self.hidden, self.lines = hidden, hidden.lines
        for claim in loops:
            judged = self.lines.judge(apart(claim), self.of[claim]) if len(claim.candidates) == 1 else None
            if judged is not None and judged.thrown_away and not judged.wrong_blocks:
                self.results[claim] = judged  # each turn throws away what the one before has computed
                del self.series[claim]
        for claim in wrong:
            in_loop = any(isinstance(event.statement.node, ast.For | ast.While) for event in claim.events)
            if not hidden.series and not in_loop:
                continue
            judged = self.lines.judge(claim, self.of[claim])
            if judged is not None and in_loop and not self._is_right(judged):
                judged = self._each_turn(judged)
            self.results[claim] = judged

    def _each_turn(self, judged: Judged) -> Judged | None:
        """Judge the lines of loops each time round: the first times and the last, and all only if these are right."""
        claim = apart(judged.claim)
        turns: dict[Statement, list[Event]] = {}
        for event in claim.events:
            turns.setdefault(event.statement, []).append(event)
        some = [event for events in turns.values() for event in dict.fromkeys([*events[:2], events[-1]])]
        if len(some) < len(claim.events):
            wrong = self.lines.wrong_additions(claim, judged.of, some)
            if wrong:
                return replace(judged, claim=claim, blocks=wrong, missing=frozenset(), twice=frozenset())
        return self.lines.judge(claim, judged.of)

    def _hidden(self, series: Series, judged: Judged) -> Gradient:
        """Return the verdict about a gradient that belongs to no named value."""
        of, final = judged.of, judged.claim.final
        assert final is not None
        mistakes = tuple(self._explain(judged))
        return Gradient(
            series.name,
            of.name or (of.step.text if of.step is not None else "?"),
            "wrong",
            *mistakes[0].place,
            "\n".join(dict.fromkeys(event.last.statement.text for event in judged.claim.events)),
            final.shape,
            of.shape,
            mistakes=mistakes,
        )

    def _resolve(self, claim: Claim, read_grads: dict[Value, Value]) -> None:
        """Decide of which value ``claim`` is the gradient, and let its values be given to others."""
        self.given |= {v: of for v, of in read_grads.items() if of not in claim.candidates and v not in self.given}
        if _is_series(claim):
            self.series[claim] = self._series_is_right(claim)
            self.of[claim] = claim.of
            return
        chosen = claim.candidates[0]
        options = list(claim.candidates)
        pairs = [of for of, _ in claim.compared_with if of not in options]
        for option in [*options, *pairs] if len(options) + len(pairs) > 1 else []:
            if self._matches(claim, option):
                chosen = option
                break
        self.of[claim] = chosen
        if claim.final is not None:
            self.lines.finals.add(claim.final)
        for binding in claim.bindings:
            value = binding.value
            if value is not None and value not in self.given and value not in self.points[0].forward_values:
                self.given[value] = chosen

    def _matches(self, claim: Claim, of: Value) -> bool:
        assert claim.final is not None
        own = self.lines.own_values(claim, of)
        return self._fits(claim.final, of, own, self.lines.carried(claim))

    def _fits(self, value: Value, of: Value, own: set[Value], carried: dict[Value, list[Tensor]] | None = None) -> bool:
        totals = self.lines.evaluate(value, of, own, carried or {})
        if totals is None:
            return False
        reads = self.lines.reads_of(value, of, own)
        for total, point in zip(totals, self.points, strict=True):
            shaped = fitted(total, of.shape)
            if shaped is None or not close(shaped, point.through(of, reads), FEW_DIGITS):
                return False
        return True

    def _series_is_right(self, claim: Claim) -> bool:
        """Whether each value that a loop gives the name is the gradient of one of the values of the forward."""
        ends = _ends_of_series(claim)
        open_ = list(claim.candidates)
        for end in ends:
            match = next((of for of in open_ if end.shape == of.shape and self._fits(end, of, set(claim.values))), None)
            if match is None:
                return False
            open_.remove(match)
        return True

    # -- numbers as they came out

    def _prepare_numbers(self, candidates: list[Value]) -> None:
        wanted = [*candidates, self.loss]
        self.autograd = autograd_gradients(self.graph, self.loss, wanted, self.stop, None)
        self.truth = autograd_gradients(self.graph, self.loss, wanted, self.stop, torch.float64)
        self.scale = max((largest(t) for t in self.truth.values()), default=0.0)
        self.here = Point(self.graph, self.loss, [], seed=3, jitter=0.0, stop=self.stop)

    def _numbers_agree(self, claim: Claim) -> bool:
        assert claim.final is not None
        try:
            given = {v: tensors[0] for v, tensors in self.lines.carried(claim).items()}
            found = self.here.evaluate(claim.final, given)
        except (RuntimeError, IndexError, ValueError, TypeError):
            found = claim.final.value.double()
        truth = self.truth[self.of[claim]]
        shaped = fitted(found, tuple(truth.shape))
        if shaped is None:
            return False
        recorded = fitted(claim.final.value.double(), tuple(truth.shape))
        if (
            claim.carried is None
            and recorded is not None
            and largest(recorded - shaped) > 1e-3 * (largest(truth) + self.scale)
        ):
            return False  # what the name stood for was changed behind its back
        noise = max(2.0**-40 * self.scale, FEW_DIGITS * largest(truth))
        return largest(shaped - truth) <= noise

    # -- verdicts

    def _verdict(self, claim: Claim) -> Gradient:
        of = self.of[claim]
        agree = self._numbers_agree(claim)
        if claim in self.series:
            return self._series_verdict(claim)
        judged = self.results[claim]
        mistakes: list[Finding] = []
        note: str | None = None
        verdict: Verdict = "right"
        if any(v.grad_of is of for v in self.graph.ancestors(claim.final or of)):
            verdict, mistakes = "unverified", [self._from_autograd(claim, of)]
        elif judged is None:
            verdict, note = ("right" if agree else "unverified"), "could not be run again: judged by its numbers alone"
        elif not self._is_right(judged):
            is_open = self.stopped and not self._is_read_later(claim)
            if is_open and not judged.wrong_blocks and not judged.twice and not judged.thrown_away:
                return replace(
                    self._gradient(claim, of, "missing", (), None), note="not complete: the pass stopped before"
                )
            verdict = "wrong"
            mistakes = self._explain(judged)
        else:
            note = judged.note
            if judged.shape_differs:
                verdict = "wrong"
                mistake = shape_mistake(of.name or claim.name, tuple(judged.totals[0].shape), of.shape)
                if mistake:
                    mistakes.append(self._at(*self._shaped(mistake, judged)))
        if verdict == "right" and claim.final is not None and claim.final.shape == of.shape:
            mistake = kind_mistake(of.name or "the value", claim.final.value, of.value)
            if mistake:
                verdict, mistakes = "wrong", [self._at(mistake, claim.events[-1].last.statement)]
        early = self.early.get(claim, [])
        if early:
            verdict = "wrong"
            mistakes += [self._at(mistake, statement) for mistake, statement in early]
        if claim in self.hazards:
            mistake, statement = self.hazards[claim]
            verdict, mistakes = "wrong", [*mistakes, self._at(mistake, statement)]
        spoilt = self.spoilt.get(claim)
        if spoilt is not None and verdict == "right":
            verdict, note = "inherited", f"right when it is computed, and changed by {spoilt} afterwards"
        if verdict == "right" and not agree and not self._escaped(claim):
            verdict = "inherited" if self._reads_any(claim) else "wrong"
            if verdict == "wrong":
                mistakes.append(self._at(self._unexplained(claim), claim.events[-1].last.statement))
        for mistake, statement in wrong_references(claim, of, self.graph):
            mistakes.append(self._at(mistake, statement))
            verdict = "wrong" if verdict == "right" else verdict
        return self._gradient(claim, of, verdict, tuple(mistakes), note)

    def _is_read_later(self, claim: Claim) -> bool:
        """Whether a later line of another gradient reads it, so that its author held it to be complete."""
        last = claim.events[-1].last
        return any(
            binding.time > last.time and binding.frame == last.frame and claim.name in binding.statement.names
            for other in self.claimed.claims
            if other is not claim
            for binding in other.bindings
        )

    def _is_right(self, judged: Judged) -> bool:
        if judged.is_right:
            return True
        path = self.lines.unclaimed_zero_path(judged) if not judged.missing else None
        if path is not None:
            judged.note = f"leaves out the branch through {path.name}, which is zero for every input"
            return True
        return False

    def _escaped(self, claim: Claim) -> bool:
        return any(e.value in self.graph.ancestors(claim.final or claim.of) for e in self.graph.escapes)

    def _reads_any(self, claim: Claim) -> bool:
        judged = self.results.get(claim)
        return bool(judged and judged.reads - {self.loss})

    def _shaped(self, mistake: Mistake, judged: Judged) -> tuple[Mistake, Statement]:
        """Add to a mistake of shape the line that has the right one, if a small change gives it."""
        statement = judged.claim.events[-1].last.statement
        if not self.explain:
            return mistake, statement
        problem = Problem.of_claim(self.graph, self.lines, judged, self.of, self.claims, self.patience)
        cure = find_cure(problem, WrongBlock(judged.claim.events, judged.totals, judged.reads))
        return (mistake, statement) if cure is None else (mistake._replace(fix=cure.text), cure.statement)

    def _unexplained(self, claim: Claim) -> Mistake:
        return Mistake(
            "stale",
            f"the line is the right formula, and {claim.name} was still computed from other numbers than those that "
            f"{self.loss.name or 'the loss'} was: something it reads was changed or computed again in between",
        )

    def _from_autograd(self, claim: Claim, of: Value) -> Finding:
        message = f"{claim.name} is taken from autograd's own gradient of {of.name}: nothing was computed by hand"
        return self._at(Mistake("from-autograd", message), claim.events[0].last.statement)

    def _series_verdict(self, claim: Claim) -> Gradient:
        of = self.of[claim]
        if self.series[claim]:
            return self._gradient(claim, of, "right", (), "each time the loop computes it")
        note = "bound several times in a loop; judged by what is made of it"
        return self._gradient(claim, of, "unverified", (), note)

    def _explain(self, judged: Judged) -> list[Finding]:
        problem = Problem.of_claim(self.graph, self.lines, judged, self.of, self.claims, self.patience)
        if not self.explain:
            statement = problem.statement
            return [self._at(Mistake("unknown", "this line is wrong"), statement)]
        return [self._at(mistake, statement) for mistake, statement in explain(problem)]

    @staticmethod
    def _at(mistake: Mistake, statement: Statement) -> Finding:
        place = Place(statement.source.cell, statement.line)
        return Finding(mistake.code, mistake.kind, *place, mistake.message, mistake.fix)

    def _gradient(
        self, claim: Claim, of: Value, verdict: Verdict, mistakes: tuple[Finding, ...], note: str | None
    ) -> Gradient:
        assert claim.final is not None
        found, autograd, truth = claim.final.value, self.autograd[of], self.truth[of]
        if claim.carried is not None and claim.carried.shape == claim.final.shape:
            found = found - claim.carried.value
        last = claim.events[-1].last.statement
        shape = tuple(found.shape)
        same_shape = shape == of.shape
        exact = same_shape and found.dtype == autograd.dtype and bool((found == autograd).all())
        numbers = _numbers(found, autograd, truth)
        bits: Literal["exact", "rounding"] | None = None
        if verdict == "right":
            bits = "exact" if exact else "rounding"
        place = mistakes[0].place if mistakes and verdict == "wrong" else Place(last.source.cell, last.line)
        return Gradient(
            name=claim.name,
            of=of.name or "?",
            verdict=verdict,
            cell=place.cell,
            line=place.line,
            code="\n".join(dict.fromkeys(e.last.statement.text for e in claim.events)),
            shape=shape,
            expected_shape=of.shape,
            exact=exact,
            approximate=same_shape and bool(torch.allclose(found.to(autograd.dtype), autograd)),
            bits=bits,
            mistakes=mistakes,
            note=note,
            difference=_heat_map(found, truth) if verdict in ("wrong", "inherited") and same_shape else None,
            **numbers,
        )

    def _failed(self, claim: Claim) -> Gradient:
        """Say that a line raised an exception, and what it should have been."""
        assert claim.failure is not None
        event, of = claim.events[-1], claim.of
        error = str(claim.failure.error).split("\n")[0]
        raised = f"the line raises {type(claim.failure.error).__name__}: {error}"
        statement = event.last.statement
        findings = self._before_failure(claim)
        problem = Problem.of_claim(
            self.graph, self.lines, Judged(claim, of, frozenset(), []), self.of, self.claims, self.patience
        )
        note: str | None = None
        if problem.is_right_as_written(event) or self._finely(problem).is_right_as_written(event):
            note = f"{raised}; it would be right if what it reads were"
        else:
            mistake = Mistake("fails", raised)
            block = WrongBlock([event], None, frozenset())
            cure = (find_cure(problem, block) or cure_of_call(problem, block)) if self.explain else None
            if cure is not None:
                mistake, statement = mistake._replace(fix=cure.text), cure.statement
            misshapen = self._misshapen(claim)
            if cure is None and misshapen is not None:
                note = f"{raised}; `{misshapen}`, which it reads, has not the shape that it should have"
            else:
                findings.append(self._at(mistake, statement))
        place = findings[0].place if findings else Place(statement.source.cell, statement.line)
        return Gradient(
            claim.name,
            of.name or "?",
            "wrong" if findings else "inherited",
            *place,
            statement.text,
            None,
            of.shape,
            mistakes=tuple(findings),
            note=note,
        )

    def _finely(self, problem: Problem) -> Problem:
        """Return the problem where every named value counts as one whose gradient is written."""
        fine = Lines(self.graph, [FinePoint(point) for point in self.points], self.given)
        fine.finals = self.lines.finals
        return replace(problem, check=fine, _truths={}, _reads={}, _environments={}, _lent={})

    def _misshapen(self, claim: Claim) -> str | None:
        """Return the name of a gradient of the wrong shape that the last line of ``claim`` reads."""
        last = claim.events[-1].last
        for name in sorted(last.statement.names):
            value = last.visible.get(name)
            of = self.given.get(value) if isinstance(value, Value) else None
            if of is not None and isinstance(value, Value) and value.shape != of.shape:
                return name
        return None

    def _stopped_elsewhere(self) -> list[Gradient]:
        """Return the line that ended the run, where it computes a gradient that belongs to no named value."""
        graph = self.graph
        failure = graph.failures[-1] if graph.failures else None
        if failure is None or failure.time < self.loss.time or any(b.time > failure.time for b in graph.bindings):
            return []
        known = {claim.failure for claim in self.claimed.claims}
        reads = any(
            isinstance(value, Value) and value in self.given
            for name, value in failure.visible.items()
            if name in failure.statement.names
        )
        targets = assigned(failure.statement)
        if failure in known or not reads or len(targets) != 1:
            return []
        name, statement = str(targets[0]), failure.statement
        binding = Binding(failure.time, failure.scope, name, targets[0], None, statement, failure.frame)
        if not any(names_of_gradient(binding)):
            return []
        error = str(failure.error).split("\n")[0]
        mistake = self._at(Mistake("fails", f"the line raises {type(failure.error).__name__}: {error}"), statement)
        return [Gradient(name, "?", "wrong", *mistake.place, statement.text, mistakes=(mistake,))]

    def _before_failure(self, claim: Claim) -> list[Finding]:
        """Return what is wrong with the lines of ``claim`` before the one that raised."""
        earlier = Claim(claim.name, claim.candidates, claim.events[:-1])
        if not earlier.events or earlier.final is None:
            return []
        for value in earlier.values:
            self.lines.given.setdefault(value, claim.of)
        judged = self.lines.judge(earlier, claim.of)
        if judged is None:
            return []
        if judged.wrong_blocks:
            return [finding for finding in self._explain(judged) if finding.kind != "unknown"]  # it is not finished
        if judged.shape_differs:
            mistake = shape_mistake(claim.of.name or claim.name, tuple(judged.totals[0].shape), claim.of.shape)
            return [self._at(*self._shaped(mistake, judged))] if mistake else []
        return []

    def _unfinished(self, claim: Claim) -> Gradient:
        statement = claim.events[-1].last.statement
        return Gradient(
            claim.name,
            claim.of.name or "?",
            "missing",
            statement.source.cell,
            statement.line,
            statement.text,
            expected_shape=claim.of.shape,
            note=f"{claim.name} is None: not written yet",
        )


def _steers(escape: Escape) -> bool:
    """Whether a number that was taken out may matter later: not where it is only printed or kept in a list."""
    if escape.how == "bool":
        return True
    node = escape.site.node
    if node is None:
        return True
    for outer in enclosing(node):
        if isinstance(outer, ast.FormattedValue | ast.Expr):
            return False
        if isinstance(outer, ast.stmt):
            return True
    return True


def _is_series(claim: Claim) -> bool:
    return len(_ends_of_series(claim)) > 1


def _ends_of_series(claim: Claim) -> list[Value]:
    """Return what the name stood for at the end of each iteration of a loop that sets it anew."""
    ends: list[Value] = []
    for event in claim.events:
        previous: Value | None = None
        count = 0
        for binding in event.bindings:
            value = binding.value
            if value is None:
                continue
            if previous is not None and not _depends(value, previous):
                ends.append(previous)
                count += 1
            previous = value
        if count and previous is not None:
            ends.append(previous)
    return ends


def _depends(value: Value, on: Value) -> bool:
    stack, seen = [value], set()
    while stack:
        current = stack.pop()
        if current is on:
            return True
        if current in seen or current.time < on.time:
            continue
        seen.add(current)
        if current.step is not None:
            stack.extend(current.step.inputs)
    return False


def _numbers(found: Tensor, autograd: Tensor, truth: Tensor) -> dict[str, Any]:
    try:
        maxdiff = largest(found.double() - autograd.double())
    except RuntimeError:
        return {"maxdiff": None, "error": None, "autograd_error": None}
    return {
        "maxdiff": maxdiff,
        "error": largest(found.double() - truth),
        "autograd_error": largest(autograd.double() - truth),
    }


def _heat_map(found: Tensor, truth: Tensor) -> HeatMap | None:
    difference = (found.double() - truth).abs()
    if not difference.numel():
        return None
    flat = difference.reshape(-1, difference.shape[-1]) if difference.dim() else difference.reshape(1, 1)
    rows, columns = flat.shape
    tiles = torch.nn.functional.adaptive_max_pool2d(flat[None, None], (min(rows, TILES), min(columns, TILES)))[0, 0]
    return HeatMap((rows, columns), tuple(tuple(row) for row in tiles.tolist()))


def _forward_lines(graph: Graph, loss: Value) -> tuple[ForwardLine, ...]:
    lines = []
    for value in sorted(graph.ancestors(loss), key=lambda v: v.id):
        if not value.name or not value.is_floating:
            continue
        binding = next((b for b in graph.bindings if b.value is value), None)
        if binding is None:
            lines.append(ForwardLine(value.name, None, None, "", value.shape))
            continue
        statement = binding.statement
        text = statement.text.split("\n")[0] if value.step is not None else ""
        lines.append(ForwardLine(value.name, statement.source.cell, statement.line, text, value.shape))
    return tuple(lines)


def _add_missing(
    graph: Graph, judged: list[tuple[ClaimedPass, list[Gradient]]], expected: Iterable[Value] | None
) -> None:
    """Say which gradients nobody computes, in the pass about the loss that they belong to."""
    for loss in dict.fromkeys(claimed.loss for claimed, _ in judged):
        group = [(claimed, gradients) for claimed, gradients in judged if claimed.loss is loss]
        names = {claim.name for claimed, _ in group for claim in claimed.claims}
        done = {of for claimed, _ in judged for claim in claimed.claims for of in claim.candidates}
        done_names = {v.base_name for v in done} | {g.of for _, gradients in judged for g in gradients}
        ancestors = graph.ancestors(loss)
        if expected is not None:
            wanted = list(expected)
        else:
            wanted = [v for v in ancestors if v.is_floating and v.is_parameter and v.name]
            if any(v not in done and v.base_name not in done_names for v in wanted) or not wanted:
                wanted += [v for v in ancestors if v.is_floating and v.retained]
        missing = [
            v
            for v in wanted
            if v in ancestors and v.name and v not in done and v.base_name not in done_names and v is not loss
        ]
        prefix = "d" if any(name.startswith("d") for name in names) else "grad of "
        group[0][1].extend(
            Gradient(f"{prefix}{v.name}", str(v.name), "missing", expected_shape=v.shape)
            for v in sorted(missing, key=lambda v: -v.id)
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
