"""Pooling: the largest or the mean of each window; and images made larger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handgrad.expr import Expr, call, expand, index, index_key, let, number, product, rearranged, reshape, total
from handgrad.rules.convolution import each, given
from handgrad.rules.makers import distinct
from handgrad.rules.table import Terms, rule, sample, to

Numbers = int | Sequence[int]
WINDOW = "each maximum gets the gradient of its window"
PART = "each number gets its part of every window that it was in"


def _at_maxima(g: Expr, x: Expr, pooled: Expr, dims: int) -> Expr:
    """Return zeros with ``g`` added where the maxima were; ``pooled`` is the operation with its indices."""
    where = let("places", index(pooled, index_key([1]), g.shape))
    zeros = call("torch.zeros_like", x, shape=x.shape)
    if dims == 1:
        return zeros.method("scatter_add", -1, where, g)

    def flat(one: Expr) -> Expr:
        count = 1
        for size in one.shape[-dims:]:
            count *= size
        return rearranged(one, "flatten", -dims, shape=(*one.shape[:-dims], count))

    return reshape(flat(zeros).method("scatter_add", -1, flat(where), flat(g)), x.shape)


def _max_pool(dims: int, g: Expr, x: Expr, kernel_size: Numbers, stride: Numbers | None, padding: Numbers,
              dilation: Numbers, ceil_mode: bool) -> Terms:  # fmt: skip
    options = given(dims, padding=padding, dilation=dilation)
    if stride is not None and stride != []:
        options["stride"] = stride
    if ceil_mode:
        options["ceil_mode"] = True
    pooled = call(f"F.max_pool{dims}d", x, kernel_size, shape=(), **options, return_indices=True)
    yield to(x, _at_maxima(g, x, pooled, dims), WINDOW)


@rule(
    "max_pool1d",
    samples=[
        sample("F.max_pool1d(x, 2)", x=distinct(2, 3, 7)),
        sample("F.max_pool1d(x, 3, stride=1, padding=1)", x=distinct(2, 3, 5)),
        sample("F.max_pool1d(x, 2, dilation=2, ceil_mode=True).sum()", x=distinct(3, 6)),
    ],
)
def max_pool1d(g: Expr, y: Expr, x: Expr, kernel_size: Numbers, stride: Numbers | None = None, padding: Numbers = 0,
               dilation: Numbers = 1, ceil_mode: bool = False, return_indices: bool = False) -> Terms:  # fmt: skip
    yield from _max_pool(1, g, x, kernel_size, stride, padding, dilation, ceil_mode)


@rule(
    "max_pool2d",
    samples=[
        sample("F.max_pool2d(x, 2)", x=distinct(2, 3, 4, 6)),
        sample("F.max_pool2d(x, (3, 2), stride=1, padding=1)", x=distinct(2, 3, 4, 5)),
        sample("F.max_pool2d(x, 2, 2) * w", x=distinct(3, 5, 4), w=(3, 2, 2)),
    ],
)
def max_pool2d(g: Expr, y: Expr, x: Expr, kernel_size: Numbers, stride: Numbers | None = None, padding: Numbers = 0,
               dilation: Numbers = 1, ceil_mode: bool = False, return_indices: bool = False) -> Terms:  # fmt: skip
    yield from _max_pool(2, g, x, kernel_size, stride, padding, dilation, ceil_mode)


@rule("adaptive_max_pool1d", samples=[sample("F.adaptive_max_pool1d(x, 3)", x=distinct(2, 3, 7))])
def adaptive_max_pool1d(g: Expr, y: Expr, x: Expr, output_size: Numbers, return_indices: bool = False) -> Terms:
    pooled = call("F.adaptive_max_pool1d", x, output_size, shape=(), return_indices=True)
    yield to(x, _at_maxima(g, x, pooled, 1), WINDOW)


@rule("adaptive_max_pool2d", samples=[sample("F.adaptive_max_pool2d(x, (2, 3))", x=distinct(2, 3, 5, 7)),
                                      sample("F.adaptive_max_pool2d(x, 1) * 2", x=distinct(2, 3, 5, 4))])  # fmt: skip
def adaptive_max_pool2d(g: Expr, y: Expr, x: Expr, output_size: Numbers, return_indices: bool = False) -> Terms:
    pooled = call("F.adaptive_max_pool2d", x, output_size, shape=(), return_indices=True)
    yield to(x, _at_maxima(g, x, pooled, 2), WINDOW)


# -- means


def _spread(g: Expr, x: Expr, kernel: Sequence[int], steps: Sequence[int], padding: Sequence[int], by: Expr) -> Expr:
    """Return the gradient of a mean over windows: of windows side by side each number repeated, of others their sum."""
    dims = len(kernel)
    sizes = x.shape[-dims:]
    if all(size == k and p == 0 for size, k, p in zip(sizes, kernel, padding, strict=True)):
        return expand(g / by, x.shape)
    if all(s == k and p == 0 and size % k == 0 for size, k, s, p in zip(sizes, kernel, steps, padding, strict=True)):
        share = g / by
        for d, k in zip(range(-dims, 0), kernel, strict=True):
            shape = (*share.shape[:d], share.shape[d] * k, *share.shape[d:][1:])
            share = rearranged(share, "repeat_interleave", k, d, shape=shape) if k != 1 else share
        return share
    rest = [(size + 2 * p - k) % s for size, k, s, p in zip(sizes, kernel, steps, padding, strict=True)]
    channels = x.shape[-dims - 1]
    ones = expand(number(1) / by, (channels, 1, *kernel))
    options: dict[str, Any] = given(dims, stride=steps, padding=padding, output_padding=rest, groups=channels)
    return call(f"F.conv_transpose{dims}d", g, ones, shape=x.shape, **options)


def _avg_pool(dims: int, g: Expr, x: Expr, kernel_size: Numbers, stride: Numbers | None, padding: Numbers,
              ceil_mode: bool, count_include_pad: bool, divisor: int | None) -> Terms:  # fmt: skip
    kernel, padded = each(kernel_size, dims), each(padding, dims)
    steps = each(stride, dims) if stride is not None and stride != [] and stride != () else kernel
    if ceil_mode or (any(padded) and not count_include_pad):
        raise NotImplementedError("a mean over windows of different sizes: pad first, and pool what is full")
    by = number(divisor) if divisor is not None else product(kernel)
    yield to(x, _spread(g, x, kernel, steps, padded, by), PART)


@rule(
    "avg_pool1d",
    samples=[
        sample("F.avg_pool1d(x, 2)", x=(2, 3, 6)),
        sample("F.avg_pool1d(x, 3, stride=2, padding=1)", x=(2, 3, 6)),
        sample("F.avg_pool1d(x, 3, 1)", x=(3, 7)),
        sample("F.avg_pool1d(x, 2).sum()", x=(2, 3, 7)),
    ],
)
def avg_pool1d(g: Expr, y: Expr, x: Expr, kernel_size: Numbers, stride: Numbers | None = None, padding: Numbers = 0,
               ceil_mode: bool = False, count_include_pad: bool = True) -> Terms:  # fmt: skip
    yield from _avg_pool(1, g, x, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


@rule(
    "avg_pool2d",
    samples=[
        sample("F.avg_pool2d(x, 2)", x=(2, 3, 4, 6)),
        sample("F.avg_pool2d(x, (1, 3))", x=(2, 3, 4, 6)),
        sample("F.avg_pool2d(x, 3, stride=2, padding=1)", x=(2, 3, 6, 5)),
        sample("F.avg_pool2d(x, (2, 3), divisor_override=5)", x=(3, 5, 7)),
        sample("F.avg_pool2d(x, (4, 5)) * 2", x=(2, 3, 4, 5)),
    ],
)
def avg_pool2d(g: Expr, y: Expr, x: Expr, kernel_size: Numbers, stride: Numbers | None = None, padding: Numbers = 0,
               ceil_mode: bool = False, count_include_pad: bool = True,
               divisor_override: int | None = None) -> Terms:  # fmt: skip
    yield from _avg_pool(2, g, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _adaptive_avg_pool(dims: int, g: Expr, x: Expr) -> Terms:
    sizes, made = x.shape[-dims:], g.shape[-dims:]
    if any(size % count for size, count in zip(sizes, made, strict=True)):
        raise NotImplementedError("adaptive_avg_pool with windows of different sizes: choose a size that divides")
    kernel = tuple(size if count == 1 else size // count for size, count in zip(sizes, made, strict=True))
    yield to(x, _spread(g, x, kernel, kernel, (0,) * dims, product(kernel)), PART)


@rule("adaptive_avg_pool1d", samples=[sample("F.adaptive_avg_pool1d(x, 1)", x=(2, 3, 5)),
                                      sample("F.adaptive_avg_pool1d(x, 3)", x=(3, 6))])  # fmt: skip
def adaptive_avg_pool1d(g: Expr, y: Expr, x: Expr, output_size: Numbers) -> Terms:
    yield from _adaptive_avg_pool(1, g, x)


@rule(
    "adaptive_avg_pool2d",
    samples=[
        sample("F.adaptive_avg_pool2d(x, 1)", x=(2, 3, 4, 5)),
        sample("F.adaptive_avg_pool2d(x, (2, None))", x=(2, 3, 4, 5)),
        sample("F.adaptive_avg_pool2d(x, (1, 1)).flatten(1).sum()", x=(2, 3, 4, 5)),
    ],
)
def adaptive_avg_pool2d(g: Expr, y: Expr, x: Expr, output_size: object) -> Terms:
    yield from _adaptive_avg_pool(2, g, x)


# -- larger images


@rule(
    "interpolate",
    "upsample",
    "upsample_nearest",
    samples=[
        sample("F.interpolate(x, scale_factor=2)", x=(2, 3, 5)),
        sample("F.interpolate(x, scale_factor=(2, 3)) * w", x=(2, 3, 4, 5), w=(2, 3, 8, 15)),
        sample("F.interpolate(x, size=(8, 5), mode='nearest')", x=(2, 3, 4, 5)),
    ],
)
def interpolate(g: Expr, y: Expr, x: Expr, size: object = None, scale_factor: object = None, mode: str = "nearest",
                align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
                antialias: bool = False) -> Terms:  # fmt: skip
    times = [out // here for out, here in zip(g.shape[2:], x.shape[2:], strict=True)]
    if mode not in ("nearest", "nearest-exact") or any(
        out != n * here for out, n, here in zip(g.shape[2:], times, x.shape[2:], strict=True)
    ):
        raise NotImplementedError("F.interpolate other than nearest by a whole factor")
    sizes: list[int] = list(x.shape[:2])
    summed: list[int] = []
    for here, n in zip(x.shape[2:], times, strict=True):
        sizes.append(here)
        if n != 1:
            summed.append(len(sizes))
            sizes.append(n)
    yield to(x, total(reshape(g, tuple(sizes)), summed), "each number was written into a block: the block adds up")


@rule("pixel_shuffle", samples=[sample("F.pixel_shuffle(x, 2) * w", x=(2, 8, 3, 5), w=(2, 2, 6, 10))])
def pixel_shuffle(g: Expr, y: Expr, x: Expr, upscale_factor: int) -> Terms:
    yield to(x, call("F.pixel_unshuffle", g, upscale_factor, shape=x.shape), "channels became pixels: back they go")


@rule("pixel_unshuffle", samples=[sample("F.pixel_unshuffle(x, 2) * w", x=(2, 2, 6, 4), w=(2, 8, 3, 2))])
def pixel_unshuffle(g: Expr, y: Expr, x: Expr, downscale_factor: int) -> Terms:
    yield to(x, call("F.pixel_shuffle", g, downscale_factor, shape=x.shape), "pixels became channels: back they go")
