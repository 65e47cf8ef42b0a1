"""Products of vectors and matrices, convolution and pooling."""

from __future__ import annotations

import string
from typing import Any

from handgrad.deriver.numpy_page.forms.table import NoFormError, form, operation
from handgrad.expr import Expr, call, raw


def _options(**given: Expr | None) -> dict[str, Expr]:
    return {key: item for key, item in given.items() if item is not None}


@form("addmm", "addmv", "baddbmm")
def addmm(out: Expr, x: Expr, a: Expr, b: Expr, beta: Expr | None = None, alpha: Expr | None = None) -> Expr:
    product = Expr("matmul", (a, b), out.shape)
    return (x if beta is None else beta * x) + (product if alpha is None else alpha * product)


@form("addbmm")
def addbmm(out: Expr, x: Expr, a: Expr, b: Expr, beta: Expr | None = None, alpha: Expr | None = None) -> Expr:
    product = Expr("matmul", (a, b), (a.shape[0], *out.shape)).method("sum", 0, shape=out.shape)
    return (x if beta is None else beta * x) + (product if alpha is None else alpha * product)


@form("addr")
def addr(out: Expr, x: Expr, a: Expr, b: Expr, beta: Expr | None = None, alpha: Expr | None = None) -> Expr:
    product = call("np.outer", a, b, shape=out.shape)
    return (x if beta is None else beta * x) + (product if alpha is None else alpha * product)


@form("ger")
def ger(out: Expr, a: Expr, b: Expr) -> Expr:
    return call("np.outer", a, b, shape=out.shape)


@form("linear")
def linear(out: Expr, x: Expr, weight: Expr, bias: Expr | None = None) -> Expr:
    turned = weight.T if len(weight.shape) > 1 else weight
    product = Expr("matmul", (x, turned), out.shape)
    return product if bias is None or bias.op == "raw" else product + bias


@form("bilinear")
def bilinear(out: Expr, a: Expr, b: Expr, weight: Expr, bias: Expr | None = None) -> Expr:
    product = call("np.einsum", raw('"...i,oij,...j->...o"'), a, weight, b, shape=out.shape)
    return product if bias is None or bias.op == "raw" else product + bias


@form("multi_dot", "chain_matmul")
def multi_dot(out: Expr, *tensors: Expr) -> Expr:
    first, *rest = tensors[0].args if tensors[0].op == "list" else tensors
    for item in rest:
        first = Expr("matmul", (first, item), (*first.shape[:-1], *item.shape[1:]))
    return first


@form("tensordot")
def tensordot(out: Expr, a: Expr, b: Expr, dims: Any = 2) -> Expr:
    axes = tuple(dims) if isinstance(dims, list) else dims
    return call("np.tensordot", a, b, axes, shape=out.shape)


@form("cross", "linalg_cross")
def cross(out: Expr, a: Expr, b: Expr, dim: int | None = None) -> Expr:
    if dim is None and operation(out) == "cross" and str(out.data).startswith("torch.linalg"):
        dim = -1
    if dim is None:
        dim = next(d for d, size in enumerate(a.shape) if size == 3)
    return call("np.cross", a, b, shape=out.shape, **({} if dim in (-1, len(a.shape) - 1) else {"axis": dim}))


@form("einsum")
def einsum(out: Expr, equation: str, *tensors: Expr) -> Expr:
    items = tensors[0].args if tensors[0].op == "list" else tensors
    inputs, _, output = equation.partition("->")
    if "..." in inputs and output and "..." not in output:  # NumPy wants letters for what is summed
        free = [letter for letter in string.ascii_letters if letter not in equation]
        parts = []
        for part, item in zip(inputs.split(","), items, strict=True):
            count = len(item.shape) - len(part.strip().replace("...", ""))
            parts.append(part.replace("...", "".join(free[:count][::-1])))
        equation = ",".join(parts) + "->" + output
    return call("np.einsum", raw(repr(equation.replace(" ", ""))), *items, shape=out.shape)


@form("conv1d", "conv2d", "conv3d")
def conv(out: Expr, x: Expr, weight: Expr, bias: Expr | None = None, stride: Expr | None = None,
         padding: Expr | None = None, dilation: Expr | None = None, groups: Expr | None = None) -> Expr:  # fmt: skip
    options = _options(bias=bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
    return call("conv", x, weight, shape=out.shape, **options)


@form("conv1d_weight", "conv2d_weight", "conv3d_weight")
def conv_weight(out: Expr, x: Expr, size: Expr, g: Expr, stride: Expr | None = None, padding: Expr | None = None,
                dilation: Expr | None = None, groups: Expr | None = None) -> Expr:  # fmt: skip
    options = _options(stride=stride, padding=padding, dilation=dilation, groups=groups)
    return call("conv_weight", x, size, g, shape=out.shape, **options)


@form("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(out: Expr, x: Expr, weight: Expr, bias: Expr | None = None, stride: Expr | None = None,
                   padding: Expr | None = None, output_padding: Expr | None = None, groups: Expr | None = None,
                   dilation: Expr | None = None) -> Expr:  # fmt: skip
    options = _options(bias=bias, stride=stride, padding=padding, output_padding=output_padding, groups=groups,
                       dilation=dilation)  # fmt: skip
    return call("conv_transpose", x, weight, shape=out.shape, **options)


def _kernel(out: Expr, size: Any) -> tuple[int, ...]:
    count = int(operation(out)[-2])
    return (size,) * count if isinstance(size, int) else tuple(size) * (count if len(size) == 1 else 1)


@form("max_pool1d", "max_pool2d", "max_pool3d")
def max_pool(out: Expr, x: Expr, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
             ceil_mode: bool = False, return_indices: bool = False) -> Expr:  # fmt: skip
    given = {"stride": stride or None, "padding": padding or None, "dilation": dilation if dilation != 1 else None,
             "ceil_mode": ceil_mode or None, "return_indices": return_indices or None}  # fmt: skip
    options = {key: item for key, item in given.items() if item is not None}
    return call("max_pool", x, _kernel(out, kernel_size), shape=out.shape, **options)


@form("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(out: Expr, x: Expr, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
             count_include_pad: bool = True, divisor_override: int | None = None) -> Expr:  # fmt: skip
    if ceil_mode or (padding and not count_include_pad):
        raise NoFormError(f"{operation(out)} over windows of different sizes")
    given = {"stride": stride or None, "padding": padding or None, "divisor_override": divisor_override}
    options = {key: item for key, item in given.items() if item is not None}
    return call("avg_pool", x, _kernel(out, kernel_size), shape=out.shape, **options)


@form("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d")
def adaptive(out: Expr, x: Expr, output_size: Any, return_indices: bool = False) -> Expr:
    count = int(operation(out)[-2])
    wanted = (output_size,) * count if not isinstance(output_size, tuple | list) else tuple(output_size)
    sizes = x.shape[-count:]
    made = [int(size if want is None else want) for size, want in zip(sizes, wanted, strict=True)]
    if any(size % many for size, many in zip(sizes, made, strict=True)):
        raise NoFormError(f"{operation(out)} over windows of different sizes")
    kernel = tuple(int(size) // many for size, many in zip(sizes, made, strict=True))
    more = {"return_indices": True} if return_indices else {}
    return call("avg_pool" if "avg" in operation(out) else "max_pool", x, kernel, shape=out.shape, **more)


@form("interpolate", "upsample", "upsample_nearest")
def interpolate(out: Expr, x: Expr, size: Any = None, scale_factor: Any = None, mode: str = "nearest") -> Expr:
    if mode not in ("nearest", "nearest-exact") or any(b % a for a, b in zip(x.shape, out.shape, strict=True)):
        raise NoFormError("interpolate other than nearest by a whole factor")
    for d in range(2, len(x.shape)):
        if out.shape[d] != x.shape[d]:
            shape = (*x.shape[:d], out.shape[d], *x.shape[d + 1 :])
            x = call("np.repeat", x, int(out.shape[d]) // int(x.shape[d]), shape=shape, axis=d)
    return x
