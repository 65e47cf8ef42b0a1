"""What someone says that some lines compute, and the passes that such claims make up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from handgrad.graph import Binding, Failure, Step, Value
from handgrad.source import Statement


@dataclass(eq=False)
class Event:
    """A statement, or a block such as a loop, that sets or changes a gradient."""

    statement: Statement
    bindings: list[Binding]
    before: Value | None
    after: Value | None

    @property
    def last(self) -> Binding:
        """The last binding in it."""
        return self.bindings[-1]

    @property
    def line(self) -> int:
        """The line of its last binding."""
        return self.last.statement.line


@dataclass(eq=False)
class Claim:
    """Someone says that ``events`` compute the gradient of ``of``."""

    name: str
    candidates: list[Value]  # the values that it may be the gradient of, best first
    events: list[Event] = field(default_factory=list)
    compared_with: list[tuple[Value, Step]] = field(default_factory=list)
    failure: Failure | None = None  # its last line raised an exception
    carried: Value | None = None  # what an earlier pass left, where this one adds to it

    @property
    def of(self) -> Value:
        """The value that it is the gradient of."""
        return self.candidates[0]

    @property
    def final(self) -> Value | None:
        """What it ended as."""
        return self.events[-1].after

    @property
    def bindings(self) -> Iterator[Binding]:
        """Every binding of its name."""
        for event in self.events:
            yield from event.bindings

    @property
    def values(self) -> set[Value]:
        """Every value that its name stood for."""
        return {binding.value for binding in self.bindings if binding.value is not None}


@dataclass(eq=False)
class ClaimedPass:
    """The claims about one loss that belong together."""

    loss: Value
    claims: list[Claim] = field(default_factory=list)


class Made(NamedTuple):
    """A binding that makes a gradient, the values that this may be the gradient of, and the loss that it is about."""

    binding: Binding
    candidates: list[Value]
    loss: Value
