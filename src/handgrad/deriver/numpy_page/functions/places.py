"""What is read and written by index, and windows."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any


def along(dim: int, index: Array) -> tuple[Array, ...]:
    """Return the key that picks by index along dim, and by place along the others."""
    places = list(np.indices(index.shape, sparse=True))
    places[dim] = index
    return tuple(places)


def gather(x: Array, dim: int, index: Array) -> Array:
    """Return what stands in x along dim at index, which may be smaller than x."""
    return x[along(dim, index)]


def scatter(x: Array, dim: int, index: Array, src: Array = None, value: float = 0) -> Array:
    """Return x with src, or a value, written along dim at index."""
    out = x.copy()
    out[along(dim, index)] = value if src is None else np.broadcast_to(src, index.shape)
    return out


def scatter_add(x: Array, dim: int, index: Array, src: Array) -> Array:
    """Return x with src added along dim at index; an index may repeat."""
    out = x.copy()
    np.add.at(out, along(dim, index), src[tuple(map(slice, index.shape))])
    return out


def index_add(x: Array, dim: int, index: Array, source: Array, alpha: float = 1) -> Array:
    """Return x with alpha * source added to the slices that index tells; an index may repeat."""
    out = x.copy()
    np.add.at(np.moveaxis(out, dim, 0), index, alpha * np.moveaxis(source, dim, 0))
    return out


def index_copy(x: Array, dim: int, index: Array, source: Array) -> Array:
    """Return x with source written to the slices that index tells."""
    out = x.copy()
    np.moveaxis(out, dim, 0)[index] = np.moveaxis(source, dim, 0)
    return out


def index_fill(x: Array, dim: int, index: Array, value: float) -> Array:
    """Return x with a value written to the slices that index tells."""
    out = x.copy()
    np.moveaxis(out, dim, 0)[index] = value
    return out


def put(x: Array, index: Array, source: Array, accumulate: bool = False) -> Array:
    """Return x with source written, or added, at index, which counts all numbers of x."""
    out = x.ravel().copy()
    if accumulate:
        np.add.at(out, index, source)
    else:
        out[index] = source
    return out.reshape(x.shape)


def masked_scatter(x: Array, mask: Array, source: Array) -> Array:
    """Return x with the numbers of source, one after another, where the mask holds."""
    out = x.copy()
    out[np.broadcast_to(mask, x.shape)] = source.ravel()[: np.broadcast_to(mask, x.shape).sum()]
    return out


def fill_diagonal(x: Array, fill_value: float) -> Array:
    """Return x with a value on its diagonal."""
    out = x.copy()
    np.fill_diagonal(out, fill_value)
    return out


def index_put(x: Array, indices: tuple[Array, ...], values: Array, accumulate: bool = False) -> Array:
    """Return x with values written, or added, at the indices."""
    out = x.copy()
    if accumulate:
        np.add.at(out, tuple(indices), values)
    else:
        out[tuple(indices)] = values
    return out


def diagonal_scatter(x: Array, src: Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Array:
    """Return x with src on a diagonal."""
    out, steps = x.copy(), np.arange(np.diagonal(x, offset, dim1, dim2).shape[-1])
    np.moveaxis(out, (dim1, dim2), (-2, -1))[..., steps + max(-offset, 0), steps + max(offset, 0)] = src
    return out


def diag_embed(x: Array, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Array:
    """Return zeros with x on a diagonal of two new dims."""
    size, steps = x.shape[-1] + abs(offset), np.arange(x.shape[-1])
    out = np.zeros((*x.shape[:-1], size, size))
    out[..., steps + max(-offset, 0), steps + max(offset, 0)] = x
    return np.moveaxis(out, (-2, -1), (dim1, dim2))


def windows(x: Array, dimension: int, size: int, step: int) -> Array:
    """Return the windows of a size along a dimension, each in a new last dimension."""
    found = np.lib.stride_tricks.sliding_window_view(x, size, axis=dimension)
    return np.take(found, range(0, found.shape[dimension], step), axis=dimension)


def pair(x: Any) -> tuple[int, int]:
    """Return two numbers of one, or of two."""
    return (x, x) if isinstance(x, int) else tuple(x)


def patches(size: tuple[int, int], kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> tuple[Array, Array]:
    """Return the rows and the columns of all patches of a padded picture: (kernel, kernel, patches, patches)."""
    found = []
    for d, (length, k, gap, edge, step) in enumerate(
        zip(size, pair(kernel_size), pair(dilation), pair(padding), pair(stride), strict=True)
    ):
        count = (length + 2 * edge - gap * (k - 1) - 1) // step + 1
        places = gap * np.arange(k)[:, None] + step * np.arange(count)
        found.append(places.reshape(k, 1, count, 1) if d == 0 else places.reshape(1, k, 1, count))
    return found[0], found[1]


def unfold(x: Array, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Array:
    """Return the patches of pictures as columns: (n, channels * kernel * kernel, patches)."""
    rows, columns = patches(x.shape[-2:], kernel_size, dilation, padding, stride)
    edges = [(0, 0)] * (x.ndim - 2) + [(edge, edge) for edge in pair(padding)]
    picked = np.pad(x, edges)[..., rows, columns]
    return picked.reshape(*x.shape[:-3], -1, rows.shape[2] * columns.shape[3])


def fold(x: Array, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Array:
    """Return the sum of patches, given as columns, in pictures of a size."""
    (height, width), (top, left) = pair(output_size), pair(padding)
    rows, columns = patches((height, width), kernel_size, dilation, padding, stride)
    channels = x.shape[-2] // (rows.shape[0] * columns.shape[1])
    out = np.zeros((*x.shape[:-2], channels, height + 2 * top, width + 2 * left))
    shape = rows.shape[0], columns.shape[1], rows.shape[2], columns.shape[3]
    key: Any = (..., rows, columns)
    np.add.at(out, key, x.reshape(*x.shape[:-2], channels, *shape))
    return out[..., top : top + height, left : left + width]
