"""Training, evaluation and sampling, as a library."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from handgrad.data import build_dataset, load_words
from handgrad.errors import (
    DamagedRunError,
    DivergedError,
    InvalidOptionError,
    LockStepError,
    RunBusyError,
    RunExistsError,
    RunMismatchError,
    RunNotFoundError,
    RunNotWritableError,
)
from handgrad.models.mlp import MLP, fast
from handgrad.native.draws import Draws
from handgrad.training import Config, Run, evaluate, sample_words, train
from handgrad.training.loop import _append
from pairs import with_line_changed

WORDS = load_words().words[::10]
SMALL = Config(n_hidden=16, steps=60, log_every=7, checkpoint_every=20, engine="eager")


def new_run(folder: Path, config: Config = SMALL, words: tuple[str, ...] = WORDS) -> Run:
    return Run.create(folder, config, words, "some names")


def contents(run: Run) -> dict[str, bytes]:
    names = ("checkpoint.safetensors", "metrics.jsonl", "config.json", "words.txt")
    return {name: (run.path / name).read_bytes() for name in names}


def stop_after(steps: int) -> Callable[[], bool]:
    asked = iter(range(steps + 1))
    return lambda: next(asked) == steps


# training


def test_training_lowers_the_loss_below_the_bigram_model(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", Config(n_hidden=64, steps=4000, engine="eager"), load_words().words)

    state = train(run)

    losses = evaluate(state.parameters, run.dataset)
    assert losses["mlp"]["train"] < losses["bigram"]["train"] < 3
    assert losses["mlp"]["dev"] < losses["bigram"]["dev"]


def test_a_step_is_the_update_by_the_gradients_of_autograd(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", replace(SMALL, steps=1, lr=0.5))
    before = run.load_checkpoint()
    g = torch.Generator()
    g.set_state(before.generator.get_state())
    X, Y = map(torch.from_numpy, run.dataset.train)
    ix = torch.randint(0, len(X), (32,), generator=g)
    leaves = MLP.parameters(*(p.clone().requires_grad_() for p in before.parameters))
    fast.forward(leaves, X[ix], Y[ix]).loss.backward()

    after = train(run).parameters

    for name, leaf in leaves._asdict().items():
        torch.testing.assert_close(getattr(after, name), (leaf - 0.5 * leaf.grad).detach(), rtol=1e-5, atol=1e-7)


def test_the_learning_rate_falls_after_the_first_half(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", replace(SMALL, steps=6, log_every=1))

    train(run)

    assert [line["lr"] for line in run.metrics()] == [0.1, 0.1, 0.1, 0.01, 0.01, 0.01]


def test_metrics_hold_the_mean_loss_of_the_steps_since_the_line_before(tmp_path: Path) -> None:
    every_step = new_run(tmp_path / "every", replace(SMALL, steps=17, log_every=1))
    by_seven = new_run(tmp_path / "seven", replace(SMALL, steps=17, log_every=7))

    train(every_step)
    train(by_seven)

    losses = [line["loss"] for line in every_step.metrics()]
    expected = [sum(losses[a:b]) / (b - a) for a, b in ((0, 7), (7, 14), (14, 17))]
    assert [line["step"] for line in by_seven.metrics()] == [7, 14, 17]
    assert [line["loss"] for line in by_seven.metrics()] == pytest.approx(expected, rel=1e-12)


def test_the_same_run_twice_gives_the_same_bits(tmp_path: Path) -> None:
    first, second = new_run(tmp_path / "1"), new_run(tmp_path / "2")

    train(first)
    torch.rand(5)  # the global generator plays no part
    train(second)

    assert contents(first) == contents(second)


@pytest.mark.parametrize("stops", [[1], [20], [33, 8], [5, 5, 5, 5, 5]])
def test_a_run_that_was_stopped_and_resumed_equals_one_that_was_not(tmp_path: Path, stops: list[int]) -> None:
    whole, stopped = new_run(tmp_path / "whole"), new_run(tmp_path / "stopped")
    train(whole)

    for steps in stops:
        train(stopped, stopped=stop_after(steps))
    train(Run.open(stopped.path))

    assert contents(stopped) == contents(whole)


@pytest.mark.parametrize("forgotten", ["draws", "losses"])
def test_a_resume_that_forgets_something_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    whole, stopped = new_run(tmp_path / "whole"), new_run(tmp_path / "stopped")
    train(whole)
    train(stopped, stopped=stop_after(10))
    load = Run.load_checkpoint
    fresh = {"draws": Draws.seeded(1).state, "losses": []}[forgotten]
    monkeypatch.setattr(Run, "load_checkpoint", lambda run: replace(load(run), **{forgotten: fresh}))

    train(stopped)

    assert contents(stopped)["metrics.jsonl"] != contents(whole)["metrics.jsonl"]


def test_lines_written_after_the_last_checkpoint_are_cut_off(tmp_path: Path) -> None:
    whole, killed = new_run(tmp_path / "whole"), new_run(tmp_path / "killed")
    train(whole)
    train(killed, stopped=stop_after(30))
    with (killed.path / "metrics.jsonl").open("ab") as metrics:
        metrics.write(b'{"step": 35, "lr": 0.1, "los')
    (killed.path / ".checkpoint.safetensors.part").write_bytes(b"half")

    train(killed)

    assert contents(killed) == contents(whole)
    assert not list(killed.path.glob("*.part")) + list(killed.path.glob(".*.part"))


def test_a_finished_run_stays_as_it_is(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    train(run)
    before = contents(run)

    train(run)

    assert contents(run) == before


# lock-step and divergence


def test_lock_step_passes_right_gradients(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", replace(SMALL, lock_step=1, steps=30))

    assert train(run).step == 30


def test_lock_step_changes_no_bit_of_the_training(tmp_path: Path) -> None:
    plain, checked = new_run(tmp_path / "plain"), new_run(tmp_path / "checked", replace(SMALL, lock_step=3))

    train(plain)
    train(checked)

    assert contents(plain)["metrics.jsonl"] == contents(checked)["metrics.jsonl"]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("a b c d e f", {"n_hidden": 5, "batch_size": 2, "block_size": 2, "steps": 300}),
        ("emma olivia ava sophia mia zoe lea anna", {"n_hidden": 20, "batch_size": 2, "lr": 1.0, "steps": 500}),
        ("anna " * 100, {"n_hidden": 5, "batch_size": 2, "lr": 5.0, "steps": 200}),
    ],
    ids=["six letters", "eight names", "one name"],
)
def test_lock_step_raises_no_false_alarm_where_gradients_cancel(
    tmp_path: Path, words: str, changes: dict[str, object], seed: int
) -> None:
    run = new_run(tmp_path / "run", Config(**changes, seed=seed, lock_step=1, engine="eager"), tuple(words.split()))

    assert train(run).step == changes["steps"]


@pytest.mark.parametrize(
    ("old", "new", "row"),
    [
        ("dhpreact = (1.0 - h**2) * dh", "dhpreact = (1.0 - h) * dh", "hpreact"),
        ("db2 = dlogits.sum(0)", "db2 = dlogits.sum(0, keepdim=True)", "b2"),
        ("dW1 = embcat.T @ dhprebn", "dW1 = 1.0001 * (embcat.T @ dhprebn)", "W1"),
    ],
)
def test_lock_step_stops_at_the_row_that_differs(tmp_path: Path, old: str, new: str, row: str) -> None:
    run = new_run(tmp_path / "run", replace(SMALL, lock_step=10))
    model = replace(MLP, backward=with_line_changed(fast.backward, old, new))

    with pytest.raises(LockStepError) as raised:
        train(run, model=model)

    first, *rows = str(raised.value).splitlines()
    assert first.startswith("HG707: at step 0 ")
    assert any(line.startswith(f"{row:15s} | exact: False") and "| wrong: " in line for line in rows)


def test_lock_step_looks_only_at_every_nth_step(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", replace(SMALL, lock_step=10))
    train(run, stopped=stop_after(1))
    model = replace(MLP, backward=with_line_changed(fast.backward, "(1.0 - h**2) * dh", "(1.0 - h) * dh"))

    with pytest.raises(LockStepError, match="at step 10 "):
        train(run, model=model)


def test_a_loss_that_overflows_stops_with_the_step_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", replace(SMALL, lr=1e30))

    with pytest.raises(DivergedError) as raised:
        train(run)

    assert "with learning rate 1e+30: try a smaller --lr" in str(raised.value)
    assert all(p.isfinite().all() for p in run.load_checkpoint().parameters)


def test_parameters_that_overflow_never_replace_a_good_checkpoint(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", replace(SMALL, checkpoint_every=1))
    model = replace(MLP, backward=with_line_changed(fast.backward, "dlogits.sum(0)", "dlogits.sum(0) / 0"))

    with pytest.raises(DivergedError, match="at step 1 b2 holds NaN or infinity"):
        train(run, model=model)

    assert run.load_checkpoint().step == 0


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    (run.path / ".checkpoint.safetensors.part").mkdir()

    with pytest.raises(RunNotWritableError, match=r"checkpoint\.safetensors cannot be written \(Is a directory\)"):
        run.save_checkpoint(run.load_checkpoint())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")

    with (
        Path("/dev/full").open("wb", buffering=0) as metrics,
        pytest.raises(RunNotWritableError, match=r"metrics\.jsonl cannot be written \(No space left on device\)"),
    ):
        _append(run, metrics, "{}")


# options


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("n_hidden", 0, "--n-hidden 0 must be 1 or more"),
        ("n_embd", -3, "--n-embd -3 must be 1 or more"),
        ("block_size", 0, "--block-size 0 must be 1 or more"),
        ("steps", 0, "--steps 0 must be 1 or more"),
        ("n_hidden", "64", "--n-hidden 64 must be a whole number"),
        ("steps", 50.5, "--steps 50.5 must be a whole number"),
        ("n_embd", True, "--n-embd True must be a whole number"),
        ("n_hidden", 10**30, f"--n-hidden {10**30} is too large"),
        ("lr", "fast", "--lr fast must be a number"),
        ("lr", -0.1, "--lr -0.1 must be a positive number"),
        ("lr", 1e39, "--lr 1e+39 must be a number that float32 can hold"),
        ("lr_final", float("nan"), "--lr-final nan must be a positive number"),
        ("lock_step", -1, "--lock-step -1 must be 0 (never) or more"),
        ("seed", -1, "--seed -1 must lie between 0 and 2**63 - 1"),
        ("split", "random", "--split random must be `shuffle` or `distinct`"),
        (
            "batch_size",
            1,
            "--batch-size 1 is too small: batch norm divides by the batch size less one, so it must be 2 or more",
        ),
    ],
)
def test_an_option_that_cannot_work_is_refused(option: str, value: object, message: str) -> None:
    with pytest.raises(InvalidOptionError) as raised:
        Config(**{option: value})  # type: ignore[arg-type]

    assert str(raised.value) == f"HG701: {message}"


# run folders


def test_a_folder_that_holds_something_is_never_taken(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious.txt").write_text("mine")

    with pytest.raises(RunExistsError, match=r"already holds something: choose another folder with --out$"):
        new_run(tmp_path / "run")

    assert [path.name for path in tmp_path.rglob("*")] == ["run", "precious.txt"]


def test_an_empty_folder_may_become_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()

    assert Run.open(new_run(tmp_path / "run").path).config == SMALL


def test_runs_without_a_name_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    paths = [Run.create(None, SMALL, WORDS, "some names").path for _ in range(3)]

    assert paths == [Path("runs/1"), Path("runs/2"), Path("runs/3")]


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match=r"is no run folder \(there is no such folder\)"):
        Run.open(tmp_path / "nothing")
    with pytest.raises(RunNotFoundError, match=r"is no run folder \(it has no config.json\)"):
        Run.open(tmp_path)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [flip_a_byte, cut_short, Path.unlink], ids=["flipped", "cut", "deleted"])
@pytest.mark.parametrize("name", ["checkpoint.safetensors", "words.txt"])
def test_a_damaged_file_is_named_and_not_used(tmp_path: Path, damage: Callable[[Path], None], name: str) -> None:
    run = new_run(tmp_path / "run")
    train(run)
    damage(run.path / name)

    with pytest.raises(DamagedRunError, match=name):
        train(Run.open(run.path))


@given(st.binary(max_size=200))
def test_no_bytes_in_place_of_a_checkpoint_give_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes
) -> None:
    run = new_run(tmp_path_factory.mktemp("junk") / "run")
    (run.path / "checkpoint.safetensors").write_bytes(junk)

    with pytest.raises(DamagedRunError):
        run.load_checkpoint()


def test_a_config_that_is_no_json_is_named(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    cut_short(run.path / "config.json")

    with pytest.raises(DamagedRunError, match=r"config\.json is damaged"):
        Run.open(run.path)


@pytest.mark.parametrize("versions", ["null", "3", '"x"', "{}"])
def test_versions_that_make_no_sense_give_no_traceback(tmp_path: Path, versions: str) -> None:
    run = new_run(tmp_path / "run")
    description = json.loads((run.path / "config.json").read_text()) | {"versions": json.loads(versions)}
    (run.path / "config.json").write_text(json.dumps(description))

    try:
        assert "torch unknown" in Run.open(run.path).made_with_other_versions
    except DamagedRunError as error:
        assert "config.json is damaged" in str(error)  # noqa: PT017


def test_a_config_of_endless_depth_is_damaged(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    (run.path / "config.json").write_text("[" * 100_000)

    with pytest.raises(DamagedRunError):
        Run.open(run.path)


def test_metrics_that_were_cut_are_named(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    train(run, stopped=stop_after(30))
    cut_short(run.path / "metrics.jsonl")

    with pytest.raises(DamagedRunError, match=r"metrics\.jsonl was cut short"):
        train(run)


def test_the_checkpoint_of_a_run_of_another_shape_is_refused(tmp_path: Path) -> None:
    small, large = new_run(tmp_path / "small"), new_run(tmp_path / "large", replace(SMALL, n_hidden=17))
    (large.path / "checkpoint.safetensors").replace(small.path / "checkpoint.safetensors")

    with pytest.raises(
        RunMismatchError, match=r"does not belong to this run: it was made with n_hidden 17, and \S+ has 16"
    ):
        train(small)


@pytest.mark.parametrize("name", ["batch_size", "steps", "seed", "lr"])
def test_options_that_were_changed_in_the_run_folder_are_refused(tmp_path: Path, name: str) -> None:
    run = new_run(tmp_path / "run")
    train(run, stopped=stop_after(10))
    description = json.loads((run.path / "config.json").read_text())
    made_with = description["config"][name]
    description["config"][name] = 40
    (run.path / "config.json").write_text(json.dumps(description))

    with pytest.raises(RunMismatchError, match=rf"was made with {name} {made_with}, and \S+ has 40"):
        train(Run.open(run.path))


def test_an_option_that_a_newer_version_added_takes_its_default(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    description = json.loads((run.path / "config.json").read_text())
    del description["config"]["threads"]
    (run.path / "config.json").write_text(json.dumps(description))

    assert Run.open(run.path).config == SMALL


def test_a_run_of_another_schema_is_refused(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    config = run.path / "config.json"
    config.write_text(config.read_text().replace("handgrad.run/1", "handgrad.run/9"))

    with pytest.raises(DamagedRunError, match=r"its schema is 'handgrad.run/9', and this handgrad reads"):
        Run.open(run.path)


@pytest.mark.parametrize("steps", [0, 30])
def test_metrics_that_are_gone_are_named(tmp_path: Path, steps: int) -> None:
    run = new_run(tmp_path / "run")
    train(run, stopped=stop_after(steps))
    (run.path / "metrics.jsonl").unlink()

    with pytest.raises(DamagedRunError, match=r"metrics\.jsonl was cut short: it has 0 bytes"):
        train(run)


def test_metrics_are_on_the_disk_before_the_checkpoint_that_relies_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, flushed = new_run(tmp_path / "run"), list[str]()
    fsync = os.fsync

    def record(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    train(run, stopped=stop_after(1))

    assert flushed == ["metrics.jsonl", ".checkpoint.safetensors.part", "run"]


def test_training_leaves_the_number_of_threads_as_it_was(tmp_path: Path) -> None:
    before = torch.get_num_threads()

    train(new_run(tmp_path / "run", replace(SMALL, threads=before + 1)))

    assert torch.get_num_threads() == before


def test_two_processes_do_not_train_one_run(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")

    with FileLock(run.path / ".lock"), pytest.raises(RunBusyError, match="another process is training"):
        train(run)


def test_config_json_says_what_made_the_run(tmp_path: Path) -> None:
    description = json.loads((new_run(tmp_path / "run").path / "config.json").read_text())

    assert description["config"] == SMALL.to_dict()
    assert description["versions"]["torch"] == torch.__version__


# evaluation and sampling


def test_the_loss_of_a_split_does_not_depend_on_how_it_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(tmp_path / "run")
    parameters, dataset = train(run).parameters, run.dataset
    whole = evaluate(parameters, dataset)
    monkeypatch.setattr("handgrad.training.evaluation.ROWS_AT_A_TIME", 13)

    cut = evaluate(parameters, dataset)

    assert cut["mlp"] == pytest.approx(whole["mlp"], rel=1e-6)


def test_the_same_seed_samples_the_same_words_and_a_larger_count_adds_to_them(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    parameters, dataset = train(run).parameters, run.dataset

    five = sample_words(parameters, dataset, count=5, seed=3)

    assert sample_words(parameters, dataset, count=9, seed=3)[:5] == five
    assert sample_words(parameters, dataset, count=5, seed=4) != five


def test_sampled_words_are_marked_as_new_or_known() -> None:
    words = ["anna", "otto"] * 30
    dataset = build_dataset(words)
    parameters = MLP.initialise(len(dataset.vocabulary), 3, 4, 8, generator=torch.Generator().manual_seed(1))

    samples = sample_words(parameters, dataset, count=200)

    assert {sample.in_training for sample in samples} == {sample.word in ("anna", "otto") for sample in samples}
    assert all(sample.in_training == (sample.word in ("anna", "otto")) for sample in samples)


def test_a_low_temperature_repeats_the_likeliest_word_and_a_high_one_does_not(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    parameters, dataset = train(run).parameters, run.dataset

    cold = {s.word for s in sample_words(parameters, dataset, count=10, temperature=1e-9)}
    hot = {s.word for s in sample_words(parameters, dataset, count=10, temperature=5.0)}

    assert len(cold) == 1
    assert len(hot) > 5


@pytest.mark.parametrize("wrong", [{"count": 0}, {"temperature": 0.0}, {"temperature": float("inf")}, {"seed": -1}])
def test_sampling_options_that_cannot_work_are_refused(wrong: dict[str, object]) -> None:
    dataset = build_dataset(WORDS)
    parameters = MLP.initialise(len(dataset.vocabulary), 3, 4, 8, generator=torch.Generator())

    with pytest.raises(InvalidOptionError, match="must"):
        sample_words(parameters, dataset, **wrong)  # type: ignore[arg-type]


# plots


def test_plots_draw_four_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots are an extra")
    from handgrad.training.plots import plot_run

    run = new_run(tmp_path / "run", replace(SMALL, n_embd=1), ("李白", "李", "josé", "ANNA", "a b", "o'neil", *WORDS))
    train(run)

    files = plot_run(run)

    assert [file.name for file in files] == ["loss.png", "activations.png", "gradients.png", "embedding.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
