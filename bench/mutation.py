"""The checker against every single-edit mutant of correct backward passes: detected, located, explained, false alarms.

    python bench/mutation.py [--only atomic] [--category sign] [--limit 100] [--seed 1] [--combinations 200]

Whether a mutant is wrong at all is decided here, without handgrad: the mutated pass and the right one run in float64,
statement by statement, at two points, where every gradient that the mutated line reads is replaced by the same random
noise in both. What is equal then, and in the plain run, is another right spelling, and calling it wrong is a false
alarm. A gradient counts as its last line leaves it, and, if it is returned, as it is returned. Exit status 1 if a bar
is missed.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import multiprocessing
import random
import signal
import statistics
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import handgrad
from handgrad import source as sources
from handgrad.report import Report
from mutants import Mutant, applied, loaded, mutants, stored
from passes import PASSES, Pass

RESULT = Path(__file__).with_name("mutation.json")
BARS = {"detected": 1.0, "located": 0.99, "explained": 0.90}
POINTS = (11, 12)  # seeds of the inputs at which a mutant is compared with the original
SECONDS = 120  # that one check may take
ANNOTATIONS = __import__("__future__").annotations.compiler_flag


# the functions under test, and their variants


@dataclass(frozen=True)
class Subject:
    """One function of a pass that is mutated."""

    of: Pass
    path: str  # "backward", or "batch_norm.backward" where it is called through another module
    source: str
    first_line: int  # of its source in the text that handgrad sees; no two functions of a pass share a line

    @property
    def function(self) -> Callable[..., Any]:
        """The function itself."""
        found = SimpleNamespace(**self.of.backward.__globals__)
        for name in self.path.split("."):
            found = getattr(found, name)
        return found

    def variant(self, source: str, label: str) -> Callable[..., Any]:
        """Return the backward of the pass with this function written as ``source``."""
        text = "\n" * (self.first_line - 1) + source
        filename = f"<{self.of.name} {self.path}, {label}>"
        sources.register(filename, text)
        module = dict(self.function.__globals__)
        exec(compile(text, filename, "exec", flags=ANNOTATIONS, dont_inherit=True), module)  # noqa: S102
        changed = module[self.function.__name__]
        *owner, name = self.path.split(".")
        if not owner:
            return changed
        main = self.of.backward
        around = dict(main.__globals__)
        around[owner[0]] = SimpleNamespace(**{**vars(around[owner[0]]), name: changed})
        exec(compile(_written(main), main.__code__.co_filename, "exec", flags=ANNOTATIONS), around)  # noqa: S102
        return around[main.__name__]


def _written(function: Callable[..., Any]) -> str:
    rows, first = inspect.getsourcelines(function)
    return "\n" * (first - 1) + textwrap.dedent("".join(rows))


@cache
def subjects(name: str) -> tuple[Subject, ...]:
    """Return the functions of the pass called ``name``."""
    found = []
    of = PASSES[name]
    for number, path in enumerate(of.mutated):
        bare = Subject(of, path, "", 0)
        rows, first = inspect.getsourcelines(bare.function)
        offset = 0 if path == "backward" else 1000 * (number + 1)
        found.append(Subject(of, path, textwrap.dedent("".join(rows)).rstrip("\n"), first + offset))
    return tuple(found)


# the truth, without handgrad


def bound(of: Pass, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """Return the arguments of the backward: inputs by name, and what the forward returned for what is left."""
    given = inspect.signature(of.forward).bind(*inputs).arguments
    values = of.forward(*inputs)
    wanted = inspect.signature(of.backward).parameters.values()
    return {p.name: given.get(p.name, values) for p in wanted if p.default is p.empty}


def arguments_of(subject: Subject, seed: int) -> dict[str, Any]:
    """Return what the function is called with, in float64; a gradient among it is noise."""
    of = subject.of
    arguments = bound(of, tuple(map(_doubled, of.inputs(seed))))
    if subject.path == "backward":
        return arguments
    calls: list[dict[str, Any]] = []
    function = subject.function

    def spy(*args: Any, **kwargs: Any) -> Any:
        calls.append(inspect.signature(function).bind(*args, **kwargs).arguments)
        return function(*args, **kwargs)

    *owner, name = subject.path.split(".")
    around = dict(of.backward.__globals__)
    around[owner[0]] = SimpleNamespace(**{**vars(around[owner[0]]), name: spy})
    exec(compile(_written(of.backward), "<spied>", "exec", flags=ANNOTATIONS), around)  # noqa: S102
    around[of.backward.__name__](**arguments)
    names = gradients_of(subject)
    return {k: noise(k, v, seed) if k in names else v for k, v in calls[0].items()}


def _doubled(item: Any) -> Any:
    if isinstance(item, Tensor):
        return item.double() if item.is_floating_point() else item
    return type(item)(*map(_doubled, item)) if isinstance(item, tuple) else item


def noise(name: str, like: Tensor, seed: int) -> Tensor:
    """Return random numbers in the shape of ``like``, the same for the same name and seed."""
    g = torch.Generator().manual_seed(random.Random(f"{name} {seed}").getrandbits(48))  # noqa: S311
    return torch.randn(like.shape, generator=g, dtype=torch.float64)


@cache
def gradients_of(subject: Subject) -> frozenset[str]:
    """Return the names that are gradients in the function: d and the name of a value of the forward."""
    inputs = subject.of.inputs(1)
    given = inspect.signature(subject.of.forward).bind(*inputs).arguments
    values = subject.of.forward(*inputs)
    known = {*given, *values._fields, *(name for item in inputs for name in getattr(item, "_fields", ()))}
    names = {node.id for node in ast.walk(ast.parse(subject.source)) if isinstance(node, ast.Name)}
    return frozenset(f"d{name}" for name in known) & names


class Run:
    """One run of a function's source, statement by statement, with noise put in place of some gradients."""

    def __init__(self, subject: Subject, source: str, seed: int, given: frozenset[str] = frozenset()) -> None:
        (function,) = ast.parse(source).body
        self.gradients, self.given, self.seed = gradients_of(subject), given, seed
        self.states: dict[int, dict[str, Any]] = {}
        self.finished: dict[str, Tensor] = {}  # each gradient as its last line left it
        defaults = {p.name: p.default for p in inspect.signature(subject.function).parameters.values()}
        self.names = {**subject.function.__globals__, **defaults, **arguments_of(subject, seed)}
        self.local = set(defaults)
        self.last: dict[str, int] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign | ast.AugAssign):
                for name in stored(node):
                    self.last[name] = max(self.last.get(name, 0), node.lineno)
        numbers = loaded(function) - self.local
        self.local |= {k for k in numbers if isinstance(self.names.get(k), int | float)}
        returned = frozenset().union(*(loaded(node) for node in ast.walk(function) if isinstance(node, ast.Return)))
        with torch.no_grad():
            self._block(function.body)
        self.left = {name: self.names[name] for name in self.finished.keys() & returned}  # as it is returned

    def _block(self, block: list[ast.stmt]) -> None:
        for node in block:
            if isinstance(node, ast.Return):
                return
            if isinstance(node, ast.If):
                chosen = eval(ast.unparse(node.test), self.names)  # noqa: S307
                self._block(node.body if chosen else node.orelse)
                continue
            self.states[node.lineno] = {k: self.names[k] for k in self.local}
            exec(compile(ast.Module([node], []), "<run>", "exec"), self.names)  # noqa: S102
            if isinstance(node, ast.Assign | ast.AugAssign):
                self._assigned(node)

    def _assigned(self, node: ast.Assign | ast.AugAssign) -> None:
        names = stored(node)
        for name in sorted(names):
            self.local.add(name)
            if name in self.gradients and self.last[name] == node.lineno:
                self.finished[name] = torch.as_tensor(self.names[name]).clone()
                if name in self.given:
                    self.names[name] = noise(name, self.finished[name], self.seed)


def same(a: Run, b: Run) -> bool:
    """Whether two runs gave every gradient the same shape and value, and left it so."""
    if a.finished.keys() != b.finished.keys():
        return False
    scale = max((float(t.abs().max()) for t in a.finished.values() if t.numel()), default=0.0)
    for one, other in ((a.finished, b.finished), (a.left, b.left)):
        for name, tensor in one.items():
            x, y = torch.as_tensor(tensor), torch.as_tensor(other[name])
            if x.shape != y.shape or x.is_floating_point() != y.is_floating_point():
                return False
            allowed = 1e-9 * float(x.abs().max()) + 1e-13 * scale if x.numel() else 0.0
            if not bool(((x - y).abs() <= allowed).all()):
                return False
    return True


@dataclass(frozen=True)
class Truth:
    """What a mutant is, as found without handgrad."""

    equivalent: bool
    raises: bool = False
    shape_changes: bool = False


@cache
def _original(subject: Subject, seed: int, given: frozenset[str]) -> Run:
    return Run(subject, subject.source, seed, given)


def truth(subject: Subject, source: str, targets: frozenset[str], local: bool = True) -> Truth:
    """Compare ``source`` with the original, with what sets ``targets`` there given noise to read.

    If the mutant is not ``local``, everything that is read is noise.
    """
    gradients = gradients_of(subject)
    given = gradients
    if local:
        setters = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Assign | ast.AugAssign)]
        reads = [loaded(node.value) for node in setters if stored(node) & targets]
        given = frozenset().union(*reads) & gradients - targets
    equivalent = True
    for seed in POINTS:
        try:
            plain = Run(subject, source, seed)
        except Exception:
            return Truth(equivalent=False, raises=True)
        right = _original(subject, seed, frozenset())
        if any(plain.finished[t].shape != right.finished[t].shape for t in targets if t in plain.finished):
            return Truth(equivalent=False, shape_changes=True)
        try:
            noisy = Run(subject, source, seed, given)
        except Exception:
            return Truth(equivalent=False)
        equivalent = equivalent and same(right, plain) and same(_original(subject, seed, given), noisy)
    return Truth(equivalent)


# one mutant, checked


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


# all of them


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


# figures


def figures(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Return how many mutants there are, and of the wrong ones how many were found, placed and explained."""
    items = list(outcomes)
    wrong = [o for o in items if o.truth != "equivalent"]
    return {
        "mutants": len(items),
        "equivalent": len(items) - len(wrong),
        "raise": sum(o.truth == "raises" for o in wrong),
        "detected": sum(o.detected for o in wrong),
        "located": sum(o.located for o in wrong),
        "explained": sum(o.explained for o in wrong),
        "explained or cured": sum(o.explained or (o.located and o.fix_verified) for o in wrong),
        "fixes": sum(o.fix is not None for o in wrong),
        "fixes verified": sum(o.fix_verified for o in wrong),
        "false alarms": sum(o.detected for o in items if o.truth == "equivalent"),
    }


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"


def table(title: str, groups: dict[str, list[Outcome]]) -> Table:
    """Return a row of figures for each group, and for all."""
    made = Table(title=title)
    made.add_column("")
    for column in (
        "mutants", "equivalent", "raise", "detected %", "located %", "explained %", "or cured %",
        "fix offered %", "that cures %", "false alarms", "median s", "max s",
    ):  # fmt: skip
        made.add_column(column, justify="right")
    everything = [o for group in groups.values() for o in group]
    for name, group in (*groups.items(), ("all", everything)):
        f = figures(group)
        wrong, seconds = f["mutants"] - f["equivalent"], [o.seconds for o in group]
        made.add_row(
            name, str(f["mutants"]), str(f["equivalent"]), str(f["raise"]),
            _share(f["detected"], wrong), _share(f["located"], wrong), _share(f["explained"], wrong),
            _share(f["explained or cured"], wrong), _share(f["fixes"], wrong),
            _share(f["fixes verified"], f["fixes"]), str(f["false alarms"]),
            f"{statistics.median(seconds):.2f}" if seconds else "-", f"{max(seconds, default=0):.2f}",
        )  # fmt: skip
    return made


def grouped(outcomes: Iterable[Outcome], key: str) -> dict[str, list[Outcome]]:
    """Return the outcomes by model or by category."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(getattr(outcome, key), []).append(outcome)
    return groups


def failures_text(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Yield a paragraph for each mutant that handgrad is not right about."""
    for o in outcomes:
        if o.passed:
            continue
        if o.truth == "equivalent":
            what = "FALSE ALARM"
        elif not o.detected:
            what = "NOT DETECTED"
        else:
            what = "NOT LOCATED" if not o.located else "NOT EXPLAINED"
        yield f"{what}  {o.model}:{o.line}  {o.category} ({o.truth})"
        yield f"    was   {o.before}"
        yield f"    is    {o.after}"
        if o.expected:
            yield f"    kinds {' '.join(o.expected)}"
        yield from (f"    said  {said}" for said in o.reported or ["all right"])


def reaches(f: dict[str, int]) -> bool:
    """Whether the figures reach the bars."""
    wrong = f["mutants"] - f["equivalent"]
    return f["false alarms"] == 0 and all(f[name] >= bar * wrong for name, bar in BARS.items())


def written(singles: list[Outcome], several: list[Outcome]) -> dict[str, Any]:
    """Return the figures as JSON data, the same for the same code but for ``seconds``."""
    seconds = [o.seconds for o in singles]

    def plain(outcome: Outcome) -> dict[str, Any]:
        return {key: value for key, value in asdict(outcome).items() if key != "seconds"}

    return {
        "torch": torch.__version__.split("+")[0],
        "singles": figures(singles),
        "combinations": figures(several),
        "models": {name: figures(group) for name, group in grouped(singles, "model").items()},
        "truths": {name: figures(group) for name, group in sorted(grouped(singles, "truth").items())},
        "categories": {name: figures(group) for name, group in sorted(grouped(singles, "category").items())},
        "failures": [plain(o) for o in (*singles, *several) if not o.passed],
        "seconds": {"median": round(statistics.median(seconds), 3), "max": round(max(seconds), 3)} if seconds else {},
    }


def main() -> int:
    """Run the suite, print the tables and the failures, and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="MODEL", choices=PASSES, help=f"one of {', '.join(PASSES)}")
    parser.add_argument("--category", help="mutants of this category only")
    parser.add_argument("--limit", type=int, metavar="N", help="a sample of N mutants")
    parser.add_argument("--seed", type=int, default=1, help="of the sample and the combinations")
    parser.add_argument("--combinations", type=int, default=200, metavar="N", help="sets of two to four edits")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULT, help="the figures, as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=None if sys.stdout.isatty() else 160)
    tasks = [task for name in PASSES if arguments.only in (None, name) for task in single_edits(name)]
    several = combinations(tasks, arguments.combinations, arguments.seed)
    tasks = [t for t in tasks if arguments.category in (None, t.edits[0].category)]
    if arguments.limit is not None:
        tasks = sample(tasks, arguments.limit, arguments.seed)
    outcomes = run_all([*tasks, *several], arguments.processes, console)
    singles, together = outcomes[: len(tasks)], outcomes[len(tasks) :]
    for line in failures_text(outcomes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(table("by pass", grouped(singles, "model")))
    console.print(table("by what the mutant does", grouped(singles, "truth")))
    console.print(table("by category", dict(sorted(grouped(singles, "category").items()))))
    console.print(table("several edits at once", grouped(together, "model")))
    arguments.output.write_text(json.dumps(written(singles, together), indent=1) + "\n")
    return 0 if reaches(figures(singles)) and all(o.detected and o.located for o in together) else 1


if __name__ == "__main__":
    sys.exit(main())
