"""The pages of the GRU and of the Transformer: every gradient against autograd, and what is true of each model."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from handgrad.checker import compare_pass
from handgrad.cli.options import ModelName
from handgrad.cli.training import train as train_command
from handgrad.data import build_dataset, load_words
from handgrad.errors import InvalidOptionError, LockStepError, RunMismatchError
from handgrad.models import MODELS, Model, gru, transformer
from handgrad.passes import Passes, cast
from handgrad.tracer import trace
from handgrad.training import Config, Run, evaluate, sample_words, train
from pairs import with_line_changed

PAGES = [gru.GRU, transformer.TRANSFORMER]
each_page = pytest.mark.parametrize("model", PAGES, ids=[model.name for model in PAGES])
V = 7

Batch = tuple[Any, Tensor, Tensor]
Sizes = dict[str, int]


def page_input(model: Model, *, rows: int = 5, seed: int = 1, **changes: int) -> Batch:
    """Return parameters, contexts and targets of a small model, drawn from one seeded generator."""
    sizes: Sizes = {"block_size": 4, "n_embd": 6, "n_hidden": 5, "n_head": 3} | changes
    g = torch.Generator().manual_seed(seed)
    parameters = model.initialise(V, **{name: sizes[name] for name in model.sizes}, generator=g)
    X = torch.randint(0, V, (rows, sizes["block_size"]), generator=g)
    return parameters, X, torch.randint(0, V, (rows,), generator=g)


def both_passes(model: Model, batch: Batch, dtype: torch.dtype = torch.float64) -> Passes:
    parameters, Xb, Yb = batch
    return Passes.run(model.forward, model.backward, cast(parameters, dtype), (Xb, Yb))


def assert_gradients_equal(passes: Passes, within: float) -> None:
    """Raise unless every gradient by hand has autograd's shape and its entries, up to ``within`` of the largest of all.

    The largest of all, since some gradients are zero in truth.
    """
    largest = max(gradient.abs().max().item() for gradient in passes.autograd.values())
    assert passes.by_hand
    for name, gradient in passes.by_hand.items():
        truth = passes.autograd[name.removeprefix("d")]
        assert gradient is not None
        assert (gradient.shape, gradient.dtype) == (truth.shape, truth.dtype), name
        difference = (gradient - truth).abs().max().item()
        assert difference <= within * min(largest, truth.abs().max().item() + 1e-6 * largest), (name, difference)


def assert_close(actual: Tensor, expected: Tensor, within: float = 1e-12) -> None:
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= within * expected.abs().max(), (actual, expected)


# gradients

SIZES: dict[str, dict[str, int]] = {
    "small": {},
    "one row": {"rows": 1},
    "one symbol": {"block_size": 1},
    "one row, one symbol, all sizes one": {"rows": 1, "block_size": 1, "n_embd": 1, "n_hidden": 1, "n_head": 1},
    "one head": {"n_head": 1, "n_embd": 5},
    "heads of one column": {"n_head": 7, "n_embd": 7},
    "odd sizes": {"rows": 33, "block_size": 9, "n_embd": 15, "n_hidden": 17, "n_head": 5},
}
each_size = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)


@each_page
@each_size
def test_every_gradient_is_autograds(model: Model, sizes: Sizes) -> None:
    assert_gradients_equal(both_passes(model, page_input(model, **sizes)), within=1e-11)


@each_page
@given(
    rows=st.integers(1, 12),
    block_size=st.integers(1, 6),
    head=st.integers(1, 4),
    n_head=st.integers(1, 3),
    n_hidden=st.integers(1, 20),
    seed=st.integers(0, 2**32),
)
def test_every_gradient_is_autograds_at_any_size(
    model: Model, rows: int, block_size: int, head: int, n_head: int, n_hidden: int, seed: int
) -> None:
    n_embd = 1 + head * n_head if model is gru.GRU else 2 * head * n_head  # one column alone has nothing to normalise
    batch = page_input(
        model, rows=rows, block_size=block_size, n_embd=n_embd, n_head=n_head, n_hidden=n_hidden, seed=seed
    )

    assert_gradients_equal(both_passes(model, batch), within=1e-8)


@each_page
@pytest.mark.parametrize("symbols", [1, 2])
def test_symbols_that_stand_in_many_places_gather_the_gradient_of_each(model: Model, symbols: int) -> None:
    parameters, Xb, Yb = page_input(model, rows=20)

    passes = both_passes(model, (parameters, Xb % symbols, Yb))

    assert_gradients_equal(passes, within=1e-11)
    dC = passes.by_hand["dC"]
    assert dC is not None
    assert dC[:symbols].abs().min() > 0
    assert dC[symbols:].abs().max() == 0


@each_page
@each_size
def test_in_float32_the_error_is_a_few_roundings_beside_autograds_own(model: Model, sizes: Sizes) -> None:
    batch = page_input(model, **sizes)
    truth = both_passes(model, batch).autograd
    passes = both_passes(model, batch, torch.float32)
    largest = max(gradient.abs().max().item() for gradient in truth.values())

    for name, gradient in passes.by_hand.items():
        value = name.removeprefix("d")
        assert gradient is not None
        assert gradient.dtype == torch.float32
        error, autograds = ((g.double() - truth[value]).abs().max().item() for g in (gradient, passes.autograd[value]))
        rounding = 2**-24 * max(truth[value].abs().max().item(), 0.01 * largest)
        assert error <= 4 * autograds + 8 * rounding, (name, error, autograds)


@each_page
def test_every_gradient_is_called_right(model: Model) -> None:
    comparisons = compare_pass(model.forward, model.backward, *page_input(model))

    assert [str(comparison) for comparison in comparisons if not comparison] == []


FOLDED = {"mean1", "inv1", "mean2", "inv2", "mean3", "inv3"}  # into the closed form of layer norm


@each_page
def test_every_value_and_parameter_has_its_gradient(model: Model) -> None:
    passes = both_passes(model, page_input(model))

    without = set(passes.autograd) - {name.removeprefix("d") for name in passes.by_hand} - {"loss"}

    assert without == (FOLDED if model is transformer.TRANSFORMER else set())


@each_page
def test_backward_changes_neither_values_nor_parameters(model: Model) -> None:
    batch = page_input(model)
    before, values = model.forward(*batch), model.forward(*batch)

    model.backward(batch[0], values, *batch[1:])

    assert str(values) == str(before)


@each_page
def test_the_page_draws_from_no_generator_but_its_own(model: Model) -> None:
    before = torch.get_rng_state()

    batch = page_input(model)
    model.backward(batch[0], model.forward(*batch), *batch[1:])

    assert torch.equal(torch.get_rng_state(), before)


@each_page
def test_every_line_that_computes_a_tensor_ends_with_its_shape(model: Model) -> None:
    lists = ("steps", "step_gradients")
    bare = []
    for function in (model.forward, model.backward):
        source = dedent(inspect.getsource(function))
        for node in ast.walk(ast.parse(source)):
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(node, ast.Assign | ast.AugAssign) and not isinstance(target, ast.Tuple):
                line = source.splitlines()[node.end_lineno - 1]
                bare += [] if "  # (" in line or ast.unparse(target) in lists else [line.strip()]

    filled_by_the_next_line = ["dx3 = torch.zeros_like(x3)"]
    assert bare == (filled_by_the_next_line if model is transformer.TRANSFORMER else [])


@each_page
def test_handgrad_traces_the_forward_by_its_names(model: Model) -> None:
    batch = page_input(model)

    graph = str(trace(model.forward, *batch))

    values = model.forward(*batch)
    fields = values.steps[0]._fields if hasattr(values, "steps") else values._fields
    missing = [name for name in fields if f"\n{name} " not in "\n" + graph]
    assert missing == (["hprev"] if model is gru.GRU else [])  # a second name of the state


MISTAKES: list[tuple[Model, str, str]] = [
    (gru.GRU, "dz = (c - hprev) * dh", "dz = (hprev - c) * dh"),
    (gru.GRU, "dhprev += drpre @ Whr.T", "dhprev = dhprev"),
    (gru.GRU, "dhprev = (1.0 - z) * dh", "dhprev = z * dh"),
    (gru.GRU, "dWhc += rh.T @ dcpre", "dWhc += hprev.T @ dcpre"),
    (gru.GRU, "dWxr += x.T @ drpre", "dWxr = x.T @ drpre"),
    (gru.GRU, "dh = dhprev", "dh = dhprev * 1.001"),
    (gru.GRU, "dh0 = dh.sum(0, keepdim=True)", "dh0 = dh.mean(0, keepdim=True)"),
    (transformer.TRANSFORMER, "dx += inv1", "dx = inv1"),
    (transformer.TRANSFORMER, "dx2 += inv2", "dx2 = inv2"),
    (transformer.TRANSFORMER, "dmasked = att * (datt -", "dmasked = att * (datt +"),
    (transformer.TRANSFORMER, "dk = D**-0.5 * (dscores.transpose(2, 3) @ q)", "dk = D**-0.5 * (dscores @ q)"),
    (transformer.TRANSFORMER, "dq = D**-0.5 * ", "dq = "),
    (transformer.TRANSFORMER, "torch.exp(-0.5 * u**2)", "torch.exp(-u**2)"),
    (transformer.TRANSFORMER, "da += dav @ Wv.T", "da += dav @ Wv"),
    (transformer.TRANSFORMER, "dP = dx.sum(0)", "dP = dx.mean(0)"),
]


@pytest.mark.parametrize(("model", "old", "new"), MISTAKES, ids=[f"{m.name}: {new}" for m, _, new in MISTAKES])
def test_a_planted_mistake_is_found(model: Model, old: str, new: str) -> None:
    changed = replace(model, backward=with_line_changed(model.backward, old, new))
    batch = page_input(model)

    with pytest.raises(AssertionError):
        assert_gradients_equal(both_passes(changed, batch), within=1e-8)
    assert not all(compare_pass(changed.forward, changed.backward, *batch))


# what is true of the GRU


def test_a_closed_update_gate_keeps_the_state_and_its_gradient() -> None:
    parameters, Xb, Yb = page_input(gru.GRU)
    parameters = cast(parameters._replace(bz=torch.full_like(parameters.bz, -1000.0)), torch.float64)

    values = gru.by_hand.forward(parameters, Xb, Yb)
    gradients = gru.by_hand.backward(parameters, values, Xb, Yb)

    assert torch.equal(values.steps[-1].h, parameters.h0.expand(len(Xb), -1))
    assert torch.equal(gradients.steps[0].dhprev, gradients.steps[-1].dh)


def test_with_an_open_reset_gate_the_gru_is_that_of_the_library() -> None:
    parameters, Xb, Yb = page_input(gru.GRU)
    p = cast(parameters._replace(br=torch.full_like(parameters.br, 1000.0)), torch.float64)
    cell = torch.nn.GRU(6, 5, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        # the library's gates are reset, update and candidate, and its update gate opens for the old state
        cell.weight_ih_l0.copy_(torch.cat([p.Wxr, -p.Wxz, p.Wxc], 1).T)
        cell.weight_hh_l0.copy_(torch.cat([p.Whr, -p.Whz, p.Whc], 1).T)
        cell.bias_ih_l0.copy_(torch.cat([p.br, -p.bz, p.bc]))
        cell.bias_hh_l0.zero_()
        _, last = cell(p.C[Xb], p.h0.expand(1, len(Xb), -1).contiguous())

    assert_close(gru.by_hand.forward(p, Xb, Yb).steps[-1].h, last[0])


# what is true of the Transformer


def library_block(p: transformer.Parameters, Xb: Tensor) -> Tensor:
    """Return the logits by the library's own layer norm, attention and GELU."""
    n, T = Xb.shape
    A, _, D = p.bq.shape
    x = F.embedding(Xb, p.C) + p.P
    a = F.layer_norm(x, x.shape[-1:], p.gain1, p.bias1)
    q, k, v = (
        F.linear(a, W.T, b.flatten()).view(n, T, A, D).transpose(1, 2)
        for W, b in ((p.Wq, p.bq), (p.Wk, p.bk), (p.Wv, p.bv))
    )
    heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    x = x + F.linear(heads.transpose(1, 2).flatten(2), p.Wo.T, p.bo)
    u = F.linear(F.layer_norm(x, x.shape[-1:], p.gain2, p.bias2), p.W1.T, p.b1)
    x = x + F.linear(F.gelu(u), p.W2.T, p.b2)
    return F.linear(F.layer_norm(x[:, -1], x.shape[-1:], p.gain3, p.bias3), p.W3.T, p.b3)


@each_size
def test_the_block_is_that_of_the_library(sizes: Sizes) -> None:
    parameters, Xb, Yb = page_input(transformer.TRANSFORMER, **sizes)
    parameters = cast(parameters, torch.float64)

    assert_close(transformer.by_hand.forward(parameters, Xb, Yb).logits, library_block(parameters, Xb), within=1e-10)


def test_no_position_sees_a_later_symbol() -> None:
    parameters, Xb, Yb = page_input(transformer.TRANSFORMER)
    changed = Xb.clone()
    changed[:, 2] = (Xb[:, 2] + 1) % V

    before, after = (transformer.by_hand.forward(parameters, X, Yb).x3 for X in (Xb, changed))

    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.equal(before[:, 2], after[:, 2])
    assert not torch.equal(before[:, 3], after[:, 3])


def test_the_gradient_of_the_bias_of_keys_is_zero_in_truth() -> None:
    gradients = both_passes(transformer.TRANSFORMER, page_input(transformer.TRANSFORMER)).by_hand
    dk, dbk = gradients["dk"], gradients["dbk"]

    assert dk is not None
    assert dbk is not None
    assert dbk.abs().max() <= 1e-14 * dk.abs().max()


def test_heads_share_the_columns_alike_or_the_option_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match=r"--n-head 4 does not divide --n-embd 10: each head takes"):
        transformer.initialise(V, 3, 10, 5, 4, generator=torch.Generator())


# both are trained as the MLP is

WORDS = load_words().words


def small(model: Model, **changes: Any) -> Config:
    sizes: dict[str, Any] = {"n_embd": 8, "n_hidden": 16, "block_size": 4, "log_every": 7, "checkpoint_every": 20}
    return Config.of(model.name, **(sizes | {"steps": 60, "engine": "eager"} | changes))


def new_run(folder: Path, config: Config) -> Run:
    return Run.create(folder, config, WORDS[::10], "some names")


def contents(run: Run) -> dict[str, bytes]:
    return {name: (run.path / name).read_bytes() for name in ("checkpoint.safetensors", "metrics.jsonl", "config.json")}


def stop_after(steps: int) -> Callable[[], bool]:
    asked = iter(range(steps + 1))
    return lambda: next(asked) == steps


@each_page
def test_training_lowers_the_loss_below_the_bigram_model(tmp_path: Path, model: Model) -> None:
    run = Run.create(tmp_path / "run", Config.of(model.name, steps=800, engine="eager"), WORDS, "all names")

    losses = evaluate(train(run).parameters, run.dataset, model=model)

    assert losses[model.name]["train"] < losses["bigram"]["train"] < 3
    assert losses[model.name]["dev"] < losses["bigram"]["dev"]


@each_page
@pytest.mark.parametrize("stops", [[1], [33, 8]])
def test_a_run_that_was_stopped_and_resumed_equals_one_that_was_not(
    tmp_path: Path, model: Model, stops: list[int]
) -> None:
    whole, stopped = new_run(tmp_path / "whole", small(model)), new_run(tmp_path / "stopped", small(model))
    train(whole)

    for steps in stops:
        train(stopped, stopped=stop_after(steps))
    train(Run.open(stopped.path))

    assert contents(stopped) == contents(whole)


@each_page
def test_lock_step_passes_right_gradients(tmp_path: Path, model: Model) -> None:
    run = new_run(tmp_path / "run", small(model, lock_step=1, steps=15, lr=1.0))

    assert train(run).step == 15


def test_lock_step_names_the_time_step_that_differs(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", small(gru.GRU, lock_step=1))
    wrong = with_line_changed(gru.by_hand.backward, "dcpre = (1.0 - c**2) * dc", "dcpre = (1.0 - c**2) * dc * (1 + t)")

    with pytest.raises(LockStepError) as raised:
        train(run, model=replace(gru.GRU, backward=wrong))

    rows = [line.split()[0] for line in str(raised.value).splitlines()[1:]]
    assert "cpre[3]" in rows
    assert "c[3]" not in rows


@each_page
def test_the_checkpoint_of_another_model_is_refused(tmp_path: Path, model: Model) -> None:
    mine, other = new_run(tmp_path / "mine", small(model)), new_run(tmp_path / "mlp", small(MODELS["mlp"]))
    (other.path / "checkpoint.safetensors").replace(mine.path / "checkpoint.safetensors")

    with pytest.raises(RunMismatchError) as raised:
        mine.load_checkpoint()

    assert f"does not belong to this run: it was made with model mlp, and {mine.path} has {model.name}" in str(
        raised.value
    )


@each_page
def test_evaluation_does_not_depend_on_how_the_rows_are_cut(model: Model) -> None:
    parameters, _, _ = page_input(model)
    X = torch.randint(0, V, (101, 4), generator=torch.Generator().manual_seed(2))
    at_once = model.predictor(parameters, X)(X)

    row_by_row = torch.cat([model.predictor(parameters, X)(X[k : k + 1]) for k in range(len(X))])

    assert_close(row_by_row, at_once, within=1e-5)


@each_page
def test_the_same_seed_samples_the_same_words(model: Model) -> None:
    dataset = build_dataset(WORDS[::10], 4)
    sizes = {"block_size": 4, "n_embd": 8, "n_hidden": 8, "n_head": 2}
    parameters = model.initialise(
        len(dataset.vocabulary),
        **{name: sizes[name] for name in model.sizes},
        generator=torch.Generator().manual_seed(1),
    )

    five = sample_words(parameters, dataset, count=5, seed=3, model=model)

    assert sample_words(parameters, dataset, count=7, seed=3, model=model)[:5] == five


@each_page
def test_plots_draw_four_pictures(tmp_path: Path, model: Model) -> None:
    pytest.importorskip("matplotlib", reason="plots are an extra")
    from handgrad.training.plots import plot_run

    run = new_run(tmp_path / "run", small(model, steps=8))
    train(run)

    assert [file.name for file in plot_run(run)] == ["loss.png", "activations.png", "gradients.png", "embedding.png"]


# the command


def handgrad(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "handgrad", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@each_page
def test_the_command_trains_resumes_evaluates_and_samples(tmp_path: Path, model: Model) -> None:
    sizes = {"--n-embd": 8, "--n-hidden": 8, "--block-size": 3, "--steps": 60, "--lock-step": 20, "--names": 2}
    options = [str(part) for pair in sizes.items() for part in pair]

    trained = handgrad("train", "--model", model.name, "--out", "run", *options, "--json", cwd=tmp_path)
    resumed = handgrad("train", "--resume", "run", "--model", model.name, "--json", cwd=tmp_path)
    evaluated = handgrad("evaluate", "run", "--json", cwd=tmp_path)
    sampled = handgrad("sample", "run", "--count", "2", "--json", cwd=tmp_path)

    assert [done.returncode for done in (trained, resumed, evaluated, sampled)] == [0, 0, 0, 0], trained.stderr
    losses = json.loads(trained.stdout)["losses"]
    assert list(losses) == [model.name, "bigram"]
    assert json.loads(evaluated.stdout)["losses"] == json.loads(resumed.stdout)["losses"] == losses
    assert json.loads(sampled.stdout)["names"] == json.loads(trained.stdout)["names"]


def test_a_run_is_not_resumed_as_another_model(tmp_path: Path) -> None:
    new_run(tmp_path / "run", small(gru.GRU))

    done = handgrad("train", "--resume", "run", "--model", "transformer", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (
        2,
        "error: HG704: --model transformer does not fit run, which was started with gru: "
        "leave --model out, or start a new run with --out\n",
    )


@each_page
def test_exercises_print_a_row_for_every_gradient(tmp_path: Path, model: Model) -> None:
    done = handgrad("exercises", "--model", model.name, cwd=tmp_path)

    count = {"gru": 45, "transformer": 48}[model.name]
    assert done.returncode == 0
    assert done.stdout.startswith(f"{model.title}: every gradient by hand\n")
    assert f"{count} of {count} right" in done.stdout


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("exercises --model gru --spelling plain", "--spelling does not go with --model gru: leave it out, or take"),
        ("exercises --model gru --n-head 2", "--n-head does not go with --model gru: leave it out, or take"),
        ("exercises --model transformer --n-head 3", "--n-head 3 does not divide --n-embd 10: each head takes"),
        ("train --model mlp --n-head 3", "--n-head does not go with --model mlp, which has nothing of that size"),
        ("train --model transformer --n-head 3", "--n-head 3 does not divide --n-embd 32: each head takes"),
        ("train --model transformer --n-head 0", "--n-head 0 must be 1 or more"),
    ],
)
def test_an_option_that_does_not_fit_the_model_gets_one_sentence(tmp_path: Path, command: str, message: str) -> None:
    done = handgrad(*command.split(), cwd=tmp_path)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"error: HG701: {message}")
    assert not list(tmp_path.iterdir())


def options_of_train() -> dict[str, Any]:
    return {
        name: get_args(p.annotation) for name, p in inspect.signature(train_command, eval_str=True).parameters.items()
    }


def test_the_command_names_the_models_that_there_are() -> None:
    assert [str(name) for name in ModelName] == list(MODELS)


@each_page
def test_the_help_tells_the_defaults_of_the_model(model: Model) -> None:
    helps = {name: annotation[1].help for name, annotation in options_of_train().items() if annotation}

    told = {name: re.search(rf"[( ]{model.name} ([\d.]+)", text or "") for name, text in helps.items()}

    assert {name: float(match[1]) for name, match in told.items() if match} == model.defaults


# options


@each_page
def test_a_model_brings_its_own_defaults_and_the_options_that_are_given_win(model: Model) -> None:
    config = Config.of(model.name, n_hidden=3)

    expected = dict(model.defaults) | {"model": model.name, "n_hidden": 3}
    assert {name: getattr(config, name) for name in expected} == expected


def test_the_defaults_of_config_are_those_of_the_mlp() -> None:
    assert Config.of("mlp") == Config()


def test_a_size_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match=r"--n-head does not go with --model gru, .* \(transformer\)$"):
        Config.of("gru", n_head=2)


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidOptionError, match="--model lstm is none of the models: mlp, gru, transformer"):
        Config.of("lstm")
