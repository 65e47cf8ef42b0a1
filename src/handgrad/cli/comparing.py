"""``handgrad exercises``: the pages by hand beside autograd, on a real minibatch."""

from __future__ import annotations

from typing import Annotated

import typer

from handgrad.cli.app import app
from handgrad.cli.options import (
    SEED,
    AsJson,
    BlockSize,
    ModelName,
    Seed,
    SpellingName,
    Words,
    refuse_options_of_other_models,
)
from handgrad.cli.output import open_console, print_json
from handgrad.cli.words import load_words


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
    refuse_options_of_other_models(context, model, spelling=ModelName.mlp, n_head=ModelName.transformer)
    word_list = load_words(words)
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
        print_json({"schema": "handgrad.exercises/1", "words": word_list.source, "exercises": tables})
    else:
        for exercise in done:
            print_comparisons(open_console(), exercise.title, exercise.comparisons)
    if not all(all(exercise.comparisons) for exercise in done):
        raise typer.Exit(1)
