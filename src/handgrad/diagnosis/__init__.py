"""Why a gradient is wrong: a module for each family of mistakes."""

from __future__ import annotations

from typing import NamedTuple

CODES = {
    "missing-sum": "HG201",
    "shape": "HG202",
    "dtype": "HG203",
    "device": "HG204",
    "wrong-axis": "HG205",
    "over-summed": "HG206",
    "missing-branch": "HG207",
    "counted-twice": "HG208",
    "overwritten": "HG209",
    "lost-accumulation": "HG210",
    "alias": "HG211",
    "read-too-early": "HG212",
    "sign": "HG213",
    "scale": "HG214",
    "transposed": "HG215",
    "missing-factor": "HG216",
    "extra-factor": "HG217",
    "wrong-operand": "HG218",
    "operator": "HG219",
    "constant": "HG220",
    "precedence": "HG221",
    "wrong-index": "HG222",
    "stale": "HG223",
    "from-autograd": "HG224",
    "wrong-reference": "HG225",
    "fails": "HG226",
    "unknown": "HG299",
}
"""The HG code of each kind of mistake."""

WARNINGS = {
    "epsilon-dominates": "HG601",
    "not-the-library-op": "HG602",
    "unseeded-random": "HG603",
    "unused-value": "HG604",
    "split-overlap": "HG605",
    "silent-broadcast": "HG606",
}
"""The HG code of each kind of warning about the forward, which no comparison of gradients can show."""


class Mistake(NamedTuple):
    """Why a gradient is wrong: one of the kinds in `CODES`, a sentence with names and shapes, and the cure."""

    kind: str
    message: str
    fix: str | None = None  # the corrected line, verified

    @property
    def code(self) -> str:
        """The HG code of the kind."""
        return CODES[self.kind]

    def to_dict(self) -> dict[str, str | None]:
        """Return the mistake as plain JSON data, with the keys of ``handgrad.report/1``."""
        return {"code": self.code, "kind": self.kind, "message": self.message, "fix": self.fix}
