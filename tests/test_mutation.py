"""The mutation suite: its generator, its truth, and a small sample of its mutants against the checker."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import handgrad
from handgrad.diagnosis import CODES

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))
import mutants
from mutants import figures, outcomes, subjects, tasks, truth
from passes import PASSES

SOURCE = """\
def backward(x, w, b, h, dy):
    n = x.shape[0]
    dz = (1.0 - h**2) * dy  # (n, H)
    db = dz.sum(0, keepdim=True)  # (1, H)
    dw = x.T @ dz
    dx = dz.clone()
    dx += 1.0 / (n - 1) * dz
    return db
"""
X = torch.ones(4, 3)
STATES: dict[int, dict[str, Any]] = {
    line: {"x": X, "w": torch.ones(3, 3), "b": X[:1], "h": X, "dy": X, "n": 4, "dz": X} for line in range(1, 9)
}
GRADIENTS = frozenset({"dz", "db", "dw", "dx"})


def made(category: str) -> list[str]:
    return [m.after for m in mutants.mutants(SOURCE, STATES, GRADIENTS) if m.category == category]


# the generator


@pytest.mark.parametrize(
    ("category", "after"),
    [
        ("sum dropped", "db = dz"),
        ("sum and mean", "db = dz.mean(0, keepdim=True)"),
        ("sum over other dims", "db = dz.sum(1, keepdim=True)"),
        ("keepdim", "db = dz.sum(0)"),
        ("sum added", "dw = (x.T @ dz).sum(0, keepdim=True)"),
        ("sign", "dz = -((1.0 - h ** 2) * dy)"),
        ("sign of a term", "dz = (1.0 + h ** 2) * dy"),
        ("term dropped", "dz = 1.0 * dy"),
        ("scalar dropped", "dx += 1.0 * dz"),
        ("n - 1", "dx += 1.0 / n * dz"),
        ("times 2", "db = 2 * dz.sum(0, keepdim=True)"),
        ("factor dropped", "dz = dy"),
        ("factor twice", "dz = (1.0 - h ** 2) * dy * dy"),
        ("exponent", "dz = (1.0 - h ** 3) * dy"),
        ("sign of an exponent", "dz = (1.0 - h ** (-2)) * dy"),
        ("constant", "dz = (2.0 - h ** 2) * dy"),
        ("gradient", "dx = h.clone()"),
        ("operand", "dz = (1.0 - dy ** 2) * dy"),
        ("operator", "dz = (1.0 - h ** 2) / dy"),
        ("operator of scalars", "dx += 1.0 * (n - 1) * dz"),
        ("precedence", "dz = 1.0 - h ** 2 * dy"),
        ("transposed", "dw = x @ dz"),
        ("operands of @ swapped", "dw = dz @ x.T"),
        ("+= to =", "dx = 1.0 / (n - 1) * dz"),
        ("branch deleted", "pass"),
        ("alias", "dx = dz"),
    ],
)
def test_an_edit_is_made(category: str, after: str) -> None:
    assert after in made(category)


def test_a_mutant_changes_its_line_and_no_other() -> None:
    for mutant in mutants.mutants(SOURCE, STATES, GRADIENTS):
        if not mutant.local:
            continue
        rows = zip(SOURCE.split("\n"), mutants.applied(SOURCE, mutant.edits).split("\n"), strict=True)
        assert [k for k, (before, after) in enumerate(rows, start=1) if before != after] == [mutant.line]


def test_a_line_that_completes_a_gradient_moves_behind_its_first_reader() -> None:
    source = "def backward(dy):\n    da = dy.clone()\n    da += dy\n    dc = dy * dy\n    db = da.sum()\n"
    states: dict[int, dict[str, Any]] = {line: {"dy": X, "da": X} for line in range(2, 6)}

    (moved,) = [m for m in mutants.mutants(source, states, frozenset({"da", "db", "dc"})) if m.category == "too early"]

    assert mutants.applied(source, moved.edits).split("\n")[2:5] == [
        "    dc = dy * dy",
        "    db = da.sum()",
        "    da += dy",
    ]
    assert (moved.lines, moved.targets) == ({4}, {"db"})


def test_every_kind_that_may_explain_a_mutant_has_a_code() -> None:
    assert set().union(*mutants.KINDS.values()) <= CODES.keys()
    assert "unknown" not in set().union(*mutants.KINDS.values())


def test_every_row_of_the_table_is_made_by_some_pass() -> None:
    categories = {task.edits[0].category for name in PASSES for task in tasks.single_edits(name)}

    assert sorted(categories) == sorted(mutants.KINDS)


def test_the_mutants_are_the_same_every_time_and_more_than_500() -> None:
    first, again = ([task for name in PASSES for task in tasks.single_edits(name)] for _ in range(2))

    assert first == again
    assert len(first) > 500


# the truth


def the_truth(name: str, old: str, new: str) -> truth.Truth:
    """Return what is found about the pass with ``new`` for ``old``, which stands there once."""
    (subject,) = [s for s in subjects.subjects(name) if s.source.count(old) == 1]
    (row,) = [r for r in subject.source.split("\n") if old in r]
    targets = subjects.gradients_of(subject) & {row.split()[0]}
    return truth.truth(subject, subject.source.replace(old, new), frozenset(targets))


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_is_equal_to_itself(name: str) -> None:
    for subject in subjects.subjects(name):
        assert truth.truth(subject, subject.source, subjects.gradients_of(subject), local=False).equivalent


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("atomic", "counts * dcounts  #", "dcounts * counts  #"),
        ("atomic", "torch.zeros_like(logprobs)", "torch.zeros_like(probs)"),
        ("attention", "derr.clone()", "derr"),  # nothing is added to it later
        ("attention", "dout = dres.clone()", "dout = derr.clone()"),  # from derr, dout and dres are the same
        ("attention", "dx = dres.clone()", "dx = dres"),  # changes dres, which nobody reads or returns
        ("conv", "pre > 0", "act > 0"),
    ],
)
def test_another_right_spelling_is_equivalent(name: str, old: str, new: str) -> None:
    assert the_truth(name, old, new).equivalent


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("atomic", "db1 = dhprebn.sum(0)", "db1 = 2 * dhprebn.sum(0)"),  # zero in truth: only noise shows it
        ("atomic", "db2 = dlogits.sum(0)", "db2 = dnorm_logits.sum(0)"),  # the other branch is zero in truth
        ("atomic", "(bnvar + 1e-5) ** -1.5", "(bnvar + 1e-4) ** -1.5"),
        ("fused", "n / (n - 1)", "n / n"),
        (
            "atomic",
            "dlogits = dnorm_logits.clone()",
            "dlogits = dnorm_logits",
        ),  # changes dnorm_logits, which is returned
    ],
)
def test_what_changes_the_function_is_not_equivalent_however_small(name: str, old: str, new: str) -> None:
    assert not the_truth(name, old, new).equivalent


def test_a_changed_shape_and_an_error_are_told() -> None:
    assert the_truth("atomic", "db2 = dlogits.sum(0)", "db2 = dlogits.sum(0, keepdim=True)").shape_changes
    assert the_truth("atomic", "dlogits @ W2.T", "dlogits @ W2").raises


# the suite itself


def some_tasks() -> Iterator[outcomes.Task]:
    """Yield about forty mutants that must be found, placed and explained: six of each pass, seeded."""
    firm = {"sum dropped", "sign", "times 2", "keepdim", "branch deleted", "exponent", "sum and mean", "n - 1"}
    for name in PASSES:
        some = [task for task in tasks.single_edits(name) if task.edits[0].category in firm]
        yield from tasks.sample(some, 6, seed=1)


@pytest.mark.parametrize("task", [*some_tasks()], ids=lambda t: f"{t.model}: {t.edits[0].category}: {t.edits[0].after}")
def test_a_mutant_is_found_and_placed_or_is_right(task: outcomes.Task) -> None:
    outcome = outcomes.run(task)

    assert outcome.detected is (outcome.truth != "equivalent"), outcome.reported
    assert outcome.located or outcome.truth == "equivalent", outcome.reported


CALL = "dhprebn, dbngain, dbnbias = batch_norm.backward"
HARD = (  # each was once called wrong at another line than its own
    ("fast", "dlogits = cross_entropy.backward(logits, Yb - 1)"),
    ("fast", "dlogits = cross_entropy.backward(logits, Xb)"),
    ("fast", f"{CALL}(bnraw, bngain, bnraw, bnvar_inv)"),
    ("fast", f"{CALL}(dh, bngain, bnraw, bnvar_inv)"),
    ("fast", f"{CALL}(dhpreact, bngain, bnraw, bngain)"),
    ("fast", "dhpreact = ((1.0 - h ** 2) * dh).sum(0, keepdim=True)"),
    ("fused", "dlogits[range(n - 1, -1, -1), Yb] -= 1"),
    ("fused", "dbngain = (bnraw * bnraw).sum(0, keepdim=True)"),
    ("fused", "dbnbias = dhpreact"),
    ("layer_norm", "derr = 2.0 / (n * K)"),
    ("layer_norm", "dz = dzmean / H"),
    ("rnn", "dlogits = 1.0 / n"),
    ("rnn", "da3 = (dh3 * (1 - h3 * h3)).sum(0, keepdim=True)"),
    ("rnn", "dWx += x3.T @ da3; dWx += x3.T @ da3"),
    ("conv", "dact = 1.0 / L"),
    ("conv", "dpre = pre > 0"),
)


@pytest.mark.parametrize(("model", "after"), HARD, ids=lambda item: item)
def test_a_mutant_that_shows_elsewhere_is_placed_at_its_own_line(model: str, after: str) -> None:
    (task,) = [task for task in tasks.single_edits(model) if task.edits[0].after == after]

    outcome = outcomes.run(task)

    assert outcome.located, outcome.reported


def test_a_checker_that_finds_nothing_misses_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    right = handgrad.check(*PASSES["fast"][1:3], *PASSES["fast"].inputs(1))
    monkeypatch.setattr(outcomes.handgrad, "check", lambda *_: right)
    some = tasks.sample(list(tasks.single_edits("fast")), 5, seed=1)

    found = [outcomes.run(task) for task in some]

    assert not figures.reaches(figures.figures(found))
    assert all("NOT DETECTED" in text for text in figures.failures_text(found) if not text.startswith(" "))


def test_a_checker_that_calls_everything_wrong_gives_false_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = handgrad.check(lambda x: (x * x).sum(), lambda x: _gradient(x), torch.ones(2))
    monkeypatch.setattr(outcomes.handgrad, "check", lambda *_: wrong)
    (task,) = [t for t in tasks.single_edits("attention") if t.edits[0].after == "dres = derr"]

    outcome = outcomes.run(task)

    assert outcome.truth == "equivalent"
    assert figures.figures([outcome])["false alarms"] == 1
    assert not figures.reaches(figures.figures([outcome]))


def _gradient(x: torch.Tensor) -> torch.Tensor:
    dx = 3 * x
    return dx  # noqa: RET504 - the name makes it a gradient


def test_a_combination_is_of_two_to_four_edits_of_different_gradients() -> None:
    some = list(tasks.single_edits("atomic"))

    for task in tasks.combinations(some, 5, seed=1):
        names = [name for mutant in task.edits for name in mutant.targets]
        assert 2 <= len(task.edits) <= 4
        assert len(set(names)) == len(names)
