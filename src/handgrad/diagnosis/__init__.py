"""Why a gradient is wrong: a module for each family of mistakes."""

from __future__ import annotations

from typing import NamedTuple


class Mistake(NamedTuple):
    """Why a gradient is wrong."""

    code: str  # HG code
    kind: str
    message: str
