"""Values, and the steps that made them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from handgrad.errors import ReplayError
from handgrad.source import Site, Statement


class Weak:
    """A tensor that somebody else holds, as long as it is there and was not changed."""

    __slots__ = ("_tensor", "_version")

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._version = weakref.ref(tensor), version_of(tensor)

    def __call__(self) -> Tensor | None:
        """Return the tensor, or None."""
        tensor = self._tensor()
        return tensor if tensor is not None and version_of(tensor) == self._version else None


def version_of(tensor: Tensor) -> int:
    """Return how often the memory of ``tensor`` was written to; -1 in inference mode, which does not count."""
    return -1 if tensor.is_inference() else tensor._version


@dataclass(eq=False)
class Value:
    """A tensor that the code made or read; an in-place write makes a new one."""

    id: int
    kept: Tensor | Weak | None = field(repr=False)  # its numbers; None: not kept
    shape: tuple[int, ...]
    dtype: torch.dtype
    step: Step | None = None  # what made it; None for a leaf
    name: str | None = None  # unique: h, then h_1
    base_name: str | None = None
    is_parameter: bool = False  # an autograd leaf that requires a gradient
    requires_grad: bool = False
    retained: bool = False  # `.retain_grad()` was called on it
    grad_of: Value | None = None  # it was read from the `.grad` of this value
    made_elsewhere: bool = False  # autograd made it, before the trace or out of its sight
    behind: list[Value] = field(default_factory=list, repr=False)  # and the values that it made it from
    time: int = 0

    @property
    def tensor(self) -> Tensor:
        """The recorded tensor, as it was then; computed again if it was not kept.

        Raises:
            ReplayError: it was not kept, and no step can compute it.
        """
        kept = self.kept() if isinstance(self.kept, Weak) else self.kept
        if kept is not None:
            return kept
        if not self.is_computed:
            place = f"{self.step.site}: " if self.step is not None else ""
            raise ReplayError(
                f"{place}{self.name or 'a tensor'} {self.shape} was let go to save memory, and nothing can compute it "
                "again: keep it in a variable, or run less before the pass that is judged"
            )
        from handgrad.graph.recording import computed_again

        return computed_again(self)

    @property
    def is_kept(self) -> bool:
        """Whether its numbers are at hand."""
        return isinstance(self.kept, Tensor) or (self.kept is not None and self.kept() is not None)

    @property
    def is_computed(self) -> bool:
        """Whether its step gives the same numbers again: it draws none, and reads values only."""
        return self.step is not None and not self.step.is_random and any(True for _ in self.step.inputs)

    @property
    def value(self) -> Tensor:
        """The recorded tensor, as it was then, without its autograd graph."""
        return self.tensor.detach()

    @property
    def is_floating(self) -> bool:
        """Whether it can have a gradient."""
        return self.dtype.is_floating_point or self.dtype.is_complex

    def __repr__(self) -> str:
        return f"{self.name or f'%{self.id}'} {self.shape}"


class Const(NamedTuple):
    """An argument that is no tensor, and how the user wrote it: ``1/(n-1)``."""

    value: Any
    text: str | None = None

    def __repr__(self) -> str:
        return self.text if self.text is not None else repr(self.value)


@dataclass(eq=False)
class Step:
    """One operation: its arguments (`Value`, `Const`, or a list of these), what it returned, where it stands."""

    index: int
    op: str
    func: Callable[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]
    outs: list[Value]  # the tensors that it returned
    site: Site
    frame: int  # the frame that it ran in
    time: int
    grad_enabled: bool
    writes: list[tuple[Value, Value]] = field(default_factory=list)  # each value it changed in place: before, after
    is_random: bool = False  # it drew numbers
    unseeded: bool = False  # and nobody has seeded the generator that it drew from
    generator_state: Tensor | None = None  # for dropout, which draws and computes: the generator before it

    @property
    def text(self) -> str:
        """The text of the expression."""
        return self.site.text

    @property
    def statement(self) -> Statement | None:
        """The statement it stands in."""
        return self.site.statement

    @property
    def inplace(self) -> bool:
        """Whether it changes one of its arguments."""
        return bool(self.writes)

    @property
    def inputs(self) -> Iterator[Value]:
        """The values among its arguments."""
        for argument in (*self.args, *self.kwargs.values()):
            yield from _values_in(argument)

    @property
    def made(self) -> list[Value]:
        """Every value that it returned or changed."""
        return [*self.outs, *(after for _, after in self.writes if after not in self.outs)]

    def __repr__(self) -> str:
        made = ", ".join(map(repr, self.made))
        given = ", ".join([*map(repr, self.args), *(f"{k}={v!r}" for k, v in self.kwargs.items())])
        return f"[{self.index}] {made} = {self.op}({given})"


def _values_in(argument: Any) -> Iterator[Value]:
    if isinstance(argument, Value):
        yield argument
    elif isinstance(argument, dict):
        for item in argument.values():
            yield from _values_in(item)
    elif isinstance(argument, list | tuple) and not isinstance(argument, Const):
        for item in argument:
            yield from _values_in(item)
