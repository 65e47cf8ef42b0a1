"""``handgrad train``, and what is made of a trained run: ``sample`` and ``evaluate``."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handgrad.cli.app import app
from handgrad.cli.options import (
    SEED,
    AsJson,
    EngineName,
    ModelName,
    RunFolder,
    Seed,
    SplitName,
    SplitOption,
    Words,
    is_typed,
)
from handgrad.cli.output import open_console, print_json
from handgrad.cli.words import load_words
from handgrad.errors import RunMismatchError

if TYPE_CHECKING:
    from rich.console import Console

    from handgrad.training import Run, State


@app.command()
def train(
    context: typer.Context,
    words: Words = None,
    out: Annotated[Path | None, typer.Option(help="New run folder. [default: runs/1, runs/2, ...]")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with this run.")] = None,
    model: Annotated[
        ModelName, typer.Option(help="Which model. The defaults below are the MLP's; in brackets those of the others.")
    ] = ModelName.mlp,
    engine: Annotated[
        EngineName, typer.Option(help="What takes the steps: one native loop, PyTorch call for call, or torch.compile.")
    ] = EngineName.native,
    n_embd: Annotated[int, typer.Option(help="Numbers for each symbol (gru 32, transformer 32).")] = 10,
    n_hidden: Annotated[
        int, typer.Option(help="Neurons of the hidden layer, or numbers of the state (gru 64, transformer 128).")
    ] = 200,
    n_head: Annotated[int, typer.Option(help="Heads of attention, in the transformer.")] = 4,
    block_size: Annotated[int, typer.Option(help="Symbols of context (gru 8, transformer 8).")] = 3,
    batch_size: Annotated[int, typer.Option(help="Rows in a minibatch.")] = 32,
    steps: Annotated[int, typer.Option(help="Updates of the parameters (gru 40000, transformer 40000).")] = 200_000,
    lr: Annotated[float, typer.Option(help="Learning rate of the first half (gru 1.0, transformer 0.5).")] = 0.1,
    lr_final: Annotated[
        float, typer.Option(help="Learning rate of the second half (gru 0.1, transformer 0.05).")
    ] = 0.01,
    seed: Seed = SEED,
    split: SplitOption = SplitName.shuffle,
    lock_step: Annotated[
        int, typer.Option(metavar="N", help="Every N steps compare all gradients with autograd. [0: never]")
    ] = 0,
    log_every: Annotated[int, typer.Option(help="Steps in a line of metrics.jsonl.")] = 100,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between two checkpoints.")] = 1000,
    threads: Annotated[int, typer.Option(help="Threads that share a step.")] = 1,
    plots: Annotated[bool, typer.Option("--plots", help="Draw the run as PNG files at the end.")] = False,
    names: Annotated[int, typer.Option(help="Words to sample at the end.", min=0)] = 20,
    as_json: AsJson = False,
) -> None:
    """Train a names model with the gradients written by hand; autograd is off.

    Ctrl-C saves and says how to go on.
    """
    word_list = None if resume else load_words(words)
    from handgrad.reports.terminal import print_losses, print_samples, training_bar
    from handgrad.training import Config, Run
    from handgrad.training import train as train_run

    if plots:
        from handgrad.training.plots import plot_run, require_matplotlib

        require_matplotlib()
    options = {field.name: context.params[field.name] for field in fields(Config) if is_typed(context, field.name)}
    options = {name: str(value) if isinstance(value, StrEnum) else value for name, value in options.items()}
    if word_list is None:
        assert resume is not None
        run = _reopen(context, resume, options)
    else:
        options["engine"] = _usable(str(engine))
        run = Run.create(out, Config.of(**options), word_list.words, word_list.source)

    console = open_console(stderr=as_json)
    start = run.load_checkpoint()
    _print_start(console, run, start)
    bar = training_bar(open_console(stderr=True), start.step, run.config.steps)
    with _stop_on_signals() as stopped_by, bar as progress:
        state = train_run(run, progress=progress, stopped=lambda: bool(stopped_by))
    if state.step < run.config.steps:
        _say_stopped(console, run, f"stopped at step {state.step} of {run.config.steps}")
        raise typer.Exit(128 + stopped_by[0])

    from handgrad.training import evaluate, sample_words

    try:
        dataset = run.dataset
        losses = evaluate(state.parameters, dataset, model=run.model)
        run.write_result({"step": state.step, "losses": losses})
        samples = (
            sample_words(state.parameters, dataset, count=names, seed=run.config.seed, model=run.model) if names else []
        )
        pictures = plot_run(run) if plots else []
    except KeyboardInterrupt:
        _say_stopped(console, run, "stopped after the last step")
        raise typer.Exit(130) from None
    if as_json:
        print_json(
            {
                "schema": "handgrad.train/1",
                "run": str(run.path),
                "step": state.step,
                "losses": losses,
                "names": [sample._asdict() for sample in samples],
                "plots": [str(picture) for picture in pictures],
            }
        )
        return
    print_losses(console, losses)
    print_samples(console, samples)
    for picture in pictures:
        console.print(f"plot: {picture}", soft_wrap=True)
    console.print(f"run: {run.path}   more names: handgrad sample {run.path}", soft_wrap=True)


@app.command()
def sample(
    run: RunFolder,
    count: Annotated[int, typer.Option(help="How many words.")] = 20,
    seed: Seed = SEED,
    temperature: Annotated[float, typer.Option(help="Below 1: more typical words; above: stranger ones.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Draw words from a trained run, each marked as new or as one of its training words."""
    from handgrad.reports.terminal import print_samples
    from handgrad.training import Run, sample_words

    opened = Run.open(run)
    samples = sample_words(
        opened.load_checkpoint().parameters,
        opened.dataset,
        count=count,
        seed=seed,
        temperature=temperature,
        model=opened.model,
    )
    if as_json:
        print_json({"schema": "handgrad.sample/1", "names": [drawn._asdict() for drawn in samples]})
    else:
        print_samples(open_console(), samples)


@app.command()
def evaluate(run: RunFolder, as_json: AsJson = False) -> None:
    """Measure a run's loss on train, dev and test, beside the bigram baseline."""
    from handgrad.reports.terminal import print_losses
    from handgrad.training import Run
    from handgrad.training import evaluate as evaluate_parameters

    opened = Run.open(run)
    state = opened.load_checkpoint()
    losses = evaluate_parameters(state.parameters, opened.dataset, model=opened.model)
    if as_json:
        print_json({"schema": "handgrad.evaluate/1", "run": str(run), "step": state.step, "losses": losses})
    else:
        console = open_console()
        console.print(f"{run}, step {state.step:,} of {opened.config.steps:,}", soft_wrap=True)
        print_losses(console, losses)


def _reopen(context: typer.Context, path: Path, options: dict[str, Any]) -> Run:
    """Open the run to resume; options that were typed must be the run's own, `--lock-step` apart."""
    from handgrad.training import Run

    run = Run.open(path)
    if run.made_with_other_versions:
        note = f"note: {path} was made with {run.made_with_other_versions}: the same bits as there are not promised"
        open_console(stderr=True).print(note, style="yellow", soft_wrap=True)
    for name in filter(partial(is_typed, context), context.params):
        option = "--" + name.replace("_", "-")
        if name in ("words", "out"):
            raise RunMismatchError(f"{option} does not go with --resume: {path} keeps its own words and its place")
        if name == "lock_step":
            run = replace(run, config=replace(run.config, lock_step=options[name]))
        elif name in options and options[name] != getattr(run.config, name):
            raise RunMismatchError(
                f"{option} {options[name]} does not fit {path}, which was started with {getattr(run.config, name)}: "
                f"leave {option} out, or start a new run with --out"
            )
    return run


def _usable(engine: str) -> str:
    """Return ``engine`` if it can run here, else PyTorch call for call, with a note."""
    from handgrad.training.engines import problem_of

    problem = problem_of(engine)
    if problem is None:
        return engine
    note = f"note: {problem}; the steps run in eager PyTorch"
    open_console(stderr=True).print(note, style="yellow", soft_wrap=True)
    return "eager"


def _say_stopped(console: Console, run: Run, what: str) -> None:
    go_on = f"handgrad train --resume {run.path}"
    console.print(f"{what}; everything is saved. Go on with:\n  {go_on}", soft_wrap=True)


def _print_start(console: Console, run: Run, state: State) -> None:
    size = sum(array.size for array in state.arrays.values())
    where = f"from step {state.step:,} " if state.step else ""
    console.print(
        f"{run.path}: {len(run.words):,} words ({run.words_source}), {size:,} parameters, "
        f"{where}to step {run.config.steps:,}",
        soft_wrap=True,
    )


@contextmanager
def _stop_on_signals() -> Iterator[list[int]]:
    """Collect the first SIGINT or SIGTERM instead of dying of it; the second one ends the process as usual."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def remember(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, remember)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
