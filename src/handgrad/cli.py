"""The command ``handgrad``. It parses options, calls the library and prints; it decides nothing itself.

Every command imports what it needs when it runs, so that ``handgrad --help`` answers at once.
"""

from __future__ import annotations

import io
import json
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from handgrad.errors import HandgradError, InvalidOptionError, LockStepError, RunMismatchError

if TYPE_CHECKING:
    from rich.console import Console

    from handgrad.data import WordList
    from handgrad.runner import Options
    from handgrad.training import Run, State

app = typer.Typer(
    help="Check, derive and compile backward passes written by hand in PyTorch.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Show what a word list is made of, or download the original one.")
app.add_typer(data_app, name="data")


class SplitName(StrEnum):
    """How words are divided into train, dev and test."""

    shuffle = "shuffle"
    distinct = "distinct"


class ModelName(StrEnum):
    """The models with a page by hand."""

    mlp = "mlp"
    gru = "gru"
    transformer = "transformer"


class SpellingName(StrEnum):
    """How the two lines with two spellings are written."""

    exact = "exact"
    plain = "plain"


SEED = 2147483647

Words = Annotated[
    Path | None,
    typer.Option(help="Word list, one word a line, UTF-8. [default: $HANDGRAD_WORDS, else the built-in names]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
Seed = Annotated[int, typer.Option(help="Seed of the one random generator.")]
SplitOption = Annotated[SplitName, typer.Option(help="Divide the words as they stand, or by distinct word.")]
BlockSize = Annotated[int, typer.Option(help="Symbols of context.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


def main() -> None:
    """Run the command; a user's mistake becomes one line on stderr and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter shows its number
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `handgrad ... | head` ends as other commands do
    try:
        app()
    except LockStepError as error:
        _fail(str(error), status=1)
    except HandgradError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'the file system'}: {error.strerror}")
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):  # torch has no class for it on the CPU
            _crash()
        _fail("there is not enough memory for these sizes: choose smaller ones")
    except Exception:
        _crash()


def _fail(message: str, *, status: int = 2) -> NoReturn:
    _console(stderr=True).print(f"error: {message}", style="red", soft_wrap=True)
    sys.exit(status)


def _crash() -> NoReturn:
    """Show a fault of handgrad's own, with a status that is not taken for a wrong gradient."""
    traceback.print_exc()
    sys.exit(70)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"handgrad {version('handgrad')}")
        raise typer.Exit


@app.callback()
def _handgrad(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


class ReportFormat(StrEnum):
    """How a report is printed."""

    terminal = "terminal"
    json = "json"
    junit = "junit"
    github = "github"


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Notebooks and scripts.", show_default=False)],
    gradient: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of which value a name is the gradient, where names do not tell."),
    ] = None,
    loss: Annotated[str | None, typer.Option(metavar="NAME", help="The loss. [default: found]")] = None,
    words: Annotated[
        Path | None, typer.Option(help="Names list for files that do not find theirs. [default: built-in names]")
    ] = None,
    iterations: Annotated[int, typer.Option(help="Iterations of a long training loop that are run.")] = 3,
    timeout: Annotated[float, typer.Option(help="Seconds that a file may run.")] = 120.0,
    memory: Annotated[float, typer.Option(help="GiB that a file may use.")] = 4.0,
    html: Annotated[Path | None, typer.Option(metavar="OUT", help="Write the report as one HTML page, too.")] = None,
    report_format: Annotated[
        ReportFormat, typer.Option("--format", help="Print for a terminal, as JSON, or for CI.")
    ] = ReportFormat.terminal,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Check again whenever a file is saved.")] = False,
) -> None:
    """Judge every line of the backward passes in notebooks and scripts, and say what is wrong and why.

    The files are run, each in a process of its own, in its own folder. Exit status 1 if a gradient is wrong or
    missing, 2 if a file cannot be judged.
    """
    from handgrad.runner import Options

    options = Options(
        timeout=timeout,
        memory=int(memory * 2**30),
        iterations=iterations,
        words=None if words is None else str(words.resolve()),
        gradient=tuple(gradient or ()),
        loss=loss,
    )
    if as_json:
        report_format = ReportFormat.json
    if html is not None and len(files) > 1:
        raise InvalidOptionError(
            f"--html takes the report of one file, and {len(files)} are given: check them one by one"
        )
    if report_format in (ReportFormat.json, ReportFormat.junit) and len(files) > 1:
        raise InvalidOptionError(
            f"--format {report_format.value} prints the report of one file, and {len(files)} are given: "
            "check them one by one"
        )
    if watch:
        _watch_files(files, options, html)
    statuses = [_check_file(path, options, html, report_format, several=len(files) > 1) for path in files]
    if worst := (2 if 2 in statuses else max(statuses)):
        raise typer.Exit(worst)


def _check_file(
    path: Path, options: Options, html: Path | None, report_format: ReportFormat, *, several: bool = False
) -> int:
    """Check one file and print its report; return the exit status."""
    from handgrad.runner.process import run

    try:
        report = replace(run(path, options), file=str(path))
    except HandgradError as error:
        if not several:
            raise
        _console(stderr=True).print(f"error: {error}", style="red", soft_wrap=True)
        return 2
    if html is not None:
        from handgrad.reports.page import page

        html.write_text(page(report), encoding="utf-8")
    if report_format is ReportFormat.terminal:
        from handgrad.reports.terminal import print_report

        print_report(_console(), report)
        if html is not None:
            _console().print(f"the report as a page: {html}", style="dim", soft_wrap=True)
    elif report_format is ReportFormat.json:
        typer.echo(report.to_json())
    else:
        from handgrad.reports import ci

        typer.echo(ci.junit(report) if report_format is ReportFormat.junit else ci.github(report))
    return report.exit_status


def _watch_files(files: list[Path], options: Options, html: Path | None) -> NoReturn:
    """Check the files now and whenever one is saved, until Ctrl-C."""
    from watchfiles import watch as changes

    wanted = {path.resolve() for path in files}
    console = _console()

    def look(paths: list[Path]) -> None:
        for path in paths:
            try:
                _check_file(path, options, html, ReportFormat.terminal)
            except HandgradError as error:
                _console(stderr=True).print(f"error: {error}", style="red", soft_wrap=True)
        console.print("watching; Ctrl-C ends", style="dim")

    look(files)
    for changed in changes(*{path.parent for path in wanted}, raise_interrupt=False, recursive=False):
        saved = sorted({Path(name).resolve() for _, name in changed} & wanted)
        if saved:
            console.clear()
            look(saved)
    raise typer.Exit


@app.command()
def explain(
    code: Annotated[str | None, typer.Argument(help="A code such as HG201, or a kind such as missing-sum.")] = None,
) -> None:
    """Print the page about a mistake: what it is, a wrong and a right example. Without a code, list them all."""
    from rich.markdown import Markdown

    from handgrad.diagnosis.pages import page_of, titles

    console = _console()
    if code is None:
        for its_code, (kind, title) in titles().items():
            console.print(f"[bold]{its_code}[/bold]  {kind:18s} {title}", soft_wrap=True)
        return
    text = page_of(code)
    console.print(Markdown(text) if console.is_terminal else text, soft_wrap=not console.is_terminal, markup=False)


@app.command()
def exercises(
    context: typer.Context,
    words: Words = None,
    model: Annotated[ModelName, typer.Option(help="The exercises of the MLP, or the page of another.")] = ModelName.mlp,
    n_embd: Annotated[int, typer.Option(help="Numbers for each symbol.")] = 10,
    n_hidden: Annotated[int, typer.Option(help="Neurons of the hidden layer.")] = 64,
    n_head: Annotated[int, typer.Option(help="Heads of attention, in the transformer.")] = 2,
    block_size: BlockSize = 3,
    batch_size: Annotated[int, typer.Option(help="Rows in the minibatch.")] = 32,
    seed: Seed = SEED,
    spelling: Annotated[
        SpellingName, typer.Option(help="exact: rounds as autograd does; plain: as on paper.")
    ] = SpellingName.exact,
    as_json: AsJson = False,
) -> None:
    """Compare every gradient written by hand with autograd's, on a real minibatch.

    Exit status 1 if a gradient is not right.
    """
    _refuse_options_of_other_models(context, model, spelling=ModelName.mlp, n_head=ModelName.transformer)
    word_list = _load_words(words)
    from handgrad.data import build_dataset
    from handgrad.exercises import run_exercises, run_page
    from handgrad.reports.terminal import print_comparisons

    dataset = build_dataset(word_list.words, block_size)
    sizes = {"n_embd": n_embd, "n_hidden": n_hidden, "batch_size": batch_size, "seed": seed}
    if model is ModelName.mlp:
        done = run_exercises(dataset, **sizes, spelling=spelling.value)
    else:
        from handgrad.models import MODELS

        done = run_page(dataset, MODELS[model], **sizes, n_head=n_head)
    if as_json:
        tables = [{"title": e.title, "gradients": [c.to_dict() for c in e.comparisons]} for e in done]
        _print_json({"schema": "handgrad.exercises/1", "words": word_list.source, "exercises": tables})
    else:
        for exercise in done:
            print_comparisons(_console(), exercise.title, exercise.comparisons)
    if not all(all(exercise.comparisons) for exercise in done):
        raise typer.Exit(1)


@app.command()
def train(
    context: typer.Context,
    words: Words = None,
    out: Annotated[Path | None, typer.Option(help="New run folder. [default: runs/1, runs/2, ...]")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with this run.")] = None,
    model: Annotated[
        ModelName, typer.Option(help="Which model. The defaults below are the MLP's; in brackets those of the others.")
    ] = ModelName.mlp,
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
    threads: Annotated[int, typer.Option(help="Threads of PyTorch.")] = 1,
    plots: Annotated[bool, typer.Option("--plots", help="Draw the run as PNG files at the end.")] = False,
    names: Annotated[int, typer.Option(help="Words to sample at the end.", min=0)] = 20,
    as_json: AsJson = False,
) -> None:
    """Train a names model with the gradients written by hand; autograd is off.

    Ctrl-C saves and says how to go on.
    """
    word_list = None if resume else _load_words(words)
    from handgrad.reports.terminal import print_losses, print_samples, training_bar
    from handgrad.training import Config, Run, evaluate, sample_words
    from handgrad.training import train as train_run

    if plots:
        from handgrad.training.plots import plot_run, require_matplotlib

        require_matplotlib()
    options = {field.name: context.params[field.name] for field in fields(Config) if _is_typed(context, field.name)}
    options = {name: str(value) if isinstance(value, StrEnum) else value for name, value in options.items()}
    if word_list is None:
        assert resume is not None
        run = _reopen(context, resume, options)
    else:
        run = Run.create(out, Config.of(**options), word_list.words, word_list.source)

    console = _console(stderr=as_json)
    start = run.load_checkpoint()
    _print_start(console, run, start)
    bar = training_bar(_console(stderr=True), start.step, run.config.steps)
    with _stop_on_signals() as stopped_by, bar as progress:
        state = train_run(run, progress=progress, stopped=lambda: bool(stopped_by))
    if state.step < run.config.steps:
        _say_stopped(console, run, f"stopped at step {state.step} of {run.config.steps}")
        raise typer.Exit(128 + stopped_by[0])

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
        _print_json(
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
        _print_json({"schema": "handgrad.sample/1", "names": [drawn._asdict() for drawn in samples]})
    else:
        print_samples(_console(), samples)


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
        _print_json({"schema": "handgrad.evaluate/1", "run": str(run), "step": state.step, "losses": losses})
    else:
        console = _console()
        console.print(f"{run}, step {state.step:,} of {opened.config.steps:,}", soft_wrap=True)
        print_losses(console, losses)


@data_app.callback(invoke_without_command=True)
def data(
    context: typer.Context,
    words: Words = None,
    split: SplitOption = SplitName.shuffle,
    block_size: BlockSize = 3,
    as_json: AsJson = False,
) -> None:
    """Show words, symbols, rows of each split, and how many words two splits share."""
    if context.invoked_subcommand:
        return
    word_list = _load_words(words)
    from handgrad.data import build_dataset, describe
    from handgrad.reports.terminal import print_data

    facts = describe(build_dataset(word_list.words, block_size, split.value))
    if as_json:
        _print_json({"schema": "handgrad.data/1", "source": word_list.source, **facts})
    else:
        print_data(_console(), word_list.source, facts)


@data_app.command()
def download() -> None:
    """Download the original names list into the user's cache folder, and print where it lies."""
    from handgrad.data import download_names

    typer.echo(download_names())


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False)


def _print_json(content: dict[str, Any]) -> None:
    ascii_only = sys.stdout.encoding.lower() not in ("utf-8", "utf8")
    typer.echo(json.dumps(content, indent=2, ensure_ascii=ascii_only, allow_nan=False))


def _load_words(path: Path | None) -> WordList:
    from handgrad.data import load_words

    word_list = load_words(path)
    for note in word_list.notes:
        _console(stderr=True).print(f"note: {note}", style="yellow", soft_wrap=True)
    return word_list


def _is_typed(context: typer.Context, name: str) -> bool:
    """Return whether the option was given on the command line; what was not is left to the model's defaults."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _refuse_options_of_other_models(context: typer.Context, model: ModelName, **owners: ModelName) -> None:
    for name, owner in owners.items():
        if _is_typed(context, name) and model is not owner:
            option = "--" + name.replace("_", "-")
            raise InvalidOptionError(
                f"{option} does not go with --model {model}: leave it out, or take --model {owner}"
            )


def _reopen(context: typer.Context, path: Path, options: dict[str, Any]) -> Run:
    """Open the run to resume; options that were typed must be the run's own, `--lock-step` apart."""
    from handgrad.training import Run

    run = Run.open(path)
    if run.made_with_other_versions:
        note = f"note: {path} was made with {run.made_with_other_versions}: the same bits as there are not promised"
        _console(stderr=True).print(note, style="yellow", soft_wrap=True)
    for name in filter(partial(_is_typed, context), context.params):
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


def _say_stopped(console: Console, run: Run, what: str) -> None:
    go_on = f"handgrad train --resume {run.path}"
    console.print(f"{what}; everything is saved. Go on with:\n  {go_on}", soft_wrap=True)


def _print_start(console: Console, run: Run, state: State) -> None:
    size = sum(parameter.nelement() for parameter in state.parameters)
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
