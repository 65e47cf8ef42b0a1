"""Loop nests: definitions over one domain that are computed together, so that what they share stays in registers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from handgrad.errors import NoLoweringError
from handgrad.native.arrays import Array
from handgrad.native.indices import Var
from handgrad.native.program import Definition, Map, Product, Program, Reduce, Scatter, bodies_of, loads_of, needed
from handgrad.native.scalars import Scalar

Statement = Map | Reduce
LONG = 1024  # terms of a product that are added up in one go


@dataclass(eq=False)
class Nest:
    """Loops over ``domain``. A nest has a product, whose sums its statements read, or a scatter, or statements only.

    Beside a product, what is reduced is reduced over its rows.
    """

    domain: tuple[Var, ...]
    statements: list[Statement] = field(default_factory=list)
    product: Product | None = None
    scatter: Scatter | None = None
    unstored: set[Array] = field(default_factory=set)  # what only this nest reads, at the place where it makes it

    @property
    def definitions(self) -> list[Definition]:
        """Everything that it computes."""
        head: list[Definition] = [d for d in (self.product, self.scatter) if d is not None]
        return [*head, *self.statements]

    @property
    def over(self) -> frozenset[Var] | None:
        """The variables that its statements reduce over."""
        return next((s.over for s in self.statements if isinstance(s, Reduce)), None)

    def __post_init__(self) -> None:
        self.reads: set[Array] = set()  # the arrays that it reads, from memory or from its own registers
        self.writes: set[Array] = set()  # the arrays that it computes
        for definition in self.definitions:
            self._note(definition)

    def add(self, statement: Statement) -> None:
        """Add a statement."""
        self.statements.append(statement)
        self._note(statement)

    def _note(self, definition: Definition) -> None:
        self.reads |= {node.array for node in loads_of(*bodies_of(definition))}
        self.writes.add(definition.array)


def nests_of(program: Program, results: Iterable[Array]) -> list[Nest]:
    """Return the nests of all definitions that results and updates need, fused where that is right."""
    nests: list[Nest] = []
    wanted = set(results) | set(program.given)
    for definition in needed(program.definitions, wanted):
        place = _place_for(definition, nests)
        if place is None:
            nests.append(_nest_of(definition))
        else:
            assert isinstance(definition, (Map, Reduce))
            nests[place].add(definition)
    _leave_unstored(nests, wanted)
    _check_that_updates_come_last(nests, set(program.given))
    return nests


def _check_that_updates_come_last(nests: Sequence[Nest], given: set[Array]) -> None:
    """Raise NoLoweringError if something would read a given array after it was overwritten; every read is of before."""
    for number, nest in enumerate(nests):
        for made in nest.definitions:
            if made.array in given and (
                not isinstance(made, Map)
                or not _reads_only_here(nest, made)
                or any(made.array in later.reads for later in nests[number + 1 :])
            ):
                raise NoLoweringError(f"the update of {made.array}: something reads it afterwards")


def _nest_of(definition: Definition) -> Nest:
    if isinstance(definition, Product):
        return Nest(definition.domain, product=definition)
    if isinstance(definition, Scatter):
        return Nest(definition.domain, scatter=definition)
    return Nest(definition.domain, [definition])


def _place_for(definition: Definition, nests: Sequence[Nest]) -> int | None:
    """Return the number of the first nest that can compute ``definition`` too."""
    if not isinstance(definition, (Map, Reduce)):
        return None
    reads = list(loads_of(definition.body))
    arrays = {node.array for node in reads}
    first = 0
    for number, nest in enumerate(nests):
        if definition.array in nest.reads and definition.array not in nest.writes:  # it is overwritten: read it before
            here = _reads_only_here(nest, definition) and nest.domain == definition.domain
            first = max(first, number if here else number + 1)
        for made in nest.definitions:
            if made.array in arrays:
                at_once = made.array in nest.writes and isinstance(made, (Map, Product)) and all(
                    node.position == made.position for node in reads if node.array is made.array
                )  # fmt: skip
                first = max(first, number if at_once and nest.domain == definition.domain else number + 1)
            if made.array is definition.array:
                first = max(first, number + 1)
    for number in range(first, len(nests)):
        if _fits(definition, nests[number]):
            return number
    return None


def _reads_only_here(nest: Nest, definition: Definition) -> bool:
    """Whether a nest reads the array that ``definition`` overwrites only at the place that is overwritten."""
    head = [d for d in (nest.product, nest.scatter) if d is not None]
    if any(node.array is definition.array for d in head for node in loads_of(*bodies_of(d))):
        return False
    return all(
        node.position == definition.position
        for made in nest.statements
        for node in loads_of(made.body)
        if node.array is definition.array
    )


def _fits(definition: Map | Reduce, nest: Nest) -> bool:
    if nest.domain != definition.domain or nest.scatter is not None:
        return False
    if isinstance(definition, Map):
        return True
    along_rows = nest.product is None or definition.over == {nest.domain[-2]}
    return along_rows and nest.over in (None, definition.over)


def _leave_unstored(nests: Sequence[Nest], wanted: set[Array]) -> None:
    for nest in nests:
        for made in nest.definitions:
            elsewhere = any(made.array in other.reads for other in nests if other is not nest)
            kept = isinstance(made, Product) and is_long(made)
            if isinstance(made, (Map, Product)) and made.array not in wanted and not elsewhere and not kept:
                nest.unstored.add(made.array)


def is_long(product: Product) -> bool:
    """Whether the terms of a product are added up in parts, and its sums wait in memory meanwhile."""
    return product.k.extent > LONG


def registers_of(nest: Nest) -> dict[Array, Scalar]:
    """Return the arrays that a nest makes and reads in registers, as the expressions that make them."""
    return {s.array: s.body for s in nest.statements if isinstance(s, Map) and s.array.role == "temporary"}
