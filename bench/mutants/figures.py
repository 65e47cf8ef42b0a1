"""How many mutants were found, placed and explained."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import torch
from rich.table import Table

from mutants.outcomes import Outcome

BARS = {"detected": 1.0, "located": 0.99, "explained": 0.90}


def figures(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Return how many mutants there are, and of the wrong ones how many were found, placed and explained."""
    items = list(outcomes)
    wrong = [o for o in items if o.truth != "equivalent"]
    return {
        "mutants": len(items),
        "equivalent": len(items) - len(wrong),
        "raise": sum(o.truth == "raises" for o in wrong),
        "detected": sum(o.detected for o in wrong),
        "located": sum(o.located for o in wrong),
        "explained": sum(o.explained for o in wrong),
        "explained or cured": sum(o.explained or (o.located and o.fix_verified) for o in wrong),
        "fixes": sum(o.fix is not None for o in wrong),
        "fixes verified": sum(o.fix_verified for o in wrong),
        "false alarms": sum(o.detected for o in items if o.truth == "equivalent"),
    }


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"


def table(title: str, groups: dict[str, list[Outcome]]) -> Table:
    """Return a row of figures for each group, and for all."""
    made = Table(title=title)
    made.add_column("")
    for column in (
        "mutants", "equivalent", "raise", "detected %", "located %", "explained %", "or cured %",
        "fix offered %", "that cures %", "false alarms", "median s", "max s",
    ):  # fmt: skip
        made.add_column(column, justify="right")
    everything = [o for group in groups.values() for o in group]
    for name, group in (*groups.items(), ("all", everything)):
        f = figures(group)
        wrong, seconds = f["mutants"] - f["equivalent"], [o.seconds for o in group]
        made.add_row(
            name, str(f["mutants"]), str(f["equivalent"]), str(f["raise"]),
            _share(f["detected"], wrong), _share(f["located"], wrong), _share(f["explained"], wrong),
            _share(f["explained or cured"], wrong), _share(f["fixes"], wrong),
            _share(f["fixes verified"], f["fixes"]), str(f["false alarms"]),
            f"{statistics.median(seconds):.2f}" if seconds else "-", f"{max(seconds, default=0):.2f}",
        )  # fmt: skip
    return made


def grouped(outcomes: Iterable[Outcome], key: str) -> dict[str, list[Outcome]]:
    """Return the outcomes by model or by category."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(getattr(outcome, key), []).append(outcome)
    return groups


def failures_text(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Yield a paragraph for each mutant that handgrad is not right about."""
    for o in outcomes:
        if o.passed:
            continue
        if o.truth == "equivalent":
            what = "FALSE ALARM"
        elif not o.detected:
            what = "NOT DETECTED"
        else:
            what = "NOT LOCATED" if not o.located else "NOT EXPLAINED"
        yield f"{what}  {o.model}:{o.line}  {o.category} ({o.truth})"
        yield f"    was   {o.before}"
        yield f"    is    {o.after}"
        if o.expected:
            yield f"    kinds {' '.join(o.expected)}"
        yield from (f"    said  {said}" for said in o.reported or ["all right"])


def reaches(f: dict[str, int]) -> bool:
    """Whether the figures reach the bars."""
    wrong = f["mutants"] - f["equivalent"]
    return f["false alarms"] == 0 and all(f[name] >= bar * wrong for name, bar in BARS.items())


def written(singles: list[Outcome], several: list[Outcome]) -> dict[str, Any]:
    """Return the figures as JSON data, the same for the same code but for ``seconds``."""
    seconds = [o.seconds for o in singles]

    def plain(outcome: Outcome) -> dict[str, Any]:
        return {key: value for key, value in asdict(outcome).items() if key != "seconds"}

    return {
        "torch": torch.__version__.split("+")[0],
        "singles": figures(singles),
        "combinations": figures(several),
        "models": {name: figures(group) for name, group in grouped(singles, "model").items()},
        "truths": {name: figures(group) for name, group in sorted(grouped(singles, "truth").items())},
        "categories": {name: figures(group) for name, group in sorted(grouped(singles, "category").items())},
        "failures": [plain(o) for o in (*singles, *several) if not o.passed],
        "seconds": {"median": round(statistics.median(seconds), 3), "max": round(max(seconds), 3)} if seconds else {},
    }
