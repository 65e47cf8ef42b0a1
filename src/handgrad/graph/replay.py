"""Recorded steps run again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from handgrad.errors import ReplayError
from handgrad.graph.steps import Const, Step, Value

if TYPE_CHECKING:
    from handgrad.graph.recording import Escape, Graph

NARROW = (torch.float32, torch.float16, torch.bfloat16)


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
                self._known[value] = self._finish(value, self._given(value))
            elif value.step.index not in steps:
                steps[value.step.index] = value.step
                stack.extend(value.step.inputs)
        with self.default_dtype():
            for _, step in sorted(steps.items()):
                self._execute(step)

    def _given(self, value: Value) -> Tensor:
        """Return what nothing computes here, in the dtype of the replay: one copy serves all replays."""
        if self.dtype is None or (value.step is not None and not _stands(value.step)):
            return self._cast(value.value)
        key = value, self.dtype
        if key not in self.graph.made:
            self.graph.made[key] = self._cast(value.value)
        return self.graph.made[key]

    def _execute(self, step: Step) -> None:
        if all(self._get(value) is not None for value in step.made):
            return
        if _stands(step):
            for value in step.made:
                self._known[value] = self._finish(value, self._given(value))
            return
        if self._is_constant(step):
            return
        tracked = self.differentiable and (step.grad_enabled or not self.obey_no_grad)
        with torch.enable_grad() if tracked else torch.no_grad():
            clones = {before: self[before].clone() for before, _ in step.writes}
            func = _WIDER.get(step.op, step.func) if self.dtype is torch.float64 else step.func
            args, kwargs = self._real(step.args, clones), self._real(step.kwargs, clones)
            result = self._call(step, func, args, kwargs)
        for value, tensor in zip(step.outs, _tensors_in(result), strict=False):
            if not any(value is after for _, after in step.writes):
                self._known[value] = self._finish(value, self._cast(tensor))
        for before, after in step.writes:
            self._known[after] = self._finish(after, clones[before])

    def _real(self, argument: Any, clones: dict[Value, Tensor]) -> Any:
        """Return an argument with tensors in place of values; ``clones`` are what the step may change."""
        if isinstance(argument, Value):
            clone = clones.get(argument)
            return self[argument] if clone is None else clone
        if isinstance(argument, Const):
            return self._widen(argument.value)
        if isinstance(argument, dict):
            return {key: self._real(item, clones) for key, item in argument.items()}
        if isinstance(argument, list | tuple):
            return type(argument)(self._real(item, clones) for item in argument)
        return argument

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
        if args[0].dtype not in NARROW and "alpha" not in step.op:  # the factor, too, is to be of the new precision
            p = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
            kept = (mask != 0).to(args[0].dtype)
            mask = kept / (1 - p) if p < 1 and bool((mask != 1).any()) else kept
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


def _stands(step: Step) -> bool:
    """Whether the step drew numbers, which depend on no others: they are as they are."""
    return step.is_random and step.generator_state is None


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
