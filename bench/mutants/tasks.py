"""All mutants, alone and several at once."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator

from rich.console import Console

from mutants import mutants
from mutants.mutant import applied
from mutants.outcomes import Outcome, Task, run
from mutants.subjects import Subject, gradients_of, subjects
from mutants.truth import POINTS, Run, truth


def single_edits(name: str) -> Iterator[Task]:
    """Yield a task for each mutant of the pass called ``name``."""
    for number, subject in enumerate(subjects(name)):
        states = Run(subject, subject.source, POINTS[0]).states
        for mutant in mutants(subject.source, states, gradients_of(subject)):
            yield Task(number, name, (mutant,))


def combinations(tasks: list[Task], count: int, seed: int) -> list[Task]:
    """Draw ``count`` sets of two to four mutants of different gradients, each wrong alone; together they run."""
    rng = random.Random(seed)  # noqa: S311
    chosen: list[Task] = []
    wrong: dict[tuple[str, int, int], bool] = {}
    groups: dict[tuple[str, int], list[Task]] = {}
    for task in tasks:
        groups.setdefault((task.model, task.subject), []).append(task)
    keys = [key for key, group in groups.items() if len({t.edits[0].targets for t in group}) > 3]
    while keys and len(chosen) < count:
        key = rng.choice(keys)
        some = [t.edits[0] for t in rng.sample(groups[key], rng.randint(2, 4))]
        names = [name for m in some for name in m.targets]
        if len(set(names)) < len(names) or not all(m.local for m in some):
            continue
        subject = subjects(key[0])[key[1]]
        for m in some:
            number = (*key, hash(m))
            if number not in wrong:
                found = truth(subject, applied(subject.source, m.edits), m.targets)
                wrong[number] = not found.equivalent and not found.raises
        source = applied(subject.source, tuple(e for m in some for e in m.edits))
        if all(wrong[*key, hash(m)] for m in some) and _runs(subject, source):
            chosen.append(Task(key[1], key[0], tuple(sorted(some, key=lambda m: m.line))))
    return chosen


def _runs(subject: Subject, source: str) -> bool:
    try:
        Run(subject, source, POINTS[0])
    except Exception:
        return False
    return True


def sample(tasks: list[Task], count: int, seed: int) -> list[Task]:
    """Return ``count`` of the tasks, in their order, drawn with ``seed``."""
    draw = random.Random(seed)  # noqa: S311
    return [tasks[k] for k in sorted(draw.sample(range(len(tasks)), min(count, len(tasks))))]


def run_all(tasks: list[Task], processes: int, console: Console) -> list[Outcome]:
    """Return the outcome of each task, in order."""
    outcomes = []
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        for outcome in pool.imap(run, tasks, chunksize=4):
            outcomes.append(outcome)
            if console.is_terminal:
                console.print(f"{len(outcomes)} of {len(tasks)}", end="\r")
    return outcomes
