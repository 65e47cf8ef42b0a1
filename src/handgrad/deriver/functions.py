"""A forward and a backward as one function of autograd: wrapped as they are, or written as a class of their own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from handgrad.errors import DeriveError

Given = tuple[Any, ...]


def as_function(
    forward: Callable[..., Any], backward: Callable[..., Any], *, name: str | None = None
) -> Callable[..., Tensor]:
    """Return ``forward`` as a function whose gradient is the hand-written ``backward``.

    ``forward(*inputs)`` returns the result, a tensor, alone or followed by what the backward reads:
    ``return out, h``. The first parameter of ``backward`` is the gradient of the result, in its shape. The others are
    matched by name: one that is called like a parameter of ``forward`` gets that input; those that are left get what
    followed the result, in its order. ``backward`` returns the gradient of each floating tensor among the inputs, in
    their order: one tensor, or a tuple with one for each input, or for each that can have a gradient; None stands for
    none.

    What is returned can be used in any model: under `torch.compile`, inside an `nn.Module`, under autocast (the
    backward runs under the same autocast as the forward did) and in `DistributedDataParallel`. Its own gradient cannot
    be differentiated again.

    Raises:
        DeriveError: the signatures do not fit together; or, when it is called, forward or backward returns something
            else than it should, such as a gradient of another shape than its input.

    >>> import torch
    >>> def forward(x, w):
    ...     h = torch.tanh(x @ w)
    ...     return h.sum(), h
    >>> def backward(dout, x, w, h):
    ...     dh = dout.expand_as(h)
    ...     dpre = (1 - h**2) * dh
    ...     return dpre @ w.T, x.T @ dpre
    >>> layer = as_function(forward, backward)
    >>> w = torch.ones(3, 4, requires_grad=True)
    >>> layer(torch.ones(2, 3), w).backward()
    >>> w.grad.shape
    torch.Size([3, 4])
    """
    plan = _Plan(forward, backward)

    class Made(torch.autograd.Function):
        @staticmethod
        def forward(*inputs: Any) -> Any:
            return plan.results(inputs)

        @staticmethod
        def setup_context(ctx: Any, inputs: Given, output: Any) -> None:
            kept = output[1:]
            ctx.mark_non_differentiable(*kept)
            ctx.set_materialize_grads(True)
            needed = [item if place in plan.reads else None for place, item in enumerate(inputs)]
            ctx.others = [None if isinstance(item, Tensor) else item for item in needed]
            ctx.shapes = [tuple(item.shape) if _can_have_gradient(item) else None for item in inputs]
            ctx.dtypes = [item.dtype if isinstance(item, Tensor) else None for item in inputs]
            ctx.save_for_backward(*(item if isinstance(item, Tensor) else None for item in needed), *kept)
            ctx.count = len(inputs)
            device = output[0].device.type
            ctx.cast = device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, dout: Tensor, *_: Any) -> Any:
            saved = ctx.saved_tensors
            inputs = [other if tensor is None else tensor for tensor, other in zip(saved, ctx.others, strict=False)]
            device, enabled, dtype = ctx.cast
            with torch.autocast(device, enabled=enabled, dtype=dtype):
                found = backward(*plan.arguments(dout, inputs, saved[ctx.count :]))
            return plan.gradients(found, ctx.shapes, ctx.dtypes)

    Made.__name__ = Made.__qualname__ = name or str(getattr(forward, "__name__", "Made"))

    def call(*inputs: Any, **named: Any) -> Tensor:
        bound = plan.signature.bind(*inputs, **named)
        bound.apply_defaults()
        result: Tensor = Made.apply(*bound.args)[0]  # type: ignore[no-untyped-call]
        return result

    call.__name__ = Made.__name__
    call.__doc__ = forward.__doc__
    return call


class _Plan:
    """Which argument of the backward is what."""

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        self.forward, self.signature = forward, inspect.signature(forward)
        self.inputs = list(self.signature.parameters)
        names = list(inspect.signature(backward).parameters)
        if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in self.signature.parameters.values()):
            raise DeriveError("as_function: give each input of the forward a name, not *args")
        if not names:
            raise DeriveError("as_function: the first parameter of the backward is the gradient of the result")
        self.names = names[1:]
        self.reads = {self.inputs.index(name) for name in self.names if name in self.inputs}
        self.kept = [name for name in self.names if name not in self.inputs]

    def results(self, inputs: Sequence[Any]) -> tuple[Tensor, ...]:
        """Run the forward: the result, and what is kept."""
        found = self.forward(*inputs)
        results = tuple(found) if isinstance(found, tuple | list) else (found,)
        if not results or not all(isinstance(item, Tensor) for item in results):
            raise DeriveError("as_function: the forward returns a tensor, then the tensors that the backward reads")
        if len(results) - 1 < len(self.kept):
            raise DeriveError(
                f"as_function: the backward reads {', '.join(self.kept)} beside the inputs, and the forward returns "
                f"{len(results) - 1} tensors after its result"
            )
        kept = results[1 : 1 + len(self.kept)]
        return results[0], *(item.view_as(item) if any(item is i for i in inputs) else item for item in kept)

    def arguments(self, dout: Tensor, inputs: Sequence[Any], kept: Sequence[Tensor]) -> list[Any]:
        """Return the arguments of the backward."""
        left = iter(kept)
        return [
            dout,
            *(inputs[self.inputs.index(name)] if name in self.inputs else next(left) for name in self.names),
        ]

    def gradients(
        self, found: Any, shapes: Sequence[tuple[int, ...] | None], dtypes: Sequence[torch.dtype | None]
    ) -> tuple[Tensor | None, ...]:
        """Return what the backward returned, one for each input, in the input's shape and dtype."""
        given = tuple(found) if isinstance(found, tuple | list) else (found,)
        able = [place for place, shape in enumerate(shapes) if shape is not None]
        if len(given) == len(shapes):
            whole = list(given)
        elif len(given) == len(able):
            whole = [None] * len(shapes)
            for place, item in zip(able, given, strict=True):
                whole[place] = item
        else:
            raise DeriveError(
                f"as_function: the backward returned {len(given)} gradients for {len(able)} inputs that can have one: "
                f"{', '.join(self.inputs[place] for place in able)}"
            )
        for place, item in enumerate(whole):
            if item is None:
                continue
            if shapes[place] is None:
                raise DeriveError(f"as_function: {self.inputs[place]} can have no gradient, and one was returned")
            if tuple(item.shape) != shapes[place]:
                raise DeriveError(
                    f"as_function: the gradient of {self.inputs[place]} has shape {tuple(item.shape)}, and "
                    f"{self.inputs[place]} has {shapes[place]}"
                )
            whole[place] = item.to(dtypes[place])
        return tuple(whole)


def _can_have_gradient(item: Any) -> bool:
    return isinstance(item, Tensor) and (item.is_floating_point() or item.is_complex())
