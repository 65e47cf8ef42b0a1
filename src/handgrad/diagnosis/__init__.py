"""Why a gradient is wrong: a module for each family of mistakes."""

from __future__ import annotations

from typing import NamedTuple

CODES = {
    "missing-sum": "HG201",
    "shape": "HG202",
    "dtype": "HG203",
    "device": "HG204",
    "unknown": "HG299",
}
"""The HG code of each kind of mistake."""


class Mistake(NamedTuple):
    """Why a gradient is wrong: one of the kinds in `CODES`, and a sentence with the names and shapes at hand."""

    kind: str
    message: str

    @property
    def code(self) -> str:
        """The HG code of the kind."""
        return CODES[self.kind]

    def to_dict(self) -> dict[str, str]:
        """Return the mistake as plain JSON data, with the keys of ``handgrad.report/1``."""
        return {"code": self.code, "kind": self.kind, "message": self.message}
