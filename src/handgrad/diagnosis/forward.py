"""Warnings about the forward: what no comparison of gradients can show, since both sides share it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from handgrad.diagnosis import WARNINGS
from handgrad.graph import Const, Graph, Step, Value
from handgrad.precision import largest
from handgrad.report import Finding
from handgrad.source import Source, Statement

ADDITIONS = frozenset(["add", "__add__", "__radd__", "__iadd__", "add_"])
SUBTRACTIONS = frozenset(["sub", "__sub__", "__isub__", "sub_", "subtract"])
SENSITIVE = frozenset(
    [
        "pow",
        "__pow__",
        "sqrt",
        "rsqrt",
        "log",
        "div",
        "__truediv__",
        "__rtruediv__",
        "__rdiv__",
        "reciprocal",
        "true_divide",
    ]
)
DOMINATES = 10.0
"""An epsilon this many times the largest entry that it is added to is no epsilon."""


def forward_warnings(graph: Graph, loss: Value) -> list[Finding]:
    """Return what is doubtful about the forward that led to ``loss``, in the order of the code."""
    forward = sorted(graph.ancestors(loss), key=lambda v: v.id)
    steps = list(dict.fromkeys(v.step for v in forward if v.step is not None))
    epsilons = list(_epsilons(steps))
    found = [
        *epsilons,
        *_other_cross_entropies(forward, loss),
        *([] if epsilons else _other_batch_norms(steps)),
        *_unseeded(graph, loss),
        *_unused(graph, set(forward), loss),
        *_broadcast_updates(graph, set(forward)),
        *_overlapping_splits(graph),
    ]
    return list({(w.kind, w.cell, w.line, w.message): w for w in found}.values())


def _warning(kind: str, statement: Statement | None, message: str, fix: str | None = None) -> Finding:
    cell, line = (None, None) if statement is None else (statement.source.cell, statement.line)
    return Finding(WARNINGS[kind], kind, cell, line, message, fix)


def _epsilons(steps: list[Step]) -> Iterator[Finding]:
    """Find a constant that is added for safety, and drowns what it is added to: ``(bnvar + 1e05)**-0.5``."""
    for step in steps:
        if step.op not in ADDITIONS:
            continue
        constants = [a.value for a in step.args if isinstance(a, Const) and isinstance(a.value, int | float)]
        values = [v for v in step.inputs if v.is_floating and v.shape]
        if len(constants) != 1 or len(values) != 1 or not constants[0]:
            continue
        constant, size = float(constants[0]), largest(values[0].value.double())
        used = [s for s in steps if s.op in SENSITIVE and any(v in step.made for v in s.inputs)]
        if not used or abs(constant) <= DOMINATES * size or abs(constant) < 1e-2:
            continue
        written = _constant_text(step, constant)
        name = values[0].name or step.text
        small = f"{1 / abs(constant):.0e}" if constant > 1 else None
        message = (
            (
                f"`{written}` is {abs(constant) / size:.1g} times the largest entry of `{name}` ({size:.3g}): the sum "
                "is the constant, and nothing is normalised"
            )
            if size
            else f"`{written}` is added to `{name}`, which is zero everywhere"
        )
        if small:
            message += f"; did you mean {small}?"
        fix = step.statement.text.replace(written, small) if small and step.statement else None
        yield _warning("epsilon-dominates", step.statement, message, fix)


def _constant_text(step: Step, constant: float) -> str:
    node = step.site.node
    for inner in ast.walk(node) if node is not None else ():
        if isinstance(inner, ast.Constant) and inner.value == constant:
            return step.site.source.text_of(inner)
    return repr(constant)


def _other_cross_entropies(forward: list[Value], loss: Value) -> Iterator[Finding]:
    """Find a loss that is nearly, and not quite, the cross-entropy of some logits and targets."""
    targets = [v for v in forward if v.dtype == torch.int64 and len(v.shape) == 1]
    logits = [v for v in forward if v.is_floating and v.name and len(v.shape) == 2 and v.requires_grad]
    exponentials = [v.step for v in forward if v.step is not None and v.step.op in ("exp", "softmax", "log_softmax")]
    if not exponentials:
        return
    ours = loss.value.double()
    best: tuple[float, Value, Tensor] | None = None
    for value in logits[-12:]:
        for target in targets:
            if target.shape[0] != value.shape[0] or bool(
                (target.value < 0).any() | (target.value >= value.shape[1]).any()
            ):
                continue
            theirs = F.cross_entropy(value.value.double(), target.value)
            gap = ((ours - theirs).abs() / theirs.abs().clamp(min=1e-12)).item()
            if best is None or gap < best[0]:
                best = gap, value, theirs
    if best is not None and 1e-5 < best[0] < 0.05:
        message = (
            f"`{loss.name}` is {ours.item():.6g}, and F.cross_entropy of `{best[1].name}` "
            f"would be {best[2].item():.6g}: "
            "it looks like cross-entropy and differs from it"
        )
        yield _warning("not-the-library-op", loss.step.statement if loss.step else None, message)


def _other_batch_norms(steps: list[Step]) -> Iterator[Finding]:
    """Find a value that is centred and scaled like batch norm, and ends with another variance than 1."""
    for step in steps:
        if step.op not in ("mul", "__mul__", "div", "__truediv__"):
            continue
        value = step.made[0]
        inputs = [v for v in step.inputs if v.is_floating]
        if len(value.shape) != 2 or value.shape[0] < 8 or len(inputs) != 2 or not value.name:
            continue
        full = [v for v in inputs if v.shape == value.shape]
        row = [v for v in inputs if v.shape in ((1, value.shape[1]), (value.shape[1],))]
        if len(full) != 1 or len(row) != 1 or row[0].is_parameter or row[0].step is None:
            continue
        centred, scaled = full[0].value.double(), value.value.double()
        if largest(centred.mean(0)) > 1e-4 * (largest(centred) or 1.0):
            continue
        if row[0].step.op not in SENSITIVE:
            continue
        spread = scaled.var(0, unbiased=False)
        if not 0.8 < spread.median().item() < 1.25 and not any(
            s.op in ADDITIONS and _is_epsilon(s) for s in [row[0].step]
        ):
            message = (
                f"`{value.name}` looks like batch norm, and its columns have variance "
                f"{spread.median().item():.3g}, where "
                "F.batch_norm gives 1: look at the variance and at the epsilon"
            )
            yield _warning("not-the-library-op", step.statement, message)


def _is_epsilon(step: Step) -> bool:
    return any(isinstance(a, Const) and isinstance(a.value, float) for a in step.args)


def _unseeded(graph: Graph, loss: Value) -> Iterator[Finding]:
    """Random numbers in the parameters that nobody seeded: every run is another one."""
    statements: dict[Statement, Step] = {}
    for value in graph.ancestors(loss):
        if value.step is not None and value.step.unseeded and value.step.statement is not None:
            statements.setdefault(value.step.statement, value.step)
    for leaf in (v for v in graph.ancestors(loss) if v.is_parameter):
        for value in graph.ancestors(leaf):
            if value.step is not None and value.step.unseeded and value.step.statement is not None:
                statements.setdefault(value.step.statement, value.step)
    for statement in sorted(statements, key=lambda s: statements[s].index):
        message = (
            "random numbers that no seed fixes: every run gives other ones; "
            "pass `generator=g` or call `torch.manual_seed(...)` first"
        )
        yield _warning("unseeded-random", statement, message)


def _unused(graph: Graph, forward: set[Value], loss: Value) -> Iterator[Finding]:
    """Find a value of the forward that reads parameters and leads nowhere."""
    used = {v for step in graph.steps for v in step.inputs}
    inputs = {v for v in forward if v.is_parameter}
    for value in graph.values:
        if value.time > loss.time or value in forward or value in used or not value.requires_grad or not value.name:
            continue
        if value.step is None or not value.step.grad_enabled or not value.shape or value.step.inplace:
            continue
        if inputs & graph.ancestors(value):
            message = f"`{value.name}` is computed and never used: the loss does not depend on it"
            yield _warning("unused-value", value.step.statement, message)


def _broadcast_updates(graph: Graph, forward: set[Value]) -> Iterator[Finding]:
    """Find an update that fits a parameter only by broadcasting: ``p += -lr * grad[0]``."""
    learned = {v for v in forward if v.is_parameter}
    for step in graph.steps:
        if not step.writes or step.op not in ADDITIONS | SUBTRACTIONS:
            continue
        before = step.writes[0][0]
        origin = graph.ancestors(before)
        if not (before.is_parameter or before in learned or (len(origin) < 4 and origin & learned)):
            continue
        for value in step.inputs:
            if value is not before and value.shape != before.shape and value.value.numel() > 1:
                name = before.name or "a parameter"
                message = (
                    f"`{name}` {before.shape} is updated by a tensor of shape {value.shape}: broadcasting makes it fit"
                )
                yield _warning("silent-broadcast", step.statement, message)
                break


def _overlapping_splits(graph: Graph) -> Iterator[Finding]:
    """Parts for training, development and test that share rows: ``words[n1:]`` where ``words[n1:n2]`` was meant."""
    sources: dict[Source, dict[str, Any]] = {}
    for binding in graph.bindings:
        if binding.scope.kind == "module":
            sources[binding.statement.source] = binding.visible
    names = {name: v for visible in sources.values() for name, v in visible.items()}
    parts: dict[str, list[tuple[int, int, Statement, str]]] = {}
    for source in sources:
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.Subscript) or not isinstance(node.slice, ast.Slice) or node.slice.step:
                continue
            statement = source.statement_of(node)
            if not isinstance(node.value, ast.Name) or statement is None or not isinstance(statement.node, ast.Assign):
                continue
            owner = names.get(node.value.id)
            size = (
                len(owner)
                if isinstance(owner, list | tuple)
                else owner.shape[0]
                if isinstance(owner, Value) and owner.shape
                else None
            )
            if size is None or not _is_part(statement):
                continue
            bounds = [_number(bound, names) for bound in (node.slice.lower, node.slice.upper)]
            if any(
                b is None and given is not None
                for b, given in zip(bounds, (node.slice.lower, node.slice.upper), strict=True)
            ):
                continue
            first, last, _ = slice(*bounds).indices(size)
            parts.setdefault(node.value.id, []).append((first, last, statement, ast.unparse(node)))
    for owner_name, items in parts.items():
        for i, (first, last, statement, text) in enumerate(items):
            for start, end, other, other_text in items[:i]:
                shared = min(last, end) - max(first, start)
                if shared > 0 and other is not statement and text != other_text:
                    message = (
                        f"`{text}` and `{other_text}` share {shared:,} of the entries of `{owner_name}`: "
                        "what is tested on was trained on"
                    )
                    yield _warning("split-overlap", statement, message)


def _is_part(statement: Statement) -> bool:
    text = statement.text.partition("=")[0].lower()
    return any(part in text for part in ("tr", "dev", "val", "te"))


def _number(node: ast.expr | None, names: dict[str, Any]) -> int | None:
    if isinstance(node, ast.Name) and type(names.get(node.id)) is int:
        return int(names[node.id])
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    return None
