"""The options that several commands share, and their choices."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from handgrad.errors import InvalidOptionError


class EngineName(StrEnum):
    """What takes the steps of a run."""

    native = "native"
    eager = "eager"
    compile = "compile"


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


def is_typed(context: typer.Context, name: str) -> bool:
    """Return whether the option was given on the command line; what was not is left to the model's defaults."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def refuse_options_of_other_models(context: typer.Context, model: ModelName, **owners: ModelName) -> None:
    """Raise InvalidOptionError if an option was given that belongs to another model than ``model``."""
    for name, owner in owners.items():
        if is_typed(context, name) and model is not owner:
            option = "--" + name.replace("_", "-")
            raise InvalidOptionError(
                f"{option} does not go with --model {model}: leave it out, or take --model {owner}"
            )
