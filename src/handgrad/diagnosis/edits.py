"""Small changes of a line, each with the kind of mistake that it would cure. Cheapest and likeliest first."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from handgrad.diagnosis.problem import OWN, copied

Shape = tuple[int, ...]


class Edit(NamedTuple):
    """A changed statement; ``kind`` is what the original was guilty of."""

    cost: float
    kind: str
    what: str
    node: ast.stmt
    line: int  # of the place that was changed


class Names(NamedTuple):
    """What the edits may use: the shapes of tensors in scope, of gradients among them, and whole numbers."""

    shapes: dict[str, Shape]
    gradients: set[str]
    integers: dict[str, int]
    small: list[str]  # constants of the forward such as 1e-5
    own: Shape = ()  # the shape of the gradient itself


Path = tuple[tuple[str, int | None], ...]


def edits(statement: ast.stmt, names: Names) -> list[Edit]:
    """Return every single edit of ``statement``, cheapest first."""
    found: list[Edit] = []
    for path, node in _expressions(statement):
        for cost, kind, what, new in _changes(node, names, path):
            found.append(Edit(cost, kind, what, _replaced(statement, path, new), getattr(node, "lineno", 0)))
    for path, inner in _statements(statement):
        for cost, kind, what, new in _statement_changes(inner):
            found.append(Edit(cost, kind, what, _replaced(statement, path, new), inner.lineno))
    found.sort(key=lambda edit: edit.cost)
    return found


def _expressions(statement: ast.stmt) -> list[tuple[Path, ast.expr]]:
    found: list[tuple[Path, ast.expr]] = []

    def walk(node: ast.AST, path: Path) -> None:
        for name, value in ast.iter_fields(node):
            items: list[tuple[int | None, Any]] = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
            for i, item in items:
                if isinstance(item, ast.AST):
                    here = (*path, (name, i))
                    is_target = name in ("target", "targets") and not isinstance(item, ast.Subscript)
                    if isinstance(item, ast.expr) and not isinstance(getattr(item, "ctx", None), ast.Store):
                        found.append((here, item))
                    if not is_target:
                        walk(item, here)

    walk(statement, ())
    return found


def _statements(statement: ast.stmt) -> Iterator[tuple[Path, ast.stmt]]:
    def walk(node: ast.AST, path: Path) -> Iterator[tuple[Path, ast.stmt]]:
        if isinstance(node, ast.stmt):
            yield path, node
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                for i, item in enumerate(value):
                    if isinstance(item, ast.stmt):
                        yield from walk(item, (*path, (name, i)))

    yield from walk(statement, ())


def _replaced(statement: ast.stmt, path: Path, new: ast.AST) -> ast.stmt:
    if not path:
        return ast.fix_missing_locations(ast.copy_location(new, statement))  # type: ignore[return-value]
    changed = copied(statement)
    node = changed
    for name, i in path[:-1]:
        node = getattr(node, name) if i is None else getattr(node, name)[i]
    name, i = path[-1]
    if i is None:
        setattr(node, name, new)
    else:
        getattr(node, name)[i] = new
    return ast.fix_missing_locations(changed)  # type: ignore[no-any-return]


def _code(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


Change = tuple[float, str, str, ast.AST]


def _changes(node: ast.expr, names: Names, path: Path) -> Iterator[Change]:
    in_index = any(name == "slice" for name, _ in path)
    if isinstance(node, ast.Constant):
        yield from _constant(node, names, in_index)
    elif isinstance(node, ast.Name):
        yield from _name(node, names, in_index)
    elif isinstance(node, ast.BinOp):
        yield from _operation(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield 1.0, "sign", f"without the minus of `{ast.unparse(node)}`", node.operand
        if isinstance(node.operand, ast.BinOp) and isinstance(node.operand.op, ast.Add | ast.Sub):
            inner = node.operand
            yield (
                1.8,
                "precedence",
                "minus for the first term alone",
                ast.BinOp(ast.UnaryOp(ast.USub(), inner.left), inner.op, inner.right),
            )
    elif isinstance(node, ast.Call):
        yield from _call(node)
    elif isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
        yield 1.1, "transposed", f"`{ast.unparse(node.value)}` not transposed", node.value
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for op in (ast.Gt, ast.GtE, ast.Lt, ast.LtE, ast.Eq, ast.NotEq):
            if not isinstance(node.ops[0], op):
                yield (
                    1.5,
                    "operator",
                    f"another comparison in `{ast.unparse(node)}`",
                    ast.Compare(node.left, [op()], node.comparators),
                )
    elif isinstance(node, ast.Tuple) and in_index and len(node.elts) == 2:
        yield 1.3, "wrong-index", "indices the other way round", ast.Tuple(list(reversed(node.elts)), ast.Load())
    elif isinstance(node, ast.Slice):
        yield from _slice(node)
    if isinstance(node, ast.BinOp | ast.UnaryOp) and not in_index and _holds_tensor(node, names) and 1 < len(path) <= 3:
        term = node.operand if isinstance(node, ast.UnaryOp) else node
        for sign in (ast.Sub(), ast.Add()):
            what = f"`1 {'-' if isinstance(sign, ast.Sub) else '+'} {_short(term)}`"
            yield 1.9, "constant", what, ast.BinOp(ast.Constant(1.0), sign, term)
    plain = not isinstance(node, ast.Slice | ast.Tuple | ast.Constant | ast.List | ast.keyword | ast.Starred)
    if plain and not in_index and not _is_callee(path):
        if not isinstance(node, ast.UnaryOp):
            cost = 1.0 if len(path) == 1 else 1.4 + 0.1 * len(path)
            yield cost, "sign", f"minus before `{_short(node)}`", ast.UnaryOp(ast.USub(), node)
        yield from _whole(node, names, path)


def _is_callee(path: Path) -> bool:
    return bool(path) and path[-1][0] == "func"


def _short(node: ast.AST) -> str:
    text = ast.unparse(node).replace(OWN, "it")
    return text if len(text) < 40 else text[:37] + "..."


def _whole(node: ast.expr, names: Names, path: Path) -> Iterator[Change]:
    """Yield changes around an expression: a sum, a factor, a transpose."""
    reduced = len(path) == 3 and [name for name, _ in path[-2:]] == ["func", "value"]
    top = len(path) == 1 or reduced or (len(path) <= 3 and path[-1][0] in ("left", "right", "operand"))
    if not top or not _holds_tensor(node, names):
        return
    extra = 0.25 * (len(path) - 1)
    for dim in ("0", "1", "-1", "2", "(0, 1)"):
        for keep in (", keepdim=True", ""):
            yield 1.15 + extra, "missing-sum", f"`.sum({dim}{keep})`", _method(node, "sum", f"{dim}{keep}")
    yield 1.3 + extra, "missing-sum", "`.sum()`", _method(node, "sum", "")
    if len(path) == 1:
        yield 1.2, "transposed", "transposed", ast.Attribute(node, "T", ast.Load())
    for name in names.integers:
        for text, op in ((name, ast.Div), (name, ast.Mult), (f"({name} - 1)", ast.Div), (f"({name} - 1)", ast.Mult)):
            sign = "/" if op is ast.Div else "*"
            yield 1.7 + extra, "scale", f"`{sign} {text}`", ast.BinOp(node, op(), _code(text))
        for text in (f"{name} / ({name} - 1)", f"({name} - 1) / {name}"):
            yield 1.9 + extra, "scale", f"`{text}`", ast.BinOp(_code(text), ast.Mult(), node)
    for factor in ("2", "0.5", "3"):
        yield 1.7 + extra, "scale", f"`{factor} *`", ast.BinOp(_code(factor), ast.Mult(), node)
    if len(path) == 1 or reduced:
        for name in names.shapes:
            if name not in names.gradients:
                for text in (f"(1 - {name}**2)", f"-{name}**-2", f"{name} * (1 - {name})", f"({name} > 0)"):
                    yield 2.3, "missing-factor", f"`* {text}`", ast.BinOp(node, ast.Mult(), _code(f"({text})"))
    if len(path) <= 2 or reduced:
        for name in names.shapes:
            kind = "missing-factor"
            yield 1.6 + extra, kind, f"`* {name}`", ast.BinOp(node, ast.Mult(), _code(name))
            if name not in names.gradients:
                yield 1.9 + extra, kind, f"`/ {name}`", ast.BinOp(node, ast.Div(), _code(name))
                yield 2.0 + extra, kind, f"`* {name}**2`", ast.BinOp(node, ast.Mult(), _code(f"{name}**2"))
                yield 2.1 + extra, kind, f"`* {name}.exp()`", ast.BinOp(node, ast.Mult(), _code(f"{name}.exp()"))


def _method(node: ast.expr, name: str, arguments: str) -> ast.expr:
    call = _code(f"_.{name}({arguments})")
    assert isinstance(call, ast.Call)
    assert isinstance(call.func, ast.Attribute)
    call.func.value = node
    return call


def _holds_tensor(node: ast.expr, names: Names) -> bool:
    return any(isinstance(n, ast.Name) and (n.id in names.shapes or n.id == OWN) for n in ast.walk(node))


def _constant(node: ast.Constant, names: Names, in_index: bool) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield 1.1, "shape", f"{not value} for {value}", ast.Constant(not value)
        return
    if not isinstance(value, int | float):
        return
    others = {-value, value + 1, value - 1, 2 * value, value / 2, value + 0.5, value - 0.5, value + 2, value - 2}
    if isinstance(value, float) and value > 0:
        power = math.log10(value)
        if abs(power - round(power)) < 1e-9:
            others |= {10.0 ** -round(power), value * 10, value / 10}
        others |= {1 / value, value**2, math.sqrt(value)}
    kind = "wrong-index" if in_index else "constant"
    for other in sorted(others - {value}, key=lambda o: (abs(o - value), o)):
        new = int(other) if isinstance(value, int) and other == int(other) else other
        if in_index and not isinstance(new, int):
            continue
        yield 1.0, kind, f"{new} for {value}", ast.Constant(new) if new >= 0 else _code(repr(new))
    for text in names.small:
        yield 1.1, kind, f"{text} for {value}", _code(text)
    if not in_index and isinstance(value, float) and 0 < abs(value) < 1e-2:
        for name in names.shapes:
            yield 2.2, kind, f"`{name} + {value}` for {value}", ast.BinOp(_code(name), ast.Add(), node)
    for name in names.integers:
        yield 1.6, kind, f"{name} for {value}", _code(name)


def _name(node: ast.Name, names: Names, in_index: bool) -> Iterator[Change]:
    name = node.id
    if name in names.integers:
        for text in (f"({name} - 1)", f"({name} + 1)"):
            yield 1.0, "wrong-index" if in_index else "scale", f"{text} for {name}", _code(text)
        for other in names.integers:
            if other != name:
                yield 1.7, "wrong-index" if in_index else "scale", f"{other} for {name}", _code(other)
    if name not in names.shapes and name != OWN:
        return
    shape = names.shapes.get(name, names.own)
    for other, its in names.shapes.items():
        if other == name:
            continue
        kin = (other in names.gradients) == (name in names.gradients)
        kind = "wrong-index" if in_index else "wrong-operand"
        if its == shape:
            yield 1.3 if kin else 2.0, kind, f"`{other}` for `{name}`", _code(other)
        elif len(its) == len(shape) or kin:
            yield 1.9 if kin else 2.3, kind, f"`{other}` for `{name}`", _code(other)
    if in_index:
        return
    if len(shape) == 2:
        yield 1.1, "transposed", f"`{name}.T` for `{name}`", _code(f"{name}.T")
    elif len(shape) > 2:
        yield 1.4, "transposed", f"`{name}` transposed", _code(f"{name}.transpose(-2, -1)")
    for text in names.small:
        yield 1.5, "constant", f"`{name} + {text}`", _code(f"({name} + {text})")
    for power in ("2", "-1", "-2", "3", "0.5"):
        yield 1.8, "constant", f"`{name}**{power}`", _code(f"{name}**{power}")


def _operation(node: ast.BinOp) -> Iterator[Change]:
    left, op, right = node.left, node.op, node.right
    swaps: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
        ast.Mult: (ast.Div, ast.Add, ast.Sub, ast.MatMult, ast.Pow),
        ast.Div: (ast.Mult, ast.Sub, ast.Add),
        ast.Add: (ast.Sub, ast.Mult, ast.Div),
        ast.Sub: (ast.Add, ast.Mult, ast.Div),
        ast.MatMult: (ast.Mult,),
        ast.Pow: (ast.Mult,),
    }
    for i, new in enumerate(swaps.get(type(op), ())):
        signs = isinstance(op, ast.Add | ast.Sub) and new in (ast.Add, ast.Sub)
        yield (
            1.1 + 0.3 * i,
            "sign" if signs else "operator",
            f"another operator in `{_short(node)}`",
            ast.BinOp(left, new(), right),
        )
    if isinstance(op, ast.MatMult):
        yield 1.2, "transposed", "factors of @ the other way round", ast.BinOp(right, op, left)
        yield 1.4, "transposed", "both factors transposed", ast.BinOp(_t(left), op, _t(right))
        yield 1.5, "transposed", "swapped and transposed", ast.BinOp(_t(right), op, _t(left))
        yield 1.6, "transposed", "swapped and one transposed", ast.BinOp(_t(right), op, left)
        yield 1.6, "transposed", "swapped and one transposed", ast.BinOp(right, op, _t(left))
    for operand in (right, left):
        if (
            isinstance(operand, ast.Call)
            and isinstance(operand.func, ast.Attribute)
            and operand.func.attr in REDUCTIONS
        ):
            inner = operand.func.value
            moved = copied(operand)
            moved.func.value = ast.BinOp(left, op, inner) if operand is right else ast.BinOp(inner, op, right)
            yield 1.2, "precedence", f"`.{operand.func.attr}(...)` of the whole", moved
    if isinstance(op, ast.Sub | ast.Div):
        yield (
            1.2,
            "sign" if isinstance(op, ast.Sub) else "operator",
            f"`{_short(node)}` the other way round",
            ast.BinOp(right, op, left),
        )
    if isinstance(op, ast.Mult | ast.Div):
        yield 1.5, "extra-factor", f"without `{_short(right)}`", left
        if isinstance(op, ast.Mult):
            yield 1.5, "extra-factor", f"without `{_short(left)}`", right
        else:
            yield 1.7, "extra-factor", f"without `{_short(left)}`", ast.BinOp(_code("1.0"), ast.Div(), right)
    if isinstance(op, ast.Pow):
        yield 1.5, "extra-factor", f"without the power of `{_short(left)}`", left
        if isinstance(left, ast.BinOp):
            inner = left
            yield (
                1.6,
                "precedence",
                "the power of the second operand alone",
                ast.BinOp(inner.left, inner.op, ast.BinOp(inner.right, op, right)),
            )
    if isinstance(op, ast.Add | ast.Sub):
        yield 1.7, "extra-factor", f"without `{_short(right)}`", left
        yield (
            1.7,
            "extra-factor",
            f"without `{_short(left)}`",
            right if isinstance(op, ast.Add) else ast.UnaryOp(ast.USub(), right),
        )
    yield from _regroup(node)


def _t(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Attribute) and node.attr == "T":
        return node.value
    return ast.Attribute(node, "T", ast.Load())


def _regroup(node: ast.BinOp) -> Iterator[Change]:
    """Yield the same operands with other parentheses."""
    left, op, right = node.left, node.op, node.right
    if isinstance(left, ast.BinOp):
        yield (
            1.5,
            "precedence",
            f"other parentheses in `{_short(node)}`",
            ast.BinOp(left.left, left.op, ast.BinOp(left.right, op, right)),
        )
        inner = left.right
        if isinstance(inner, ast.BinOp):  # a - b * c - d
            deep = ast.BinOp(inner.left, inner.op, ast.BinOp(inner.right, op, right))
            yield (
                1.6,
                "precedence",
                f"other parentheses in `{_short(node)}`",
                ast.BinOp(left.left, left.op, deep),
            )
    if isinstance(right, ast.BinOp):
        yield (
            1.5,
            "precedence",
            f"other parentheses in `{_short(node)}`",
            ast.BinOp(ast.BinOp(left, op, right.left), right.op, right.right),
        )
    if isinstance(left, ast.UnaryOp) and isinstance(left.op, ast.USub):
        yield 1.9, "precedence", "the minus for the whole", ast.UnaryOp(ast.USub(), ast.BinOp(left.operand, op, right))


REDUCTIONS = ("sum", "mean")
OPPOSITES: dict[str, tuple[str, ...]] = {
    "sum": ("mean",),
    "mean": ("sum",),
    "exp": ("log",),
    "log": ("exp",),
    "zeros_like": ("ones_like",),
    "ones_like": ("zeros_like",),
    "max": ("min",),
    "min": ("max",),
    "argmax": ("argmin",),
    "argmin": ("argmax",),
    "tanh": ("sigmoid",),
    "sigmoid": ("tanh",),
    "sin": ("cos",),
    "cos": ("sin",),
    "sqrt": ("rsqrt", "square"),
    "rsqrt": ("sqrt",),
    "tril": ("triu",),
    "triu": ("tril",),
    "softmax": ("log_softmax",),
    "log_softmax": ("softmax",),
    "abs": ("sign",),
    "sign": ("abs",),
}


def _call(node: ast.Call) -> Iterator[Change]:
    func = node.func
    name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
    is_method = isinstance(func, ast.Attribute) and not (
        isinstance(func.value, ast.Name) and func.value.id in ("torch", "F")
    )
    if name in REDUCTIONS:
        yield from _reduction(node, is_method)
    for other in OPPOSITES.get(name, ()):
        new = copied(node)
        if isinstance(new.func, ast.Attribute):
            new.func.attr = other
        else:
            new.func.id = other
        kind = "scale" if name in REDUCTIONS else "operator"
        yield 1.2, kind, f"`{other}` for `{name}`", new
    if name in ("range", "arange") and len(node.args) == 3:
        last = node.args[0]  # of `n - 1, -1, -1`
        plus = isinstance(last, ast.BinOp) and isinstance(last.op, ast.Sub) and ast.unparse(last.right) == "1"
        count = last.left if plus and isinstance(last, ast.BinOp) else ast.BinOp(last, ast.Add(), ast.Constant(1))
        yield 1.3, "wrong-index", "the other direction", ast.Call(func, [count], node.keywords)
    if is_method and isinstance(func, ast.Attribute) and name not in ("view", "reshape"):
        kind = (
            "over-summed"
            if name in REDUCTIONS
            else "transposed"
            if name in ("t", "transpose", "permute")
            else "operator"
        )
        yield 1.3, kind, f"without `.{name}(...)`", func.value
    elif name in ("exp", "log", "tanh", "sqrt", "abs", "sign", "sum", "mean") and node.args:
        yield 1.3, "over-summed" if name in REDUCTIONS else "operator", f"without `{name}(...)`", node.args[0]


def _reduction(node: ast.Call, is_method: bool) -> Iterator[Change]:
    first = 0 if is_method else 1
    keeps = any(k.arg == "keepdim" for k in node.keywords)
    dims = node.args[first:] or [k.value for k in node.keywords if k.arg in ("dim", "axis")]
    written = ast.unparse(dims[0]) if dims else "all dims"
    for dim in ("0", "1", "-1", "2", "-2", "(0, 1)", "(0, 2)", "(1, 2)"):
        if dim == written:
            continue
        for keep in (keeps, not keeps):
            new = copied(node)
            new.args = [*node.args[:first], _code(dim)]
            new.keywords = [ast.keyword("keepdim", ast.Constant(True))] if keep else []
            kind = "wrong-axis" if dims else "over-summed"
            yield (1.0 if keep == keeps else 1.2), kind, f"over dim {dim}, not {written}", new
    if dims:
        new = copied(node)
        new.keywords = [k for k in new.keywords if k.arg != "keepdim"]
        if not keeps:
            new.keywords.append(ast.keyword("keepdim", ast.Constant(True)))
        yield 1.0, "shape", "`keepdim=True`" if not keeps else "without `keepdim=True`", new
        bare = copied(node)
        bare.args, bare.keywords = node.args[:first], []
        yield 1.4, "wrong-axis", f"over all dims, not {written}", bare


def _slice(node: ast.Slice) -> Iterator[Change]:
    for field in ("lower", "upper"):
        bound = getattr(node, field)
        if bound is None:
            continue
        for text in (f"({ast.unparse(bound)}) + 1", f"({ast.unparse(bound)}) - 1"):
            new = copied(node)
            setattr(new, field, _code(text))
            yield 1.4, "wrong-index", f"{text} for {ast.unparse(bound)}", new
        new = copied(node)
        setattr(new, field, None)
        yield 1.4, "wrong-index", f"no {field} bound", new


def _statement_changes(node: ast.stmt) -> Iterator[Change]:
    if isinstance(node, ast.AugAssign):
        if isinstance(node.op, ast.Add | ast.Sub):
            other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            yield (
                1.0,
                "sign",
                "`-=` for `+=`" if isinstance(node.op, ast.Add) else "`+=` for `-=`",
                ast.AugAssign(node.target, other, node.value),
            )
        for operator in (ast.Mult, ast.Div, ast.Add):
            if not isinstance(node.op, operator):
                changed = ast.AugAssign(node.target, operator(), node.value)
                yield 1.4, "operator", "another operator before `=`", changed
        target = _loaded(node.target)
        if isinstance(node.target, ast.Subscript):
            index = node.target.slice
            indices = index if isinstance(index, ast.Tuple) else ast.Tuple([index], ast.Load())
            for values in (node.value, ast.UnaryOp(ast.USub(), node.value)):
                call = ast.Call(
                    ast.Attribute(_loaded(node.target.value), "index_put_", ast.Load()),
                    [ast.Call(ast.Name("tuple", ast.Load()), [ast.List(list(indices.elts), ast.Load())], []), values],
                    [ast.keyword("accumulate", ast.Constant(True))],
                )
                yield 0.9, "lost-accumulation", "`index_put_(..., accumulate=True)`", ast.Expr(call)
        yield 1.6, "overwritten", "`=`", ast.Assign([node.target], node.value) if target else node
    elif isinstance(node, ast.Assign) and len(node.targets) == 1:
        for op, kind in ((ast.Add, "overwritten"), (ast.Sub, "overwritten")):
            yield (
                1.1,
                kind,
                "`+=` for `=`" if op is ast.Add else "`-=` for `=`",
                ast.AugAssign(node.targets[0], op(), node.value),  # type: ignore[arg-type]
            )
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        call = node.value
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("index_put_", "scatter_", "index_copy_"):
            if call.func.attr == "index_put_":
                new = copied(call)
                new.keywords = [ast.keyword("accumulate", ast.Constant(True))]
                yield 0.9, "lost-accumulation", "`accumulate=True`", ast.Expr(new)
            else:
                new = copied(call)
                new.func.attr = {"scatter_": "scatter_add_", "index_copy_": "index_add_"}[call.func.attr]
                yield 0.9, "lost-accumulation", f"`{new.func.attr}`", ast.Expr(new)


def _loaded(node: ast.expr) -> Any:
    new = copied(node)
    for inner in ast.walk(new):
        if isinstance(inner, ast.Name | ast.Attribute | ast.Subscript) and inner is new:
            inner.ctx = ast.Load()
    return new
