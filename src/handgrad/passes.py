"""A hand-written pair and autograd, run on the same numbers in any precision."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from handgrad.errors import NotComparableError

WIDE = (torch.float64, torch.complex128)


class Named(Protocol):
    """A NamedTuple of tensors: parameters, values or gradients."""

    def _asdict(self) -> dict[str, Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Passes(NamedTuple):
    """The gradients of both passes, by the name of the gradient and by that of the value."""

    by_hand: dict[str, Tensor | None]
    autograd: dict[str, Tensor]

    @classmethod
    def run(
        cls, forward: Callable[..., Named], backward: Callable[..., Named], parameters: Named, batch: Any
    ) -> Passes:
        """Run forward, backward and autograd; raises NotComparableError as `handgrad.compare_pass` says."""
        loss, autograd = _run_autograd(forward, parameters, batch)
        with torch.no_grad():
            values = forward(parameters, *batch)
            by_hand = by_name(as_dict(backward(parameters, values, *batch), "backward returns", "gradients"))
        again = as_dict(values, "forward returns", "values")["loss"]
        if not loss.isfinite():
            raise NotComparableError(f"the loss is {loss.item()}: there are no gradients to compare")
        if (loss - again).abs() > 1e-3 * loss.abs():
            raise NotComparableError(
                f"forward gave a loss of {loss.item():.6g} and then of {again.item():.6g}: "
                "draw random numbers once, outside, or from a generator that forward seeds itself"
            )
        return cls(by_hand, autograd)


@contextlib.contextmanager
def using_threads(number: int) -> Iterator[None]:
    """Let PyTorch use ``number`` threads, and afterwards as many as before.

    With one thread every sum has one order. With more, some do not: `index_put_` on several thousand entries gives
    other last bits from run to run.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def autograd_gradients(forward: Callable[..., Named], parameters: Named, *batch: Tensor) -> dict[str, Tensor]:
    """Return autograd's gradient of every parameter and every value of ``forward``, by name.

    A value on which the loss does not depend has a gradient of zeros. Names are those of `by_name`.

    Raises:
        NotComparableError: ``forward`` returns no scalar ``loss`` that depends on the parameters.
    """
    return _run_autograd(forward, parameters, batch)[1]


def by_name(named: dict[str, Any]) -> dict[str, Any]:
    """Return values or gradients with those of a loop among them: step 2 of a list of NamedTuples holds ``h[2]``.

    >>> class Step(NamedTuple):
    ...     h: int
    >>> by_name({"emb": 7, "steps": [Step(8), Step(9)]})
    {'emb': 7, 'h[0]': 8, 'h[1]': 9}
    """
    found: dict[str, Any] = {}
    for name, value in named.items():
        if isinstance(value, list) and value and all(hasattr(step, "_asdict") for step in value):
            for t, step in enumerate(value):
                found |= {f"{field}[{t}]": tensor for field, tensor in step._asdict().items()}
        else:
            found[name] = value
    return found


def as_dict(named: Any, who: str, what: str) -> dict[str, Any]:
    """Return a NamedTuple as a dict; ``who`` and ``what`` say what else it might be, in the error."""
    if not hasattr(named, "_asdict"):
        raise NotComparableError(f"{who} a {type(named).__name__}: make it a NamedTuple of {what}, each by its name")
    fields: dict[str, Any] = named._asdict()
    return fields


def _run_autograd(forward: Callable[..., Named], parameters: Named, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
    for name, p in as_dict(parameters, "the parameters are", "tensors").items():
        if not isinstance(p, Tensor):
            raise NotComparableError(f"the parameter {name} is a {type(p).__name__}, not a tensor")
        if not (p.is_floating_point() or p.is_complex()):
            raise NotComparableError(
                f"the parameter {name} is {p.dtype}, which has no gradient: pass it with the batch"
            )
    leaves = _map(parameters, lambda p: p.detach().clone().requires_grad_())
    with torch.enable_grad():
        values = by_name(as_dict(forward(leaves, *batch), "forward returns", "values"))
        loss = values.get("loss")
        if not isinstance(loss, Tensor) or loss.dim():
            problem = "no value called loss" if loss is None else "a loss that is no scalar tensor"
            raise NotComparableError(f"forward returns {problem}: it must return a scalar loss of its parameters")
        if not loss.requires_grad:
            raise NotComparableError(
                "autograd does not track the loss: forward detaches it, or runs under `no_grad` or `inference_mode`"
            )
        tensors = {
            name: t for name, t in (leaves._asdict() | values).items() if isinstance(t, Tensor) and t.requires_grad
        }
        gradients = torch.autograd.grad(loss, list(tensors.values()), materialize_grads=True)
    return loss.detach(), dict(zip(tensors, gradients, strict=True))


def cast(tensors: Any, dtype: torch.dtype) -> Any:
    """Return a NamedTuple or tuple of tensors with its floating and complex ones in ``dtype``'s precision."""
    complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64

    def change(tensor: Any) -> Any:
        if not isinstance(tensor, Tensor):
            return tensor
        if tensor.is_complex():
            return tensor.to(complex_dtype)
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    return tuple(map(change, tensors)) if type(tensors) is tuple else _map(tensors, change)


def _map(parameters: Named, change: Callable[[Tensor], Tensor]) -> Named:
    return type(parameters)(*(change(p) for p in parameters))
