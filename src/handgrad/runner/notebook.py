"""The code cells of an .ipynb file, of any version of the format."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

from handgrad.errors import NotANotebookError

_PYTHON = frozenset({"python", "python2", "python3", "ipython", "ipython2", "ipython3", "sage", "xpython"})


def code_cells(text: str, path: Path) -> list[tuple[int, str]]:
    """Return the index of each code cell among all cells, and its source.

    Raises:
        NotANotebookError: the text is no notebook, or one in another language than Python.
    """
    import nbformat

    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else str(error)
        beginning = text.lstrip()[:20].split("\n")[0]
        raise NotANotebookError(
            f"{path} is not a notebook: it is not JSON ({line}; it begins with {beginning!r}); "
            "save it again in Jupyter, or name it .py if it is a script"
        ) from None
    if not isinstance(data, dict) or not ("cells" in data or "worksheets" in data):
        raise NotANotebookError(f"{path} is not a notebook: its JSON has no cells; save it again in Jupyter")
    if (language := _language(data)) not in _PYTHON:
        raise NotANotebookError(f"{path} is a notebook in {language}; handgrad reads notebooks in Python")

    _drop_outputs(data)
    logging.getLogger("traitlets").addHandler(logging.NullHandler())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cells without an id, and other old customs
            read: Any = nbformat.reader.reads  # without types
            convert: Any = nbformat.convert
            notebook = convert(read(json.dumps(data)), 4)
            return [
                (index, _joined(cell.get("source", "")))
                for index, cell in enumerate(notebook.cells)
                if cell.get("cell_type") == "code"
            ]
    except Exception as error:  # nbformat meets damaged notebooks with errors of every kind
        raise NotANotebookError(
            f"{path} is a damaged notebook ({type(error).__name__}: {error}); open it in Jupyter and save it again"
        ) from None


def _language(data: dict[str, Any]) -> str:
    metadata = data.get("metadata")
    for part in ("language_info", "kernelspec"):
        section = metadata.get(part) if isinstance(metadata, dict) else None
        language = section.get("name" if part == "language_info" else "language") if isinstance(section, dict) else None
        if isinstance(language, str):
            return language.lower()
    return "python"


def _drop_outputs(data: dict[str, Any]) -> None:
    """Forget plots and tables, which are most of a large notebook."""
    sheets = [data, *data["worksheets"]] if isinstance(data.get("worksheets"), list) else [data]
    for sheet in sheets:
        cells = sheet.get("cells") if isinstance(sheet, dict) else None
        for cell in cells if isinstance(cells, list) else ():
            if isinstance(cell, dict):
                cell.pop("attachments", None)
                if "outputs" in cell:
                    cell["outputs"] = []


def _joined(source: Any) -> str:
    return source if isinstance(source, str) else "".join(source)
