"""Products of matrices."""

from __future__ import annotations

from handgrad.expr import Expr, reshape, transposed, unsqueeze
from handgrad.rules.table import Terms, rule, sample, to

WHY = "a matrix product: times the other matrix, transposed"


@rule(
    "matmul",
    "mm",
    "bmm",
    "mv",
    "dot",
    samples=[
        sample("a @ b", a=(3, 5), b=(5, 2)),
        sample("a @ b", a=(4, 3, 5), b=(4, 5, 2)),
        sample("a @ b", a=(4, 3, 5), b=(5, 2)),
        sample("a @ b", a=(3, 5), b=(4, 5, 2)),
        sample("a @ b", a=(2, 1, 3, 5), b=(4, 5, 2)),
        sample("a @ b", a=(3, 5), b=(5,)),
        sample("a @ b", a=(5,), b=(5, 2)),
        sample("a @ b", a=(5,), b=(5,)),
        sample("a @ b", a=(4, 3, 5), b=(5,)),
        sample("a @ b", a=(5,), b=(4, 5, 2)),
        sample("torch.bmm(a, b)", a=(4, 3, 5), b=(4, 5, 2)),
        sample("torch.mm(a, b)", a=(3, 5), b=(5, 2)),
        sample("a.mv(b)", a=(3, 5), b=(5,)),
        sample("a.dot(b)", a=(5,), b=(5,)),
    ],
)
def mm(g: Expr, y: Expr, a: Expr, b: Expr) -> Terms:
    if len(a.shape) == 1 and len(b.shape) == 1:
        yield to(a, b * g, "a dot product: times the other vector")
        yield to(b, a * g, "a dot product: times the other vector")
    elif len(b.shape) == 1:
        outer = unsqueeze(g, len(g.shape))
        yield to(a, outer * b, "a matrix times a vector: the outer product")
        flat, rows = _flat(a), reshape(g, (_count(g.shape),)) if len(g.shape) > 1 else g
        yield to(b, Expr("matmul", (transposed(flat), rows), b.shape), WHY)
    elif len(a.shape) == 1:
        row = unsqueeze(g, len(g.shape) - 1)
        vector = b @ unsqueeze(g, len(g.shape)) if len(b.shape) > 2 else Expr("matmul", (b, g), a.shape)
        yield to(a, reshape(vector, vector.shape[:-1]) if len(b.shape) > 2 else vector, WHY)
        yield to(b, reshape(a, (*a.shape, 1)) * row, "a vector times a matrix: the outer product")
    else:
        yield to(a, g @ b.T, WHY)
        if len(b.shape) == 2 and len(a.shape) > 2:
            yield to(b, transposed(_flat(a)) @ _flat(g), f"{WHY}; rows of all batches together")
        else:
            yield to(b, a.T @ g, WHY)


def _count(sizes: tuple[int, ...]) -> int:
    count = 1
    for size in sizes:
        count *= size
    return count


def _flat(x: Expr) -> Expr:
    """Return ``x`` as a matrix of rows."""
    if len(x.shape) <= 2:
        return x
    return x.method("reshape", -1, x.shape[-1], shape=(_count(x.shape[:-1]), x.shape[-1]))
