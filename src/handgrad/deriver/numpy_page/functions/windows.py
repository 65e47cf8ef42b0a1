"""Convolution and pooling, in any number of dimensions: what all windows hold is picked by index."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any


def each(x: Any, count: int) -> tuple[int, ...]:
    """Return a number for each dimension, of one number or of several."""
    return (x,) * count if isinstance(x, int) else tuple(x)


def windows_at(kernel: tuple[int, ...], counts: tuple[int, ...], dilation: Any, stride: Any) -> Any:
    """Return the key that picks all windows: (kernel..., counts...)."""
    n, key = len(kernel), []
    for d, (gap, step) in enumerate(zip(each(dilation, n), each(stride, n), strict=True)):
        places = gap * np.arange(kernel[d])[:, None] + step * np.arange(counts[d])
        shape = [1] * (2 * n)
        shape[d], shape[n + d] = places.shape
        key.append(places.reshape(shape))
    return (..., *key)


def columns_of(
    x: Array, kernel: tuple[int, ...], stride: Any, padding: Any, dilation: Any, groups: int
) -> tuple[Array, tuple[int, ...]]:
    """Return every window of x, (n, channels, ...), as a column, (n, groups, numbers, windows), and their counts."""
    n = len(kernel)
    spread = [gap * (k - 1) for k, gap in zip(kernel, each(dilation, n), strict=True)]
    edges = [(p, p) for p in each(0 if isinstance(padding, str) else padding, n)]
    if padding == "same":
        edges = [(s // 2, s - s // 2) for s in spread]
    padded = np.pad(x, [(0, 0), (0, 0), *edges])
    sizes = zip(padded.shape[2:], spread, each(stride, n), strict=True)
    counts = tuple((size - s - 1) // step + 1 for size, s, step in sizes)
    picked = padded[windows_at(kernel, counts, dilation, stride)]
    return picked.reshape(x.shape[0], groups, -1, int(np.prod(counts))), counts


def conv(
    x: Array, weight: Array, bias: Array = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Array:
    """Return the product of the weight with every window of x, (n, channels, ...)."""
    if x.ndim < weight.ndim:
        return conv(x[None], weight, bias, stride, padding, dilation, groups)[0]
    columns, counts = columns_of(x, weight.shape[2:], stride, padding, dilation, groups)
    rows = weight.reshape(groups, weight.shape[0] // groups, -1)
    out = (rows @ columns).reshape(x.shape[0], -1, *counts)
    return out if bias is None else out + bias.reshape(-1, *[1] * len(counts))


def conv_weight(
    x: Array, size: tuple[int, ...], g: Array, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Array:
    """Return the gradient of the weight of a convolution whose result has the gradient g."""
    if x.ndim < len(size):
        return conv_weight(x[None], size, g[None], stride, padding, dilation, groups)
    columns, _ = columns_of(x, size[2:], stride, padding, dilation, groups)
    rows = g.reshape(x.shape[0], groups, size[0] // groups, -1)
    width = rows.shape[-1]
    return (rows @ columns[..., :width].swapaxes(-2, -1)).sum(0).reshape(size)


def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Array:
    """Return the sum of windows that are the weight, times each number of x: what a convolution does, backwards."""
    if x.ndim < weight.ndim:
        return conv_transpose(x[None], weight, bias, stride, padding, output_padding, groups, dilation)[0]
    n, kernel, counts = weight.ndim - 2, weight.shape[2:], x.shape[2:]
    options = zip(*(each(item, n) for item in (stride, dilation, output_padding)), strict=True)
    full = [(c - 1) * s + gap * (k - 1) + 1 + o for c, k, (s, gap, o) in zip(counts, kernel, options, strict=True)]
    rows = weight.reshape(groups, x.shape[1] // groups, -1).swapaxes(1, 2)
    columns = rows @ x.reshape(x.shape[0], groups, x.shape[1] // groups, -1)
    out: Array = np.zeros((x.shape[0], groups * weight.shape[1], *full))
    shape = (*out.shape[:2], *kernel, *counts)
    np.add.at(out, windows_at(kernel, counts, dilation, stride), columns.reshape(shape))
    inside: Any = (..., *(slice(p, size - p) for p, size in zip(each(padding, n), full, strict=True)))
    out = out[inside]
    return out if bias is None else out + bias.reshape(-1, *[1] * n)


def max_pool(
    x: Array,
    kernel_size: tuple[int, ...],
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Array:
    """Return the largest number of each window, and where it is among all of its picture."""
    n, steps = len(kernel_size), each(stride or kernel_size, len(kernel_size))
    sizes, edges, counts = x.shape[-n:], each(padding, n), []
    for size, k, step, edge, gap in zip(sizes, kernel_size, steps, edges, each(dilation, n), strict=True):
        count = (size + 2 * edge - gap * (k - 1) - 1 + (step - 1) * ceil_mode) // step + 1
        counts.append(count - (ceil_mode and (count - 1) * step >= size + edge))
    key = windows_at(kernel_size, tuple(counts), dilation, steps)
    more = [
        max(0, int(places.max()) + 1 - size - edge) for places, size, edge in zip(key[1:], sizes, edges, strict=True)
    ]
    around = [(0, 0)] * (x.ndim - n) + list(zip(edges, more, strict=True))
    picked = np.pad(x, around, constant_values=-np.inf)[key].reshape(*x.shape[:-n], -1, *counts)
    best = np.expand_dims(picked.argmax(-n - 1), -n - 1)
    if not return_indices:
        return np.take_along_axis(picked, best, -n - 1).squeeze(-n - 1)
    places = np.zeros((*kernel_size, *counts), dtype=int)
    for size, edge, inside in zip(sizes, edges, key[1:], strict=True):
        places = places * size + inside - edge
    where = np.broadcast_to(places.reshape(-1, *counts), picked.shape)
    found = (np.take_along_axis(item, best, -n - 1).squeeze(-n - 1) for item in (picked, where))
    return tuple(found)


def avg_pool(
    x: Array,
    kernel_size: tuple[int, ...],
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Return the mean of each window."""
    n, steps = len(kernel_size), each(stride or kernel_size, len(kernel_size))
    padded = np.pad(x, [(0, 0)] * (x.ndim - n) + [(p, p) for p in each(padding, n)])
    counts = tuple((s - k) // step + 1 for s, k, step in zip(padded.shape[-n:], kernel_size, steps, strict=True))
    sums = padded[windows_at(kernel_size, counts, 1, steps)].sum(tuple(range(-2 * n, -n)))
    return sums / (divisor_override or np.prod(kernel_size))


def pixel_shuffle(x: Array, upscale_factor: int) -> Array:
    """Return pictures with the numbers of r * r channels side by side."""
    (*lead, channels, height, width), r = x.shape, upscale_factor
    apart = x.reshape(-1, channels // r**2, r, r, height, width).transpose(0, 1, 4, 2, 5, 3)
    return apart.reshape(*lead, channels // r**2, height * r, width * r)


def pixel_unshuffle(x: Array, downscale_factor: int) -> Array:
    """Return pictures with each block of r * r numbers in channels of their own."""
    (*lead, channels, height, width), r = x.shape, downscale_factor
    apart = x.reshape(-1, channels, height // r, r, width // r, r).transpose(0, 1, 3, 5, 2, 4)
    return apart.reshape(*lead, channels * r**2, height // r, width // r)
