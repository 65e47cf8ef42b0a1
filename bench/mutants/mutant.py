"""A wrong version of a function, and which explanations of it are right."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

# Which kinds of mistake explain an edit rightly. `mutation.py` adds "shape" where the edit changes the gradient's
# shape, and "fails" where the changed line raises: both are then true as well.
KINDS: dict[str, frozenset[str]] = {
    name: frozenset(kinds.split())
    for name, kinds in {
        "sum dropped": "missing-sum shape",
        "sum added": "over-summed shape",
        # too few dims or the wrong ones; all of them is one too many
        "sum over other dims": "wrong-axis shape missing-sum over-summed",
        "keepdim": "shape",
        "sum and mean": "scale",  # by the number of summands
        "sign": "sign",
        "sign of a term": "sign operator",  # `-` for `+` is both
        # 1/n dropped is a wrong scale; where the factor is a number it may be told as a wrong constant
        "scalar dropped": "scale constant",
        "n - 1": "scale constant",
        "times 2": "scale counted-twice constant",
        "constant": "constant scale",
        "factor dropped": "missing-factor",
        "factor twice": "extra-factor constant",  # x * x is x**2: an exponent
        # x**2 for x is a factor too many, -1.5 for -0.5 a factor too few
        "exponent": "constant missing-factor extra-factor",
        "sign of an exponent": "sign constant",
        "exponent of a scalar": "scale constant sign",  # n**0.5 is one number
        # another tensor may differ from the right one by just a factor: dprobs is dlogprobs / probs
        "operand": "wrong-operand missing-factor extra-factor",
        "gradient": "wrong-operand missing-factor extra-factor",
        "operator": "operator",
        "comparison": "operator",
        # `1.0 * n * x` for `1.0 / n * x`
        "operator of scalars": "operator scale constant",
        "transposed": "transposed shape",
        "operands of @ swapped": "transposed shape",
        "+= to =": "overwritten missing-branch",
        "= to +=": "counted-twice",
        "branch twice": "counted-twice scale",
        "branch deleted": "missing-branch",
        # in `n * a - b - c * d` a term is a branch; in `1 - h**2` it is part of a factor
        "term dropped": "missing-branch missing-factor constant",
        "statement deleted": "missing-branch scale missing-factor",
        "index": "wrong-index wrong-operand",
        "index reversed": "wrong-index wrong-operand operator",  # by a function that should not be there
        "dim": "wrong-axis wrong-index shape",
        "dim of a transpose": "wrong-axis wrong-index transposed shape",
        # regrouped scalars are a wrong scale, `(-x)**-2` a wrong sign, `a + b * c` lacks a factor
        "precedence": "precedence operator missing-factor extra-factor scale sign constant",
        "alias": "alias",
        "too early": "read-too-early",
        "accumulation": "lost-accumulation",
    }.items()
}


Replacement = tuple[int, int, str]  # first line, last line, text without indentation


@dataclass(frozen=True)
class Mutant:
    """A wrong version of a function's source, or one that happens to be right."""

    category: str
    line: int  # that was edited, counted from 1 in the source
    before: str
    after: str
    kinds: frozenset[str]  # explanations that are right
    lines: frozenset[int]  # where a report may place the mistake
    targets: frozenset[str]  # gradients that the mutant may make wrong
    edits: tuple[Replacement, ...]
    local: bool = True  # only what the line computes from what it reads changes


@dataclass(frozen=True)
class Line:
    """A statement that sets or changes gradients, and the names in scope before it."""

    node: ast.stmt
    state: dict[str, Any]
    targets: frozenset[str]
    block: tuple[ast.stmt, ...]  # the statements among which it stands
    gradients: frozenset[str]  # of the whole function

    @property
    def first(self) -> int:
        """Its first line."""
        return self.node.lineno

    @property
    def last(self) -> int:
        """Its last line."""
        return self.node.end_lineno or self.node.lineno


def applied(source: str, edits: tuple[Replacement, ...]) -> str:
    """Return ``source`` with ``edits``; a line keeps its number."""
    rows = source.split("\n")
    for first, last, text in edits:
        row = rows[first - 1]
        indent = row[: len(row) - len(row.lstrip())]
        rows[first - 1 : last] = [indent + text, *[""] * (last - first)]
    return "\n".join(rows)


def stored(node: ast.stmt) -> frozenset[str]:
    """Return the names that an assignment sets or changes."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    names = set()
    for target in targets:
        for part in target.elts if isinstance(target, ast.Tuple) else [target]:
            owner = part.value if isinstance(part, ast.Subscript) else part
            if isinstance(owner, ast.Name):
                names.add(owner.id)
    return frozenset(names)


def loaded(node: ast.AST) -> frozenset[str]:
    """Return the names that are read."""
    return frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
