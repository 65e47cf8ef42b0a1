"""Functions that PyTorch has and NumPy lacks, with PyTorch's arguments: what a page needs of them is copied into it.

Their text becomes a part of generated pages: annotations are left out, and what a function calls here comes along.
"""

from __future__ import annotations

import ast
import copy
import inspect
import re
from collections.abc import Callable
from typing import Any

from handgrad.deriver.numpy_page.functions import losses, norms, numbers, places, rows, windows

_MODULES = (numbers, rows, places, windows, norms, losses)
FUNCTIONS: dict[str, Callable[..., Any]] = {}
TEXTS: dict[str, str] = {}  # without annotations


def _arguments(node: ast.FunctionDef) -> str:
    bare: Any = copy.deepcopy(node.args)
    for argument in bare.args:
        argument.annotation = None
    return ast.unparse(bare)


def _enter(module: Any) -> None:
    source = inspect.getsource(module)
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            lines = source.splitlines()[node.body[0].lineno - 1 : node.end_lineno]
            TEXTS[node.name] = "\n".join([f"def {node.name}({_arguments(node)}):", *lines])
            FUNCTIONS[node.name] = getattr(module, node.name)


for _module in _MODULES:
    _enter(_module)


def needed_functions(text: str) -> list[str]:
    """Return the texts of the functions that ``text`` calls, and of those that they call, in one order always."""
    needed, found = set[str](), [text]
    while found:
        calls = set(re.findall(r"(?<![\w.])(\w+)\(", found.pop())) & set(TEXTS) - needed
        needed |= calls
        found += [TEXTS[name] for name in calls]
    return [written for name, written in TEXTS.items() if name in needed]
