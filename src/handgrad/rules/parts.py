"""Parts of a tensor, and tensors with a border: select, narrow, diagonals, triangles, masks, padding, windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handgrad.expr import Expr, call, expand, index, index_key, rearranged, scatter, total
from handgrad.rules.joins import PICKED, at
from handgrad.rules.makers import boolean
from handgrad.rules.table import Terms, rule, sample, to

Numbers = int | Sequence[int]


@rule("select", samples=[sample("x.select(0, 1) * 2", x=(3, 5)), sample("torch.select(x, -1, -2) * 2", x=(2, 3, 5)),
                         sample("x.select(dim=1, index=0) * 2", x=(3, 5))])  # fmt: skip
def select(g: Expr, y: Expr, x: Expr, dim: int, index: int) -> Terms:
    yield to(x, scatter(g, at(dim, index, len(x.shape)), x.shape, accumulate=False), PICKED)


@rule(
    "narrow",
    samples=[
        sample("x.narrow(1, 1, 3) * 2", x=(3, 5)),
        sample("torch.narrow(x, -1, 2, 3) * 2", x=(2, 3, 5)),
        sample("x.narrow(0, -2, 2) * 2", x=(3, 5)),
        sample("x.narrow(0, 1, 0) * 2", x=(3, 5)),
    ],
)
def narrow(g: Expr, y: Expr, x: Expr, dim: int, start: int, length: int) -> Terms:
    first = start % x.shape[dim] if start < 0 else start
    piece = slice(first or None, None if first + length == x.shape[dim] else first + length)
    yield to(x, scatter(g, at(dim, piece, len(x.shape)), x.shape, accumulate=False), PICKED)


# -- diagonals and triangles


def _on_diagonal(g: Expr, x: Expr, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Expr:
    """Return zeros like ``x`` with ``g`` on a diagonal."""
    if len(x.shape) == 2 and x.shape[0] == x.shape[1] and {dim1 % 2, dim2 % 2} == {0, 1}:
        return g.method("diag", *[offset if dim1 % 2 == 0 else -offset] * bool(offset), shape=x.shape)
    zeros = call("torch.zeros_like", x, shape=x.shape)
    plain = (offset, dim1, dim2) if (dim1, dim2) != (0, 1) else (offset,) if offset else ()
    return zeros.method("diagonal_scatter", g, *plain, shape=x.shape)


def _diagonal(g: Expr, shape: tuple[int, ...], *place: int) -> Expr:
    plain = place if place[1:] not in ((), (0, 1)) else place[:1] if place[0] else ()
    return rearranged(g, "diagonal", *plain, shape=shape)


@rule(
    "diagonal",
    samples=[
        sample("x.diagonal() * 2", x=(5, 5)),
        sample("x.diagonal(1) * 2", x=(4, 4)),
        sample("torch.diagonal(x, -1) * 2", x=(3, 5)),
        sample("x.diagonal(0, -2, -1) * 2", x=(2, 3, 5)),
        sample("x.diagonal(offset=1, dim1=1, dim2=0).sum()", x=(3, 4)),
        sample("x.diagonal(1, 1, 0) * 2", x=(4, 4)),
    ],
)
def diagonal(g: Expr, y: Expr, x: Expr, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Terms:
    yield to(x, _on_diagonal(g, x, offset, dim1, dim2), "the diagonal gets its gradient, the others none")


@rule(
    "diag",
    samples=[
        sample("torch.diag(x) * w", x=(4,), w=(4, 4)),
        sample("x.diag(-1) * w", x=(3,), w=(4, 4)),
        sample("torch.diag(x) * 2", x=(4, 4)),
        sample("x.diag(diagonal=1) * 2", x=(3, 5)),
    ],
)
def diag(g: Expr, y: Expr, x: Expr, diagonal: int = 0) -> Terms:
    if len(x.shape) == 1:
        yield to(x, _diagonal(g, x.shape, diagonal), "a vector on the diagonal: the diagonal of the gradient")
    else:
        yield to(x, _on_diagonal(g, x, diagonal), "the diagonal gets its gradient, the others none")


@rule(
    "diag_embed",
    samples=[
        sample("torch.diag_embed(x) * w", x=(2, 3), w=(2, 3, 3)),
        sample("x.diag_embed(1, 0, 2) * w", x=(2, 3), w=(4, 2, 4)),
    ],
)
def diag_embed(g: Expr, y: Expr, x: Expr, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Terms:
    yield to(x, _diagonal(g, x.shape, offset, dim1, dim2), "a vector on the diagonal: the diagonal of the gradient")


@rule("trace", samples=[sample("x.trace() * 2", x=(4, 4)), sample("torch.trace(x)", x=(3, 5)),
                        sample("x.trace() * w.trace()", x=(2, 2), w=(3, 3))])  # fmt: skip
def trace(g: Expr, y: Expr, x: Expr) -> Terms:
    shortest = min(x.shape)
    yield to(x, _on_diagonal(expand(g, (shortest,)), x), "a sum over the diagonal: each number on it gets the gradient")


@rule("tril", samples=[sample("x.tril() * w", x=(3, 5), w=(3, 5)),
                               sample("torch.tril(x, diagonal=-1) * w", x=(2, 4, 4), w=(4, 4)),
                               sample("x.tril(1).sum()", x=(3, 5))])  # fmt: skip
def tril(g: Expr, y: Expr, x: Expr, diagonal: int = 0) -> Terms:
    yield to(x, g.method("tril", *[diagonal] * bool(diagonal)), "zero above the diagonal, and so is the gradient")


@rule("triu", samples=[sample("x.triu() * w", x=(3, 5), w=(3, 5)),
                       sample("torch.triu(x, 1) * w", x=(2, 4, 4), w=(4, 4))])  # fmt: skip
def triu(g: Expr, y: Expr, x: Expr, diagonal: int = 0) -> Terms:
    yield to(x, g.method("triu", *[diagonal] * bool(diagonal)), "zero below the diagonal, and so is the gradient")


@rule("fill_diagonal", samples=[sample("y * w", before="y = x * 1; y.fill_diagonal_(0)", x=(3, 5), w=(3, 5))])
def fill_diagonal(g: Expr, y: Expr, x: Expr, fill_value: float, wrap: bool = False) -> Terms:
    yield to(x, g.method("clone").method("fill_diagonal_", 0, *[True] * wrap), "what was overwritten gets no gradient")


# -- masks


@rule(
    "masked_fill",
    samples=[
        sample("x.masked_fill(m, 0.5) * w", x=(3, 5), m=boolean(3, 5), w=(3, 5)),
        sample("torch.masked_fill(x, m, float('-inf')).softmax(1)", kink=True, x=(3, 5), m=boolean(3, 5)),
        sample("x.masked_fill(m, v) * w", x=(3, 5), m=boolean(5), v=(), w=(3, 5)),
        sample("x.masked_fill(m == 0, value=2) * w", x=(4, 3, 5), m=boolean(3, 5), w=(3, 5)),
        sample("x.masked_fill(m, 0.0) * w", x=(5,), m=boolean(3, 5), w=(3, 5)),
    ],
)
def masked_fill(g: Expr, y: Expr, x: Expr, mask: Expr, value: Expr) -> Terms:
    yield to(x, g.method("masked_fill", mask, 0), "what was filled gets no gradient")
    if value.op != "number":
        yield to(value, g.method("masked_fill", ~mask, 0), "it stands wherever the mask is true")


# -- borders


@rule(
    "pad",
    samples=[
        sample("F.pad(x, (1, 2)) * w", x=(3, 5), w=(3, 8)),
        sample("F.pad(x, (0, 1, 2, 0), value=3.0) * w", x=(3, 5), w=(5, 6)),
        sample("F.pad(x, [1, 1], 'constant', 0) * w", x=(2, 3, 5), w=(2, 3, 7)),
        sample("F.pad(x, (-1, 2)) * w", x=(3, 5), w=(3, 6)),
        sample("F.pad(x, (2, 1), mode='circular') * w", x=(2, 3, 5), w=(2, 3, 8)),
        sample("F.pad(x, (2, 1), mode='reflect') * w", x=(2, 3, 5), w=(2, 3, 8)),
        sample("F.pad(x, (2, 1), mode='replicate') * w", x=(3, 5), w=(3, 8)),
        sample("F.pad(x, (0, 0)) * 2", x=(3, 5)),
    ],
)
def pad(g: Expr, y: Expr, x: Expr, pad: Sequence[int], mode: str = "constant", value: object = None) -> Terms:
    if mode == "constant" and min(pad) < 0:
        yield to(x, call("F.pad", g, tuple(-size for size in pad), shape=x.shape), "a border is cut off again")
    elif mode == "constant":
        sides: list[Any] = [slice(None)] * len(x.shape)
        for i in range(0, len(pad), 2):
            sides[len(x.shape) - 1 - i // 2] = slice(pad[i] or None, -pad[i + 1] or None)
        while sides and sides[-1] == slice(None):
            sides.pop()
        lead = 0
        while lead < len(sides) and sides[lead] == slice(None):
            lead += 1
        if lead > 1 and len(sides) == len(x.shape):
            sides = [Ellipsis, *sides[lead:]]
        yield to(x, index(g, index_key(sides), x.shape) if sides else g, "a border is cut off again")
    elif len(pad) == 2:
        yield from _own_border(g, x, pad[0], pad[1], mode)
    else:
        raise NotImplementedError(f"`{mode}` along several dimensions: pad one after the other, or index")


def _own_border(g: Expr, x: Expr, left: int, right: int, mode: str) -> Terms:
    """Give what a border of the tensor's own numbers got back to them."""
    dims, size = len(x.shape), x.shape[-1]
    if min(left, right) < 0:
        raise NotImplementedError(f"`{mode}` with a negative size: cut off with a slice")

    def piece(start: int | None, stop: int | None, width: int) -> Expr:
        return index(g, at(-1, slice(start, stop), dims), (*x.shape[:-1], width))

    yield to(x, piece(left or None, -right or None, size), "the inside")
    for is_left, width in ((True, left), (False, right)):
        if not width:
            continue
        part = piece(None, left, left) if is_left else piece(-right, None, right)
        if mode == "circular":
            place = slice(-width, None) if is_left else slice(None, width)
        elif mode == "reflect":
            place = slice(1, width + 1) if is_left else slice(-width - 1, -1)
            part = rearranged(part, "flip", -1, shape=part.shape)
        else:
            place = slice(None, 1) if is_left else slice(-1, None)
            part = total(part, (-1,), keepdim=True)
        yield to(x, scatter(part, at(-1, place, dims), x.shape, accumulate=False), f"the border ({mode}) is x again")


# -- windows


def _pair(item: Numbers) -> tuple[int, int]:
    return (item, item) if isinstance(item, int) else (item[0], item[-1])


@rule(
    "unfold",
    samples=[
        sample("x.unfold(0, 3, 1) * w", x=(7,), w=(5, 3)),
        sample("x.unfold(1, 2, 2) * w", x=(3, 7), w=(3, 3, 2)),
        sample("x.unfold(0, 2, 3) * w", x=(7, 4), w=(2, 4, 2)),
        sample("x.unfold(dimension=-2, size=3, step=2) * w", x=(3, 7, 2), w=(3, 3, 2, 3)),
        sample("F.unfold(x, 2) * w", x=(2, 3, 4, 5), w=(2, 12, 12)),
        sample("F.unfold(x, (2, 3), padding=1, stride=(2, 1)) * w", x=(2, 3, 4, 5), w=(2, 18, 15)),
        sample("F.unfold(x, kernel_size=2, dilation=2) * w", x=(1, 2, 5, 4), w=(1, 8, 6)),
    ],
)
def unfold(g: Expr, y: Expr, x: Expr, a: Numbers = 0, b: Numbers = 1, c: Numbers = 0, stride: Numbers = 1, *,
           dimension: int | None = None, size: int | None = None, step: int | None = None,
           kernel_size: Numbers | None = None, dilation: Numbers = 1, padding: Numbers = 0) -> Terms:  # fmt: skip
    why = "a number in several windows adds up"
    if len(y.shape) != len(x.shape) + 1:  # F.unfold
        a, b, c = a if kernel_size is None else kernel_size, b if dilation == 1 else dilation, padding or c
        more = {"dilation": b, "padding": c, "stride": stride}
        given = {key: item for key, item in more.items() if _pair(item) != ((0, 0) if key == "padding" else (1, 1))}
        yield to(x, call("F.fold", g, x.shape[-2:], a, shape=x.shape, **given), why)
        return
    dim = (a if dimension is None else dimension) % len(x.shape)  # type: ignore[operator]
    size, step = y.shape[-1], c if step is None else step  # type: ignore[assignment]
    flat = g if dim == len(x.shape) - 1 else rearranged(g, "movedim", -1, dim + 1, shape=(
        *x.shape[:dim], y.shape[dim], size, *x.shape[dim + 1 :]))  # fmt: skip
    flat = rearranged(flat, "flatten", dim, dim + 1, shape=(*x.shape[:dim], y.shape[dim] * size, *x.shape[dim + 1 :]))
    places = call("torch.arange", x.shape[dim], shape=(x.shape[dim],))
    places = places.method("unfold", 0, size, step, shape=(y.shape[dim], size))
    zeros = call("torch.zeros_like", x, shape=x.shape)
    yield to(x, zeros.method("index_add", dim, places.method("flatten", shape=(y.shape[dim] * size,)), flat), why)


@rule(
    "fold",
    samples=[
        sample("F.fold(x, (4, 5), 2) * w", x=(2, 12, 12), w=(2, 3, 4, 5)),
        sample("F.fold(x, output_size=4, kernel_size=(2, 3), padding=1, stride=2) * w", x=(1, 12, 6), w=(1, 2, 4, 4)),
    ],
)
def fold(g: Expr, y: Expr, x: Expr, output_size: Numbers, kernel_size: Numbers, dilation: Numbers = 1,
         padding: Numbers = 0, stride: Numbers = 1) -> Terms:  # fmt: skip
    more = {"dilation": dilation, "padding": padding, "stride": stride}
    given = {key: item for key, item in more.items() if _pair(item) != ((0, 0) if key == "padding" else (1, 1))}
    yield to(x, call("F.unfold", g, kernel_size, shape=x.shape, **given), "windows that were added up: unfold again")
