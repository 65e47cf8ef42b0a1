"""What the check of a Function found: a verdict for each check, warnings and notes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

SCHEMA = "handgrad.function/1"

CODES = {
    "runs": "HG301",
    "count": "HG302",
    "none": "HG303",
    "shape": "HG304",
    "dtype": "HG305",
    "device": "HG306",
    "values": "HG307",
    "repeated-indices": "HG308",
    "ties": "HG309",
    "strided-inputs": "HG310",
    "strided-upstream": "HG311",
    "empty-batch": "HG312",
    "needs-input-grad": "HG313",
    "overwritten-input": "HG314",
    "overwritten-upstream": "HG315",
    "overwritten-saved": "HG316",
    "second-backward": "HG317",
    "leaked-state": "HG318",
    "deterministic": "HG319",
    "unused-outputs": "HG320",
    "low-precision": "HG321",
    "second-derivative": "HG322",
    "tolerance": "HG323",
    "saved-on-ctx": "HG324",
    "no-second-derivative": "HG325",
}
"""The HG code of each check, and of the two warnings (the last ones)."""

Verdict = Literal["right", "wrong", "unverified"]
"""``right``; ``wrong``; ``unverified``: could not be decided, and the message says why."""


@dataclass(frozen=True)
class Finding:
    """One thing a check has to say: about one input, or about the Function as a whole."""

    verdict: Verdict  # a right finding is a remark
    message: str
    input: str | None = None  # the name of the input in the signature of forward


@dataclass(frozen=True)
class Check:
    """One check by its name, a key of `CODES`, and what it found."""

    name: str
    findings: tuple[Finding, ...] = ()

    @property
    def code(self) -> str:
        """The HG code of the check."""
        return CODES[self.name]

    @property
    def verdict(self) -> Verdict:
        """The worst of its findings."""
        verdicts = {finding.verdict for finding in self.findings}
        return "wrong" if "wrong" in verdicts else "unverified" if "unverified" in verdicts else "right"

    @property
    def message(self) -> str:
        """What it found, in one string: the findings that its verdict stands on, or its remarks."""
        return "; ".join(finding.message for finding in self.findings if finding.verdict == self.verdict)

    def to_dict(self) -> dict[str, Any]:
        """Return the check as plain JSON data."""
        findings = [{"verdict": f.verdict, "input": f.input, "message": f.message} for f in self.findings]
        return {"name": self.name, "code": self.code, "verdict": self.verdict, "findings": findings}


@dataclass(frozen=True)
class Warned:
    """What is no mistake in a gradient, but will hurt: its kind is a key of `CODES`."""

    kind: str
    message: str

    @property
    def code(self) -> str:
        """The HG code of the kind."""
        return CODES[self.kind]

    def to_dict(self) -> dict[str, str]:
        """Return the warning as plain JSON data."""
        return {"code": self.code, "kind": self.kind, "message": self.message}


@dataclass(frozen=True, repr=False)
class FunctionReport:
    """What `handgrad.check_function` found. True in a condition if, and only if, no check is ``wrong``."""

    function: str
    checks: tuple[Check, ...]
    warnings: tuple[Warned, ...] = ()
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.wrong

    @property
    def wrong(self) -> list[str]:
        """The names of the checks that found a mistake."""
        return [check.name for check in self.checks if check.verdict == "wrong"]

    def __getitem__(self, name: str) -> Check:
        """Return the check called ``name``; raises KeyError with the names there are."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"no check {name}; there are {', '.join(check.name for check in self.checks)}")

    def __repr__(self) -> str:
        return f"<FunctionReport of {self.function}: {self._summary()}>"

    def _summary(self) -> str:
        verdicts = [check.verdict for check in self.checks]
        counts = [f"{verdicts.count(v)} {v}" for v in ("wrong", "unverified", "right") if v in verdicts]
        return ", ".join(counts + ([f"warnings: {len(self.warnings)}"] if self.warnings else []))

    def __str__(self) -> str:
        """Return a table: a line for each check, and below it a line for each thing it found."""
        lines = [f"{self.function}: {self._summary()}"]
        for check in self.checks:
            lines.append(f"  {check.name:21s} {check.verdict:10s} {check.code if check.verdict == 'wrong' else ''}")
            lines += [f"      {finding.message}" for finding in check.findings]
        lines += [f"  warning {warned.code}: {warned.message}" for warned in self.warnings]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(line.rstrip() for line in lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON data, schema ``handgrad.function/1``."""
        return {
            "schema": SCHEMA,
            "function": self.function,
            "right": bool(self),
            "checks": [check.to_dict() for check in self.checks],
            "warnings": [warned.to_dict() for warned in self.warnings],
            "notes": list(self.notes),
        }
