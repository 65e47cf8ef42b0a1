"""The verdict about every gradient of one pass."""

from __future__ import annotations

import ast
from dataclasses import replace

from handgrad.checker.failures import Failures
from handgrad.checker.hidden import Hidden, Series, apart
from handgrad.checker.lines import Judged
from handgrad.checker.numbers import Numbers
from handgrad.checker.reasons import Reasons, finding
from handgrad.checker.resolution import Resolution
from handgrad.claims import Claim, Event, same_names
from handgrad.diagnosis import Mistake
from handgrad.diagnosis.hazards import alias_hazards, early_reads, wrong_references
from handgrad.diagnosis.repair import Patience
from handgrad.diagnosis.shape import kind_mistake, shape_mistake
from handgrad.graph import Value
from handgrad.report import Finding, Gradient, Verdict
from handgrad.source import Statement


class Verdicts:
    """Judges the claims of a pass."""

    def __init__(self, known: Resolution, patience: Patience, *, explain: bool) -> None:
        self.known = known
        self.numbers = Numbers(known)
        self.reasons = Reasons(known, patience, explain=explain)
        self.failures = Failures(known, self.reasons)

    def gradients(self) -> list[Gradient]:
        """Return every gradient of the pass with its verdict."""
        self.results: dict[Claim, Judged | None] = {}
        for claim in self.known.claims:
            if claim not in self.known.series and self._out_of_sight(claim) is None:
                self.results[claim] = self.known.lines.judge(claim, self.known.of[claim])
        self.hidden: Hidden | None = None
        self._look_behind()
        self.hazards, self.spoilt = alias_hazards(self.known.graph, self.known.claims, self.known.of)
        self.early = early_reads(self.known.claims, self.known.given)
        found = [self._verdict(claim) for claim in self.known.claims]
        found += [
            self.failures.of(claim) if claim.failure else self._unfinished(claim) for claim in self.known.unfinished
        ]
        found += self.failures.elsewhere()
        if self.hidden is not None:
            found += [self._hidden(series, judged) for series, judged in self.hidden.wrong_lines()]
        return found

    def _look_behind(self) -> None:
        """Where something is wrong: give also the gradients that belong to no named value, and judge it again."""
        wrong = [claim for claim, judged in self.results.items() if judged is not None and not self._is_right(judged)]
        loops = [claim for claim, is_right in self.known.series.items() if not is_right and claim in self.known.claims]
        if not wrong and not loops:
            return
        hidden = Hidden(
            self.known.graph, self.known.lines, [(claim, self.known.of[claim]) for claim in (*wrong, *loops)]
        )
        if hidden.series:
            self.hidden, self.known.lines = hidden, hidden.lines
        for claim in loops:
            judged = self.known.lines.judge(apart(claim), self.known.of[claim]) if len(claim.candidates) == 1 else None
            if judged is not None and judged.thrown_away and not judged.wrong_blocks:
                self.results[claim] = judged  # each turn throws away what the one before has computed
                del self.known.series[claim]
        for claim in wrong:
            in_loop = any(isinstance(event.statement.node, ast.For | ast.While) for event in claim.events)
            if not hidden.series and not in_loop:
                continue
            judged = self.known.lines.judge(claim, self.known.of[claim])
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
            wrong = self.known.lines.wrong_additions(claim, judged.of, some)
            if wrong:
                return replace(judged, claim=claim, blocks=wrong, missing=frozenset(), twice=frozenset())
        return self.known.lines.judge(claim, judged.of)

    def _hidden(self, series: Series, judged: Judged) -> Gradient:
        """Return the verdict about a gradient that belongs to no named value."""
        of, final = judged.of, judged.claim.final
        assert final is not None
        mistakes = tuple(self.reasons.of(judged))
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

    def _verdict(self, claim: Claim) -> Gradient:
        of = self.known.of[claim]
        unseen = self._out_of_sight(claim)
        if unseen is not None:
            return self.numbers.unknown(claim, of, unseen)
        agree = self.numbers.agree(claim)
        if claim in self.known.series:
            return self._series_verdict(claim)
        judged = self.results[claim]
        mistakes: list[Finding] = []
        note: str | None = None
        verdict: Verdict = "right"
        if any(v.grad_of is of for v in self.known.graph.ancestors(claim.final or of)):
            verdict, mistakes = "unverified", [self._from_autograd(claim, of)]
        elif judged is None:
            verdict, note = ("right" if agree else "unverified"), "could not be run again: judged by its numbers alone"
        elif not self._is_right(judged):
            is_open = self.known.stopped and not self._is_read_later(claim)
            if is_open and not judged.wrong_blocks and not judged.twice and not judged.thrown_away:
                return replace(
                    self.numbers.entry(claim, of, "missing", (), None), note="not complete: the pass stopped before"
                )
            verdict = "wrong"
            mistakes = self.reasons.of(judged)
        else:
            note = judged.note
            if judged.shape_differs:
                verdict = "wrong"
                mistake = shape_mistake(of.name or claim.name, tuple(judged.totals[0].shape), of.shape)
                if mistake:
                    mistakes.append(finding(*self.reasons.with_cure(mistake, judged)))
        if verdict == "right" and claim.final is not None and claim.final.shape == of.shape:
            mistake = kind_mistake(of.name or "the value", claim.final.value, of.value)
            if mistake:
                verdict, mistakes = "wrong", [finding(mistake, claim.events[-1].last.statement)]
        early = self.early.get(claim, [])
        if early:
            verdict = "wrong"
            mistakes += [finding(mistake, statement) for mistake, statement in early]
        if claim in self.hazards:
            mistake, statement = self.hazards[claim]
            verdict, mistakes = "wrong", [*mistakes, finding(mistake, statement)]
        spoilt = self.spoilt.get(claim)
        if spoilt is not None and verdict == "right":
            verdict, note = "inherited", f"right when it is computed, and changed by {spoilt} afterwards"
        if verdict == "right" and not agree and not self._escaped(claim):
            verdict = "inherited" if self._reads_any(claim) else "wrong"
            if verdict == "wrong":
                mistakes.append(finding(self._unexplained(claim), claim.events[-1].last.statement))
        for mistake, statement in wrong_references(claim, of, self.known.graph):
            mistakes.append(finding(mistake, statement))
            verdict = "wrong" if verdict == "right" else verdict
        return self.numbers.entry(claim, of, verdict, tuple(mistakes), note)

    def _out_of_sight(self, claim: Claim) -> str | None:
        return self.known.graph.out_of_sight(self.known.of[claim], self.known.loss)

    def _is_read_later(self, claim: Claim) -> bool:
        """Whether a later line of another gradient reads it, so that its author held it to be complete."""
        last = claim.events[-1].last
        return any(
            binding.time > last.time
            and same_names(self.known.graph, binding.frame, last.frame)
            and claim.name in binding.statement.names
            for other in self.known.claimed.claims
            if other is not claim
            for binding in other.bindings
        )

    def _is_right(self, judged: Judged) -> bool:
        if judged.is_right:
            return True
        path = self.known.lines.unclaimed_zero_path(judged) if not judged.missing else None
        if path is not None:
            judged.note = f"leaves out the branch through {path.name}, which is zero for every input"
            return True
        return False

    def _escaped(self, claim: Claim) -> bool:
        return any(e.value in self.known.graph.ancestors(claim.final or claim.of) for e in self.known.graph.escapes)

    def _reads_any(self, claim: Claim) -> bool:
        judged = self.results.get(claim)
        return bool(judged and judged.reads - {self.known.loss})

    def _unexplained(self, claim: Claim) -> Mistake:
        return Mistake(
            "stale",
            f"the line is the right formula, and {claim.name} was still computed from other numbers than those that "
            f"{self.known.loss.name or 'the loss'} was: something it reads was changed or computed again in between",
        )

    def _from_autograd(self, claim: Claim, of: Value) -> Finding:
        message = f"{claim.name} is taken from autograd's own gradient of {of.name}: nothing was computed by hand"
        return finding(Mistake("from-autograd", message), claim.events[0].last.statement)

    def _series_verdict(self, claim: Claim) -> Gradient:
        of = self.known.of[claim]
        if self.known.series[claim]:
            return self.numbers.entry(claim, of, "right", (), "each time the loop computes it")
        note = "bound several times in a loop; judged by what is made of it"
        return self.numbers.entry(claim, of, "unverified", (), note)

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
