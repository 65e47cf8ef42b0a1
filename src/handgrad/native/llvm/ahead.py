"""Calls for memory before it is needed: rows of large arrays are further apart than the processor looks ahead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from handgrad.native.indices import Var
from handgrad.native.llvm.expressions import Expressions, Lanes
from handgrad.native.nests import Nest
from handgrad.native.program import Map, loads_of

FAR = 1 << 19  # numbers: smaller arrays are near enough
ROWS_AHEAD = 8


def call_ahead(
    e: Expressions, nest: Nest, row: Var, numbers: Sequence[Any], distance: int, vectors: Sequence[Lanes]
) -> None:
    """Call for what a nest reads and writes of large arrays ``distance`` rows after some, at vectors of columns."""
    column = nest.domain[-1]
    places = [(n.array, n.position) for s in nest.statements for n in loads_of(s.body) if n.array not in nest.writes]
    places += [(s.array, s.position) for s in nest.statements if isinstance(s, Map) and s.array not in nest.unstored]
    for array, position in dict.fromkeys(places):
        if math.prod(array.shape) < FAR:
            continue
        base, flat = e.place(array, position)
        if flat.factor_of(column) == 1 and flat.factor_of(row):
            for number in numbers:
                following = e.b.ir.add(number, e.b.i64(distance))
                for lanes in vectors:
                    with e.bound(row, following), e.at(lanes):
                        e.b.prefetch(base, e.index(flat), e.b.real)
