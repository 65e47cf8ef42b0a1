"""Which nests run together, a panel of columns at a time: what one writes is in the cache when the next reads it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from handgrad.native.arrays import Array
from handgrad.native.indices import Index
from handgrad.native.loops import PANEL, WORTH, Division, division_of, order_of, tile_of, work_of
from handgrad.native.nests import Nest
from handgrad.native.program import bodies_of, loads_of


@dataclass(eq=False)
class Group:
    """Nests in their order. Several run for one panel of columns after the other; ``grain`` is its width."""

    nests: list[Nest]
    grain: int = 0

    def __post_init__(self) -> None:
        self.reads: set[Array] = set().union(*(nest.reads for nest in self.nests))
        self.writes: set[Array] = set().union(*(nest.writes for nest in self.nests))

    def add(self, nest: Nest, grain: int) -> None:
        """Add a nest, whose code takes ``grain`` columns at once."""
        self.nests.append(nest)
        self.grain = math.lcm(self.grain, grain)
        self.reads |= nest.reads
        self.writes |= nest.writes

    def is_aligned(self, *arrays: Array) -> bool:
        """Whether all nests read and write these arrays along one dimension, the columns of the panel alone."""
        touching = [n for n in self.nests if not (n.reads | n.writes).isdisjoint(arrays)]
        return len(self.nests) == 1 or _agree({d for n in touching for a in arrays for d in _panel_dims(n, a)})

    def division(self, lanes: int, registers: int) -> Division | None:
        """Return what threads can share; None if that is too little work, or nothing that is independent."""
        if len(self.nests) == 1:
            return division_of(self.nests[0], lanes, registers)
        panels = self.panels
        return panels if sum(map(work_of, self.nests)) >= WORTH and panels.parts > 1 else None

    @property
    def panels(self) -> Division:
        """The panels of a group of several nests, as the first of them counts columns."""
        return Division(self.nests[0].domain[-1], self.grain)


def groups_of(nests: Sequence[Nest], given: Sequence[Array], lanes: int, registers: int) -> list[Group]:
    """Return nests in groups, in an order that works."""
    groups: list[Group] = []
    for nest in _copies_first(nests, set(given)):
        grain = _grain_of(nest, lanes, registers)
        first = 0
        for number, group in enumerate(groups):
            if nest.reads & group.writes or nest.writes & (group.reads | group.writes):
                first = number if _keeps_to_its_panel(nest, group) else number + 1
        joined = next((g for g in groups[first:] if _joins(nest, grain, g)), None)
        if joined is None:
            groups.append(Group([nest], grain))
        else:
            joined.add(nest, grain)
    return groups


def _copies_first(nests: Sequence[Nest], given: set[Array]) -> list[Nest]:
    """Return nests with those at the start that need nothing else: such as a transposed copy of a parameter."""
    return sorted(nests, key=lambda n: not n.reads <= given or bool(n.writes & given))


def _grain_of(nest: Nest, lanes: int, registers: int) -> int:
    """Return how many columns the code of a nest takes at once; 0 if it cannot run for a panel of them."""
    if not nest.domain or nest.domain[-1].extent < 2 * lanes:
        return 0
    if nest.scatter is not None:
        in_columns = _panel_dim(nest, nest.scatter.position) == len(nest.scatter.position) - 1
        return lanes if in_columns and nest.scatter.base.op == "number" else 0
    if nest.product is not None:
        return tile_of(nest.product, lanes, registers)[1] * lanes
    kind = order_of(nest).kind
    if kind == "rows":
        return 0
    return lanes if kind == "plain" else min(PANEL, nest.domain[-1].extent // lanes) * lanes


def _joins(nest: Nest, grain: int, group: Group) -> bool:
    columns = group.nests[0].domain[-1].extent if group.nests[0].domain else 0
    return bool(
        grain
        and group.grain
        and nest.domain[-1].extent == columns
        and math.lcm(grain, group.grain) < columns
        and (nest.reads | nest.writes) & (group.reads | group.writes)
    )


def _keeps_to_its_panel(nest: Nest, group: Group) -> bool:
    """Whether a nest reads and writes, of what a group touches, the columns of its own panel only."""
    for other in group.nests:
        shared = (nest.reads & other.writes) | (nest.writes & (other.reads | other.writes))
        if shared and not all(n.domain for n in (nest, other)):
            return False
        for array in shared:
            if not _agree(_panel_dims(nest, array) | _panel_dims(other, array)):
                return False
    return True


def _agree(dims: set[int | None]) -> bool:
    return len(dims) == 1 and None not in dims


def _panel_dims(nest: Nest, array: Array) -> set[int | None]:
    """Return along which dimensions of an array the last variable of a nest runs; None where it is not by itself."""
    places = [node.position for d in nest.definitions for node in loads_of(*bodies_of(d)) if node.array is array]
    places += [d.position for d in nest.definitions if d.array is array]
    return {_panel_dim(nest, place) for place in places}


def _panel_dim(nest: Nest, place: Sequence[Index]) -> int | None:
    last = nest.domain[-1]
    dims = [d for d, index in enumerate(place) if last in index.variables]
    return dims[0] if len(dims) == 1 and place[dims[0]] == Index.of(last) else None
