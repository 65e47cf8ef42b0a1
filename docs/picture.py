"""Draw docs/cmp.svg: what `handgrad.cmp` says of two mistakes from real notebooks.

python docs/picture.py
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text

import handgrad
from handgrad.checker import Comparison
from handgrad.data import build_dataset, load_words
from handgrad.models.mlp import Parameters, atomic, initialise
from handgrad.reports.terminal import comparison_line

FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def compare_lines() -> list[tuple[str, Comparison]]:
    """Return backward lines and what cmp says of them, on a minibatch of the built-in names."""
    dataset = build_dataset(load_words().words)
    g = torch.Generator().manual_seed(2147483647)
    parameters = Parameters(*(p.requires_grad_() for p in initialise(27, 3, 10, 64, generator=g)))
    X, Y = map(torch.from_numpy, dataset.train)
    ix = torch.randint(0, len(X), (32,), generator=g)
    values = atomic.forward(parameters, X[ix], Y[ix])
    for value in values:
        value.retain_grad()
    values.loss.backward()
    with torch.no_grad():
        right = atomic.backward(parameters, values, X[ix], Y[ix], spelling="exact")
        counts, counts_sum_inv, bnmeani = values.counts, values.counts_sum_inv, values.bnmeani
        with contextlib.redirect_stdout(io.StringIO()):
            return [
                ("dprobs = dlogprobs / probs", handgrad.cmp("probs", right.dprobs, values.probs)),
                (
                    "dcounts_sum_inv = counts * dprobs",
                    handgrad.cmp("counts_sum_inv", counts * right.dprobs, counts_sum_inv),
                ),
                ("dbnmeani = (-dbndiff).sum(0)", handgrad.cmp("bnmeani", (-right.dbndiff).sum(0), bnmeani)),
            ]


def draw() -> str:
    """Return the picture as SVG text, the same for the same numbers."""
    console = Console(record=True, width=118, file=io.StringIO(), force_terminal=True)
    for line, comparison in compare_lines():
        console.print(Text(f">>> {line}", style="bold cyan"))
        console.print(comparison_line(comparison))
        console.print()
    return console.export_svg(title="handgrad.cmp", code_format=FORMAT, unique_id="handgrad")


if __name__ == "__main__":
    Path(__file__).with_name("cmp.svg").write_text(draw(), encoding="utf-8")
