"""Checking a `torch.autograd.Function`: what is right passes, and each planted mistake is found by its check."""

# ruff: noqa: ARG004  (forward and backward take a ctx, whether they use it or not)

from __future__ import annotations

import inspect
import json
import random
import textwrap
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

import handgrad
from handgrad.errors import NotComparableError
from handgrad.function_check import CODES, FunctionReport, check_function


def rand(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + len(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


# correct Functions, in many styles


class Relu(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return dy * (x > 0)


class Exp(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return y * dy


class Linear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.T + bias

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        dx = dweight = dbias = None
        if ctx.needs_input_grad[0]:
            dx = dy @ weight
        if ctx.needs_input_grad[1]:
            dweight = dy.T @ x
        if ctx.needs_input_grad[2]:
            dbias = dy.sum(0)
        return dx, dweight, dbias


class RowBias(Function):
    """A bias of shape (1, n): the (n,) gradient is the classic."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor) -> Tensor:
        return x + bias

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        return dy, dy.sum(0, keepdim=True)


class Embedding(Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows = table.shape[0]
        return table[index]

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (index,) = ctx.saved_tensors
        dtable = torch.zeros((ctx.rows, dy.shape[-1]), dtype=dy.dtype, device=dy.device)
        return dtable.index_add(0, index, dy), None


class LayerNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        rstd = (x.var(-1, keepdim=True, unbiased=False) + eps).rsqrt()
        ctx.save_for_backward(x, gain, mean, rstd)
        return (x - mean) * rstd * gain + bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, gain, mean, rstd = ctx.saved_tensors
        xhat = (x - mean) * rstd
        dxhat = dy * gain
        dx = rstd * (dxhat - dxhat.mean(-1, keepdim=True) - xhat * (dxhat * xhat).mean(-1, keepdim=True))
        over = tuple(range(dy.dim() - 1))
        return dx, (dy * xhat).sum(over), dy.sum(over), None


class CrossEntropy(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
        kept = target != ignore_index
        logprobs = logits - logits.logsumexp(1, keepdim=True)
        picked = logprobs.gather(1, target.where(kept, 0)[:, None])[:, 0]
        n = kept.sum()
        ctx.save_for_backward(logprobs, target, kept, n)
        return -(picked * kept).sum() / n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dloss: Tensor) -> Any:
        logprobs, target, kept, n = ctx.saved_tensors
        dlogits = logprobs.exp()
        dlogits = dlogits - F.one_hot(target.where(kept, 0), dlogits.shape[1])
        return dloss * dlogits * kept[:, None] / n, None, None


class Clamp(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float = -0.5, high: float = 0.5) -> Tensor:
        ctx.save_for_backward((x >= low) & (x <= high))
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (inside,) = ctx.saved_tensors
        return dy * inside, None, None


class Max(Function):
    """Two outputs, of which the indices are not differentiable."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Any:
        values, indices = x.max(dim)
        ctx.save_for_backward(indices)
        ctx.dim, ctx.shape = dim, x.shape
        ctx.mark_non_differentiable(indices)
        return values, indices

    @staticmethod
    def backward(ctx: Any, dvalues: Tensor, _dindices: Tensor) -> Any:
        (indices,) = ctx.saved_tensors
        dx = torch.zeros(ctx.shape, dtype=dvalues.dtype, device=dvalues.device)
        return dx.scatter(ctx.dim, indices.unsqueeze(ctx.dim), dvalues.unsqueeze(ctx.dim)), None


class AMax(Function):
    """Ties share the gradient, as in `torch.amax`, where `x.max` gives it to one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.max(1, keepdim=True).values
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, y = ctx.saved_tensors
        mask = (x == y).to(x.dtype)
        mask = mask / mask.sum(1, keepdim=True)
        return mask * dy


class Maximum(Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return torch.maximum(a, b)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        a, b = ctx.saved_tensors
        da = dy * (a > b) + dy * (a == b) / 2
        return da, dy * (b > a) + dy * (a == b) / 2


class BatchedMatmul(Function):
    """``a`` (b, m, k) and ``b`` (k, n) or (1, k, n): broadcast over the batch."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx: Any, dc: Tensor) -> Any:
        a, b = ctx.saved_tensors
        db = (a.transpose(-1, -2) @ dc).sum_to_size(b.shape)
        return dc @ b.transpose(-1, -2), db


class SinCos(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        ctx.save_for_backward(x)
        return x.sin(), x.cos()

    @staticmethod
    def backward(ctx: Any, dsin: Tensor, dcos: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return dsin * x.cos() - dcos * x.sin()


class SumProduct(Function):
    """Unused outputs come as None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Any:
        ctx.save_for_backward(x, y)
        ctx.set_materialize_grads(False)
        return x + y, x * y

    @staticmethod
    def backward(ctx: Any, dsum: Tensor | None, dproduct: Tensor | None) -> Any:
        x, y = ctx.saved_tensors
        dx, dy = torch.zeros_like(x), torch.zeros_like(y)
        if dsum is not None:
            dx, dy = dx + dsum, dy + dsum
        if dproduct is not None:
            dx, dy = dx + dproduct * y, dy + dproduct * x
        return dx, dy


class Cube(Function):
    """The new style: forward takes no ctx."""

    @staticmethod
    def forward(x: Tensor, scale: float = 2.0) -> Tensor:
        return scale * x**3

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, scale = inputs
        ctx.save_for_backward(x)
        ctx.scale = scale

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return ctx.scale * 3 * x**2 * dy, None


class Tanh(Function):
    """The new style with vjp for a name, keeping its output."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.tanh(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def vjp(ctx: Any, dy: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return (1 - y**2) * dy


class InPlaceDouble(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x.mul_(2)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        return 2 * dy


class Float32Only(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise TypeError(f"only float32, not {x.dtype}")
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return x.cos() * dy


class Float32Inside(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.sigmoid(x.float() @ weight.float()).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        y = torch.sigmoid(x.float() @ weight.float())
        dlogit = y * (1 - y) * dy.float()
        return (dlogit @ weight.float().T).to(x.dtype), (x.float().T @ dlogit).to(weight.dtype)


class NumpySquare(Function):
    """Nothing for autograd to follow: finite differences are the truth."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.from_numpy(np.asarray(x.detach().numpy() ** 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x * dy


class Dropout(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        mask = torch.rand(x.shape) < 0.5
        ctx.save_for_backward(mask)
        return x * mask * 2

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (mask,) = ctx.saved_tensors
        return dy * mask * 2


class SquaredModulus(Function):
    """A real output of a complex input."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return (z * z.conj()).real

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (z,) = ctx.saved_tensors
        return 2 * dy * z


class Sort(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y, order = x.sort(-1)
        ctx.save_for_backward(order)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (order,) = ctx.saved_tensors
        return torch.zeros_like(dy).scatter(-1, order, dy)


class SegmentSum(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, segment: Tensor, n: int) -> Tensor:
        ctx.save_for_backward(segment)
        return x.new_zeros((n, *x.shape[1:])).index_add(0, segment, x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (segment,) = ctx.saved_tensors
        return dy[segment], None, None


INDEX = torch.tensor([4, 0, 3, 1])
TARGET = torch.tensor([1, 0, -100, 3, 2])
INPUTS: dict[type[Function], tuple[Any, ...]] = {
    Relu: (rand(3, 4),),
    Exp: (rand(2, 3),),
    Linear: (rand(5, 3), rand(4, 3), rand(4)),
    RowBias: (rand(3, 6), rand(1, 6)),
    Embedding: (rand(5, 3), INDEX),
    LayerNorm: (rand(2, 3, 5), rand(5), rand(5), 1e-5),
    CrossEntropy: (rand(5, 4), TARGET, -100),
    Clamp: (rand(4, 4),),
    Max: (rand(3, 5), 1),
    AMax: (rand(3, 5),),
    Maximum: (rand(2, 3), rand(3, 3)[:2]),
    BatchedMatmul: (rand(3, 2, 4), rand(1, 4, 3)),
    SinCos: (rand(7),),
    SumProduct: (rand(2, 3), rand(2, 3) + 1),
    Cube: (rand(3, 3),),
    Tanh: (rand(4, 2),),
    InPlaceDouble: (rand(3, 2),),
    Float32Only: (rand(3, 2),),
    Float32Inside: (rand(3, 4), rand(4, 2)),
    NumpySquare: (rand(3, 2),),
    Dropout: (rand(4, 5),),
    SquaredModulus: (torch.complex(rand(3, 2), rand(3, 2) + 1),),
    Sort: (rand(2, 5),),
    SegmentSum: (rand(6, 2), torch.tensor([0, 1, 1, 3, 2, 2]), 4),
}


def found(report: FunctionReport) -> dict[str, str]:
    return {check.name: check.message for check in report.checks if check.verdict == "wrong"}


@pytest.mark.parametrize("function", INPUTS, ids=lambda f: f.__name__)
def test_a_right_function_has_nothing_wrong(function: type[Function]) -> None:
    report = check_function(function, *INPUTS[function])

    assert found(report) == {}
    assert report.warnings == ()
    assert report["values"].verdict == "right", str(report)
    assert report


def mistaken(function: type[Function], old: str, new: str) -> type[Function]:
    """Return the Function with one place of its source changed."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {function.__name__}"
    scope = dict(globals())
    exec(compile(source.replace(old, new), __file__, "exec"), scope)  # noqa: S102  (the planted mistake)
    changed: type[Function] = scope[function.__name__]
    return changed


# function, the place, the mistake, the one check that finds it, and a part of what it says
MISTAKES: list[tuple[type[Function], str, str, str, str]] = [
    (Relu, "return dy * (x > 0)", "return dy * x", "values", "the gradient of x differs in "),
    (Relu, "return dy * (x > 0)", "return dy * (x > 0) * (dy > -2)", "values", "the gradient of x differs"),
    (Relu, "return dy * (x > 0)", "return (x > 0).to(x.dtype)", "values", "does not depend on the upstream gradient"),
    (Relu, "return dy * (x > 0)", "return dy * (x > 0), None, dy", "count", "backward returns 3 gradients and forward"),
    (Relu, "return dy * (x > 0)", "return None", "none", "is None, and the outputs change with x"),
    (Relu, "return dy * (x > 0)", "return (dy * (x > 0)).float()", "dtype", "its gradient is torch.float32 and x is"),
    (Relu, "return dy * (x > 0)", "return (dy * (x > 0)).to('meta')", "device", "its gradient is on meta and x is on"),
    (Relu, "return dy * (x > 0)", "dy[x <= 0] = 0; return dy", "overwritten-upstream", "overwrites its upstream"),
    (Relu, "return dy * (x > 0)", "return dy.view(-1)[:].view_as(x) * (x > 0)", "strided-upstream", "raises Runtime"),
    (Relu, "return dy * (x > 0)", "return dy[:1].div(0).nan_to_num(0) + dy * (x > 0) if len(dy) else dy[0]",
     "empty-batch", "with no rows in x, backward raises IndexError"),
    (Relu, "return dy * (x > 0)", "return dy * (x > 0) * (1 + 1e-6)", "values", "is 1 times what it should be"),
    (Relu, "x.clamp(min=0)", "x.clamp_(min=0)", "overwritten-input", "forward overwrites x without"),
    (Relu, "(x > 0)", "(0.5 + x / x.abs() / 2)", "ties", "with zeros in x, the gradient of x holds NaN"),
    (Relu, "(x > 0)", "((x > 0) + 3 * (x == 0))", "ties", "every gradient nearby lies between"),
    (Maximum, "da = dy * (a > b) + dy * (a == b) / 2", "da = dy * (a >= b)", "ties", "counts ties more than once"),
    (Relu, "return dy * (x > 0)", "assert dy.dtype.itemsize > 2; return dy * (x > 0)", "low-precision", "AssertionErr"),
    (Relu, "return dy * (x > 0)", "raise ValueError('no')", "runs", "raises ValueError: no (test_function_check.py:"),
    (Exp, "return y * dy", "return y.mul_(dy)", "overwritten-saved", "ctx.saved_tensors[0], of shape (2, 3)"),
    (Exp, "return y * dy", "return y * dy + torch.rand_like(y)", "deterministic", "nothing drawn again"),
    (Exp, "return y * dy", "return -y * dy", "values", "has the wrong sign"),
    (Relu, "return dy * (x > 0)", "return dy * (x.view(-1) > 0).view(x.shape)", "strided-inputs", "x is transposed"),
    (Relu, "x > 0)", "x.as_strided(x.shape, (x.shape[-1], 1)) > 0)", "strided-inputs", "is another one"),
    (Relu, "return dy * (x > 0)", "x.clamp_(min=0); return dy * (x > 0)", "overwritten-input", "backward overwrites"),
    (Relu, "return dy * (x > 0)", "return (dy.sum() * (x > 0)).detach()", "values", "the gradient of x differs"),
    (Relu, "return dy * (x > 0)", "return dy.clamp(-5, 5) * (x > 0)", "values", "the gradient of x differs"),
    (Relu, "return dy * (x > 0)", "return (dy.data * (x > 0)).data", "second-derivative", "of output 0 is"),
    (Relu, "return dy * (x > 0)", "return 3", "none", "the gradient of x is a int, not a tensor"),
    (Linear, "dx = dy @ weight", "dx = dy @ weight / len(dy)", "values", "is 1/5 (one over size 5 of dim 0) times"),
    (Linear, "dbias = dy.sum(0)", "dbias = dy", "shape", "bias (4,) was broadcast over dim 0, so its gradient needs"),
    (Linear, "dbias = dy.sum(0)", "dbias = dy.mean(0)", "values", "the gradient of bias is 0.2 times"),
    (Linear, "dweight = dy.T @ x", "dweight = x.T @ dy", "shape", "weight has shape (4, 3)"),
    (Linear, "return dx, dweight, dbias", "return dx, dweight", "count", "nothing is returned for bias"),
    (Linear, "dbias = dy.sum(0)", "dbias = dx.new_zeros(0) if dx is None else dy.sum(0)", "needs-input-grad",
     "where only bias needs a gradient, backward raises AttributeError"),
    (Linear, "if ctx.needs_input_grad[1]:", "if all(ctx.needs_input_grad):", "needs-input-grad",
     "the gradient of weight is None"),
    (RowBias, "dy.sum(0, keepdim=True)", "dy.sum(0)", "shape", "`keepdim=True` in a sum keeps the dimension"),
    (RowBias, "return dy, dy.sum(0, keepdim=True)", "return dy.sum(0, keepdim=True), dy", "shape", "x has shape (3,"),
    (Embedding, "dtable.index_add(0, index, dy)", "dtable.index_copy(0, index, dy)", "repeated-indices", "index_add_"),
    (Embedding, "dtype=dy.dtype, ", "", "runs", "raises RuntimeError"),
    (Embedding, "index, dy), None", "index, dy)", "count", "backward returns 1 gradient and forward takes 2 inputs"),
    (LayerNorm, "- xhat * (dxhat * xhat).mean(-1, keepdim=True)", "", "values", "the gradient of x differs"),
    (LayerNorm, "over = tuple(range(dy.dim() - 1))", "over = 0", "shape", "gain (5,) was broadcast over dim 0"),
    (LayerNorm, "dy.sum(over), None", "dy.sum(over), dy.sum()", "count", "which is no tensor: return None"),
    (LayerNorm, "(dy * xhat).sum(over), dy.sum(over)", "dy.sum(over), (dy * xhat).sum(over)", "values",
     "the gradient of gain is that of bias: backward returns the gradients in the order"),
    (LayerNorm, "unbiased=False", "unbiased=True", "values", "the gradient of x differs"),
    (LayerNorm, "    @once_differentiable\n", "", "second-derivative", "@once_differentiable"),
    (CrossEntropy, "* kept[:, None] / n", "* kept[:, None] / len(kept)", "values", "is 0.8 times"),
    (CrossEntropy, "* kept[:, None] / n", "/ n", "values", "differs in 4 of 20 entries"),
    (CrossEntropy, "return dloss * dlogits", "return dlogits", "values", "times what it should be"),
    (Clamp, "(x >= low) & (x <= high)", "x <= high", "values", "the gradient of x differs"),
    (Max, "dx.scatter(", "(dx + 1e-3).scatter(", "values", "the gradient of x differs"),
    (AMax, "mask = mask / mask.sum(1, keepdim=True)", "pass", "ties", "counts ties more than once"),
    (BatchedMatmul, ".sum_to_size(b.shape)", ".mean(0, keepdim=True)", "values", "1/3 (one over size"),
    (BatchedMatmul, ".sum_to_size(b.shape)", "", "shape", "b (1, 4, 3) was broadcast over dim 0"),
    (SinCos, "- dcos * x.sin()", "+ dcos * x.sin()", "values", "the gradient of x differs"),
    (SinCos, "- dcos * x.sin()", "", "values", "the gradient of x differs"),
    (SinCos, "ctx.save_for_backward(x)", "ctx.save_for_backward(x); ctx.set_materialize_grads(False)",
     "unused-outputs", "where only output 0 is used, backward raises TypeError"),
    (SumProduct, "if dproduct is not None:", "if dsum is not None and dproduct is not None:", "unused-outputs",
     "where only output 1 is used"),
    (Cube, "ctx.scale * 3 * x**2 * dy", "ctx.scale * 2 * x**2 * dy", "values", "is 0.666667 times"),
    (Cube, "ctx.scale * 3 * x**2 * dy", "(ctx.scale * 3 * x**2 * dy).T", "values", "is transposed: swap the last two"),
    (Tanh, "(1 - y**2) * dy", "(1 - y) ** 2 * dy", "values", "the gradient of x differs"),
    (Tanh, "(1 - y**2) * dy", "torch.zeros_like(y)", "values", "is zero everywhere, and should not be"),
    (InPlaceDouble, "        ctx.mark_dirty(x)\n", "", "overwritten-input", "without `ctx.mark_dirty(x)`"),
    (Float32Only, "x.cos() * dy", "-x.cos() * dy", "values", "has the wrong sign"),
    (Float32Inside, "y * (1 - y)", "y * (1 - y * 1.01)", "values", "the gradient of x differs"),
    (NumpySquare, "return 2 * x * dy", "return x * dy", "values", "is 0.5 times what it should be (finite"),
    (NumpySquare, "return 2 * x * dy", "return 2.0001 * x * dy", "values", "(finite differences)"),
    (Dropout, "(mask,) = ctx.saved_tensors", "mask = torch.rand(dy.shape) < 0.5", "deterministic", "drawn again"),
    (SquaredModulus, "2 * dy * z", "2 * dy * z.conj()", "values", "is the complex conjugate of what it should be"),
    (Sort, ".scatter(-1, order, dy)", ".gather(-1, order)", "values", "is zero everywhere"),
    (SegmentSum, "return dy[segment]", "return dy[: len(segment)]", "shape", "x has shape (6, 2)"),
    (SegmentSum, "dy[segment], None, None", "dy[segment]", "count", "nothing is returned for segment, n"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "old", "new", "check", "says"),
    MISTAKES,
    ids=[f"{m[0].__name__}: {m[2]}"[:70] for m in MISTAKES],
)
def test_a_planted_mistake_is_found_by_its_check(
    function: type[Function], old: str, new: str, check: str, says: str
) -> None:
    report = check_function(mistaken(function, old, new), *INPUTS[function])

    assert not report
    assert check in found(report), str(report)
    assert f"{check:21s} wrong      {CODES[check]}" in str(report)
    assert says in found(report)[check]


# mistakes that take more than one place


class KeptOnTheClass(Function):
    kept: Tensor

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        KeptOnTheClass.kept = x
        return x**2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Any:
        return 2 * KeptOnTheClass.kept * dy


class KeptOnCtx(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.x, ctx.y = x, [x**2]
        return ctx.y[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Any:
        return 2 * ctx.x * dy


class UsedUp(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mask = x > 0
        return x * ctx.mask

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        return dy * ctx.__dict__.pop("mask")


class Accumulating(Function):
    """Works once; the second backward of one forward adds to what the first left."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.total = torch.zeros_like(x)
        return x * 1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Any:
        ctx.total = ctx.total + dy
        return ctx.total


class SecondDerivativeRaises(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            raise NotImplementedError("only once")
        return 2 * x * dy


class Staircase(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        return dy


class Detached(Function):
    """Forward hides a factor from autograd; backward knows it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x * dy


def test_state_on_the_class_leaks_between_calls() -> None:
    report = check_function(KeptOnTheClass, rand(3))

    assert report.wrong == ["leaked-state"]
    assert "when apply was called again before its backward, the gradient of x is another one" in str(report)


def test_inputs_and_outputs_on_ctx_are_warned_of_and_not_wrong() -> None:
    report = check_function(KeptOnCtx, rand(3))

    assert report
    assert [(w.code, w.message[:31]) for w in report.warnings] == [
        ("HG324", "ctx.x holds the input x: kept b"),
        ("HG324", "ctx.y holds the output: kept by"),
    ]


def test_a_backward_that_works_once_is_found() -> None:
    used_up, accumulating = check_function(UsedUp, rand(3)), check_function(Accumulating, rand(3))

    assert "second-backward" in used_up.wrong
    assert "backward raises KeyError" in used_up["second-backward"].message
    assert accumulating.wrong == ["second-backward"]


def test_a_second_derivative_that_raises_is_a_warning() -> None:
    report = check_function(SecondDerivativeRaises, rand(3))

    assert report
    assert [w.kind for w in report.warnings] == ["no-second-derivative"]
    assert report["second-derivative"].verdict == "unverified"


def test_a_straight_through_estimator_is_called_what_it_is() -> None:
    assert "straight-through estimator" in found(check_function(Staircase, rand(3) * 4))["values"]


def test_where_forward_hides_a_factor_from_autograd_finite_differences_are_the_truth() -> None:
    right = check_function(Detached, rand(3, 2))
    wrong = check_function(mistaken(Detached, "2 * x * dy", "3 * x * dy"), rand(3, 2))
    as_autograd = check_function(mistaken(Detached, "2 * x * dy", "x * dy"), rand(3, 2))

    assert right["values"].verdict == "right"
    assert "is 1.5 times what it should be (finite differences)" in found(wrong)["values"]
    assert as_autograd["values"].verdict == "unverified"
    assert "finite differences disagree with both" in as_autograd["values"].message


def test_a_large_input_without_autograd_is_checked_along_directions_too() -> None:
    late = mistaken(NumpySquare, "return 2 * x * dy", "return 2 * x * dy * (1 + (x > 0) * (x != x.flatten()[0]))")

    assert check_function(NumpySquare, rand(20, 20))["values"].verdict == "right"
    assert "at 64 of 400 entries" in found(check_function(late, rand(20, 20)))["values"]


# values: no tolerance


@pytest.mark.parametrize("factor", [1 + 3e-7, 1 - 1e-6, 0.999, 0.0, -1.0])
def test_a_mistake_far_below_the_tolerances_of_gradcheck_is_found(factor: float) -> None:
    assert check_function(mistaken(Exp, "return y * dy", f"return y * dy * {factor}"), rand(4)).wrong[0] == "values"


def test_a_tiny_gradient_of_zero_is_found_where_gradcheck_passes_it() -> None:
    class Tiny(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 1e-9

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> Any:
            return dy * 0

    x = rand(3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(Tiny.apply, (x,))  # the trap

    report = check_function(Tiny, x)

    assert "values" in report.wrong
    assert "torch.autograd.gradcheck would take zero for the gradient of x" in " ".join(report.notes)


def test_tolerances_that_cannot_fail_are_found_and_others_are_not() -> None:
    x = rand(3)

    vacuous = check_function(Exp, x, atol=100.0)
    sharp = check_function(Exp, x, atol=1e-6, rtol=1e-4)

    assert vacuous.wrong == ["tolerance"]
    assert "atol=100, rtol=1e-05 cannot fail: zero passes for the gradient of x" in vacuous["tolerance"].message
    assert sharp
    assert sharp["tolerance"].verdict == "right"


# special values hide nothing, and are no mistakes


@pytest.mark.parametrize("x", [torch.zeros(3, 4), torch.ones(3, 4), torch.eye(3, 4)])
@pytest.mark.parametrize("function", [Relu, Exp, Clamp, AMax, SinCos, Tanh, Sort])
def test_zeros_and_ones_are_no_mistake_and_hide_none(function: type[Function], x: Tensor) -> None:
    source = inspect.getsource(function.vjp if function is Tanh else function.backward)
    line = next(line for line in source.splitlines() if line.lstrip().startswith("return"))

    assert check_function(function, x).wrong == []
    assert check_function(mistaken(function, line, line.replace("return ", "return -")), x).wrong


def test_float32_alone_has_kinks_too() -> None:
    x = torch.tensor([0.0, 1.0, -1.0, 0.0, 2.0])

    assert check_function(Float32Relu, x).wrong == []
    assert check_function(mistaken(Float32Relu, "x > 0", "x > -2"), x).wrong == ["values"]


class Float32Relu(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.float()
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return dy * (x > 0)


@settings(max_examples=10)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_linear_is_right_in_every_shape_and_a_wrong_factor_never(n: int, k: int, m: int, seed: int) -> None:
    inputs = rand(n, k), rand(m, k), rand(m)

    right = check_function(Linear, *inputs, seed=seed)
    wrong = check_function(WrongLinear, *inputs, seed=seed)

    assert right.wrong == []
    assert "values" in wrong.wrong
    assert {f.input for f in wrong["values"].findings if f.verdict == "wrong"} == {"weight"}


WrongLinear = mistaken(Linear, "dweight = dy.T @ x", "dweight = dy.T @ x * 1.0001")


@settings(max_examples=10)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_a_broadcast_input_needs_its_sum_in_every_shape(shape: list[int], data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    small = [size if keep else 1 for size, keep in zip(shape, kept, strict=True)]
    x, bias = rand(*shape), rand(*small)

    assert check_function(AnyBias, x, bias).wrong == []
    expected = [] if small == shape else ["shape"]
    assert check_function(UnsummedBias, x, bias).wrong == expected


class AnyBias(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor) -> Tensor:
        ctx.shape = bias.shape
        return x + bias

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        return dy, dy.sum_to_size(ctx.shape)


UnsummedBias = mistaken(AnyBias, "dy.sum_to_size(ctx.shape)", "dy")


class PlusRoot(Function):
    """At y = 0 the gradient of y is infinite, which must hide nothing of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        return 3 * x + y.sqrt()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return 3 * dy, dy / (2 * y.sqrt())


def test_an_infinite_gradient_hides_no_mistake_in_another() -> None:
    inputs = rand(3), torch.zeros(3)

    right = check_function(PlusRoot, *inputs)
    wrong = check_function(mistaken(PlusRoot, "3 * dy,", "2 * dy,"), *inputs)

    assert right.wrong == []
    assert right["values"].verdict == "unverified"
    assert [f.input for f in wrong["values"].findings if f.verdict == "wrong"] == ["x"]


class CausalMask(Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        return scores.masked_fill(torch.ones(scores.shape, dtype=torch.bool).triu(1), -torch.inf)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        return dy.tril()


def test_an_infinity_that_is_meant_is_no_obstacle() -> None:
    right = check_function(CausalMask, rand(3, 3))
    wrong = check_function(mistaken(CausalMask, "dy.tril()", "dy.tril(-1)"), rand(3, 3))

    assert (right["values"].verdict, right["leaked-state"].verdict) == ("right", "right")
    assert wrong.wrong == ["values"]


def test_nan_in_the_inputs_is_unverified_and_not_wrong() -> None:
    report = check_function(Relu, torch.full((3,), torch.nan))

    assert report.wrong == []
    assert report["values"].verdict == "unverified"


@pytest.mark.parametrize("gradient", ["x > 0", "(x > 0).long()", "dy * (x > 0) * 1j"])
def test_a_gradient_of_another_kind_of_number_is_found_by_its_dtype(gradient: str) -> None:
    assert check_function(mistaken(Relu, "dy * (x > 0)", gradient), rand(3)).wrong[0] == "dtype"


def test_a_sparse_gradient_is_compared_as_a_dense_one() -> None:
    right = mistaken(Embedding, "index, dy), None", "index, dy).to_sparse(), None")
    wrong = mistaken(Embedding, "index, dy), None", "index, -dy).to_sparse(), None")

    assert check_function(right, *INPUTS[Embedding]).wrong == []
    assert "has the wrong sign" in found(check_function(wrong, *INPUTS[Embedding]))["values"]


# no false alarms: a backward that asks autograd is right, whatever the forward


def positive(*shape: int) -> Tensor:
    return rand(*shape).abs() + 0.3


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, weight, bias, True)


OPERATIONS: dict[str, tuple[Any, ...]] = {
    "a / b": (lambda a, b: a / b, rand(3, 4), rand(3, 1)),
    "a**b": (lambda a, b: a**b, positive(3, 4), rand(3, 1)),
    "rsqrt": (torch.rsqrt, positive(5)),
    "abs": (torch.abs, rand(5, 2)),
    "abs of 0": (torch.abs, torch.zeros(2, 2)),
    "sqrt of 0": (torch.sqrt, torch.zeros(3)),
    "norm": (lambda x: x.norm(dim=1), rand(3, 3)),
    "std": (lambda x: x.std(0), rand(4, 3)),
    "softmax": (lambda x: x.softmax(-1), rand(4, 3)),
    "amax": (lambda x: x.amax((0, 1)), rand(4, 3)),
    "max of 0": (lambda x: x.max(0).values, torch.zeros(3, 2)),
    "median": (lambda x: x.median(), rand(4, 3)),
    "topk": (lambda x: x.topk(2).values, rand(4, 3)),
    "cumprod": (lambda x: x.cumprod(0), rand(4, 3)),
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, padding=1), rand(2, 3, 5, 5), rand(4, 3, 3, 3), rand(4)),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), rand(2, 3, 4, 4)),
    "hardtanh": (F.hardtanh, rand(10)),
    "inv": (torch.linalg.inv, rand(3, 3) + 3 * torch.eye(3)),
    "svdvals": (torch.linalg.svdvals, rand(3, 3)),
    "solve": (torch.linalg.solve, rand(3, 3) + 3 * torch.eye(3), rand(3, 2)),
    "cross_entropy": (F.cross_entropy, rand(5, 4), TARGET),
    "gather": (lambda x, i: x.gather(1, i), rand(3, 4), torch.tensor([[0, 1], [3, 3], [2, 0]])),
    "scatter": (lambda x, i, s: x.scatter(0, i, s), rand(3, 4), torch.tensor([[0, 1, 2, 0], [1, 2, 0, 1]]), rand(2, 4)),
    "embedding_bag": (F.embedding_bag, torch.tensor([1, 2, 4, 5, 4, 3]), rand(6, 3), torch.tensor([0, 2, 4])),
    "batch_norm": (lambda x, w, b: batch_norm(x, w.contiguous(), b), rand(6, 3), rand(3), rand(3)),
    "attention": (F.scaled_dot_product_attention, rand(2, 3, 4), rand(2, 5, 4), rand(2, 5, 4)),
    "fft": (torch.fft.rfft, rand(6)),
    "complex abs": (torch.abs, torch.complex(rand(3), rand(3))),
    "where": (torch.where, torch.tensor([True, False]), rand(2), rand(2)),
    "one number": (lambda x: x * x, torch.tensor(1.5)),
    "tiny": (lambda x: x * 1e-20, rand(5)),
    "huge": (torch.log, positive(5) * 1e12),
    "mixed sizes": (lambda a, b: a * 1e-15 + b, rand(4) * 1e15, rand(4)),
    "mixed dtypes": (lambda a, b: a * b, rand(4).double(), rand(4)),
    "five inputs": (lambda a, b, c, d, e: a + b * c - d / e, rand(2), rand(2), rand(2), rand(2), positive(2)),
    "kl_div": (lambda p, q: F.kl_div(p.log(), q, reduction="sum"), positive(3, 4), positive(3, 4)),
}


def asking_autograd(operation: Any) -> type[Function]:
    """Return a Function whose backward runs the forward again under autograd."""

    class Asking(Function):
        @staticmethod
        def forward(ctx: Any, *xs: Tensor) -> Any:
            ctx.save_for_backward(*xs)
            return operation(*xs)

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, dy: Tensor) -> Any:
            with torch.enable_grad():
                smooth = [x.is_floating_point() or x.is_complex() for x in ctx.saved_tensors]
                xs = [x.detach().requires_grad_(s) for x, s in zip(ctx.saved_tensors, smooth, strict=True)]
                y = operation(*xs)
            leaves = [x for x in xs if x.requires_grad]
            gradients = iter(torch.autograd.grad(y, leaves, dy, materialize_grads=True))
            return tuple(next(gradients) if s else None for s in smooth)

    return Asking


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_backward_that_asks_autograd_is_never_called_wrong(name: str) -> None:
    operation, *inputs = OPERATIONS[name]

    report = check_function(asking_autograd(operation), *inputs)

    assert found(report) == {}


def test_a_wrong_gradient_of_torch_itself_for_a_strided_weight_is_found_where_it_is_there() -> None:
    x, weight, dy = rand(6, 3).double().requires_grad_(), rand(7).double(), rand(6, 3).double() ** 2
    strided, dense = (
        torch.autograd.grad(batch_norm(x, w, weight[:3]), x, dy)[0] for w in (weight[1::2], weight[1::2].contiguous())
    )

    report = check_function(asking_autograd(batch_norm), rand(6, 3), rand(3), rand(3))

    assert report.wrong == ([] if torch.allclose(strided, dense) else ["strided-inputs"])


# what may be given


def test_the_class_its_apply_and_a_function_that_calls_it_are_the_same() -> None:
    x = rand(3, 3)
    apply = Cube.apply

    reports = [check_function(f, x) for f in (Cube, Cube.apply, lambda x: apply(x, 2.0), lambda x: apply(x).sum())]

    assert [r.function for r in reports] == ["Cube"] * 4
    assert all(reports)
    assert "forward" in vars(Cube)
    assert Cube.apply(x).equal(2 * x**3)


def test_a_mistake_behind_a_function_is_found_and_named_by_the_signature_of_forward() -> None:
    report = check_function(lambda a: WrongLinear.apply(a, rand(4, 3), rand(4)).relu(), rand(5, 3))

    assert "the gradient of weight" in report["values"].message


def test_inputs_that_require_no_gradient_are_left_out_where_others_do() -> None:
    x, weight, bias = INPUTS[Linear]

    report = check_function(WrongLinear, x.clone().requires_grad_(), weight, bias)

    assert report.wrong == []
    assert "needs-input-grad does not apply: one input is differentiable" in report.notes


class NotStatic(Function):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return x


class Integers(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        return x.argmax()


class Nothing(Function):
    @staticmethod
    def forward(_ctx: Any, _x: Tensor) -> Any:
        return "nothing"


class Unseeded(Function):
    generator = torch.Generator()

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * torch.rand(x.shape, generator=Unseeded.generator)


@pytest.mark.parametrize(
    ("function", "inputs", "message"),
    [
        (torch.nn.ReLU, (rand(2),), "got the class ReLU, which is no torch.autograd.Function"),
        (3, (rand(2),), "got a int, which is no torch.autograd.Function"),
        (torch.relu, (rand(2),), "relu is no torch.autograd.Function, and its result does not come from the `.apply`"),
        (lambda x: Exp.apply(x) + Tanh.apply(x), (rand(2),), r"applies more than one Function \(Exp, Tanh\)"),
        (lambda _: 1 / 0, (rand(2),), "raises ZeroDivisionError: division by zero"),
        (Exp, (torch.arange(3),), "Exp was given no floating tensor, so there is no gradient to check"),
        (Exp, (), "Exp was given no floating tensor"),
        (
            Linear,
            (rand(2, 3), rand(4, 5), rand(4)),
            r"forward of Linear raises RuntimeError: .*test_function_check.py:",
        ),
        (Linear, (rand(2, 3),), "forward of Linear raises TypeError"),
        (NotStatic, (rand(2),), "forward of NotStatic is no static method: write @staticmethod above it"),
        (Function, (rand(2),), "Function defines no forward"),
        (Integers, (rand(2),), "no output of Integers is differentiable, so backward is never called"),
        (Nothing, (rand(2),), "forward of Nothing returns str: it must return a tensor"),
        (Unseeded, (rand(2),), "forward of Unseeded gives other values every time"),
    ],
)
def test_what_cannot_be_checked_is_told(function: Any, inputs: tuple[Any, ...], message: str) -> None:
    with pytest.raises(NotComparableError, match=message):
        check_function(function, *inputs)


def test_a_function_without_backward_does_not_run() -> None:
    class NoBackward(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 2

    report = check_function(NoBackward, rand(2))

    assert report.wrong == ["runs"]
    assert "backward raises NotImplementedError" in report["runs"].message


# what is left as it was


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_nothing_of_the_caller_is_changed_in_any_grad_mode(mode: Any) -> None:
    x = rand(4, 5)
    before = x.clone(), torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    torch.rand(1)
    torch.set_rng_state(before[1])

    with mode():
        expected_mode = torch.is_grad_enabled()
        report = check_function(mistaken(Dropout, "mask = torch.rand", "np.random.rand(); mask = torch.rand"), x)
        in_place = check_function(InPlaceDouble, x.expand(2, 4, 5), seed=3)
        assert torch.is_grad_enabled() == expected_mode

    assert report.wrong == in_place.wrong == []
    assert x.equal(before[0])
    assert not x.requires_grad
    assert x.grad is None
    assert torch.get_rng_state().equal(before[1])
    assert random.getstate() == before[2]
    assert np.random.get_state()[1].tolist() == before[3]  # noqa: NPY002


def test_parameters_and_strided_inputs_are_taken_as_they_are() -> None:
    weight = torch.nn.Parameter(rand(4, 3))

    report = check_function(Linear, rand(3, 5).T.requires_grad_(), weight, torch.ones(()).expand(4).requires_grad_())

    assert report.wrong == []
    assert weight.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_right_too(dtype: torch.dtype) -> None:
    assert check_function(Linear, *(x.to(dtype) for x in INPUTS[Linear])).wrong == []


# the report


def test_the_report_is_a_table_with_a_line_for_each_check() -> None:
    report = check_function(RowBiasOfNoRow, *INPUTS[RowBias])

    lines = str(report).splitlines()

    assert lines[0] == "RowBias: 1 wrong, 2 unverified, 17 right"
    assert lines[4:6] == [
        "  shape                 wrong      HG304",
        "      its gradient has shape (6,) and bias has shape (1, 6): `keepdim=True` in a sum keeps the dimension",
    ]
    assert repr(report) == "<FunctionReport of RowBias: 1 wrong, 2 unverified, 17 right>"
    assert report["shape"].findings[0].input == "bias"


RowBiasOfNoRow = mistaken(RowBias, "dy.sum(0, keepdim=True)", "dy.sum(0)")


def test_the_report_is_plain_json_data() -> None:
    data = json.loads(json.dumps(check_function(RowBiasOfNoRow, *INPUTS[RowBias]).to_dict(), allow_nan=False))

    shape = next(check for check in data["checks"] if check["name"] == "shape")
    assert (data["schema"], data["function"], data["right"]) == ("handgrad.function/1", "RowBias", False)
    assert (shape["code"], shape["verdict"], shape["findings"][0]["input"]) == ("HG304", "wrong", "bias")


def test_a_check_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(KeyError, match="no check vlaues; there are runs, count, none, shape"):
        check_function(Exp, rand(2))["vlaues"]


def test_every_check_has_a_code_of_its_own_and_a_planted_mistake() -> None:
    planted = {m[3] for m in MISTAKES} | {"leaked-state", "second-backward", "tolerance"}
    warnings = {"saved-on-ctx", "no-second-derivative"}

    assert len(set(CODES.values())) == len(CODES)
    assert all(code.startswith("HG3") for code in CODES.values())
    assert set(CODES) == planted | warnings


def test_the_same_seed_gives_the_same_report() -> None:
    a, b = (str(check_function(Embedding, *INPUTS[Embedding], seed=5)) for _ in range(2))

    assert a == b


def test_check_function_is_a_public_name() -> None:
    assert handgrad.check_function is check_function
