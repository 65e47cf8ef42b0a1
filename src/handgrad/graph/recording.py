"""What was recorded of a run: steps, values and names, in the order in which they came to be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from handgrad.errors import ReplayError
from handgrad.graph.replay import Replay
from handgrad.graph.steps import Step, Value
from handgrad.source import Access, Site, Statement


class Scope(NamedTuple):
    """Whose name it is: a module's namespace, a frame's, or an object's."""

    kind: Literal["module", "frame", "object"]
    key: int


@dataclass(eq=False)
class Binding:
    """A statement gave ``name`` to a value, or changed the value behind it."""

    time: int
    scope: Scope
    name: str
    access: Access
    value: Value | None  # None: the name was bound to None or to a number
    statement: Statement
    frame: int
    visible: dict[str, Any] = field(default_factory=dict, repr=False)  # what the frame could see: values, constants
    number: float | None = None


class Escape(NamedTuple):
    """A number that left the tensors: ``x.item()``, ``if x > 0``, ``x.numpy()``."""

    time: int
    value: Value
    how: str
    result: Any
    site: Site


@dataclass(eq=False)
class Failure:
    """A statement that raised an exception, and what it could see."""

    time: int
    error: BaseException
    statement: Statement
    frame: int
    scope: Scope
    visible: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(eq=False)
class FrameInfo:
    """A call of user code."""

    serial: int
    caller: int | None
    function: str
    scope: Scope
    call_site: Statement | None = None  # the statement that called it


@dataclass(eq=False)
class Graph:
    """Steps, values and names, in the order in which they came to be."""

    steps: list[Step] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    bindings: list[Binding] = field(default_factory=list)
    escapes: list[Escape] = field(default_factory=list)
    comparisons: list[Step] = field(default_factory=list)  # such as torch.allclose, which return no tensor
    failures: list[Failure] = field(default_factory=list)
    frames: dict[int, FrameInfo] = field(default_factory=dict)
    outputs: list[Value] = field(default_factory=list)  # what the traced function returned
    named_loss: Value | None = None  # the result that is called so among several
    objects: dict[int, Value] = field(default_factory=dict, repr=False)  # by the id of a tensor that was alive then
    made: dict[tuple[Value, torch.dtype], Tensor] = field(default_factory=dict, repr=False)  # constants, in a dtype

    def __getitem__(self, name: str) -> Value:
        """Return the value called ``name``; raises KeyError with the names there are."""
        for value in self.values:
            if value.name == name:
                return value
        raise KeyError(f"no value {name}; there are {', '.join(v.name for v in self.values if v.name)}")

    def __contains__(self, name: str) -> bool:
        return any(value.name == name for value in self.values)

    @property
    def named(self) -> list[Value]:
        """The values that have a name, in order."""
        return [value for value in self.values if value.name]

    @property
    def leaves(self) -> list[Value]:
        """The values that no step made."""
        return [value for value in self.values if value.step is None and value.grad_of is None]

    def outermost(self, step: Step) -> Statement | None:
        """Return the statement of the outermost code that led to ``step``: the call of ``cmp``, not a line in it."""
        info, statement = self.frames.get(step.frame), step.statement
        while info is not None and info.caller is not None:
            statement = info.call_site or statement
            info = self.frames.get(info.caller)
        return statement

    def ran_in(self, binding: Binding) -> bool:
        """Whether the value of ``binding`` was made by its own statement, be it in a function that it calls."""
        assert binding.value is not None
        step = binding.value.step
        if step is None:
            return True
        frame, statement = step.frame, step.statement
        while frame != binding.frame:
            info = self.frames[frame]
            if info.caller is None:
                return False
            frame, statement = info.caller, info.call_site
        return statement is binding.statement

    @property
    def loss(self) -> Value:
        """The last scalar that the function returned; raises ReplayError if there is none."""
        for value in reversed(self.outputs):
            if not value.shape and value.is_floating:
                return value
        raise ReplayError("the traced function returned no scalar: there is no loss")

    def ancestors(self, *values: Value, unseen: bool = False) -> set[Value]:
        """Return ``values`` and everything that they were computed from; with ``unseen``, out of sight too."""
        seen: set[Value] = set()
        stack = list(values)
        while stack:
            value = stack.pop()
            if value not in seen:
                seen.add(value)
                if value.step is not None:
                    stack.extend(value.step.inputs)
                elif unseen:
                    stack.extend(value.behind)
        return seen

    @property
    def is_partial(self) -> bool:
        """Whether some values were computed from others out of sight."""
        return any(value.behind for value in self.values)

    def out_of_sight(self, of: Value, *results: Value) -> str | None:
        """Say what ``results`` were computed from that came from ``of`` unseen: d``of`` is then not known."""
        hidden = [value for value in self.values if value.behind]
        seen = self.ancestors(*results) if hidden else set()
        for value in hidden:
            if value in seen and value is not of and of in self.ancestors(value, unseen=True):
                binding = next((b for b in self.bindings if b.value is value), None)
                reader = next((step.site for step in self.steps if value in step.inputs), None)
                name = f"`{value.name}`" if value.name else f"a value in `{reader.text}`" if reader else "a value"
                place = binding.statement.source.place(binding.statement.line) if binding else reader
                return (
                    f"{name} ({place}) was computed out of sight, by a custom Function, by compiled or scripted code, "
                    f"or before the trace began: what of it is due to {of.name or 'others'} is not known"
                )
        return None

    def replay(
        self, leaves: dict[str, Tensor] | None = None, *, dtype: torch.dtype | None = None, cut: Iterable[str] = ()
    ) -> dict[str, Tensor]:
        """Run every step again and return the named values.

        ``leaves`` gives other values to leaves, by name. With ``dtype`` all floating numbers are of that type. A value
        named in ``cut`` is replaced by a leaf of autograd that holds the same numbers, so that gradients stop there;
        with ``cut`` the values come with their autograd graph. With neither, the result is the same to the bit.

        Raises:
            ReplayError: there is no such name; or a branch that depends on the numbers, such as ``if x.item() > 0``,
                would go the other way than it went when it was recorded.
        """
        given = {self._known(name): tensor for name, tensor in (leaves or {}).items()}
        cuts = {self._known(name) for name in cut}
        replay = Replay(self, given=given, dtype=dtype, cut=cuts, differentiable=bool(cuts))
        replay.run([value for step in self.steps for value in step.made])
        if given or dtype:
            replay.check_escapes(self.escapes)
        return {str(value.name): replay[value] for value in self.named}

    def _known(self, name: str) -> Value:
        try:
            return self[name]
        except KeyError as error:
            raise ReplayError(error.args[0]) from None

    def __str__(self) -> str:
        rows = []
        for binding in self.bindings:
            value = binding.value
            if value is not None and value.step is not None and value.name and value.time <= binding.time:
                statement = value.step.statement if value.step.op == "overlay" else binding.statement
                row = (value.name, str(value.shape), statement.text.split("\n")[0] if statement else "")
                if row not in rows:
                    rows.append(row)
        width = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
        return "\n".join(f"{name:{width[0]}}  {shape:{width[1]}}  {code}" for name, shape, code in rows)

    def __repr__(self) -> str:
        return f"<Graph: {len(self.steps)} steps, {len(self.named)} named values>"


def computed_again(value: Value) -> Tensor:
    """Return the numbers of a value that were not kept, from what was."""
    with torch.no_grad(), torch._C.DisableTorchFunction():
        return Replay(Graph(), stop=lambda other: other is not value and other.is_kept)[value]
