"""Why a gradient is wrong, as findings of a report."""

from __future__ import annotations

from handgrad.checker.lines import Judged
from handgrad.checker.resolution import Resolution
from handgrad.diagnosis import Mistake
from handgrad.diagnosis.explanation import explain
from handgrad.diagnosis.problem import Problem, WrongBlock
from handgrad.diagnosis.repair import Patience, find_cure
from handgrad.report import Finding, Place
from handgrad.source import Statement


class Reasons:
    """The diagnosis of one pass; all passes of a report share its patience."""

    def __init__(self, known: Resolution, patience: Patience, *, explain: bool) -> None:
        self.known, self.patience, self.explain = known, patience, explain

    def problem(self, judged: Judged) -> Problem:
        """Return what the diagnosis sees of a gradient."""
        known = self.known
        return Problem.of_claim(known.graph, known.lines, judged, known.of, known.claims, self.patience)

    def of(self, judged: Judged) -> list[Finding]:
        """Return why ``judged`` is wrong."""
        problem = self.problem(judged)
        if not self.explain:
            statement = problem.statement
            return [finding(Mistake("unknown", "this line is wrong"), statement)]
        return [finding(mistake, statement) for mistake, statement in explain(problem)]

    def with_cure(self, mistake: Mistake, judged: Judged) -> tuple[Mistake, Statement]:
        """Add to a mistake of shape the line that has the right one, if a small change gives it."""
        statement = judged.claim.events[-1].last.statement
        if not self.explain:
            return mistake, statement
        problem = self.problem(judged)
        cure = find_cure(problem, WrongBlock(judged.claim.events, judged.totals, judged.reads))
        return (mistake, statement) if cure is None else (mistake._replace(fix=cure.text), cure.statement)


def finding(mistake: Mistake, statement: Statement) -> Finding:
    """Return a mistake with its place."""
    place = Place(statement.source.cell, statement.line)
    return Finding(mistake.code, mistake.kind, *place, mistake.message, mistake.fix)
