"""Tensors that share memory: one is written, and another changes with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from handgrad.expr import Expr, fill, overwritten
from handgrad.rules.table import Terms, rule, sample, to


class Sharing(NamedTuple):
    """What a tensor has to do with one that was written and shares memory with it."""

    kind: Literal["apart", "same", "inside", "whole", "around", "unknown"]
    place: Expr | None = None  # where the written one is in the tensor
    back: Callable[[Expr], Expr] | None = None  # the gradient of the written one, from that of the tensor, its part


@rule(
    "overlay",
    samples=[
        sample("y * w", before="y = x * 1; v = y[0]; v.mul_(a)", x=(3, 5), a=(5,), w=(3, 5)),
        sample("y * w", before="y = x * 1; v = y[:, 1:3]; v += a", x=(3, 5), a=(2,), w=(3, 5)),
        sample("v * w", before="y = x * 1; v = y[:, 1]; y.mul_(a)", x=(3, 5), a=(5,), w=(3,)),
        sample("v * w", before="y = x * 1; v = y.view(5, 3); y.mul_(a)", x=(3, 5), a=(5,), w=(5, 3)),
        sample("y * w", before="y = x * 1; v = y.view(-1); v.mul_(a)", x=(3, 5), a=(15,), w=(3, 5)),
        sample("y * w", before="y = x * 1; y.T[0].mul_(a)", x=(3, 5), a=(3,), w=(3, 5)),
        sample("y * w", before="y = x * 1; y.diagonal().mul_(2)", x=(3, 5), w=(3, 5)),
        sample("v * w", before="y = x * 1; v = y[:, 1]; y[:, 0] = a", x=(3, 5), a=(3,), w=(3,)),
    ],
)
def overlay(g: Expr, y: Expr, x: Expr, written: Expr, sharing: Sharing, _: object) -> Terms:
    if sharing.kind == "apart":
        yield to(x, g, "what was written lies elsewhere")
    elif sharing.kind == "same":
        yield to(written, g, "it is the same memory")
    elif sharing.kind == "around" and sharing.back is not None:
        yield to(written, sharing.back(g), "it is a part of what was written")
    elif sharing.place is not None:
        yield to(written, fill(sharing.place, g), "it is a part of the tensor: it gets its part")
        if sharing.kind == "inside":
            yield to(x, overwritten(g, sharing.place), "what was overwritten gets no gradient")
    else:
        raise NotImplementedError(
            "it changes a tensor that another one shares memory with, in a way that is not followed (autograd does "
            "not follow `detach` and `data` either): write into a clone"
        )


@rule("copy", samples=[sample("y * w", before="y = x.clone(); y.copy_(v)", x=(3, 5), v=(5,), w=(3, 5)),
                       sample("y * w", before="y = torch.empty_like(w); y.copy_(x)", x=(3, 5), w=(3, 5))])  # fmt: skip
def copy(g: Expr, y: Expr, x: Expr, source: Expr, non_blocking: bool = False) -> Terms:
    yield to(source, g, "its numbers stand there now")


@rule("fill", samples=[sample("y * w", before="y = x * 2; y.fill_(v)", x=(3, 5), v=(), w=(3, 5)),
                       sample("y * x", before="y = x * 2; y.fill_(3)", x=(3, 5)),
                       sample("y * x", before="y = x * 2; y[1:].fill_(3)", x=(3, 5))])  # fmt: skip
def fill_(g: Expr, y: Expr, x: Expr, value: Expr) -> Terms:
    yield to(value, g, "it stands everywhere")
