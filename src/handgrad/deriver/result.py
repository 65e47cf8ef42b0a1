"""What deriving a file's backward comes to: source, its lines, and notes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SCHEMA = "handgrad.derivation/1"


@dataclass(frozen=True)
class Derivation:
    """What `handgrad derive` prints."""

    file: str
    loss: str
    source: str
    lines: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    test: str | None = None  # of a function
    place: list[int | None] = field(default_factory=lambda: [None, None])  # of the loss: cell, line

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"schema": SCHEMA, **vars(self)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Derivation:
        """Return what `to_dict` made."""
        return cls(**{key: item for key, item in fields.items() if key != "schema"})
