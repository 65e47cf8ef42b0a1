"""What simplifying a file's backward comes to: source, its closed forms, and notes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SCHEMA = "handgrad.simplification/1"


@dataclass(frozen=True)
class Simplified:
    """What `handgrad simplify` prints."""

    file: str
    loss: str
    source: str
    closed_forms: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"schema": SCHEMA, **vars(self)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Simplified:
        """Return what `to_dict` made."""
        return cls(**{key: item for key, item in fields.items() if key != "schema"})
