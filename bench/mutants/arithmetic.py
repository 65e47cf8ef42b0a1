"""Mistakes with sums, terms, factors, numbers and parentheses."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch import Tensor

from mutants.site import Site, is_operation, text_of


def sums(site: Site) -> Iterator[tuple[str, str]]:
    """Yield sums dropped, over other dims, with and without `keepdim`."""
    node = site.node
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("sum", "mean")):
        return
    owner, name = text_of(node.func.value), node.func.attr
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


def _chain(node: ast.expr, operators: tuple[type[ast.operator], ...]) -> list[tuple[type[ast.operator], ast.expr]]:
    if is_operation(node, *operators):
        return [*_chain(node.left, operators), (type(node.op), node.right)]
    return [(operators[0], node)]


def _joined(parts: list[tuple[type[ast.operator], ast.expr]], signs: dict[type[ast.operator], str], start: str) -> str:
    text = ""
    for operator, node in parts:
        part = text_of(node)
        first = part if operator is next(iter(signs)) else f"{start} {signs[operator]} {part}"
        text = f"{text} {signs[operator]} {part}" if text else first
    return text or start


def _is_root(site: Site, operators: tuple[type[ast.operator], ...]) -> bool:
    inner = is_operation(site.parent, *operators) and site.parent.left is site.node
    return is_operation(site.node, *operators) and not inner


def terms(site: Site) -> Iterator[tuple[str, str]]:
    """Yield terms dropped and with the other sign."""
    signs: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-"}
    node = site.node
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and site.role != "power":
        yield "sign", text_of(node.operand)
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
        yield "operator of scalars" if scalar else "operator", f"{text_of(terms[0][1])} * {text_of(terms[1][1])}"


def factors(site: Site) -> Iterator[tuple[str, str]]:
    """Yield factors dropped, doubled and combined by another operator."""
    signs: dict[type[ast.operator], str] = {ast.Mult: "*", ast.Div: "/"}
    node = site.node
    if site.role != "value" or (site.is_scalar(node) and is_operation(site.parent, *signs)):
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
            for part in _chain(factor, tuple(signs)) if is_operation(factor, *signs) else []:
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


def numbers(site: Site) -> Iterator[tuple[str, str]]:
    """Yield other constants and exponents."""
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
        if is_operation(site.parent, ast.Sub) and isinstance(site.parent.right, ast.Constant):
            return
        yield "n - 1", f"({ast.unparse(node)} - 1)"
    elif is_operation(node, ast.Sub) and isinstance(site.value(), int):
        yield "n - 1", text_of(node.left)


def regroupings(site: Site) -> Iterator[tuple[str, str]]:
    """Move, drop or add a pair of parentheses."""
    node, add, times = site.node, (ast.Add, ast.Sub), (ast.Mult, ast.Div)
    if site.role != "value":
        return
    bare = ast.unparse
    if isinstance(node, ast.UnaryOp) and is_operation(node.operand, ast.Pow):
        yield "precedence", f"(-{text_of(node.operand.left)}) ** {text_of(node.operand.right)}"
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.BinOp)
        and not is_operation(node.func.value, ast.MatMult)
    ):
        inner = node.func.value
        arguments = bare(node).removeprefix(f"({bare(inner)}).")
        text = f"{bare(inner)[: -len(bare(inner.right))]}{text_of(inner.right)}.{arguments}"
        if bare(inner).endswith(bare(inner.right)):
            yield "precedence", text
    if not isinstance(node, ast.BinOp):
        return
    symbol = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**", ast.MatMult: "@"}[type(node.op)]
    left, right = node.left, node.right
    if is_operation(node, *times, ast.Pow, ast.MatMult) and is_operation(left, *add):
        yield "precedence", f"{bare(left)} {symbol} {text_of(right)}"
    if is_operation(node, ast.Pow) and is_operation(left, *times):
        yield "precedence", f"{bare(left)} ** {text_of(right)}"
    if is_operation(node, *times, ast.MatMult) and is_operation(right, *add):
        yield "precedence", f"{text_of(left)} {symbol} {bare(right)}"
    if (is_operation(node, ast.Div) and is_operation(right, *times)) or (
        is_operation(node, ast.Sub) and is_operation(right, *add)
    ):
        yield "precedence", f"{text_of(left)} {symbol} {bare(right)}"
    if is_operation(node, *add) and is_operation(right, *times):
        first = _chain(right, times)
        rest = bare(right)[len(bare(first[0][1])) :]
        if bare(right).startswith(bare(first[0][1])):
            yield "precedence", f"({bare(left)} {symbol} {bare(first[0][1])}){rest}"
    if is_operation(node, *times) and is_operation(left, ast.Div):
        inner_left, inner_right = left.left, left.right
        yield "precedence", f"{text_of(inner_left)} / ({text_of(inner_right)} {symbol} {text_of(right)})"
