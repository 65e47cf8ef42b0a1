"""What a check found: one object with four faces (terminal, page, JSON, notebook).

The fields are those of the JSON schema ``handgrad.report/1``, which `reports/report.schema.json` states and
`docs/report.md` explains.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

SCHEMA = "handgrad.report/1"

Verdict = Literal["right", "wrong", "inherited", "missing", "unverified"]
"""``right``; ``wrong``: this line is the mistake; ``inherited``: the line is right, an earlier one is not; ``missing``:
no line computes it; ``unverified``: could not be tested, and the note says why."""

VERDICTS: tuple[Verdict, ...] = ("right", "wrong", "inherited", "missing", "unverified")


class Place(NamedTuple):
    """A line: ``cell`` counts from 0 and is None in a script, ``line`` counts from 1 within the cell or file."""

    cell: int | None
    line: int | None

    def __str__(self) -> str:
        if self.line is None:
            return "nowhere"
        return f"line {self.line}" if self.cell is None else f"cell {self.cell}, line {self.line}"


@dataclass(frozen=True)
class Finding:
    """A mistake in a gradient, or a warning about the forward."""

    code: str  # "HG201"
    kind: str  # "missing-sum"
    cell: int | None
    line: int | None
    message: str
    fix: str | None = None  # the corrected source, verified, where one was found

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(self.cell, self.line)


@dataclass(frozen=True)
class ForwardLine:
    """A named value of the forward."""

    name: str
    cell: int | None
    line: int | None
    code: str
    shape: tuple[int, ...]


class HeatMap(NamedTuple):
    """Where a gradient differs: the largest difference in each tile of its rows and columns."""

    shape: tuple[int, int]  # of the gradient, leading dims flattened
    tiles: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Gradient:
    """One gradient and its verdict."""

    name: str  # as the user calls it
    of: str  # the value it is the gradient of
    verdict: Verdict
    cell: int | None = None
    line: int | None = None
    code: str | None = None  # the lines that compute it
    shape: tuple[int, ...] | None = None
    expected_shape: tuple[int, ...] | None = None
    exact: bool = False  # equal shape and equal bits
    approximate: bool = False  # equal shape and torch.allclose with its defaults
    maxdiff: float | None = None  # None where the shapes do not even broadcast
    bits: Literal["exact", "rounding"] | None = None
    error: float | None = None  # largest difference from the float64 truth
    autograd_error: float | None = None  # the same for autograd in the gradient's dtype
    mistakes: tuple[Finding, ...] = ()
    note: str | None = None
    difference: HeatMap | None = None
    expected: str | None = None  # the lines that compute it, as `handgrad derive` writes them
    reason: str | None = None  # why they are so

    @property
    def place(self) -> Place:
        """Where it is computed."""
        return Place(self.cell, self.line)


@dataclass(frozen=True)
class Pass:
    """One backward pass: the forward lines it reverses, and its gradients in the order they are computed."""

    forward: tuple[ForwardLine, ...]
    gradients: tuple[Gradient, ...]


@dataclass(frozen=True, repr=False)
class Report:
    """What a check found. True in a condition if, and only if, every gradient is ``right``."""

    passes: tuple[Pass, ...]
    file: str | None = None
    torch: str | None = None
    loss_name: str | None = None
    loss_value: float | None = None
    warnings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def gradients(self) -> list[Gradient]:
        """The gradients of all passes, in order."""
        return [gradient for backward in self.passes for gradient in backward.gradients]

    @property
    def mistakes(self) -> list[Finding]:
        """The mistakes of all gradients, in order."""
        return [mistake for gradient in self.gradients for mistake in gradient.mistakes]

    @property
    def summary(self) -> dict[Verdict, int]:
        """How many gradients have each verdict."""
        verdicts = [gradient.verdict for gradient in self.gradients]
        return {verdict: verdicts.count(verdict) for verdict in VERDICTS}

    @property
    def exit_status(self) -> int:
        """0: all right; 1: a gradient is wrong or missing; 2: nothing is wrong, but not all could be judged."""
        if any(gradient.verdict in ("wrong", "inherited", "missing") for gradient in self.gradients):
            return 1
        return 0 if self.gradients and all(g.verdict == "right" for g in self.gradients) else 2

    def __bool__(self) -> bool:
        return self.exit_status == 0

    def __getitem__(self, name: str) -> Gradient:
        """Return the last gradient called ``name``; raises KeyError with the names there are."""
        for gradient in reversed(self.gradients):
            if gradient.name == name:
                return gradient
        raise KeyError(f"no gradient {name}; there are {', '.join(gradient.name for gradient in self.gradients)}")

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {verdict}" for verdict, count in self.summary.items() if count)
        return f"<Report: {counts or 'no gradient'}>"

    def __str__(self) -> str:
        from handgrad.reports.terminal import report_text

        return report_text(self)

    def _repr_html_(self) -> str:
        from handgrad.reports.page import fragment

        return fragment(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON data, schema ``handgrad.report/1``."""
        data: dict[str, Any] = _plain(asdict(self))
        loss = {"name": data.pop("loss_name"), "value": data.pop("loss_value")}
        passes, warnings, notes = data.pop("passes"), data.pop("warnings"), data.pop("notes")
        for gradient in (g for p in passes for g in p["gradients"]):
            shape, tiles = gradient["difference"] or (None, None)
            gradient["difference"] = shape and {"shape": shape, "tiles": tiles}
        return {
            "schema": SCHEMA,
            **data,
            "loss": loss if loss["name"] else None,
            "summary": dict(self.summary),
            "passes": passes,
            "warnings": warnings,
            "notes": notes,
        }

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Report:
        """Return the report that `to_dict` wrote."""

        def numbers(row: list[Any]) -> tuple[float, ...]:
            return tuple(map(float, row))

        def gradient(g: dict[str, Any]) -> Gradient:
            heat = g["difference"]
            return Gradient(
                **g
                | {
                    "shape": tuple(g["shape"]) if g["shape"] is not None else None,
                    "expected_shape": tuple(g["expected_shape"]) if g["expected_shape"] is not None else None,
                    "mistakes": tuple(Finding(**m) for m in g["mistakes"]),
                    "difference": heat and HeatMap(tuple(heat["shape"]), tuple(map(numbers, heat["tiles"]))),
                    **{key: float(g[key]) for key in ("maxdiff", "error", "autograd_error") if g[key] is not None},
                }
            )

        loss = data["loss"] or {"name": None, "value": None}
        return cls(
            passes=tuple(
                Pass(
                    tuple(ForwardLine(**line | {"shape": tuple(line["shape"])}) for line in p["forward"]),
                    tuple(map(gradient, p["gradients"])),
                )
                for p in data["passes"]
            ),
            file=data["file"],
            torch=data["torch"],
            loss_name=loss["name"],
            loss_value=None if loss["value"] is None else float(loss["value"]),
            warnings=tuple(Finding(**w) for w in data["warnings"]),
            notes=tuple(data["notes"]),
        )


def _plain(value: Any) -> Any:
    """Return ``value`` with tuples as lists, and numbers that JSON does not have as strings."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
