"""One mutant, checked."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from typing import Any

import torch

import handgrad
from handgrad.report import Report
from mutants.mutant import Mutant, applied
from mutants.subjects import Subject, subjects
from mutants.truth import Truth, truth

SECONDS = 120  # that one check may take


@dataclass(frozen=True)
class Task:
    """A mutant, or several at once, of one function."""

    subject: int
    model: str
    edits: tuple[Mutant, ...]


@dataclass
class Outcome:
    """What handgrad said of a mutant."""

    model: str
    category: str
    line: int
    before: str
    after: str
    truth: str  # "equivalent", "wrong" or "raises"
    detected: bool = False
    located: bool = False
    explained: bool = False
    fix: str | None = None
    fix_verified: bool = False
    expected: list[str] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether handgrad was right about it in every respect."""
        return self.detected is False if self.truth == "equivalent" else self.located and self.explained


def run(task: Task) -> Outcome:
    """Find out the truth about a mutant, and what handgrad says."""
    torch.set_num_threads(1)
    subject = subjects(task.model)[task.subject]
    source = applied(subject.source, tuple(edit for mutant in task.edits for edit in mutant.edits))
    offset = subject.first_line - 1
    targets = frozenset().union(*(m.targets for m in task.edits))
    found = truth(subject, source, targets, all(m.local for m in task.edits))
    outcome = Outcome(
        task.model,
        " + ".join(m.category for m in task.edits),
        task.edits[0].line + offset,
        "; ".join(m.before for m in task.edits),
        "; ".join(f"{m.line + offset}: {m.after}" for m in task.edits) if len(task.edits) > 1 else task.edits[0].after,
        "equivalent" if found.equivalent else "raises" if found.raises else "wrong",
    )
    start = time.perf_counter()
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(SECONDS)
    try:
        backward = subject.variant(source, f"{outcome.line} {outcome.after}")
        report = handgrad.check(subject.of.forward, backward, *subject.of.inputs(1))
    except Exception as error:
        signal.alarm(0)
        outcome.seconds = time.perf_counter() - start
        outcome.detected = type(error).__name__ == "NothingToJudgeError"
        outcome.located = outcome.detected and any(f"line {m.line + offset}" in str(error) for m in task.edits)
        outcome.reported = [f"{type(error).__name__}: {error}".split("\n")[0]]
        return outcome
    signal.alarm(0)
    outcome.seconds = time.perf_counter() - start
    _judge(outcome, report, task, found, subject, source)
    return outcome


def _too_long(*_: Any) -> None:
    raise TimeoutError(f"the check took more than {SECONDS} s")


def _judge(outcome: Outcome, report: Report, task: Task, found: Truth, subject: Subject, source: str) -> None:
    offset = subject.first_line - 1
    targets = frozenset().union(*(m.targets for m in task.edits))
    wrong = {g.name for g in report.gradients if g.verdict in ("wrong", "missing")}
    outcome.detected = not report
    outcome.reported = [
        f"{g.name} {g.verdict}"
        + "".join(f"; line {m.line} {m.kind}: {m.message}" + (f" [{m.fix}]" if m.fix else "") for m in g.mistakes)
        for g in report.gradients
        if g.verdict not in ("right", "inherited")
    ] + list(report.notes)
    if found.equivalent:
        return
    hits = [{m for m in report.mistakes if (m.line or 0) - offset in mutant.lines} for mutant in task.edits]
    elsewhere = {g.name for g in report.gradients if g.verdict == "wrong"} - targets
    outcome.located = all(hits) and not elsewhere
    if found.raises:  # what stands behind the line that stops is missing, and that is true
        outcome.located = all(hits) and not elsewhere
    elif any(name not in targets for name in wrong):
        outcome.located = False
    kinds = [_kinds(mutant, found) for mutant in task.edits]
    outcome.expected = sorted(set().union(*kinds))
    outcome.explained = all(any(m.kind in k for m in hit) for hit, k in zip(hits, kinds, strict=True))
    fixes = [m for hit in hits for m in hit if m.fix]
    if fixes and len(task.edits) == 1:
        outcome.fix = fixes[0].fix
        outcome.fix_verified = _is_cured(
            subject, source, (fixes[0].line or 0) - offset, str(fixes[0].fix), targets, task.edits[0].local
        )  # fmt: skip


def _kinds(mutant: Mutant, found: Truth) -> frozenset[str]:
    more = {"shape"} if found.shape_changes or found.raises else set()
    return mutant.kinds | more | ({"fails"} if found.raises else set())


def _is_cured(subject: Subject, source: str, line: int, fix: str, targets: frozenset[str], local: bool) -> bool:
    """Whether the mutant with ``fix`` in place of ``line`` computes what the original does."""
    first, *rest = fix.split("\n")
    try:
        return truth(subject, applied(source, ((line, line, "; ".join([first, *rest])),)), targets, local).equivalent
    except (SyntaxError, IndexError):
        return False
