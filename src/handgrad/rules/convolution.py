"""Convolutions, and the transposed ones that undo them.

A convolution is linear in its input, and a transposed convolution with the same weight is its transpose: this is the
gradient of the input, as a person writes it. The gradient of the weight is, for a sequence, an einsum of the gradient
with the windows that the kernel saw; over an image the windows would take the memory of the image times the size of
the kernel, so there PyTorch's own `torch.nn.grad` stands, made for this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handgrad.expr import Expr, call, index, index_key, total, unsqueeze
from handgrad.rules.table import Terms, rule, sample, to

Numbers = int | Sequence[int]
Borders = list[tuple[int, int]]
BIAS = "it was added everywhere: the sum over all places"
INPUT = "a convolution is undone by the transposed one with the same weight"
WEIGHT = "each weight times what it saw, over all places"


def each(item: Numbers, count: int) -> tuple[int, ...]:
    """Return a number for each dimension."""
    return (item,) * count if isinstance(item, int) else tuple(item) * (count // len(item))


def given(count: int, *, padding: Numbers = 0, output_padding: Numbers = 0, **more: Numbers) -> dict[str, Any]:
    """Return the options of a convolution that are not what they are by default, one number where all are equal."""
    found: dict[str, Any] = {}
    for key, item in {**more, "padding": padding, "output_padding": output_padding}.items():
        numbers = each(item, count)
        if any(n != (0 if "padding" in key else 1) for n in numbers):
            found[key] = numbers[0] if len(set(numbers)) == 1 else numbers
    return found


def borders(padding: Numbers | str, kernel: Sequence[int], dilation: Sequence[int]) -> Borders:
    """Return the border on either side of each dimension; that of "same" may be larger on the right."""
    if padding == "valid":
        padding = 0
    if isinstance(padding, str):
        whole = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(size // 2, size - size // 2) for size in whole]
    return [(size, size) for size in each(padding, len(kernel))]


def over_places(g: Expr, dims: int) -> Expr:
    """Return the sum over everything but the channels, as the bias of a convolution gets it."""
    channel = len(g.shape) - dims - 1
    return total(g, [d for d in range(len(g.shape)) if d != channel])


@rule(
    "conv1d",
    "conv2d",
    "conv3d",
    samples=[
        sample("F.conv1d(x, W, b)", x=(2, 3, 7), W=(4, 3, 2), b=(4,)),
        sample("F.conv1d(x, W, stride=2, padding=1)", x=(2, 3, 8), W=(4, 3, 3)),
        sample("F.conv1d(x, W, b, dilation=2, padding='valid')", x=(2, 3, 7), W=(4, 3, 2), b=(4,)),
        sample("F.conv1d(x, W, padding='same')", x=(2, 3, 7), W=(4, 3, 5)),
        sample("F.conv1d(x, W, groups=3, padding=2)", x=(2, 3, 5), W=(6, 1, 3)),
        sample("F.conv1d(x, W, b)", x=(3, 7), W=(4, 3, 2), b=(4,)),
        sample("F.conv1d(x, W).sum()", x=(2, 3, 5), W=(4, 3, 1)),
        sample("F.conv2d(x, W, b)", x=(2, 3, 5, 6), W=(4, 3, 3, 2), b=(4,)),
        sample("F.conv2d(x, W, b, 2, 1)", x=(2, 3, 6, 5), W=(4, 3, 3, 3), b=(4,)),
        sample("F.conv2d(x, W, stride=(2, 1), padding=(0, 2), dilation=(1, 2))", x=(1, 2, 5, 6), W=(3, 2, 2, 3)),
        sample("F.conv2d(x, W, padding='same', groups=2)", x=(2, 4, 5, 6), W=(2, 2, 3, 3)),
        sample("F.conv2d(x, W, b)", x=(3, 5, 6), W=(4, 3, 3, 2), b=(4,)),
        sample("F.conv3d(x, W, b, stride=2)", x=(1, 2, 4, 5, 3), W=(3, 2, 2, 2, 1), b=(3,)),
    ],
)
def conv(g: Expr, y: Expr, x: Expr, weight: Expr, bias: Expr | None = None, stride: Numbers = 1,
         padding: Numbers | str = 0, dilation: Numbers = 1, groups: int = 1) -> Terms:  # fmt: skip
    dims = len(weight.shape) - 2
    kernel, steps, gaps = weight.shape[2:], each(stride, dims), each(dilation, dims)
    sides = borders(padding, kernel, gaps)
    even = all(left == right for left, right in sides)
    options: dict[str, Any] = {"stride": steps, "padding": [left for left, _ in sides] if even else 0,
                               "dilation": gaps, "groups": groups}  # fmt: skip
    sizes = x.shape[-dims:]
    rest = [
        (size + left + right - d * (k - 1) - 1) % s
        for size, (left, right), k, s, d in zip(sizes, sides, kernel, steps, gaps, strict=True)
    ]
    back = f"F.conv_transpose{dims}d"
    if even:
        share = call(back, g, weight, shape=x.shape, **given(dims, **options, output_padding=rest))
    else:
        wide = tuple(size + sum(side) for size, side in zip(sizes, sides, strict=True))
        share = call(back, g, weight, shape=(*x.shape[:-dims], *wide), **given(dims, **options))
        inside = [slice(left or None, -right or None) for left, right in sides]
        share = index(share, index_key([Ellipsis, *inside]), x.shape)
    yield to(x, share, INPUT)
    seen = x if even else _bordered(x, sides)
    plain = groups == 1 and set(gaps) == {1}
    yield to(weight, _by_windows(g, seen, weight, steps[0], sides[0][0] * even) if dims == 1 and plain else
             weight_gradient(g, seen, weight, options), WEIGHT)  # fmt: skip
    if bias is not None:
        yield to(bias, over_places(g, dims), BIAS)


def _bordered(x: Expr, sides: Borders) -> Expr:
    dims = len(sides)
    wide = tuple(size + sum(side) for size, side in zip(x.shape[-dims:], sides, strict=True))
    pad = tuple(size for side in reversed(sides) for size in side)
    return call("F.pad", x, pad, shape=(*x.shape[:-dims], *wide)) if any(pad) else x


def _by_windows(g: Expr, x: Expr, weight: Expr, stride: int, padding: int) -> Expr:
    """Return the gradient of the weight as an einsum with the windows of ``x`` that the kernel saw."""
    seen = _bordered(x, [(padding, padding)])
    windows = seen.method("unfold", -1, weight.shape[2], stride, shape=(*x.shape[:-1], g.shape[-1], weight.shape[2]))
    equation = "not,nitk->oik" if len(x.shape) == 3 else "ot,itk->oik"
    return call("torch.einsum", equation, g, windows, shape=weight.shape)


def weight_gradient(g: Expr, x: Expr, weight: Expr, options: dict[str, Any]) -> Expr:
    """Return the gradient of the weight of a convolution as PyTorch has it."""
    dims = len(weight.shape) - 2
    if len(x.shape) == dims + 1:
        x, g = unsqueeze(x, 0), unsqueeze(g, 0)
    shape = Expr("attribute", (weight,), (), "shape")
    return call(f"torch.nn.grad.conv{dims}d_weight", x, shape, g, shape=weight.shape, **given(dims, **options))


@rule(
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    samples=[
        sample("F.conv_transpose1d(x, W, b)", x=(2, 3, 5), W=(3, 4, 2), b=(4,)),
        sample("F.conv_transpose1d(x, W, stride=3, padding=1, output_padding=2)", x=(2, 3, 5), W=(3, 4, 4)),
        sample("F.conv_transpose2d(x, W, b, stride=2)", x=(2, 3, 3, 4), W=(3, 2, 2, 3), b=(2,)),
        sample("F.conv_transpose2d(x, W, groups=2, dilation=(1, 2), padding=(1, 0))", x=(2, 4, 3, 4), W=(4, 3, 3, 2)),
        sample("F.conv_transpose2d(x, W)", x=(3, 3, 4), W=(3, 2, 2, 2)),
    ],
)
def conv_transpose(g: Expr, y: Expr, x: Expr, weight: Expr, bias: Expr | None = None, stride: Numbers = 1,
                   padding: Numbers = 0, output_padding: Numbers = 0, groups: int = 1,
                   dilation: Numbers = 1) -> Terms:  # fmt: skip
    dims = len(weight.shape) - 2
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    yield to(x, call(f"F.conv{dims}d", g, weight, shape=x.shape, **given(dims, **options)),
             "a transposed convolution is undone by the convolution with the same weight")  # fmt: skip
    yield to(weight, weight_gradient(x, g, weight, options), f"{WEIGHT}: input and output have changed places")
    if bias is not None:
        yield to(bias, over_places(g, dims), BIAS)
