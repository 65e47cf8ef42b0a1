"""Mistakes with names, transposes, comparisons, indices and dims."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator

from torch import Tensor

from mutants.site import Site, is_operation, text_of, transposed

REPLACEMENTS = 3  # other names tried for one operand


def names(site: Site) -> Iterator[tuple[str, str]]:
    """Yield other names of the same shape."""
    node = site.node
    if not isinstance(node, ast.Name) or (isinstance(site.parent, ast.Call) and site.parent.func is node):
        return
    value, state = site.value(), site.line.state
    if not isinstance(value, Tensor):
        return
    tensors = {
        name: tensor
        for name, tensor in state.items()
        if isinstance(tensor, Tensor) and name != node.id and not name.startswith("_")
    }
    if not value.is_floating_point():
        others = [n for n, t in tensors.items() if t.dtype == value.dtype]
        yield from (("index", name) for name in sorted(others)[:REPLACEMENTS])
        return
    if site.role != "value" or (isinstance(site.parent, ast.Attribute) and site.parent.attr == "shape"):
        return
    same = sorted(n for n, t in tensors.items() if t.shape == value.shape and t.is_floating_point())
    draw = random.Random(f"{node.id} {site.line.first} {node.col_offset}")  # noqa: S311
    for name in sorted(draw.sample(same, min(REPLACEMENTS, len(same)))):
        yield "gradient" if node.id in site.line.gradients else "operand", name


def products(site: Site) -> Iterator[tuple[str, str]]:
    """Yield products with a factor transposed, swapped or elementwise."""
    node = site.node
    inner = transposed(node)
    if inner is not None:
        yield "transposed", text_of(inner)
    if is_operation(node, ast.MatMult):
        for side, name in ((node.left, "left"), (node.right, "right")):
            value = site.value(side)
            if transposed(side) is None and isinstance(value, Tensor) and value.dim() > 1:
                turned = f"{text_of(side)}.T" if value.dim() == 2 else f"{text_of(side)}.mT"
                left, right = (turned, text_of(node.right)) if name == "left" else (text_of(node.left), turned)
                yield "transposed", f"{left} @ {right}"
        yield "operands of @ swapped", f"{text_of(node.right)} @ {text_of(node.left)}"
        result = site.value()
        if isinstance(result, Tensor):
            yield "transposed", f"({ast.unparse(node)}).{'T' if result.dim() == 2 else 'mT'}"
        yield "operator", f"{text_of(node.left)} * {text_of(node.right)}"


def comparisons(site: Site) -> Iterator[tuple[str, str]]:
    """Yield other comparisons."""
    node = site.node
    if isinstance(node, ast.Compare):
        for symbol in ("<", "!=", ">="):
            yield "comparison", f"{text_of(node.left)} {symbol} {text_of(node.comparators[0])}"


def indices(site: Site) -> Iterator[tuple[str, str]]:
    """Yield other indices."""
    node = site.node
    value = site.value()
    if site.role == "value":
        return
    if isinstance(node, ast.Call) and text_of(node.func) in ("range", "torch.arange") and len(node.args) == 1:
        n = ast.unparse(node.args[0])
        yield "index", f"{text_of(node.func)}({n} - 1)"
        yield "index reversed", f"range({n} - 1, -1, -1)"
    if isinstance(node, ast.Name) and isinstance(value, Tensor) and value.dtype.is_floating_point is False:
        yield "index", f"({node.id} - 1)"
        yield "index reversed", f"{node.id}.flip(0)"
    if isinstance(node, ast.Tuple) and len(node.elts) == 2 and site.role == "index" and isinstance(site.value(), tuple):
        yield "index", f"({ast.unparse(node.elts[1])}, {ast.unparse(node.elts[0])})"


def dims(site: Site) -> Iterator[tuple[str, str]]:
    """Yield other dims."""
    node = site.node
    if not isinstance(node, ast.Constant) or type(node.value) is not int or site.role == "value":
        return
    method = site.parent.func if isinstance(site.parent, ast.Call) else None
    name = method.attr if isinstance(method, ast.Attribute) else None
    if name not in ("sum", "mean") and site.role in ("argument", "index"):
        category = "dim of a transpose" if name == "transpose" else "dim"
        yield category, str(node.value + 1)
        if node.value:
            yield category, str(node.value - 1)
