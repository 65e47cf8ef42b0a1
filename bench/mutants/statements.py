"""Every edit of a whole line: deleted, doubled, moved, negated."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from mutants.mutant import KINDS, Line, Mutant, loaded
from mutants.site import evaluated


def mutant_of(line: Line, category: str, before: str, after: str, **more: Any) -> Mutant:
    """Return a mutant of a line."""
    given = {
        "lines": frozenset({line.first}),
        "targets": line.targets,
        "edits": ((line.first, line.last, after),),
        **more,
    }
    return Mutant(category, line.first, before, after, KINDS[category], **given)


def statement_edits(line: Line, lines: list[Line], before: str) -> Iterator[Mutant]:
    """Yield the edits of a whole line."""
    node = line.node
    of_target = [other for other in lines if other.targets & line.targets]
    earlier = [other for other in of_target if other.first < line.first]
    anywhere = frozenset(other.first for other in of_target if other is not line)
    value = ast.unparse(node.value)
    if isinstance(node, ast.AugAssign):
        target = ast.unparse(node.target)
        adds = isinstance(node.op, ast.Add | ast.Sub)
        if adds:
            other = "-" if isinstance(node.op, ast.Add) else "+"
            yield mutant_of(line, "sign", before, f"{target} {other}= {value}")
            yield mutant_of(line, "+= to =", before, f"{target} = {value}")
            yield mutant_of(line, "branch twice", before, f"{before}; {before}")
        else:
            other = "*" if isinstance(node.op, ast.Div) else "/"
            yield mutant_of(line, "operator of scalars", before, f"{target} {other}= {value}")
        category = "branch deleted" if adds else "statement deleted"
        yield mutant_of(line, category, before, "pass", lines=anywhere)
    elif len(node.targets) == 1:
        target = ast.unparse(node.targets[0])
        if earlier:
            yield mutant_of(line, "= to +=", before, f"{target} += {value}")
        if not isinstance(node.targets[0], ast.Tuple):
            yield mutant_of(line, "sign", before, f"{target} = {_negated(node.value)}")
            yield mutant_of(line, "times 2", before, f"{target} = {_times_2(node.value)}")
            yield from _sums_added(line, before, target)
    yield from _aliases(line, lines, before)
    yield from _scattered(line, before)
    yield from _moved(line, lines, before)


def _negated(value: ast.expr) -> str:
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
        return ast.unparse(value.operand)
    return ast.unparse(ast.UnaryOp(ast.USub(), value))


def _times_2(value: ast.expr) -> str:
    return ast.unparse(ast.BinOp(ast.Constant(2), ast.Mult(), value))


def _sums_added(line: Line, before: str, target: str) -> Iterator[Mutant]:
    value = line.node.value
    result = evaluated(value, line.state)
    if isinstance(result, Tensor) and result.dim() > 1 and isinstance(line.node, ast.Assign):
        for dim in (0, result.dim() - 1):
            text = f"({ast.unparse(value)}).sum({dim}, keepdim=True)"
            yield mutant_of(line, "sum added", before, ast.unparse(ast.parse(f"{target} = {text}")))


def _aliases(line: Line, lines: list[Line], before: str) -> Iterator[Mutant]:
    """Drop a `.clone()`: a later `+=` on the one then changes the other."""
    value = line.node.value
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "clone"):
        return
    (source,) = [value.func.value]
    names = line.targets | loaded(source)
    changed = {o.first for o in lines if o.first > line.first and o.targets & names}
    (target,) = line.targets
    yield mutant_of(
        line, "alias", before, f"{target} = {ast.unparse(source)}",
        lines=frozenset({line.first, *changed}), targets=names, local=False,
    )  # fmt: skip


def _scattered(line: Line, before: str) -> Iterator[Mutant]:
    """Write an `index_add_` as an indexed assignment, in which the last of several writes to a row wins."""
    node = line.node
    value = node.value
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "index_add_"):
        return
    (target,) = line.targets
    owner, (dim, index, source) = ast.unparse(value.func.value), map(ast.unparse, value.args)
    yield mutant_of(line, "accumulation", before, f"{target} = {owner}.index_copy_({dim}, {index}, {source})")
    yield mutant_of(line, "accumulation", before, f"{target} = {owner}.index_put_(({index},), {source})")
    for sign in ("+=", "="):
        yield mutant_of(line, "accumulation", before, f"{target} = {owner}; {target}[{index}] {sign} {source}")


def _moved(line: Line, lines: list[Line], before: str) -> Iterator[Mutant]:
    """Move a line that completes a gradient behind the first line that reads it."""
    if not isinstance(line.node, ast.AugAssign) and not isinstance(line.node.targets[0], ast.Subscript):
        return
    here = line.block.index(line.node)
    for reader in line.block[here + 1 :]:
        of_reader = next((other for other in lines if other.node is reader), None)
        if of_reader is None or of_reader.targets & line.targets:
            return
        if line.targets & loaded(reader):
            break
    else:
        return
    between = line.block[here + 1 : line.block.index(reader) + 1]
    if any(s.lineno != s.end_lineno for s in (line.node, *between)):
        return
    slots = [line.first, *(s.lineno for s in between)]
    texts = [*map(ast.unparse, between), before]
    yield mutant_of(
        line, "too early", before, f"{ast.unparse(reader)} before {before}",
        lines=frozenset({slots[-2]}), targets=of_reader.targets, local=False,
        edits=tuple((slot, slot, text) for slot, text in zip(slots, texts, strict=True)),
    )  # fmt: skip
