"""Every call of PyTorch becomes a step."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from handgrad import source
from handgrad.graph import Const, Escape, Graph, Step, Value, version_of
from handgrad.source import Site
from handgrad.tracer.names import Names
from handgrad.tracer.naming import name_values

_ESCAPES = {
    "item": "item",
    "tolist": "tolist",
    "numpy": "numpy",
    "__array__": "numpy",
    "__bool__": "bool",
    "__float__": "item",
    "__int__": "item",
    "__index__": "item",
    "__complex__": "item",
}
_RANDOM = frozenset({
    "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "normal", "bernoulli",
    "multinomial", "poisson", "rrelu", "normal_", "uniform_", "random_", "exponential_", "bernoulli_", "geometric_",
    "log_normal_", "cauchy_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_normal_",
    "xavier_uniform_",
})  # fmt: skip  # fmt: skip
_DROPOUTS = frozenset(["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"])
_COMPARISONS = frozenset({"allclose", "equal"})
_TRAINING = frozenset({"backward", "grad"})


class Tracer(Names, TorchFunctionMode):
    """A context manager that records what runs inside it; ``recording`` is the `Graph`.

    ``updates`` grows whenever the code trains: at `backward()`, at a step of an optimizer, at a write into a parameter.
    ``step_count`` grows with every operation.
    """

    def __init__(
        self, *, scopes: bool = True, kept_bytes: float = float("inf"), given_bytes: float = float("inf")
    ) -> None:
        """Keep the numbers of all values, or the latest ``kept_bytes`` computed and ``given_bytes`` given."""
        super().__init__(scopes=scopes, kept_bytes=kept_bytes, given_bytes=given_bytes)
        self.first_seed: int | None = torch.initial_seed()  # who draws while it still holds has seeded nothing
        self.backward_calls: list[tuple[int, Value]] = []

    @property
    def step_count(self) -> int:
        """How many operations were recorded."""
        return len(self.graph.steps)

    @property
    def recording(self) -> Graph:
        """What was recorded so far, with names."""
        name_values(self.graph)
        self.graph.objects = {id(tensor): value for tensor, value in self.tensors()}
        return self.graph

    def __enter__(self) -> Tracer:
        super().__enter__()  # type: ignore[no-untyped-call]
        self.watch_lines()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.unwatch_lines()
        super().__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]

    def keep_only(self, values: set[Value]) -> None:
        """Forget what is known of all other values."""
        super().keep_only(values)
        self.backward_calls[:] = [call for call in self.backward_calls if call[1] in values]

    # -- calls

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self._calls += 1
        op = getattr(func, "__name__", "")
        if op in ("__get__", "__set__"):
            owner = getattr(func, "__self__", None)
            op = getattr(owner, "__name__", "")
            if func.__name__ == "__set__":
                return self._on_set(op, func, args, kwargs)
            if op == "grad":
                return self._on_grad(func, args, kwargs)
            if op not in ("T", "mT", "H", "mH", "data", "real", "imag"):
                return func(*args, **kwargs)
        frame = sys._getframe(1)
        code = frame.f_code
        found = source.of_code(code)
        while found is None:
            outer = frame.f_back
            if outer is None:
                return func(*args, **kwargs)
            frame, code = outer, outer.f_code
            found = source.of_code(code)
        if frame.f_trace is None and sys.gettrace() is not None:  # its lines were quiet for long
            self._quiet[id(code)] = 0
            frame.f_trace = self.on_line
        site = Site(code, frame.f_lasti, frame.f_lineno, found)
        if op in _ESCAPES:
            result = func(*args, **kwargs)
            self._on_escape(op, args, result, site)
            return result
        if op in _TRAINING:
            self._on_training(args)
            return func(*args, **kwargs)
        if op in ("retain_grad", "requires_grad_"):
            result = func(*args, **kwargs)
            value = self._value_of(args[0])
            value.retained |= op == "retain_grad"
            self._mark(value, args[0])
            return result
        watching = sys.gettrace()
        sys.settrace(None)  # no events for our own calls, which would cost as much as all the rest
        try:
            return self._on_step(op, func, args, kwargs, site, frame)
        finally:
            sys.settrace(watching)

    def _on_step(
        self, op: str, func: Callable[..., Any], args: Any, kwargs: dict[str, Any], site: Site, frame: FrameType
    ) -> Any:
        given: list[Tensor] = []
        step_args = [self._recorded(argument, given) for argument in args]
        step_kwargs = {key: self._recorded(argument, given) for key, argument in kwargs.items()}
        may_write = op[-1:] == "_" or op == "__setitem__" or "out" in kwargs or kwargs.get("inplace") is True
        if may_write:
            for tensor in given:
                self._preserve(tensor)
        versions = [version_of(tensor) for tensor in given] if may_write else ()
        before = [self._known[id(tensor)].value for tensor in given] if may_write else ()
        state = torch.get_rng_state() if op in _DROPOUTS else None
        grad_enabled = torch.is_grad_enabled()
        result = func(*args, **kwargs)
        tensors = tensors_of(result)
        changed = [
            i
            for i, version in enumerate(versions)
            if version_of(given[i]) != version or (version < 0 and _is_target(op, i, given[i], tensors))
        ]
        if changed[:1] == [0] and not op.startswith("_foreach"):  # a view counts the writes to its memory, too
            memory = self._known[id(given[0])].memory
            changed = [i for i in changed if given[i] is given[0] or self._known[id(given[i])].memory != memory]
        if not tensors and not changed:
            if op in _COMPARISONS:
                serial = self.call_of(frame).serial
                self.graph.comparisons.append(
                    Step(-1, op, func, step_args, step_kwargs, [], site, serial, self.time, grad_enabled)
                )
            return result
        if not changed and all(any(t is g for g in given) for t in tensors):
            return result  # `contiguous()`, `to()`: the argument itself
        graph = self.graph
        self.time += 1
        step = Step(
            len(graph.steps),
            op,
            func,
            step_args,
            step_kwargs,
            [],
            site,
            self.call_of(frame).serial,
            self.time,
            grad_enabled,
            is_random=op in _RANDOM or state is not None,
            unseeded=op in _RANDOM and kwargs.get("generator") is None and torch.initial_seed() == self.first_seed,
            generator_state=state,
        )
        graph.steps.append(step)
        for i in changed:
            if all(given[i] is not given[k] for k in changed if k < i):
                after = self._write(given[i], before[i], step)
                step.writes.append((before[i], after))
        if not changed:
            self._read.update(value.id for value in step.inputs)
        for tensor in tensors:
            known = self._known.get(id(tensor))
            if known is not None and any(tensor is g for g in given):
                step.outs.append(known.value)
            else:
                step.outs.append(self._new_value(tensor, step))
        return result

    def _recorded(self, argument: Any, given: list[Tensor]) -> Any:
        """Return an argument with values in place of tensors, which are added to ``given``."""
        if isinstance(argument, Tensor):
            given.append(argument)
            return self._value_of(argument)
        if isinstance(argument, list | tuple) and _holds_tensor(argument):
            items = [self._recorded(item, given) for item in argument]
            return tuple(items) if isinstance(argument, tuple) else items
        return Const(argument)

    def _on_set(self, op: str, func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        tensor = args[0]
        value = self._value_of(tensor)
        if op == "data":
            self._preserve(tensor)
        result = func(*args, **kwargs)
        if op == "requires_grad":
            self._mark(value, tensor)
        elif op == "data":  # another memory from here on
            if value.is_parameter:
                self.updates += 1
            self._new_value(tensor, None)
        return result

    def _on_grad(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            of = self._value_of(args[0])
            known = self._known.get(id(result))
            if known is None or known.version != version_of(result):
                self._new_value(result, None).grad_of = of
            else:
                known.value.grad_of = of
        return result

    def _on_escape(self, op: str, args: Any, result: Any, site: Site) -> None:
        if isinstance(args[0], Tensor) and (args[0].dtype.is_floating_point or _ESCAPES[op] == "bool"):
            self.time += 1
            value = self._value_of(args[0])
            self.graph.escapes.append(Escape(self.time, value, _ESCAPES[op], result, site))

    def _on_training(self, args: Any) -> None:
        self.updates += 1
        tensor = args[0][0] if isinstance(args[0], list | tuple) and args[0] else args[0]
        if isinstance(tensor, Tensor):
            self.backward_calls.append((self.time, self._value_of(tensor)))


def tensors_of(result: Any) -> list[Tensor]:
    """Return the tensors in what a call returned."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, list | tuple):
        return [tensor for item in result for tensor in tensors_of(item)]
    return []


def _is_target(op: str, position: int, tensor: Tensor, results: list[Tensor]) -> bool:
    """Whether an operation that can write wrote into ``tensor``, where no version tells."""
    return position == 0 if op == "__setitem__" else any(result is tensor for result in results)


def _holds_tensor(items: Any) -> bool:
    return any(isinstance(i, Tensor) or (isinstance(i, list | tuple) and _holds_tensor(i)) for i in items)
