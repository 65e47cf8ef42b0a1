"""Losses that PyTorch computes in one operation."""

from __future__ import annotations

from handgrad.native.arrays import Tensor
from handgrad.native.indices import Index
from handgrad.native.lowering.indexing import at_index, kept
from handgrad.native.lowering.pointwise import pointwise
from handgrad.native.lowering.reductions import scaled, total
from handgrad.native.program import Program
from handgrad.native.scalars import Scalar, number, op, real
from handgrad.native.table import lowering


@lowering("nll_loss_forward")
def _nll_loss(program: Program, logs: Tensor, target: Tensor, weight: Tensor | None, reduction: int,
              ignore_index: int) -> tuple[Tensor, Tensor]:  # fmt: skip
    target = kept(program, target)
    classes = logs.shape[-1]

    def class_at(p: tuple[Index, ...]) -> Index:
        named = target.at(p)
        if not 0 <= ignore_index < classes:
            named = op("select", op("eq", named, number(ignore_index)), number(0), named)
        return at_index(named, classes)

    def weight_at(p: tuple[Index, ...]) -> Scalar:
        own = real(1) if weight is None else weight.at((class_at(p),))
        return op("select", op("eq", target.at(p), number(ignore_index)), real(0), own)

    def at(p: tuple[Index, ...]) -> Scalar:
        return op("neg", op("mul", logs.at((*p, class_at(p))), weight_at(p)))

    rows = logs.shape[:-1]
    losses = Tensor(rows, at)
    if reduction == 0:
        return losses, Tensor((), lambda _: real(0))
    summed, weights = total(program, losses), total(program, Tensor(rows, weight_at))
    mean = pointwise(program, lambda s, w: op("div", s, w), summed, weights)
    return summed if reduction == 2 else mean, weights


@lowering("mse_loss")
def _mse_loss(program: Program, x: Tensor, y: Tensor, reduction: int = 1) -> Tensor:
    squares = pointwise(program, lambda a, b: op("mul", op("sub", a, b), op("sub", a, b)), x, y)
    return reduced(program, squares, reduction)


def reduced(program: Program, losses: Tensor, reduction: int) -> Tensor:
    """Return losses as they are (0), their mean (1) or their sum (2)."""
    if reduction == 0:
        return losses
    summed = total(program, losses)
    count = 1
    for size in losses.shape:
        count *= size
    return summed if reduction == 2 else scaled(program, summed, 1 / count)
