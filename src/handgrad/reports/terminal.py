"""Tables in the terminal."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from handgrad.reports.gradients import COLOURS, print_report, report_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console

    from handgrad.checker import Comparison

__all__ = [
    "comparison_line",
    "print_comparisons",
    "print_data",
    "print_losses",
    "print_report",
    "print_samples",
    "report_text",
    "training_bar",
]


def comparison_line(comparison: Comparison) -> Text:
    """Return the row of ``comparison`` with its verdict in colour."""
    row, _, because = str(comparison).partition(f" | {comparison.verdict}")
    return Text.assemble(row, " | ", (comparison.verdict, COLOURS[comparison.verdict]), because)


def print_comparisons(console: Console, title: str, comparisons: Sequence[Comparison]) -> None:
    """Print a row for each comparison, and a line that counts them."""
    console.print(Text(title, style="bold"))
    for comparison in comparisons:
        console.print(comparison_line(comparison), soft_wrap=True)
    exact = sum(comparison.exact for comparison in comparisons)
    right = sum(map(bool, comparisons))
    console.print(f"{right} of {len(comparisons)} right, {exact} bit for bit\n", style="dim")


@contextmanager
def training_bar(console: Console, first: int, steps: int) -> Iterator[Callable[[int, float], None]]:
    """Show a bar from step ``first`` to ``steps``; yield what to call with a step and its loss."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("training", total=steps, completed=first, loss="", speed="")

        def show(step: int, loss: float) -> None:
            elapsed = bar.tasks[0].elapsed or 0
            speed = f"{(step - first) / elapsed:,.0f} steps/s" if elapsed else ""
            bar.update(task, completed=step, loss=f"{loss:.4f}", speed=speed)

        yield show


def print_losses(console: Console, losses: dict[str, dict[str, float]]) -> None:
    """Print the losses of `handgrad.training.evaluate`, a row for each model."""
    table = Table("loss", "train", "dev", "test", title="nats a symbol", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for model, parts in losses.items():
        table.add_row(model, *(f"{parts[part]:.4f}" for part in ("train", "dev", "test")))
    console.print(table)


def print_samples(console: Console, samples: Sequence[Any]) -> None:
    """Print drawn words, each marked as new or as one of the training words."""
    for word, in_training in samples:
        mark = ("in the training words", "dim") if in_training else ("new", "green")
        console.print(Text.assemble(f"{word or '(empty)':24s} ", mark), soft_wrap=True)


def print_data(console: Console, source: str, facts: dict[str, Any]) -> None:
    """Print the figures of `handgrad.data.describe`."""
    console.print(Text.assemble((source, "bold")), soft_wrap=True)
    console.print(f"{facts['words']:,} words, {facts['distinct_words']:,} distinct")
    console.print(Text(f"{facts['symbols']} symbols: . {' '.join(facts['alphabet'])}"), soft_wrap=True)
    table = Table("split", "words", "rows", "also in train", "also in dev")
    for column in table.columns[1:]:
        column.justify = "right"
    words, rows = facts["split_words"], facts["split_rows"]
    shared = {
        "train": ("", ""),
        "dev": (_share(facts["dev_words_in_train"], words["dev"]), ""),
        "test": (
            _share(facts["test_words_in_train"], words["test"]),
            _share(facts["test_words_in_dev"], words["test"]),
        ),
    }
    for part in words:
        table.add_row(part, f"{words[part]:,}", f"{rows[part]:,}", *shared[part])
    console.print(table)


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})"
