"""Products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handgrad.expr import Expr, call, let, number, reshape, total, transposed, unsqueeze
from handgrad.rules.table import Terms, rule, sample, to

ONE = number(1)
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


def vector(a: Expr, b: Expr) -> Expr:
    """Return ``a @ b``, one of which is a vector, the other a matrix."""
    return Expr("matmul", (a, b), (*a.shape[:-1], *b.shape[1:]))


@rule(
    "linear",
    samples=[
        sample("F.linear(x, W, b)", x=(3, 5), W=(2, 5), b=(2,)),
        sample("F.linear(x, W)", x=(4, 3, 5), W=(2, 5)),
        sample("F.linear(x, W, bias=b) * 2", x=(2, 4, 3, 5), W=(7, 5), b=(7,)),
        sample("F.linear(x, W, b)", x=(5,), W=(2, 5), b=(2,)),
        sample("F.linear(x, W, b).sum()", x=(3, 5), W=(2, 5), b=(2,)),
        sample("F.linear(x, W)", x=(0, 5), W=(2, 5)),
    ],
)
def linear(g: Expr, y: Expr, x: Expr, weight: Expr, bias: Expr | None = None) -> Terms:
    if len(weight.shape) != 2:
        raise NotImplementedError("F.linear with a vector for its weight: write x @ w")
    yield to(x, g @ weight if len(x.shape) > 1 else vector(g, weight), "x @ W.T: times the weight")
    if len(x.shape) > 1:
        why = "x @ W.T: the gradient, transposed, times x" + "; rows of all batches together" * (len(x.shape) > 2)
        yield to(weight, transposed(_flat(g)) @ _flat(x), why)
    else:
        yield to(weight, unsqueeze(g, 1) * x, "a matrix times a vector: the outer product")
    if bias is not None:
        yield to(bias, g, "a sum passes the gradient on")


@rule(
    "addmm",
    "addmv",
    "baddbmm",
    "addr",
    samples=[
        sample("torch.addmm(c, a, b)", c=(2,), a=(3, 5), b=(5, 2)),
        sample("torch.addmm(c, a, b, beta=0.5, alpha=3)", c=(3, 2), a=(3, 5), b=(5, 2)),
        sample("c.addmv(a, b, alpha=-1)", c=(3,), a=(3, 5), b=(5,)),
        sample("torch.baddbmm(c, a, b, alpha=2)", c=(4, 1, 2), a=(4, 3, 5), b=(4, 5, 2)),
        sample("torch.addr(c, a, b, beta=2)", c=(3, 5), a=(3,), b=(5,)),
        sample("y * 2", before="y = c.clone(); y.addmm_(a, b)", c=(3, 2), a=(3, 5), b=(5, 2)),
    ],
)
def addmm(g: Expr, y: Expr, c: Expr, a: Expr, b: Expr, beta: Expr = ONE, alpha: Expr = ONE) -> Terms:
    yield to(c, beta * g, "a sum passes the gradient on")
    g = alpha * g
    if len(a.shape) == 1:
        yield from _outer(g, a, b)
    elif len(b.shape) == 1:
        yield to(a, unsqueeze(g, 1) * b, "a matrix times a vector: the outer product")
        yield to(b, vector(a.T, g), WHY)
    else:
        yield to(a, g @ b.T, WHY)
        yield to(b, a.T @ g, WHY)


@rule("addbmm", samples=[sample("torch.addbmm(c, a, b, beta=2)", c=(3, 2), a=(4, 3, 5), b=(4, 5, 2))])
def addbmm(g: Expr, y: Expr, c: Expr, a: Expr, b: Expr, beta: Expr = ONE, alpha: Expr = ONE) -> Terms:
    yield to(c, beta * g, "a sum passes the gradient on")
    yield to(a, (alpha * g) @ b.T, f"a sum of matrix products; {WHY}")
    yield to(b, a.T @ (alpha * g), f"a sum of matrix products; {WHY}")


def _outer(g: Expr, a: Expr, b: Expr) -> Terms:
    yield to(a, vector(g, b), "an outer product: each number of a meets all of b")
    yield to(b, vector(g.T, a), "an outer product: each number of b meets all of a")


@rule("outer", "ger", samples=[sample("torch.outer(a, b)", a=(3,), b=(5,)), sample("a.outer(a) * 2", a=(3,)),
                               sample("torch.ger(a, b).sum()", a=(3,), b=(5,))])  # fmt: skip
def outer(g: Expr, y: Expr, a: Expr, b: Expr) -> Terms:
    yield from _outer(g, a, b)


@rule(
    "inner",
    "vdot",
    samples=[
        sample("torch.inner(a, b)", a=(5,), b=(5,)),
        sample("torch.inner(a, b)", a=(3, 5), b=(2, 5)),
        sample("torch.inner(a, b)", a=(4, 3, 5), b=(5,)),
        sample("torch.inner(a, b)", a=(4, 3, 5), b=(2, 5)),
        sample("torch.inner(a, b)", a=(), b=(3, 5)),
        sample("torch.vdot(a, b)", a=(5,), b=(5,)),
    ],
)
def inner(g: Expr, y: Expr, a: Expr, b: Expr) -> Terms:
    if not a.shape or not b.shape or len(a.shape) == len(b.shape) == 1:
        yield to(a, b * g, "a product: times the other factor")
        yield to(b, a * g, "a product: times the other factor")
        return
    if len(a.shape) == len(b.shape) == 2:
        yield to(a, g @ b, "a @ b.T: times b")
        yield to(b, g.T @ a, "a @ b.T: the gradient, transposed, times a")
        return
    last_a, last_b = [len(a.shape) - 1], [len(b.shape) - 1]
    yield from _tensordot(g, a, b, last_a, last_b)


@rule(
    "tensordot",
    samples=[
        sample("torch.tensordot(a, b, 1)", a=(3, 5), b=(5, 2)),
        sample("torch.tensordot(a, b)", a=(4, 3, 5), b=(3, 5, 2)),
        sample("torch.tensordot(a, b, dims=([0, 2], [1, 0]))", a=(4, 3, 5), b=(5, 4, 2)),
        sample("torch.tensordot(a, b, dims=([-1], [1]))", a=(4, 3, 5), b=(2, 5)),
        sample("torch.tensordot(a, b, dims=0)", a=(3,), b=(5,)),
        sample("torch.tensordot(a, b, dims=2)", a=(3, 5), b=(3, 5)),
    ],
)
def tensordot(g: Expr, y: Expr, a: Expr, b: Expr, dims: int | Sequence[Sequence[int]] = 2) -> Terms:
    if isinstance(dims, int):
        ours, theirs = list(range(len(a.shape) - dims, len(a.shape))), list(range(dims))
    else:
        ours, theirs = [d % len(a.shape) for d in dims[0]], [d % len(b.shape) for d in dims[1]]
    yield from _tensordot(g, a, b, ours, theirs)


def _tensordot(g: Expr, a: Expr, b: Expr, ours: list[int], theirs: list[int]) -> Terms:
    """Undo the sum over ``ours`` of ``a`` and ``theirs`` of ``b``, whose other dimensions stand one after the other."""
    free_a = [d for d in range(len(a.shape)) if d not in ours]
    free_b = [d for d in range(len(b.shape)) if d not in theirs]
    first, rest = list(range(len(free_a))), list(range(len(free_a), len(g.shape)))
    why = "a sum of products: times the other factor, summed over its own dims"
    for x, other, kept, free, along, back in (
        (a, b, free_a, free_b, rest, dict(zip(theirs, ours, strict=True))),
        (b, a, free_b, free_a, first, dict(zip(ours, theirs, strict=True))),
    ):
        order = [*kept, *(back[d] for d in sorted(back))]
        shape = tuple(x.shape[d] for d in order)
        if along:
            made = call("torch.tensordot", g, other, (along, free), shape=shape)
        else:
            made = g * other if not g.shape else call("torch.tensordot", g, other, 0, shape=shape)
        turned = [order.index(d) for d in range(len(order))]
        if turned != sorted(turned):
            made = made.method("permute", *turned, shape=x.shape) if len(turned) != 2 else made.T
        yield to(x, made, why)


@rule("chain_matmul", "linalg_multi_dot", samples=[
    sample("torch.linalg.multi_dot([a, b, c])", a=(3, 5), b=(5, 2), c=(2, 4)),
    sample("torch.linalg.multi_dot((a, b))", a=(3, 5), b=(5, 2)),
])  # fmt: skip
def multi_dot(g: Expr, y: Expr, *matrices: Any) -> Terms:
    given: list[Expr] = list(matrices[0]) if isinstance(matrices[0], list | tuple) else list(matrices)
    if any(len(x.shape) != 2 for x in given):
        raise NotImplementedError("multi_dot with vectors: write it with @")
    for i, x in enumerate(given):
        share = g
        for before in given[:i]:
            share = before.T @ share
        for after in reversed(given[i + 1 :]):
            share = share @ after.T
        yield to(x, share, "a product of matrices: the others transposed, on their sides")


@rule("kron", samples=[sample("torch.kron(a, b)", a=(3, 2), b=(2, 5)), sample("torch.kron(a, b)", a=(3,), b=(4,))])
def kron(g: Expr, y: Expr, a: Expr, b: Expr) -> Terms:
    if len(a.shape) != len(b.shape):
        raise NotImplementedError("kron of tensors with different numbers of dims: unsqueeze one")
    sizes = tuple(size for pair in zip(a.shape, b.shape, strict=True) for size in pair)
    blocks = let("blocks", reshape(g, sizes))
    even, odd = list(range(0, len(sizes), 2)), list(range(1, len(sizes), 2))
    for x, other, theirs in ((a, b, odd), (b, a, even)):
        spread = reshape(other, tuple(size if d in theirs else 1 for d, size in enumerate(sizes)))
        yield to(x, total(blocks * spread, theirs), "blocks of one scaled by the numbers of the other")


@rule(
    "cross",
    samples=[
        sample("torch.cross(a, b, dim=1)", a=(4, 3), b=(4, 3)),
        sample("a.cross(b, dim=0)", a=(3, 5), b=(3, 1)),
    ],
)
def cross(g: Expr, y: Expr, a: Expr, b: Expr, dim: int | None = None) -> Terms:
    if dim is None:
        raise NotImplementedError("torch.cross without `dim` takes the first of size 3: give it")
    yield from _cross(g, a, b, dim)


@rule("linalg_cross", samples=[sample("torch.linalg.cross(a, b)", a=(4, 3), b=(1, 3)),
                               sample("torch.linalg.cross(a, b, dim=0)", a=(3, 4), b=(3, 4))])  # fmt: skip
def linalg_cross(g: Expr, y: Expr, a: Expr, b: Expr, dim: int = -1) -> Terms:
    yield from _cross(g, a, b, dim)


def _cross(g: Expr, a: Expr, b: Expr, dim: int) -> Terms:
    yield to(a, call("torch.linalg.cross", b, g, shape=g.shape, dim=dim), "(a x b) . g = a . (b x g)")
    yield to(b, call("torch.linalg.cross", g, a, shape=g.shape, dim=dim), "(a x b) . g = b . (g x a)")


@rule(
    "bilinear",
    samples=[
        sample("F.bilinear(a, b, W, c)", a=(3, 5), b=(3, 2), W=(4, 5, 2), c=(4,)),
        sample("F.bilinear(a, b, W) * 2", a=(2, 3, 5), b=(2, 3, 2), W=(4, 5, 2)),
    ],
)
def bilinear(g: Expr, y: Expr, a: Expr, b: Expr, weight: Expr, bias: Expr | None = None) -> Terms:
    why = "a product of three: the other two, summed over their own dims"
    yield to(a, call("torch.einsum", "...o,...j,oij->...i", g, b, weight, shape=a.shape), why)
    yield to(b, call("torch.einsum", "...o,...i,oij->...j", g, a, weight, shape=b.shape), why)
    yield to(weight, call("torch.einsum", "...o,...i,...j->oij", g, a, b, shape=weight.shape), why)
    if bias is not None:
        yield to(bias, g, "a sum passes the gradient on")


@rule("cdist", samples=[sample("torch.cdist(a, b)", a=(3, 5), b=(4, 5)),
                        sample("torch.cdist(a, b)", a=(2, 3, 5), b=(2, 4, 5)),
                        sample("torch.cdist(a, b)", a=(2, 3, 5), b=(4, 5)),
                        sample("torch.cdist(a, b)", a=(3, 5), b=(2, 4, 5)),
                        sample("torch.cdist(a, b, p=1.0)", a=(3, 5), b=(4, 5)),
                        sample("torch.cdist(a, a.detach())", kink=True, a=(3, 2))])  # fmt: skip
def cdist(g: Expr, y: Expr, a: Expr, b: Expr, p: float = 2.0, compute_mode: object = None) -> Terms:
    if p not in (1, 2):
        raise NotImplementedError("cdist with p other than 1 and 2: write it with differences")
    dims = len(y.shape)
    apart = let("diff", unsqueeze(a, len(a.shape) - 1) - unsqueeze(b, len(b.shape) - 2))
    if p == 2:
        share = apart * unsqueeze(g / y.method("clamp_min", 1e-30), dims)
    else:
        share = apart.pointwise("torch.sign") * unsqueeze(g, dims)
    yield to(a, total(share, (dims - 1,)), "the direction away from each b")
    yield to(b, -total(share, (dims - 2,)), "the direction away from each a")
