"""Every single-edit mutant of a backward pass, each with where the mistake is and which explanations of it are right.

    for mutant in mutants(source, states, gradients):
        wrong = applied(source, mutant.edits)

Nothing here is shared with the search for explanations in `handgrad.diagnosis`: what makes the mistakes must not know
what finds them.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

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
REPLACEMENTS = 3  # other names tried for one operand
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


def mutants(source: str, states: dict[int, dict[str, Any]], gradients: frozenset[str]) -> list[Mutant]:
    """Return every mutant of the function in ``source``, in order of lines, without repetitions.

    ``states`` holds the names in scope before each line that runs, as a correct run has them (tensors for their
    shapes); lines that do not run are not mutated. ``gradients`` are the names that are judged.
    """
    lines = gradient_lines(source, states, gradients)
    found: dict[tuple[Replacement, ...], Mutant] = {}
    for line in lines:
        for mutant in _of_line(line, lines):
            if mutant.after == mutant.before:
                continue
            known = found.get(mutant.edits)
            if known is None:
                found[mutant.edits] = mutant
            else:  # one text, reached in two ways: either name for it is right
                found[mutant.edits] = replace(known, kinds=known.kinds | mutant.kinds)
    return list(found.values())


def applied(source: str, edits: tuple[Replacement, ...]) -> str:
    """Return ``source`` with ``edits``; a line keeps its number."""
    rows = source.split("\n")
    for first, last, text in edits:
        row = rows[first - 1]
        indent = row[: len(row) - len(row.lstrip())]
        rows[first - 1 : last] = [indent + text, *[""] * (last - first)]
    return "\n".join(rows)


def gradient_lines(source: str, states: dict[int, dict[str, Any]], gradients: frozenset[str]) -> list[Line]:
    """Return the statements that ran and set one of ``gradients``."""
    found = []

    def visit(block: list[ast.stmt]) -> None:
        for node in block:
            if isinstance(node, ast.Assign | ast.AugAssign):
                targets = gradients & stored(node)
                if targets and node.lineno in states:
                    found.append(Line(node, states[node.lineno], targets, tuple(block), gradients))
            for inner in ("body", "orelse"):
                visit(getattr(node, inner, []))

    (function,) = ast.parse(source).body
    visit(function.body)
    return found


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


# one line


def _of_line(line: Line, lines: list[Line]) -> Iterator[Mutant]:
    node = line.node
    before = ast.unparse(node)
    for category, text in _expression_edits(line):
        yield _mutant(line, category, before, text)
    yield from _statement_edits(line, lines, before)


def _mutant(line: Line, category: str, before: str, after: str, **more: Any) -> Mutant:
    given = {
        "lines": frozenset({line.first}),
        "targets": line.targets,
        "edits": ((line.first, line.last, after),),
        **more,
    }
    return Mutant(category, line.first, before, after, KINDS[category], **given)


def _statement_edits(line: Line, lines: list[Line], before: str) -> Iterator[Mutant]:
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
            yield _mutant(line, "sign", before, f"{target} {other}= {value}")
            yield _mutant(line, "+= to =", before, f"{target} = {value}")
            yield _mutant(line, "branch twice", before, f"{before}; {before}")
        else:
            other = "*" if isinstance(node.op, ast.Div) else "/"
            yield _mutant(line, "operator of scalars", before, f"{target} {other}= {value}")
        category = "branch deleted" if adds else "statement deleted"
        yield _mutant(line, category, before, "pass", lines=anywhere)
    elif len(node.targets) == 1:
        target = ast.unparse(node.targets[0])
        if earlier:
            yield _mutant(line, "= to +=", before, f"{target} += {value}")
        if not isinstance(node.targets[0], ast.Tuple):
            yield _mutant(line, "sign", before, f"{target} = {_negated(node.value)}")
            yield _mutant(line, "times 2", before, f"{target} = {_times_2(node.value)}")
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
    result = _evaluated(value, line.state)
    if isinstance(result, Tensor) and result.dim() > 1 and isinstance(line.node, ast.Assign):
        for dim in (0, result.dim() - 1):
            text = f"({ast.unparse(value)}).sum({dim}, keepdim=True)"
            yield _mutant(line, "sum added", before, ast.unparse(ast.parse(f"{target} = {text}")))


def _aliases(line: Line, lines: list[Line], before: str) -> Iterator[Mutant]:
    """Drop a `.clone()`: a later `+=` on the one then changes the other."""
    value = line.node.value
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "clone"):
        return
    (source,) = [value.func.value]
    names = line.targets | loaded(source)
    changed = {o.first for o in lines if o.first > line.first and o.targets & names}
    (target,) = line.targets
    yield _mutant(
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
    yield _mutant(line, "accumulation", before, f"{target} = {owner}.index_copy_({dim}, {index}, {source})")
    yield _mutant(line, "accumulation", before, f"{target} = {owner}.index_put_(({index},), {source})")
    for sign in ("+=", "="):
        yield _mutant(line, "accumulation", before, f"{target} = {owner}; {target}[{index}] {sign} {source}")


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
    yield _mutant(
        line, "too early", before, f"{ast.unparse(reader)} before {before}",
        lines=frozenset({slots[-2]}), targets=of_reader.targets, local=False,
        edits=tuple((slot, slot, text) for slot, text in zip(slots, texts, strict=True)),
    )  # fmt: skip


# expressions


@dataclass(frozen=True)
class Site:
    """An expression, where it stands, and what is in scope."""

    node: ast.expr
    line: Line
    parent: ast.AST | None
    role: str  # "value", "index" (in a subscript), "argument" (of a call: a dim, say) or "power"

    def value(self, node: ast.expr | None = None) -> Any:
        """Return what the expression is in a correct run."""
        return _evaluated(node or self.node, self.line.state)

    def is_scalar(self, node: ast.expr) -> bool:
        """Whether ``node`` is one number."""
        value = self.value(node)
        return isinstance(value, int | float) or (isinstance(value, Tensor) and value.dim() == 0)


def _evaluated(node: ast.expr, state: dict[str, Any]) -> Any:
    copies = {k: state[k].clone() if isinstance(state[k], Tensor) else state[k] for k in loaded(node) if k in state}
    try:
        return eval(ast.unparse(node), {"range": range}, copies)  # noqa: S307
    except Exception:
        return None


def _expression_edits(line: Line) -> Iterator[tuple[str, str]]:
    """Yield each edit of an expression of the line: its category, and the line with it."""
    statement = line.node
    for site in _sites(line):
        for category, text in _edits(site):
            new = ast.parse(text, mode="eval").body
            yield category, ast.unparse(ast.fix_missing_locations(_swapped(statement, site.node, new)))


def _swapped(tree: Any, old: ast.AST, new: ast.AST) -> Any:
    if tree is old:
        return new
    if isinstance(tree, list):
        return [_swapped(item, old, new) for item in tree]
    if not isinstance(tree, ast.AST):
        return tree
    return type(tree)(**{name: _swapped(value, old, new) for name, value in ast.iter_fields(tree)})


def _sites(line: Line) -> Iterator[Site]:
    def walk(node: ast.AST, parent: ast.AST | None, role: str) -> Iterator[Site]:
        if isinstance(node, ast.expr):
            yield Site(node, line, parent, role)
        if isinstance(node, ast.Subscript):
            yield from walk(node.value, node, role)
            yield from walk(node.slice, node, "index")
        elif isinstance(node, ast.Call):
            yield from walk(node.func, node, role)
            for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                value = _evaluated(argument, line.state)
                is_float = isinstance(value, Tensor) and value.is_floating_point()
                yield from walk(argument, node, "value" if is_float else "argument")
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            yield from walk(node.left, node, role)
            yield from walk(node.right, node, "power")
        else:
            for child in ast.iter_child_nodes(node):
                yield from walk(child, node, role)

    node = line.node
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    if isinstance(target, ast.Subscript):
        yield from walk(target.slice, target, "index")
    yield from walk(node.value, None, "value")


def _edits(site: Site) -> Iterator[tuple[str, str]]:
    for family in (
        _sums, _numbers, _terms, _factors, _names, _products, _comparisons, _indices, _dims, _regroupings,
    ):  # fmt: skip
        yield from family(site)


def _text(node: ast.AST) -> str:
    """Return the text of ``node``, in parentheses where it may need them."""
    text = ast.unparse(node)
    atomic = isinstance(node, ast.Name | ast.Call | ast.Attribute | ast.Subscript)
    is_number = isinstance(node, ast.Constant)
    return text if atomic or is_number else f"({text})"


def _sums(site: Site) -> Iterator[tuple[str, str]]:
    node = site.node
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("sum", "mean")):
        return
    owner, name = _text(node.func.value), node.func.attr
    value = site.value(node.func.value)
    if not isinstance(value, Tensor):
        return
    keep = any(keyword.arg == "keepdim" for keyword in node.keywords)
    given = ast.literal_eval(node.args[0]) if node.args else ()
    dims = given if isinstance(given, tuple) else (given,)

    def call(name: str, dims: tuple[int, ...], keep: bool) -> str:
        dim = [str(dims[0] if len(dims) == 1 else dims)] if dims else []
        return f"{owner}.{name}({', '.join([*dim, *['keepdim=True'] * keep])})"

    yield "sum dropped", owner
    yield "sum and mean", call("mean" if name == "sum" else "sum", dims, keep)
    if not dims:
        return
    yield "keepdim", call(name, dims, not keep)
    if value.dim() > 1:
        yield "sum over other dims", f"{owner}.{name}()"
    for k in range(len(dims)):
        others = [d for d in range(value.dim()) if d not in [x % value.dim() for x in dims]]
        for other in others:
            yield "sum over other dims", call(name, (*dims[:k], other, *dims[k + 1 :]), keep)
        if len(dims) > 1:
            yield "sum over other dims", call(name, (*dims[:k], *dims[k + 1 :]), keep)


def _is(node: ast.AST | None, *operators: type[ast.operator]) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, operators)


def _chain(node: ast.expr, operators: tuple[type[ast.operator], ...]) -> list[tuple[type[ast.operator], ast.expr]]:
    if _is(node, *operators):
        return [*_chain(node.left, operators), (type(node.op), node.right)]
    return [(operators[0], node)]


def _joined(parts: list[tuple[type[ast.operator], ast.expr]], signs: dict[type[ast.operator], str], start: str) -> str:
    text = ""
    for operator, node in parts:
        part = _text(node)
        first = part if operator is next(iter(signs)) else f"{start} {signs[operator]} {part}"
        text = f"{text} {signs[operator]} {part}" if text else first
    return text or start


def _is_root(site: Site, operators: tuple[type[ast.operator], ...]) -> bool:
    inner = _is(site.parent, *operators) and site.parent.left is site.node
    return _is(site.node, *operators) and not inner


def _terms(site: Site) -> Iterator[tuple[str, str]]:
    signs: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-"}
    node = site.node
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and site.role != "power":
        yield "sign", _text(node.operand)
    if not _is_root(site, tuple(signs)) or site.role not in ("value", "power"):
        return
    terms = _chain(node, tuple(signs))
    scalar = site.is_scalar(node) and site.role == "value"
    for k, (operator, term) in enumerate(terms):
        other = ast.Sub if operator is ast.Add else ast.Add
        if k:
            yield (
                "operator of scalars" if scalar else "sign of a term",
                _joined([*terms[:k], (other, term), *terms[k + 1 :]], signs, "0"),
            )
        text = _joined([*terms[:k], *terms[k + 1 :]], signs, "0").removeprefix("0 ")
        yield "operator of scalars" if scalar else "term dropped", text
    if len(terms) == 2:
        yield "operator of scalars" if scalar else "operator", f"{_text(terms[0][1])} * {_text(terms[1][1])}"


def _factors(site: Site) -> Iterator[tuple[str, str]]:
    signs: dict[type[ast.operator], str] = {ast.Mult: "*", ast.Div: "/"}
    node = site.node
    if site.role != "value" or (site.is_scalar(node) and _is(site.parent, *signs)):
        return
    if _is_root(site, tuple(signs)):
        factors = _chain(node, tuple(signs))
        for k, (operator, factor) in enumerate(factors):
            rest = [*factors[:k], *factors[k + 1 :]]
            scalar = site.is_scalar(factor)
            kind = "factor dropped"
            if scalar:
                kind = "sign" if site.value(factor) == -1 else "scalar dropped"
            yield kind, _joined(rest, signs, "1.0")
            if not scalar:
                yield "factor twice", _joined([*factors[: k + 1], (operator, factor), *rest[k:]], signs, "1.0")
            for part in _chain(factor, tuple(signs)) if _is(factor, *signs) else []:
                inner = [p for p in _chain(factor, tuple(signs)) if p[1] is not part[1]]
                kind = "scalar dropped" if site.is_scalar(part[1]) else "factor dropped"
                new = ast.parse(_joined(inner, signs, "1.0"), mode="eval").body
                yield kind, _joined([*factors[:k], (operator, new), *factors[k + 1 :]], signs, "1.0")
            if k:
                other = ast.Div if operator is ast.Mult else ast.Mult
                left = [*factors[:k]]
                kind = "operator of scalars" if scalar else "operator"
                yield kind, _joined([*left, (other, factor), *factors[k + 1 :]], signs, "1.0")
                if operator is ast.Mult:
                    rest = _joined([(ast.Mult, factor), *factors[k + 1 :]], signs, "1.0")
                    yield "operator", f"{_joined(left, signs, '1.0')} + {rest}"


def _numbers(site: Site) -> Iterator[tuple[str, str]]:
    node = site.node
    if site.role == "power":
        value = site.value()
        whole = not (isinstance(site.parent, ast.BinOp) and isinstance(site.parent.op, ast.Pow))
        if isinstance(value, int | float) and not whole and site.parent.right is node:
            scalar = "exponent of a scalar" if site.is_scalar(site.parent.left) else None
            for new in (value - 1, value + 1):
                yield scalar or "exponent", f"({new})" if new < 0 else f"{new}"
            yield scalar or "sign of an exponent", f"({-value})"
        return
    if site.role != "value":
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        value = node.value
        if 0 < value < 1e-3:
            yield "constant", f"{value:e}".replace("e-", "e").replace("000000", "")
            yield "constant", repr(value * 10)
        else:
            yield "constant", repr(value + 1)
            yield "constant", repr(value / 2)
    elif isinstance(site.value(), int) and isinstance(node, ast.Name | ast.Subscript):
        if _is(site.parent, ast.Sub) and isinstance(site.parent.right, ast.Constant):
            return
        yield "n - 1", f"({ast.unparse(node)} - 1)"
    elif _is(node, ast.Sub) and isinstance(site.value(), int):
        yield "n - 1", _text(node.left)


def _names(site: Site) -> Iterator[tuple[str, str]]:
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


def _transposed(node: ast.expr) -> ast.expr | None:
    """Return what ``node`` is the transpose of."""
    if isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
        return node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "transpose":
        return node.func.value
    return None


def _products(site: Site) -> Iterator[tuple[str, str]]:
    node = site.node
    inner = _transposed(node)
    if inner is not None:
        yield "transposed", _text(inner)
    if _is(node, ast.MatMult):
        for side, name in ((node.left, "left"), (node.right, "right")):
            value = site.value(side)
            if _transposed(side) is None and isinstance(value, Tensor) and value.dim() > 1:
                turned = f"{_text(side)}.T" if value.dim() == 2 else f"{_text(side)}.mT"
                left, right = (turned, _text(node.right)) if name == "left" else (_text(node.left), turned)
                yield "transposed", f"{left} @ {right}"
        yield "operands of @ swapped", f"{_text(node.right)} @ {_text(node.left)}"
        result = site.value()
        if isinstance(result, Tensor):
            yield "transposed", f"({ast.unparse(node)}).{'T' if result.dim() == 2 else 'mT'}"
        yield "operator", f"{_text(node.left)} * {_text(node.right)}"


def _comparisons(site: Site) -> Iterator[tuple[str, str]]:
    node = site.node
    if isinstance(node, ast.Compare):
        for symbol in ("<", "!=", ">="):
            yield "comparison", f"{_text(node.left)} {symbol} {_text(node.comparators[0])}"


def _indices(site: Site) -> Iterator[tuple[str, str]]:
    node = site.node
    value = site.value()
    if site.role == "value":
        return
    if isinstance(node, ast.Call) and _text(node.func) in ("range", "torch.arange") and len(node.args) == 1:
        n = ast.unparse(node.args[0])
        yield "index", f"{_text(node.func)}({n} - 1)"
        yield "index reversed", f"range({n} - 1, -1, -1)"
    if isinstance(node, ast.Name) and isinstance(value, Tensor) and value.dtype.is_floating_point is False:
        yield "index", f"({node.id} - 1)"
        yield "index reversed", f"{node.id}.flip(0)"
    if isinstance(node, ast.Tuple) and len(node.elts) == 2 and site.role == "index" and isinstance(site.value(), tuple):
        yield "index", f"({ast.unparse(node.elts[1])}, {ast.unparse(node.elts[0])})"


def _dims(site: Site) -> Iterator[tuple[str, str]]:
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


def _regroupings(site: Site) -> Iterator[tuple[str, str]]:
    """Move, drop or add a pair of parentheses."""
    node, add, times = site.node, (ast.Add, ast.Sub), (ast.Mult, ast.Div)
    if site.role != "value":
        return
    bare = ast.unparse
    if isinstance(node, ast.UnaryOp) and _is(node.operand, ast.Pow):
        yield "precedence", f"(-{_text(node.operand.left)}) ** {_text(node.operand.right)}"
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.BinOp)
        and not _is(node.func.value, ast.MatMult)
    ):
        inner = node.func.value
        arguments = bare(node).removeprefix(f"({bare(inner)}).")
        text = f"{bare(inner)[: -len(bare(inner.right))]}{_text(inner.right)}.{arguments}"
        if bare(inner).endswith(bare(inner.right)):
            yield "precedence", text
    if not isinstance(node, ast.BinOp):
        return
    symbol = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**", ast.MatMult: "@"}[type(node.op)]
    left, right = node.left, node.right
    if _is(node, *times, ast.Pow, ast.MatMult) and _is(left, *add):
        yield "precedence", f"{bare(left)} {symbol} {_text(right)}"
    if _is(node, ast.Pow) and _is(left, *times):
        yield "precedence", f"{bare(left)} ** {_text(right)}"
    if _is(node, *times, ast.MatMult) and _is(right, *add):
        yield "precedence", f"{_text(left)} {symbol} {bare(right)}"
    if (_is(node, ast.Div) and _is(right, *times)) or (_is(node, ast.Sub) and _is(right, *add)):
        yield "precedence", f"{_text(left)} {symbol} {bare(right)}"
    if _is(node, *add) and _is(right, *times):
        first = _chain(right, times)
        rest = bare(right)[len(bare(first[0][1])) :]
        if bare(right).startswith(bare(first[0][1])):
            yield "precedence", f"({bare(left)} {symbol} {bare(first[0][1])}){rest}"
    if _is(node, *times) and _is(left, ast.Div):
        inner_left, inner_right = left.left, left.right
        yield "precedence", f"{_text(inner_left)} / ({_text(inner_right)} {symbol} {_text(right)})"
