"""The heat map of a difference as the paths of an inline SVG: one path for each step of the colour scale."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from handgrad.reports.wording import number_words

if TYPE_CHECKING:
    from handgrad.report import HeatMap

STEPS = 8
"""Steps of the colour scale above zero, each an equal share of the largest difference."""

SIDE = 336
"""Pixels that a map takes at most in each direction."""

TILE = 16
"""Pixels that a tile takes at most in each direction."""


class Picture(NamedTuple):
    """What the template draws: ``paths`` pairs a class name with the SVG path of its tiles, one unit a tile."""

    rows: int
    columns: int
    width: int
    height: int
    paths: list[tuple[str, str]]
    steps: list[str]
    largest: str
    words: str
    not_finite: bool


def picture(heat: HeatMap) -> Picture:
    """Return ``heat`` as SVG paths; tiles that hold no finite number get a class of their own."""
    rows, columns = len(heat.tiles), max(map(len, heat.tiles), default=0)
    largest = max((tile for row in heat.tiles for tile in row if math.isfinite(tile)), default=0.0)
    paths: dict[str, list[str]] = {}
    for y, row in enumerate(heat.tiles):
        steps = [_step(tile, largest) for tile in row]
        start = 0
        for x in range(1, len(steps) + 1):
            if x == len(steps) or steps[x] != steps[start]:
                paths.setdefault(steps[start], []).append(f"M{start} {y}h{x - start}v1h{start - x}z")
                start = x
    words = f"largest difference in {_tiles(heat.shape, rows, columns)}: {number_words(largest)}"
    return Picture(
        rows,
        columns,
        round(min(SIDE, columns * TILE)),
        round(min(SIDE, rows * TILE)),
        [(step, "".join(paths[step])) for step in sorted(paths)],
        [f"h{step}" for step in range(STEPS + 1)],
        number_words(largest),
        words,
        "hx" in paths,
    )


def _step(tile: float, largest: float) -> str:
    """Return the class of a tile: ``h0`` is no difference, and the smallest difference is at least ``h1``."""
    if not math.isfinite(tile):
        return "hx"
    return f"h{math.ceil(tile / largest * STEPS)}" if tile > 0 and largest > 0 else "h0"


def _tiles(shape: tuple[int, int], rows: int, columns: int) -> str:
    if shape == (rows, columns):
        return f"each of {rows} × {columns} entries"
    height, width = (math.ceil(size / max(count, 1)) for size, count in zip(shape, (rows, columns), strict=True))
    return f"each tile of {height} × {width} entries"
