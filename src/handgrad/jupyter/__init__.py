"""``%load_ext handgrad``: every cell is watched, and the gradients that it computes are judged below it.

IPython calls `load_ipython_extension`; the magics say the rest: ``%handgrad?`` and ``%%backward?``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handgrad.jupyter.session import Session

_loaded: dict[int, Session] = {}  # by the id of the shell


def load_ipython_extension(ipython: Any) -> None:
    """Watch the cells of ``ipython`` from here on."""
    is_first = "torch" not in sys.modules  # nobody can have seeded it
    import torch

    from handgrad.jupyter.session import Session

    if id(ipython) not in _loaded:
        session = _loaded[id(ipython)] = Session(ipython, torch.initial_seed() if is_first else None)
        session.load()


def unload_ipython_extension(ipython: Any) -> None:
    """Watch no more, and forget what was seen."""
    if session := _loaded.pop(id(ipython), None):
        session.unload()
