"""Lines that raised an exception."""

from __future__ import annotations

from dataclasses import replace

from handgrad.checker.lines import Judged, Lines
from handgrad.checker.reasons import Reasons, finding
from handgrad.checker.resolution import Resolution
from handgrad.checker.truth import FinePoint
from handgrad.claims import Claim, assigned, names_of_gradient
from handgrad.diagnosis import Mistake
from handgrad.diagnosis.calls import cure_of_call
from handgrad.diagnosis.problem import Problem, WrongBlock
from handgrad.diagnosis.repair import find_cure
from handgrad.diagnosis.shape import shape_mistake
from handgrad.graph import Binding, Value
from handgrad.report import Finding, Gradient, Place


class Failures:
    """What to say of the lines of a pass that raised."""

    def __init__(self, known: Resolution, reasons: Reasons) -> None:
        self.known, self.reasons = known, reasons

    def of(self, claim: Claim) -> Gradient:
        """Say that a line raised an exception, and what it should have been."""
        assert claim.failure is not None
        event, of = claim.events[-1], claim.of
        error = str(claim.failure.error).split("\n")[0]
        raised = f"the line raises {type(claim.failure.error).__name__}: {error}"
        statement = event.last.statement
        findings = self._before_failure(claim)
        problem = self.reasons.problem(Judged(claim, of, frozenset(), []))
        note: str | None = None
        if problem.is_right_as_written(event) or self._finely(problem).is_right_as_written(event):
            note = f"{raised}; it would be right if what it reads were"
        else:
            mistake = Mistake("fails", raised)
            block = WrongBlock([event], None, frozenset())
            cure = (find_cure(problem, block) or cure_of_call(problem, block)) if self.reasons.explain else None
            if cure is not None:
                mistake, statement = mistake._replace(fix=cure.text), cure.statement
            misshapen = self._misshapen(claim)
            if cure is None and misshapen is not None:
                note = f"{raised}; `{misshapen}`, which it reads, has not the shape that it should have"
            else:
                findings.append(finding(mistake, statement))
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
        fine = Lines(self.known.graph, [FinePoint(point) for point in self.known.points], self.known.given)
        fine.finals = self.known.lines.finals
        return replace(problem, check=fine, _truths={}, _reads={}, _environments={}, _lent={})

    def _misshapen(self, claim: Claim) -> str | None:
        """Return the name of a gradient of the wrong shape that the last line of ``claim`` reads."""
        last = claim.events[-1].last
        for name in sorted(last.statement.names):
            value = last.visible.get(name)
            of = self.known.given.get(value) if isinstance(value, Value) else None
            if of is not None and isinstance(value, Value) and value.shape != of.shape:
                return name
        return None

    def elsewhere(self) -> list[Gradient]:
        """Return the line that ended the run, where it computes a gradient that belongs to no named value."""
        graph = self.known.graph
        failure = graph.failures[-1] if graph.failures else None
        if failure is None or failure.time < self.known.loss.time or any(b.time > failure.time for b in graph.bindings):
            return []
        known = {claim.failure for claim in self.known.claimed.claims}
        reads = any(
            isinstance(value, Value) and value in self.known.given
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
        mistake = finding(Mistake("fails", f"the line raises {type(failure.error).__name__}: {error}"), statement)
        return [Gradient(name, "?", "wrong", *mistake.place, statement.text, mistakes=(mistake,))]

    def _before_failure(self, claim: Claim) -> list[Finding]:
        """Return what is wrong with the lines of ``claim`` before the one that raised."""
        earlier = Claim(claim.name, claim.candidates, claim.events[:-1])
        if not earlier.events or earlier.final is None:
            return []
        for value in earlier.values:
            self.known.lines.given.setdefault(value, claim.of)
        judged = self.known.lines.judge(earlier, claim.of)
        if judged is None:
            return []
        if judged.wrong_blocks:
            return [finding for finding in self.reasons.of(judged) if finding.kind != "unknown"]  # it is not finished
        if judged.shape_differs:
            mistake = shape_mistake(claim.of.name or claim.name, tuple(judged.totals[0].shape), claim.of.shape)
            return [finding(*self.reasons.with_cure(mistake, judged))] if mistake else []
        return []
