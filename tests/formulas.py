"""What a page of formulas is checked with: entry by entry, from the indices alone, with loops.

A check stands under the text of its formula. It yields chains of equals, one for each chain in the formula:
``yield "dprobs", entries(...)`` compares what the formula says with the truth called dprobs.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from textwrap import dedent
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

# comparing


class Zero(NamedTuple):
    """The number 0 at the end of a chain: what is compared with it must vanish ``beside`` these entries."""

    beside: Tensor


def assert_equal(*chain: Tensor | Zero) -> None:
    """Raise unless all members have the shape of the last and its entries, up to 1e-10 of the largest."""
    *members, last = chain
    if isinstance(last, Zero):
        largest, expected = last.beside.abs().max(), torch.zeros_like(members[0])
    else:
        largest, expected = last.abs().max(), last
    assert members, "nothing is compared"
    assert math.isfinite(largest), "the expected entries are not finite"
    assert largest > 0, "all expected entries are zero: say beside what"
    for member in members:
        assert (member.shape, member.dtype) == (expected.shape, torch.float64)
        assert (member - expected).abs().max() <= 1e-10 * largest, f"{member} is not {expected}"


def entries(entry: Callable[..., Any], *sizes: int) -> Tensor:
    """Return the tensor whose entry [i, j, ...] is ``entry(i, j, ...)``."""
    indices = itertools.product(*map(range, sizes))
    return torch.tensor([float(entry(*index)) for index in indices], dtype=torch.float64).reshape(sizes)


def bracket(condition: bool) -> int:
    """Return what [condition] is on the page."""
    return int(condition)


def noise(*sizes: int, seed: int) -> Tensor:
    return torch.randn(sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def leaf(value: Tensor) -> Tensor:
    return value.clone().requires_grad_()


def vjp(output: Tensor, value: Tensor, upstream: Tensor) -> Tensor:
    return torch.autograd.grad(output, value, upstream, retain_graph=True)[0]


# runs: the numbers that a formula is checked with


class Run(SimpleNamespace):
    """Values and gradients by name."""

    def truth(self, name: str) -> Tensor:
        return getattr(self, name)


class LocalRun(Run):
    """Values, each with a random gradient, and the ``lines`` that compute them; the truth is that of single lines."""

    lines: dict[str, str]

    def truth(self, name: str) -> Tensor:
        """Return autograd's gradient through the lines that read the value, or one: ``dbndiff|bnraw``."""
        if name in self.lines:
            return getattr(self, name)
        gradient, _, through = name.partition("|")
        value = gradient.removeprefix("d")
        branches = [through] if through else [line for line, code in self.lines.items() if value in names(code)]
        read = leaf(getattr(self, value))
        scope = vars(self) | {value: read}
        outputs = [eval(self.lines[branch], scope) for branch in branches]  # noqa: S307  (lines of a forward)
        (truth,) = torch.autograd.grad(outputs, read, [scope["d" + branch] for branch in branches])
        return truth


def forward_lines(forward: Callable[..., Any], values: Sequence[str]) -> dict[str, str]:
    """Return the expression of every value of the forward: ``{"emb": "C[Xb]", ...}``."""
    statements = ast.walk(ast.parse(dedent(inspect.getsource(forward))))
    assigned = [s for s in statements if isinstance(s, ast.Assign) and isinstance(s.targets[0], ast.Name)]
    lines = {s.targets[0].id: ast.unparse(s.value) for s in assigned}
    return {value: lines[value] for value in values}


def names(code: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}


# the table: formula, check and run

Chain = tuple[str | Tensor | Zero, ...]
Check = Callable[[Run], Iterator[Chain]]


class Formula(NamedTuple):
    text: str
    check: Check
    run: Callable[[], Run]


def formulas_of(table: list[Formula], run: Callable[[], Run]) -> Callable[[str], Callable[[Check], Check]]:
    """Return a decorator that enters a check into ``table``, under the text of its formula."""

    def formula(text: str) -> Callable[[Check], Check]:
        def enter(check: Check) -> Check:
            table.append(Formula(text.strip(), check, run))
            return check

        return enter

    return formula


def verify(check: Check, run: Run) -> int:
    """Raise unless all chains of the check are equal; return how many equality signs that makes."""
    signs = 0
    for chain in check(run):
        assert_equal(*(run.truth(member) if isinstance(member, str) else member for member in chain))
        signs += len(chain) - 1
    return signs


# pages


def equality_signs(text: str) -> int:
    conditions = r"\[\\,.*?\\,\]|^j = y_i:"
    return re.sub(conditions, "", text).count("=")


def math_blocks(page: str) -> list[str]:
    return re.findall(r"^```math\n(.*?)\n```$", page, re.DOTALL | re.MULTILINE)


def parts(page: str) -> dict[str, list[str]]:
    """Return the lines of code quoted under each heading of the second level."""
    chapters = dict(chapter.split("\n", 1) for chapter in re.split(r"^## ", page, flags=re.MULTILINE)[1:])
    fences = r"^```python\n(.*?)^```$"
    return {
        title: [bare(line) for code in re.findall(fences, text, re.DOTALL | re.MULTILINE) for line in code.splitlines()]
        for title, text in chapters.items()
    }


def bare(line: str) -> str:
    """Return a line without indentation, and without its comment but for the shape that this begins with."""
    code, _, comment = line.strip().partition("  # ")
    shape = re.match(r"\([^)]*\)", comment)
    return f"{code}  # {shape.group()}" if shape else code


def lines_of(function: Callable[..., Any]) -> list[str]:
    """Return the lines of code between the unpacking of the arguments and the return."""
    source = dedent(inspect.getsource(function))
    _docstring, *statements, last = ast.parse(source).body[0].body
    first = next(
        s for s in statements if not (isinstance(s, ast.Assign) and ast.unparse(s.targets[0]).startswith(("n", "(")))
    )
    lines = [bare(line) for line in source.splitlines()[first.lineno - 1 : last.lineno - 1]]
    return [line for line in lines if line and not line.startswith("#")]
