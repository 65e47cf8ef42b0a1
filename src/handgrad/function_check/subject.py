"""The Function under examination: its class, the names of its inputs, and the arguments it is run on."""

from __future__ import annotations

import contextlib
import inspect
import random
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from handgrad.errors import NotComparableError

Arguments = tuple[Any, ...]


class Case(NamedTuple):
    """Arguments for ``apply`` and an upstream gradient for each output; None where an output gets none."""

    arguments: Arguments
    upstream: tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Subject:
    """A Function and the arguments it was given."""

    function: type[Function]
    arguments: Arguments  # copies
    names: tuple[str, ...]  # of the arguments, in the signature of forward
    differentiable: tuple[int, ...]  # the positions of the arguments that get a gradient
    seed: int

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.function.__name__

    @property
    def has_setup_context(self) -> bool:
        """Whether forward takes no ctx."""
        return _has_setup_context(self.function)

    def outputs(self, arguments: Arguments) -> tuple[Any, ...]:
        """Return what the Function computes of copies of ``arguments``, with nothing to differentiate."""
        seeded(self.seed)
        with torch.no_grad():
            outputs = apply(self.function, *copied(arguments))
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def where(self, error: BaseException) -> str:
        """Return an exception in one line: its type, its text, and the line of the user's file that raised it."""
        own = inspect.getsourcefile(self.function.forward) if hasattr(self.function.forward, "__code__") else None
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [f for f in frames if f.filename == own] or [f for f in frames if not _is_ours(f.filename)]
        text = str(error).strip().split("\n")[0]
        place = f" ({Path(theirs[-1].filename).name}:{theirs[-1].lineno})" if theirs else ""
        return f"{type(error).__name__}{': ' if text else ''}{text}{place}"


def _is_ours(file: str) -> bool:
    return str(Path(__file__).parent) in file or str(Path(torch.__file__).parent) in file


def seeded(seed: int) -> None:
    """Seed torch's global generators: `torch.manual_seed` without the stack trace that it formats each time."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)


def apply(function: type[Function], *arguments: Any) -> Any:
    """Call ``function.apply``, which torch does not type."""
    return function.apply(*arguments)  # type: ignore[no-untyped-call]


def subject_of(function: Any, inputs: Arguments, seed: int) -> Subject:
    """Return the Function that ``function`` is or applies, with copies of its arguments.

    Raises:
        NotComparableError: there is no such Function, or nothing in its inputs is differentiable.
    """
    if isinstance(function, type) and issubclass(function, Function):
        cls, arguments = function, inputs
    elif isinstance(owner := getattr(function, "__self__", None), type) and issubclass(owner, Function):
        cls, arguments = owner, inputs
    elif callable(function) and not isinstance(function, type):
        cls, arguments = _applied_by(function, inputs)
    else:
        kind = f"the class {function.__name__}" if isinstance(function, type) else f"a {type(function).__name__}"
        raise NotComparableError(
            f"check_function(MyFunction, *inputs): got {kind}, which is no torch.autograd.Function: "
            "give the class, its `.apply`, or a function that calls it"
        )
    if cls.forward is Function.forward:
        raise NotComparableError(f"{cls.__name__} defines no forward")
    if not isinstance(inspect.getattr_static(cls, "forward"), staticmethod):
        raise NotComparableError(f"forward of {cls.__name__} is no static method: write @staticmethod above it")
    if _has_setup_context(cls):
        with contextlib.suppress(TypeError, ValueError):
            bound = inspect.signature(cls.forward).bind(*arguments)
            bound.apply_defaults()
            arguments = bound.args
    tensors = [i for i, x in enumerate(arguments) if is_differentiable(x)]
    asked = [i for i in tensors if arguments[i].requires_grad]
    if not tensors:
        raise NotComparableError(
            f"{cls.__name__} was given no floating tensor, so there is no gradient to check: "
            "pass the inputs of apply, the tensors among them as float32 or float64"
        )
    return Subject(cls, copied(arguments), _names(cls, arguments), tuple(asked or tensors), seed)


def is_differentiable(x: Any) -> bool:
    """Whether ``x`` is a tensor of a dtype that has gradients."""
    return isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())


def _has_setup_context(cls: type[Function]) -> bool:
    return cls.setup_context is not Function.setup_context


def _names(cls: type[Function], arguments: Arguments) -> tuple[str, ...]:
    names: list[str] = []
    try:
        parameters = list(inspect.signature(cls.forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    for parameter in parameters if _has_setup_context(cls) else parameters[1:]:
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}[{i}]" for i in range(len(arguments) - len(names))]
        else:
            names.append(parameter.name)
    names += [f"input {i}" for i in range(len(names), len(arguments))]
    return tuple(names[: len(arguments)])


def _applied_by(function: Callable[..., Any], inputs: Arguments) -> tuple[type[Function], Arguments]:
    """Return the one Function that ``function`` applies, and the arguments of the first call."""
    name = getattr(function, "__name__", type(function).__name__)

    def called() -> Any:
        leaves = [x.requires_grad_() if is_differentiable(x) else x for x in copied(inputs)]
        try:
            return function(*(x.clone() if isinstance(x, Tensor) else x for x in leaves))
        except Exception as error:
            text = str(error).strip().split("\n")[0]
            raise NotComparableError(f"{name} raises {type(error).__name__}: {text}") from error

    found = _functions_behind(called())
    if len(found) != 1:
        names = ", ".join(sorted(cls.__name__ for cls in found))
        raise NotComparableError(
            f"{name} applies more than one Function ({names}): check each of them alone"
            if found
            else f"{name} is no torch.autograd.Function, and its result does not come from the `.apply` of one"
        )
    (cls,) = found
    recorded: list[Arguments] = []
    own, forward = cls.__dict__.get("forward"), cls.forward

    def recording(*arguments: Any) -> Any:
        recorded.append(copied(arguments if _has_setup_context(cls) else arguments[1:]))
        return forward(*arguments)

    recording.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    try:
        setattr(cls, "forward", staticmethod(recording))  # noqa: B010  (mypy takes it for a method)
        called()
    finally:
        if own is None:
            del cls.forward
        else:
            setattr(cls, "forward", own)  # noqa: B010
    return cls, recorded[0]


def _functions_behind(outputs: Any) -> set[type[Function]]:
    tensors = outputs if isinstance(outputs, tuple | list) else (outputs,)
    stack = [t.grad_fn for t in tensors if isinstance(t, Tensor) and t.grad_fn is not None]
    seen: set[Any] = set()
    found = set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if cls := getattr(node, "_forward_cls", None):
            found.add(cls)
        stack += [n for n, _ in node.next_functions if n is not None]
    return found


def copied(arguments: Any) -> Any:
    """Return ``arguments`` with every tensor in them detached and copied, so that nobody can change the given ones."""
    return changed(arguments, lambda x: x.detach().clone())


def cast(arguments: Any, dtype: torch.dtype) -> Any:
    """Return ``arguments`` with the floating tensors in ``dtype``, the complex ones in its precision, contiguous."""
    complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64

    def change(x: Tensor) -> Tensor:
        if is_differentiable(x):
            return x.detach().to(complex_dtype if x.is_complex() else dtype, copy=True).contiguous()
        return x.detach().clone(memory_format=torch.contiguous_format)

    return changed(arguments, change)


def changed(arguments: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return ``arguments`` with ``change`` applied to every tensor in them; lists, tuples and dicts are gone into."""
    if isinstance(arguments, Tensor):
        return change(arguments)
    if type(arguments) in (list, tuple):
        return type(arguments)(changed(x, change) for x in arguments)
    if type(arguments) is dict:
        return {key: changed(x, change) for key, x in arguments.items()}
    return arguments


@contextlib.contextmanager
def as_found() -> Iterator[None]:
    """Run with gradients on, whatever the caller's mode, without warnings, and leave every generator as it was."""
    numpy = sys.modules.get("numpy")
    state, cpu = random.getstate(), torch.get_rng_state()
    numpy_state = numpy.random.get_state() if numpy else None
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = torch.cuda.get_rng_state_all() if in_use else None
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.enable_grad():
            warnings.simplefilter("ignore")  # an empty batch or a tie may well deserve one
            yield
    finally:
        random.setstate(state)
        torch.set_rng_state(cpu)
        if numpy:
            numpy.random.set_state(numpy_state)
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)
