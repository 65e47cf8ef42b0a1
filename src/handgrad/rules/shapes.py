"""Other shapes of the same numbers: views, transposes, repetitions, mirror images."""

from __future__ import annotations

from collections.abc import Sequence

from handgrad.expr import Expr, Size, call, keyword, rearranged, reshape, total
from handgrad.rules.makers import integers
from handgrad.rules.table import Terms, rule, sample, to

Dims = int | Sequence[int] | None
SAME = "another shape of the same numbers: back to the shape it had"
REPEATED = "what was repeated adds up"


@rule(
    "view",
    "reshape",
    "flatten",
    "unflatten",
    "ravel",
    "view_as",
    "reshape_as",
    samples=[
        sample("x.view(5, 3) * 2", x=(3, 5)),
        sample("x.reshape(-1) * 2", x=(3, 5)),
        sample("torch.flatten(x, 1) * 2", x=(3, 5, 2)),
        sample("x.unflatten(1, (3, 2)) * 2", x=(2, 6)),
        sample("x.view_as(y) * y", x=(3, 5), y=(5, 3)),
        sample("x.reshape(0, 7) * 2", x=(3, 0)),
    ],
)
def view(g: Expr, y: Expr, x: Expr, *_: object, sizes: object = None, shape: object = None) -> Terms:
    yield to(x, reshape(g, x.shape), SAME)


@rule(
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    samples=[
        sample("torch.atleast_2d(x) * 2", x=(3,)),
        sample("torch.atleast_3d(x) * 2", x=(3, 5)),
        sample("torch.atleast_1d(x) * 2", x=()),
    ],
)
def atleast(g: Expr, y: Expr, x: Expr, *more: object) -> Terms:
    if more or isinstance(x, list):
        raise NotImplementedError("with several tensors: give it one at a time")
    yield to(x, reshape(g, x.shape), SAME)


@rule(
    "squeeze",
    samples=[
        sample("x.squeeze() * 2", x=(3, 1, 5, 1)),
        sample("x.squeeze(1) * 2", x=(3, 1, 5)),
        sample("x.squeeze(-1) * 2", x=(3, 5, 1)),
        sample("x.squeeze(0) * 2", x=(3, 1)),
        sample("torch.squeeze(x, (0, -2)) * 2", x=(1, 3, 1, 5)),
        sample("x.squeeze() * 2", x=(1,)),
    ],
)
def squeeze(g: Expr, y: Expr, x: Expr, dim: Dims = None) -> Terms:
    if isinstance(dim, int) and y.shape != x.shape:
        back = rearranged(g, "unsqueeze", dim, shape=x.shape)
    else:
        back = reshape(g, x.shape)
    yield to(x, back, "a dimension of size 1 was dropped: back it comes")


@rule(
    "unsqueeze",
    samples=[
        sample("x.unsqueeze(0) * 2", x=(3, 5)),
        sample("torch.unsqueeze(x, -1) * 2", x=(3, 5)),
        sample("x.unsqueeze(dim=1) * 2", x=(3, 5)),
        sample("x.unsqueeze(0) * 2", x=()),
    ],
)
def unsqueeze_(g: Expr, y: Expr, x: Expr, dim: int) -> Terms:
    yield to(x, rearranged(g, "squeeze", dim, shape=x.shape), "a dimension of size 1 was added: away with it")


@rule("T", "mT", "H", "mH", "t", "adjoint", samples=[sample("x.T * 2", x=(3, 5)), sample("x.mT * 2", x=(4, 3, 5)),
                                                     sample("x.t() * 2", x=(3,))])  # fmt: skip
def T(g: Expr, y: Expr, x: Expr) -> Terms:
    if len(x.shape) < 3:
        yield to(x, g.T if len(x.shape) > 1 else g, "a transpose is undone by a transpose")
    else:
        whole = y.shape[-2:] != (x.shape[-1], x.shape[-2]) or y.shape[:-2] != x.shape[:-2]
        if whole:
            raise NotImplementedError("`.T` of more than two dimensions: write `.mT`, or permute")
        yield to(x, g.T, "a transpose is undone by a transpose")


@rule("transpose", samples=[sample("x.transpose(0, 2) * 2", x=(3, 5, 2)), sample("x.transpose(-2, -1) * 2", x=(3, 5)),
                            sample("torch.swapaxes(x, 0, -1) * 2", x=(3, 5, 2)),
                            sample("x.transpose(dim0=0, dim1=1) * 2", x=(3, 5, 2))])  # fmt: skip
def transpose(g: Expr, y: Expr, x: Expr, a: int, b: int) -> Terms:
    back = (
        g.T
        if {a % len(x.shape), b % len(x.shape)} == {len(x.shape) - 2, len(x.shape) - 1}
        else rearranged(g, "transpose", a, b, shape=x.shape)
    )
    yield to(x, back, "a transpose is undone by a transpose")


@rule(
    "permute",
    samples=[
        sample("x.permute(2, 0, 1) * 2", x=(3, 5, 2)),
        sample("x.permute((0, 3, 1, 2)) * 2", x=(2, 3, 5, 4)),
        sample("torch.permute(x, (1, -1, 0)) * 2", x=(3, 5, 2)),
        sample("x.permute(dims=[1, 0]) * 2", x=(3, 5)),
        sample("x.permute(0, 2, 1) * 2", x=(3, 5, 2)),
        sample("x.permute(1, 2, 0).sum()", x=(3, 5, 2)),
    ],
)
def permute(g: Expr, y: Expr, x: Expr, *order: int | Sequence[int], dims: Sequence[int] = ()) -> Terms:
    chosen = [d % len(x.shape) for d in (_flat(order) or dims)]
    back = [chosen.index(d) for d in range(len(chosen))]
    swapped = [*range(len(back) - 2), len(back) - 1, len(back) - 2]
    undone = g.T if back == swapped and len(back) > 1 else rearranged(g, "permute", *back, shape=x.shape)
    yield to(x, undone, "a permutation is undone by its inverse")


@rule(
    "movedim",
    "moveaxis",
    samples=[
        sample("x.movedim(0, 2) * 2", x=(3, 5, 2)),
        sample("torch.movedim(x, (0, 1), (-1, 0)) * 2", x=(3, 5, 2, 4)),
        sample("x.moveaxis(-1, 0) * 2", x=(3, 5, 2)),
        sample("x.movedim(source=1, destination=-1) * 2", x=(3, 5, 2)),
    ],
)
def movedim(g: Expr, y: Expr, x: Expr, source: Dims, destination: Dims) -> Terms:
    yield to(x, rearranged(g, "movedim", destination, source, shape=x.shape), "what was moved is moved back")


# -- repetitions


@rule(
    "expand",
    "expand_as",
    "broadcast_to",
    samples=[
        sample("x.expand(3, 5) * w", x=(1, 5), w=(3, 5)),
        sample("x.expand(4, -1, 5) * w", x=(3, 1), w=(4, 3, 5)),
        sample("x.expand((2, 3)) * w", x=(3,), w=(2, 3)),
        sample("x.expand_as(w) * w", x=(), w=(3, 5)),
        sample("torch.broadcast_to(x, (4, 3, 5)) * w", x=(3, 1), w=(4, 3, 5)),
        sample("x.expand(0, 5) * 2", x=(1, 5)),
    ],
)
def expand_(g: Expr, y: Expr, x: Expr, *_: object, size: object = None) -> Terms:
    yield to(x, g, REPEATED)


@rule(
    "repeat",
    "tile",
    samples=[
        sample("x.repeat(2, 3) * w", x=(3, 5), w=(6, 15)),
        sample("x.repeat(4, 1, 2) * w", x=(3, 5), w=(4, 3, 10)),
        sample("x.repeat((3, 1)) * w", x=(1, 5), w=(3, 5)),
        sample("x.tile(2) * w", x=(3, 5), w=(3, 10)),
        sample("torch.tile(x, (2, 3)) * w", x=(5,), w=(2, 15)),
        sample("x.repeat(1, 0, 2) * 2", x=(2, 3, 5)),
        sample("x.repeat(3) * w", x=(), w=(3,)),
    ],
)
def repeat(g: Expr, y: Expr, x: Expr, *times: int | Sequence[int], repeats: Sequence[int] = (),
           dims: Sequence[int] = ()) -> Terms:  # fmt: skip
    given = _flat(times) or [*repeats, *dims]
    lead = len(y.shape) - len(x.shape)
    given = [1] * (len(y.shape) - len(given)) + given
    own = [1] * lead + list(x.shape)
    if all(size == 1 or count == 1 for size, count in zip(own, given, strict=True)):
        yield to(x, g, REPEATED)
        return
    sizes: list[int] = []
    summed: list[int] = []
    for d, (size, count) in enumerate(zip(own, given, strict=True)):
        if count != 1:
            summed.append(len(sizes))
            sizes.append(count)
        if d >= lead:
            sizes.append(size)
        elif count == 1:
            summed.append(len(sizes))
            sizes.append(1)
    pieces = reshape(g, tuple(sizes))
    yield to(x, reshape(total(pieces, summed), x.shape), REPEATED)


@rule(
    "repeat_interleave",
    samples=[
        sample("x.repeat_interleave(3, 1) * w", x=(4, 5), w=(4, 15)),
        sample("x.repeat_interleave(2, dim=0) * w", x=(3, 5), w=(6, 5)),
        sample("x.repeat_interleave(2) * w", x=(3, 5), w=(30,)),
        sample("torch.repeat_interleave(x, 2, dim=-1) * w", x=(3, 5), w=(3, 10)),
        sample("x.repeat_interleave(r, 0).cumsum(0)", x=(4, 5), r=integers(4, high=4)),
    ],
)
def repeat_interleave(g: Expr, y: Expr, x: Expr, repeats: int | Expr, dim: int | None = None,
                      output_size: int | None = None) -> Terms:  # fmt: skip
    why = "each number was written several times in a row: these add up"
    if isinstance(repeats, Expr):
        if dim is None or repeats.shape != (x.shape[dim],):
            raise NotImplementedError("with a tensor of repeats: give `dim`, and one count for each item")
        rows = call("torch.repeat_interleave", repeats, shape=(y.shape[dim],))
        zeros = call("torch.zeros_like", x, shape=x.shape)
        yield to(x, zeros.method("index_add", dim, rows, g), why)
    elif dim is None:
        pieces = reshape(g, (Size(y.shape[0] // repeats), repeats)) if repeats else g
        yield to(x, reshape(total(pieces, (1,)), x.shape), why)
    else:
        d = dim % len(x.shape)
        pieces = reshape(g, (*x.shape[: d + 1], repeats, *x.shape[d + 1 :]))
        yield to(x, total(pieces, (d + 1,)), why)


# -- mirror images


@rule("flip", samples=[sample("x.flip(1) * w", x=(3, 5), w=(3, 5)), sample("x.flip(0, -1) * w", x=(3, 5), w=(3, 5)),
                       sample("torch.flip(x, [1]) * w", x=(3, 5, 2), w=(3, 5, 2)),
                       sample("torch.flip(x, dims=(0, 1)) * w", x=(3, 5, 2), w=(3, 5, 2))])  # fmt: skip
def flip(g: Expr, y: Expr, x: Expr, *dim: int | Sequence[int], dims: Sequence[int] = ()) -> Terms:
    yield to(
        x, rearranged(g, "flip", *(_flat(dim) or dims), shape=x.shape), "a mirror image is undone by mirroring it again"
    )


@rule("fliplr", samples=[sample("torch.fliplr(x) * w", x=(3, 5), w=(3, 5))])
def fliplr(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, rearranged(g, "fliplr", shape=x.shape), "a mirror image is undone by mirroring it again")


@rule("flipud", samples=[sample("x.flipud() * w", x=(3, 5), w=(3, 5))])
def flipud(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, rearranged(g, "flipud", shape=x.shape), "a mirror image is undone by mirroring it again")


@rule(
    "roll",
    samples=[
        sample("x.roll(1, 0) * w", x=(3, 5), w=(3, 5)),
        sample("torch.roll(x, (1, -2), (0, 1)) * w", x=(3, 5), w=(3, 5)),
        sample("x.roll(2) * w", x=(3, 5), w=(3, 5)),
        sample("torch.roll(x, shifts=-1, dims=-1) * w", x=(3, 5), w=(3, 5)),
    ],
)
def roll(g: Expr, y: Expr, x: Expr, shifts: int | Sequence[int], dims: Dims = None) -> Terms:
    back = -shifts if isinstance(shifts, int) else tuple(-shift for shift in shifts)
    along = [] if dims is None or dims == () else [dims]
    yield to(x, rearranged(g, "roll", back, *along, shape=x.shape), "what was rolled on is rolled back")


@rule("rot90", samples=[sample("torch.rot90(x) * w", x=(3, 5), w=(5, 3)),
                        sample("x.rot90(2, (0, 2)) * w", x=(3, 5, 2), w=(3, 5, 2)),
                        sample("torch.rot90(x, -1, [1, 2]) * w", x=(3, 5, 2), w=(3, 2, 5))])  # fmt: skip
def rot90(g: Expr, y: Expr, x: Expr, k: int = 1, dims: Sequence[int] = (0, 1)) -> Terms:
    yield to(x, rearranged(g, "rot90", -k, tuple(dims), shape=x.shape), "what was turned is turned back")


@rule("diff", samples=[sample("x.diff() * w", x=(3, 5), w=(3, 4)),
                       sample("torch.diff(x, dim=0) * w", x=(3, 5), w=(2, 5)),
                       sample("torch.diff(x, 2, 1) * w", x=(3, 5, 2), w=(3, 3, 2))])  # fmt: skip
def diff(g: Expr, y: Expr, x: Expr, n: int = 1, dim: int = -1) -> Terms:
    ends = [0, 0] * (len(x.shape) - 1 - dim % len(x.shape)) + [n, n]
    padded = call("F.pad", g, tuple(ends), shape=(*g.shape[:dim], g.shape[dim] + 2 * n, *g.shape[dim:][1:]))
    back = padded.method("diff", *([n, dim] if n != 1 else [keyword("dim", dim)]), shape=x.shape)
    yield to(x, back if n % 2 == 0 else -back, "each number is the end of one difference and the start of the next")


def _flat(items: Sequence[int | Sequence[int]]) -> list[int]:
    """Return the numbers of ``f(1, 2)`` and of ``f((1, 2))``."""
    found: list[int] = []
    for item in items:
        found += [item] if isinstance(item, int) else list(item)
    return found
