"""Matrix products."""

from __future__ import annotations

from typing import Any

from handgrad.native.arrays import Tensor, reshaped
from handgrad.native.lowering.pointwise import pointwise
from handgrad.native.lowering.reductions import squeezed
from handgrad.native.lowering.views import _transpose, _unsqueeze
from handgrad.native.program import Program
from handgrad.native.scalars import op, real
from handgrad.native.table import lowering


@lowering("mm", "bmm")
def product(program: Program, left: Tensor, right: Tensor) -> Tensor:
    """Return the matrix product of tensors of equal leading dimensions."""
    return program.multiply(left, right)


@lowering("addmm", "baddbmm")
def _addmm(program: Program, x: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    def function(a: Any, m: Any) -> Any:
        m = m if alpha == 1 else op("mul", m, real(alpha))
        return op("add", m, a if beta == 1 else op("mul", a, real(beta)))

    return pointwise(program, function, x, program.multiply(left, right))


@lowering("mv")
def _mv(program: Program, left: Tensor, right: Tensor) -> Tensor:
    return squeezed(program.multiply(left, _unsqueeze(program, right, 1)), 1)


@lowering("dot", "vdot")
def _dot(program: Program, left: Tensor, right: Tensor) -> Tensor:
    return program.reduce("sum", pointwise(program, lambda a, b: op("mul", a, b), left, right), ())


@lowering("linear")
def _linear(program: Program, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rows = reshaped(x, (-1 if 0 in x.shape else _rows(x), x.shape[-1]))
    found = program.multiply(rows, _transpose(program, weight, 0, 1))
    if bias is not None:
        found = pointwise(program, lambda a, b: op("add", a, b), found, bias)
    return reshaped(found, (*x.shape[:-1], weight.shape[0]))


def _rows(x: Tensor) -> int:
    total = 1
    for size in x.shape[:-1]:
        total *= size
    return total
