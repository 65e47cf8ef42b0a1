"""Run a Function and see what its backward itself returns, before autograd checks, expands, sums or casts it."""

from __future__ import annotations

import functools
import types
from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from handgrad.function_check.subject import Arguments, Case, Subject, apply, seeded


class ForwardError(Exception):
    """Forward raised; the cause is the exception."""


class BackwardError(Exception):
    """Backward raised; the cause is the exception."""


class Returned(NamedTuple):
    """What one call of backward returned, and what it overwrote."""

    raw: tuple[Any, ...]  # as it stands, however many there are
    overwritten_upstream: tuple[int, ...]  # positions of outputs
    overwritten_saved: tuple[str, ...]  # descriptions of saved tensors
    overwritten_inputs: tuple[int, ...]  # positions of arguments

    def gradient(self, index: int) -> Any:
        """Return the gradient of the argument at ``index``, None where there is none."""
        return self.raw[index] if index < len(self.raw) else None


class _Give(Function):
    """A tensor that requires a gradient, is no leaf, and has the strides of the given one, even 0."""

    @staticmethod
    def forward(_ctx: Any, _handle: Tensor, tensor: Tensor) -> Tensor:
        return with_strides(tensor, tensor.stride())

    @staticmethod
    def backward(_ctx: Any, *_: Tensor) -> Any:
        return None, None


def with_strides(tensor: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Return a copy of ``tensor`` in fresh memory with ``strides``; where one is 0, of the first entries along it."""
    copy = torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device=tensor.device)
    once = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in strides)
    copy[once].copy_(tensor[once])
    return copy


class Applied:
    """One call of ``apply``, on copies of the arguments, of which those in ``needs`` require a gradient."""

    def __init__(self, subject: Subject, arguments: Arguments, needs: Collection[int] | None = None) -> None:
        self.subject, self.given = subject, arguments
        self.ctx: Any = None
        self._returned: list[Returned] = []
        self._handle = torch.zeros((), requires_grad=True)
        self._needs = set(subject.differentiable if needs is None else needs)
        self.arguments = tuple(self._argument(i, x) for i, x in enumerate(arguments))
        versions = self._versions()
        seeded(subject.seed)
        try:
            outputs = apply(_watched(subject.function, self), *self.arguments)
        except Exception as error:
            raise ForwardError from error
        self.outputs: tuple[Any, ...] = outputs if isinstance(outputs, tuple) else (outputs,)
        dirty = [id(x) for x in self._dirty]
        undeclared = [i for i in self._overwritten(versions) if id(self.arguments[i]) not in dirty]
        self.overwritten = tuple(undeclared)
        """Positions of the arguments that forward overwrote without ``mark_dirty``."""

    _dirty: tuple[Any, ...] = ()

    def _argument(self, index: int, x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if index in self._needs:
            with torch.enable_grad():
                return apply(_Give, self._handle, x)
        return with_strides(x, x.stride()) if x.layout == torch.strided else x.detach().clone()

    def _versions(self) -> list[tuple[Tensor, int, Tensor] | None]:
        return [(x, x._version, x.detach().clone()) if isinstance(x, Tensor) else None for x in self.arguments]

    def _overwritten(self, before: list[tuple[Tensor, int, Tensor] | None]) -> list[int]:
        return [i for i, known in enumerate(before) if known is not None and _is_overwritten(*known)]

    @property
    def differentiable_outputs(self) -> tuple[int, ...]:
        """The positions of the outputs that can have an upstream gradient."""
        return tuple(k for k, out in enumerate(self.outputs) if isinstance(out, Tensor) and out.requires_grad)

    def backward(self, upstream: tuple[Tensor | None, ...], *, again: bool = False, draw: int = 1) -> Returned:
        """Run backward with ``upstream`` as it is, strides and all; ``again`` keeps the graph for another time.

        ``draw`` seeds the global generator that backward may draw from.
        """
        outputs = [self.outputs[k] for k, u in enumerate(upstream) if u is not None]
        upstreams = [u for u in upstream if u is not None]
        seeded(self.subject.seed + 7919 * draw)
        self._returned.clear()
        try:
            torch.autograd.grad(outputs, self._handle, upstreams, retain_graph=again, allow_unused=True)
        except Exception as error:
            raise BackwardError from error
        if not self._returned:
            raise BackwardError from RuntimeError("autograd did not call it")
        return self._returned[0]

    def watch(self, user: Any, ctx: Any, boxed: bool, *arguments: Any) -> tuple[Any, ...]:
        """Call the user's backward, note what happens, and return what autograd accepts without a word."""
        upstream = list(arguments[0]) if boxed else list(arguments)
        before = [(g, g._version, g.detach().clone()) if isinstance(g, Tensor) else None for g in upstream]
        try:
            saved = [(t, t._version, t.detach().clone()) for t in ctx.saved_tensors if isinstance(t, Tensor)]
        except RuntimeError:  # one was overwritten since: the user's own access raises this
            saved = []
        inputs = self._versions()
        returned = user(ctx, *arguments)
        raw = tuple(map(_dense, returned if isinstance(returned, tuple) else (returned,)))
        self._returned.append(
            Returned(
                raw,
                tuple(k for k, known in enumerate(before) if known and _is_overwritten(*known)),
                tuple(f"{k} {tuple(t.shape)}" for k, (t, *old) in enumerate(saved) if _is_overwritten(t, *old)),  # type: ignore[arg-type]
                tuple(self._overwritten(inputs)),
            )
        )
        return tuple(torch.zeros_like(x) if isinstance(x, Tensor) and x.requires_grad else None for x in self.arguments)


def _dense(gradient: Any) -> Any:
    sparse = isinstance(gradient, Tensor) and gradient.layout != torch.strided
    return gradient.to_dense() if sparse else gradient


def _is_overwritten(tensor: Tensor, version: int, copy: Tensor) -> bool:
    return tensor._version != version or not torch.equal(_plain(tensor.detach()), _plain(copy))


def _plain(tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return torch.nan_to_num(tensor) if tensor.is_floating_point() else tensor


def _watched(cls: type[Function], applied: Applied) -> type[Function]:
    """Return a subclass of the user's Function that reports to ``applied``."""
    kind = "vjp" if cls.vjp is not Function.vjp else "backward"
    user, boxed = getattr(cls, kind), bool(getattr(cls, "boxed_grads_call", False))

    @functools.wraps(user)
    def backward(ctx: Any, *upstream: Any) -> Any:
        with torch.no_grad():
            return applied.watch(user, ctx, boxed, *upstream)

    def noticed(ctx: Any) -> None:
        applied.ctx = ctx
        applied._dirty = tuple(getattr(ctx, "dirty_tensors", None) or ())

    members: dict[str, Any] = {kind: staticmethod(backward), "__module__": cls.__module__}
    if cls.setup_context is Function.setup_context:

        @functools.wraps(cls.forward)
        def forward(ctx: Any, *arguments: Any) -> Any:
            outputs = cls.forward(ctx, *arguments)
            noticed(ctx)
            return outputs

        members["forward"] = staticmethod(forward)
    else:

        @functools.wraps(cls.setup_context)
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            cls.setup_context(ctx, inputs, output)
            noticed(ctx)

        members["setup_context"] = staticmethod(setup_context)
    subclass: type[Function] = types.new_class(cls.__name__, (cls,), {}, lambda namespace: namespace.update(members))
    return subclass


def returned_for(subject: Subject, case: Case, needs: Collection[int] | None = None, draw: int = 1) -> Returned:
    """Return what backward returns for ``case``; raises ForwardError or BackwardError."""
    return Applied(subject, case.arguments, needs).backward(case.upstream, draw=draw)
