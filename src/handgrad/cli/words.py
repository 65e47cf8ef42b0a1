"""``handgrad data``: what a word list is made of; and the word list of every other command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from handgrad.cli.app import app
from handgrad.cli.options import AsJson, BlockSize, SplitName, SplitOption, Words
from handgrad.cli.output import open_console, print_json

if TYPE_CHECKING:
    from handgrad.data import WordList

data_app = typer.Typer(help="Show what a word list is made of, or download the original one.")
app.add_typer(data_app, name="data")


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
    word_list = load_words(words)
    from handgrad.data import build_dataset, describe
    from handgrad.reports.terminal import print_data

    facts = describe(build_dataset(word_list.words, block_size, split.value))
    if as_json:
        print_json({"schema": "handgrad.data/1", "source": word_list.source, **facts})
    else:
        print_data(open_console(), word_list.source, facts)


@data_app.command()
def download() -> None:
    """Download the original names list into the user's cache folder, and print where it lies."""
    from handgrad.data import download_names

    typer.echo(download_names())


def load_words(path: Path | None) -> WordList:
    """Return the words of the file, or the built-in names; what was odd about the file is noted on stderr."""
    from handgrad.data import load_words

    word_list = load_words(path)
    for note in word_list.notes:
        open_console(stderr=True).print(f"note: {note}", style="yellow", soft_wrap=True)
    return word_list
