"""Other functions and methods, other dims of a sum."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from handgrad.diagnosis.edits.edit import Change, code
from handgrad.diagnosis.edits.operators import REDUCTIONS
from handgrad.diagnosis.rewriting import copied

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


def call_changes(node: ast.Call) -> Iterator[Change]:
    """Yield other functions, and the argument without the function."""
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
            new.args = [*node.args[:first], code(dim)]
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
