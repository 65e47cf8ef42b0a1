"""A derivation as a notebook: the code as far as the loss, then a cell for each block of the backward."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from handgrad.deriver.result import Derivation


def write_notebook(derivation: Derivation, file: Path, out: Path) -> None:
    """Write the notebook; ``file`` is what was derived."""
    cell, line = derivation.place
    if file.suffix == ".ipynb":
        book = nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]
        book.cells = book.cells[: (cell if cell is not None else len(book.cells)) + 1]
        for one in book.cells:
            if one.cell_type == "code":
                one.outputs, one.execution_count = [], None
    else:
        rows = file.read_text(encoding="utf-8").split("\n")
        book = new_notebook(cells=[new_code_cell("\n".join(rows[: line or len(rows)]))])  # type: ignore[no-untyped-call]
    book.cells.append(new_markdown_cell(f"## The backward of `{derivation.loss}`"))  # type: ignore[no-untyped-call]
    book.cells += [new_code_cell(block) for block in blocks_of(derivation.source)]  # type: ignore[no-untyped-call]
    nbformat.write(book, out)  # type: ignore[no-untyped-call]


def blocks_of(source: str) -> list[str]:
    """Return the blocks of a derived page: each begins with the line of the forward that it reverses."""
    blocks: list[list[str]] = []
    for row in source.rstrip().split("\n"):
        starts = row.startswith("# ") and (not blocks or any(not r.startswith("#") for r in blocks[-1]))
        if starts or not blocks:
            blocks.append([])
        blocks[-1].append(row)
    return ["\n".join(block).strip() for block in blocks]
