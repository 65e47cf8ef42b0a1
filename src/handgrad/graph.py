"""The intermediate representation: named values, and the steps that made them; and how to run them again.

A `Graph` is what happened, in order. It knows no derivative. `Replay` runs steps again: in another precision, at other
values of the leaves, or with some values replaced, bit for bit where nothing was changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from handgrad.errors import ReplayError
from handgrad.source import Access, Site, Statement

NARROW = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(eq=False)
class Value:
    """A tensor that the code made or read; an in-place write makes a new one."""

    id: int
    tensor: Tensor = field(repr=False)
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
    time: int = 0

    @property
    def value(self) -> Tensor:
        """The recorded tensor, as it was then."""
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

    def ancestors(self, *values: Value) -> set[Value]:
        """Return ``values`` and everything that they were computed from."""
        seen: set[Value] = set()
        stack = list(values)
        while stack:
            value = stack.pop()
            if value not in seen:
                seen.add(value)
                if value.step is not None:
                    stack.extend(value.step.inputs)
        return seen

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


def _values_in(argument: Any) -> Iterator[Value]:
    if isinstance(argument, Value):
        yield argument
    elif isinstance(argument, dict):
        for item in argument.values():
            yield from _values_in(item)
    elif isinstance(argument, list | tuple) and not isinstance(argument, Const):
        for item in argument:
            yield from _values_in(item)


class Replay:
    """Steps run again, on demand and once each. ``replay[value]`` is the tensor."""

    def __init__(
        self,
        graph: Graph,
        *,
        given: dict[Value, Tensor] | None = None,
        dtype: torch.dtype | None = None,
        cut: Iterable[Value] = (),
        differentiable: bool = False,
        obey_no_grad: bool = True,
        base: Replay | None = None,
        stop: Callable[[Value], bool] | None = None,
        rerun: set[Value] | None = None,
    ) -> None:
        self.graph, self.dtype, self.differentiable, self.obey_no_grad = graph, dtype, differentiable, obey_no_grad
        self.cut = set(cut)
        self.before_cut: dict[Value, Tensor] = {}
        self.stop = stop
        self.base, self.rerun = base, rerun  # what is known from another replay, and what is not taken from there
        self._known: dict[Value, Tensor] = {}
        for value, tensor in (given or {}).items():
            self._known[value] = self._finish(value, tensor)

    def __getitem__(self, value: Value) -> Tensor:
        known = self._get(value)
        if known is None:
            self.run([value])
            known = self._get(value)
            assert known is not None
        return known

    def _get(self, value: Value) -> Tensor | None:
        known = self._known.get(value)
        if known is None and self.base is not None and (self.rerun is None or value not in self.rerun):
            known = self.base._get(value)
        return known

    def run(self, values: Iterable[Value]) -> None:
        """Compute ``values`` and whatever they need, in the recorded order."""
        steps: dict[int, Step] = {}
        stack = list(values)
        while stack:
            value = stack.pop()
            if self._get(value) is not None:
                continue
            if value.step is None or (self.stop is not None and self.stop(value)):
                self._known[value] = self._finish(value, self._cast(value.value))
            elif value.step.index not in steps:
                steps[value.step.index] = value.step
                stack.extend(value.step.inputs)
        with self.default_dtype():
            for _, step in sorted(steps.items()):
                self._execute(step)

    def _execute(self, step: Step) -> None:
        if all(self._get(value) is not None for value in step.made):
            return
        if step.is_random and step.generator_state is None:  # what was drawn depends on no number: it stands
            for value in step.made:
                self._known[value] = self._finish(value, self._cast(value.value))
            return
        if self._is_constant(step):
            return
        tracked = self.differentiable and (step.grad_enabled or not self.obey_no_grad)
        with torch.enable_grad() if tracked else torch.no_grad():
            written = {before for before, _ in step.writes}
            clones: dict[Value, Tensor] = {}

            def real(argument: Any) -> Any:
                if isinstance(argument, Value):
                    tensor = self[argument]
                    if argument in written:
                        tensor = clones.setdefault(argument, tensor.clone())
                    return tensor
                if isinstance(argument, Const):
                    return self._widen(argument.value)
                if isinstance(argument, dict):
                    return {key: real(item) for key, item in argument.items()}
                if isinstance(argument, list | tuple):
                    return type(argument)(map(real, argument))
                return argument

            func = _WIDER.get(step.op, step.func) if self.dtype is torch.float64 else step.func
            args, kwargs = real(step.args), real(step.kwargs)
            result = self._call(step, func, args, kwargs)
        for value, tensor in zip(step.outs, _tensors_in(result), strict=False):
            if not any(value is after for _, after in step.writes):
                self._known[value] = self._finish(value, self._cast(tensor))
        for before, after in step.writes:
            self._known[after] = self._finish(after, clones[before])

    def _is_constant(self, step: Step) -> bool:
        """Take what a factory such as `torch.tensor` made from before, if it is the same at every point."""
        if step.writes or any(True for _ in step.inputs):
            return False
        for value in step.outs:
            key = value, self.dtype or value.dtype
            if key not in self.graph.made:
                if value.is_floating and self.dtype is not None:
                    with torch.no_grad():
                        kwargs = {name: self._widen(item.value) for name, item in step.kwargs.items()}
                        kwargs.pop("requires_grad", None)
                        result = step.func(*(self._widen(item.value) for item in step.args), **kwargs)
                    for made, tensor in zip(step.outs, _tensors_in(result), strict=False):
                        self.graph.made[made, self.dtype] = self._cast(tensor)
                else:
                    self.graph.made[key] = value.value
            self._known[value] = self._finish(value, self.graph.made[key])
        return True

    def _call(self, step: Step, func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        if step.generator_state is None:
            return func(*args, **kwargs)
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(step.generator_state)
            recorded = next(step.inputs).dtype
            mask = step.func(torch.ones_like(args[0], dtype=recorded), *args[1:], **kwargs)
        return args[0] * mask.to(args[0].dtype)

    def _finish(self, value: Value, tensor: Tensor) -> Tensor:
        """Cut ``value`` off its past if asked to: what it was is kept, and a leaf takes its place."""
        if value not in self.cut:
            return tensor
        self.before_cut[value] = tensor
        return tensor.detach().clone().requires_grad_() if tensor.is_floating_point() else tensor

    def _cast(self, tensor: Tensor) -> Tensor:
        if self.dtype is not None and tensor.dtype in NARROW and self.dtype not in NARROW:
            return tensor.to(self.dtype)
        if self.dtype in NARROW and tensor.is_floating_point():
            return tensor.to(self.dtype)
        return tensor

    def _widen(self, constant: Any) -> Any:
        if self.dtype is not None and isinstance(constant, torch.dtype) and constant.is_floating_point:
            return self.dtype
        return constant

    @contextlib.contextmanager
    def default_dtype(self) -> Iterator[None]:
        """Let factories such as `torch.zeros` make what the replay computes with."""
        before = torch.get_default_dtype()
        if self.dtype is not None:
            torch.set_default_dtype(self.dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)

    def check_escapes(self, escapes: Iterable[Escape]) -> None:
        """Raise ReplayError if a number that steered the code is another one here."""
        for escape in escapes:
            if self.differs(escape):
                raise ReplayError(
                    f"{escape.site}: `{escape.site.text}` took a number out of the tensors, and it is another "
                    "one here: what depends on it was recorded for the first; keep it a tensor "
                    "(`torch.where`, no `.item()`)"
                )

    def differs(self, escape: Escape) -> bool:
        """Whether what left the tensors then is not what would leave them here."""
        here, then = self[escape.value].detach(), escape.value.value
        if escape.how == "bool":
            return bool(here.any()) != bool(then.any())
        return not torch.allclose(here.double(), then.double(), rtol=1e-4, atol=0.0, equal_nan=True)


_WIDER: dict[str, Callable[..., Any]] = {
    "float": Tensor.double,
    "half": Tensor.double,
    "bfloat16": Tensor.double,
}


def _tensors_in(result: Any) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, dict):
        for item in result.values():
            yield from _tensors_in(item)
    elif isinstance(result, list | tuple):
        for item in result:
            yield from _tensors_in(item)
