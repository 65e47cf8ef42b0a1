"""Expressions in normal form: an expression and the labels of its dimensions become a `Poly`.

Labels come from outside in. The gradient of ``logits`` has the labels (0, 1); in it ``dcounts_sum``, of shape (n, 1),
has (0, None); in its definition ``(counts * dprobs).sum(1, keepdim=True)`` the dimension that is summed gets the
smallest label that is free: 1. So the same place has the same label wherever values are aligned.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from handgrad.deriver.derivation import Backward
from handgrad.errors import DeriveError
from handgrad.expr import Expr, Shape, Size, call, number, reduction
from handgrad.graph import Value
from handgrad.rules.table import plain
from handgrad.simplifier.algebra import called, power, product, summed, times
from handgrad.simplifier.arguments import (
    UnreadableError,
    is_view,
    options,
    picked_along,
    reduced,
    reduction_args,
    signature,
)
from handgrad.simplifier.labels import fitted, new_label, widened
from handgrad.simplifier.normal_form import Axes, Kind, Leaf, Poly
from handgrad.simplifier.signs import is_above_zero, is_truth
from handgrad.simplifier.sizes import Sizes

POINTWISE = frozenset([
    "exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "abs", "sign", "erf", "erfc", "sin", "cos", "tan", "tanh",
    "sinh", "cosh", "sigmoid", "softplus", "relu", "silu", "atan", "asin", "acos", "logsigmoid", "lgamma", "digamma",
])  # fmt: skip
SAME = frozenset(["clone", "contiguous", "to", "type_as", "float", "double", "detach", "expand_as", "expand", "half"])
# What these return is one thing, with or without a name.
KEPT = frozenset(["sum", "mean", "var", "std", "norm", "amax", "amin", "softmax", "log_softmax", "logsumexp"])


class Reader:
    """Reads expressions for a region that begins with ``head``.

    ``gradient`` says what the gradient of a value is, None if it stays as it is.
    """

    def __init__(
        self, backward: Backward, gradient: Callable[[Value, Axes], Poly | None], head: Value, *, plain: bool = False
    ) -> None:
        self.forward, self.scope, self.gradient = backward.forward, backward.scope, gradient
        self.sizes = Sizes(self.forward, head, plain=plain)
        self._definitions: dict[str, Poly | None] = {}

    def read(self, expr: Expr, axes: Axes) -> Poly:
        """Return the normal form of ``expr``, whose dimensions have the labels ``axes``.

        Raises:
            UnreadableError: there is none.
        """
        make = getattr(self, f"_{expr.op.lower()}", None)
        if make is None or len(axes) != len(expr.shape):
            raise UnreadableError(expr.op)
        found: Poly = make(expr, axes)
        return found

    def definition(self, leaf: Leaf) -> Poly | None:
        """Return what a value is, in terms of what it was computed from; None for what was given."""
        if leaf.key not in self._definitions:
            self._definitions[leaf.key] = None
            value = leaf.expr.data
            if leaf.kind == "value" and isinstance(value, Value) and value.step is not None:
                try:
                    self._definitions[leaf.key] = self.read(self.forward.definition(value), leaf.axes)
                except (UnreadableError, DeriveError):
                    self._definitions[leaf.key] = None
        return self._definitions[leaf.key]

    # -- leaves

    def _value(self, expr: Expr, axes: Axes) -> Poly:
        value: Value = expr.data
        if value.name is None and value.step is not None and plain(value.step.op) not in KEPT:
            try:
                return self.read(self.forward.definition(value), axes)
            except (UnreadableError, DeriveError):
                pass
        kind: Kind = "truth" if is_truth(value) else "value"
        return Poly.of(Leaf(kind, f"{value.id:06d} {value.name}", axes, expr, positive=is_above_zero(value)))

    def _gradient(self, expr: Expr, axes: Axes) -> Poly:
        found = self.gradient(expr.data, axes)
        if found is not None:
            return found
        return Poly.of(Leaf("gradient", f"{expr.data.id:06d} {expr.data.name}", axes, expr))

    def _number(self, expr: Expr, _: Axes) -> Poly:
        return self.sizes.number(expr)

    def _let(self, expr: Expr, axes: Axes) -> Poly:
        return self.read(expr.args[0], axes)

    # -- elementwise

    def _aligned(self, expr: Expr, axes: Axes) -> Poly:
        return self.read(expr, fitted(axes, expr.shape))

    def _expand(self, expr: Expr, axes: Axes) -> Poly:
        return self._aligned(expr.args[0], axes)

    def _add(self, expr: Expr, axes: Axes) -> Poly:
        a, b = (self._aligned(item, axes) for item in expr.args)
        return a + b

    def _sub(self, expr: Expr, axes: Axes) -> Poly:
        a, b = (self._aligned(item, axes) for item in expr.args)
        return a - b

    def _mul(self, expr: Expr, axes: Axes) -> Poly:
        a, b = (self._aligned(item, axes) for item in expr.args)
        return times(a, b)

    def _div(self, expr: Expr, axes: Axes) -> Poly:
        a, b = (self._aligned(item, axes) for item in expr.args)
        return times(a, power(b, Fraction(-1)))

    def _neg(self, expr: Expr, axes: Axes) -> Poly:
        return -self.read(expr.args[0], axes)

    def _pow(self, expr: Expr, axes: Axes) -> Poly:
        base, exponent = expr.args
        value = self.sizes.number(exponent).value if exponent.op == "number" else None
        if value is None:
            raise UnreadableError("pow")
        return power(self._aligned(base, axes), value)

    def _truth(self, expr: Expr, axes: Axes) -> Poly:
        known = signature(expr)
        return Poly.of(Leaf("truth", known, axes, expr))

    _gt = _ge = _lt = _le = _eq = _ne = _truth

    def _not(self, expr: Expr, axes: Axes) -> Poly:
        return Poly.number(1) - self.read(expr.args[0], axes)

    def _and(self, expr: Expr, axes: Axes) -> Poly:
        return self._mul(expr, axes)

    def _or(self, expr: Expr, axes: Axes) -> Poly:
        a, b = (self._aligned(item, axes) for item in expr.args)
        return a + b - times(a, b)

    # -- calls

    def _method(self, expr: Expr, axes: Axes) -> Poly:
        return self._called(plain(expr.data), expr, axes)

    def _call(self, expr: Expr, axes: Axes) -> Poly:
        return self._called(plain(expr.data.rpartition(".")[2]), expr, axes)

    def _called(self, op: str, expr: Expr, axes: Axes) -> Poly:
        own = getattr(self, f"_call_{op}", None)
        if own is not None:
            found: Poly = own(expr, axes)
            return found
        inner = expr.args[0] if expr.args else expr
        if op in POINTWISE and len(expr.args) == 1:
            return called(op, self._aligned(inner, axes))
        if op in SAME:
            return self._aligned(inner, axes)
        if op in ("add", "sub", "mul", "div", "pow") and len(expr.args) == 2:
            return self.read(Expr(op, expr.args, expr.shape), axes)
        raise UnreadableError(op)

    def _call_sum(self, expr: Expr, axes: Axes) -> Poly:
        inner, dims = reduced(expr)
        within = widened(axes, inner.shape, dims, keepdim=len(expr.shape) == len(inner.shape))
        sizes: dict[int, Poly] = {}
        for d in dims:
            label = within[d]
            if label is not None:
                sizes[label] = self.sizes.size(inner.shape[d])
        return summed(self.read(inner, within), sizes)

    def _count(self, inner: Expr, dims: list[int]) -> Poly:
        return product(*(self.sizes.size(inner.shape[d]) for d in dims))

    def _call_mean(self, expr: Expr, axes: Axes) -> Poly:
        inner, dims = reduced(expr)
        return times(self._call_sum(expr, axes), power(self._count(inner, dims), Fraction(-1)))

    def _call_var(self, expr: Expr, axes: Axes) -> Poly:
        inner, dims = reduced(expr)
        given = options(expr)
        less = given.get("correction", given.get("unbiased", 1))
        centre = reduction("mean", inner, dims, keepdim=True)
        spread = Expr("pow", (Expr("sub", (inner, centre), inner.shape), number(2)), inner.shape)
        over = self._count(inner, dims) - Poly.number(int(less))
        whole = Expr("method", (spread, *reduction_args(dims, len(expr.shape) == len(inner.shape))), expr.shape, "sum")
        return times(self._call_sum(whole, axes), power(over, Fraction(-1)))

    def _call_std(self, expr: Expr, axes: Axes) -> Poly:
        return power(self._call_var(expr, axes), Fraction(1, 2))

    def _call_norm(self, expr: Expr, axes: Axes) -> Poly:
        inner, dims = reduced(expr)
        if options(expr).get("p", 2) not in (2, "fro"):
            raise UnreadableError("norm")
        square = Expr("pow", (inner, number(2)), inner.shape)
        whole = Expr("method", (square, *reduction_args(dims, len(expr.shape) == len(inner.shape))), expr.shape, "sum")
        return power(self._call_sum(whole, axes), Fraction(1, 2))

    def _call_square(self, expr: Expr, axes: Axes) -> Poly:
        return power(self._aligned(expr.args[0], axes), Fraction(2))

    def _call_sqrt(self, expr: Expr, axes: Axes) -> Poly:
        return power(self._aligned(expr.args[0], axes), Fraction(1, 2))

    def _call_rsqrt(self, expr: Expr, axes: Axes) -> Poly:
        return power(self._aligned(expr.args[0], axes), Fraction(-1, 2))

    def _call_reciprocal(self, expr: Expr, axes: Axes) -> Poly:
        return power(self._aligned(expr.args[0], axes), Fraction(-1))

    def _call_neg(self, expr: Expr, axes: Axes) -> Poly:
        return self._neg(expr, axes)

    def _call_ones_like(self, *_: object) -> Poly:
        return Poly.number(1)

    def _call_zeros_like(self, *_: object) -> Poly:
        return Poly()

    def _call_full_like(self, expr: Expr, _: Axes) -> Poly:
        return self.read(expr.args[1], ())

    def _call_where(self, expr: Expr, axes: Axes) -> Poly:
        mask, a, b = (self._aligned(item, axes) for item in expr.args)
        if not all(factor.idempotent for factor in mask.factors()):
            mask = self._truth(expr.args[0], fitted(axes, expr.args[0].shape))
        return times(mask, a) + times(Poly.number(1) - mask, b)

    # -- shapes

    def _t(self, expr: Expr, axes: Axes) -> Poly:
        return self.read(expr.args[0], (*axes[:-2], axes[-1], axes[-2]))

    def _call_reshape(self, expr: Expr, axes: Axes) -> Poly:
        return self._reshaped(expr.args[0], expr.shape, axes)

    def _reshaped(self, inner: Expr, shape: Shape, axes: Axes) -> Poly:
        """Read what differs from ``shape`` in dimensions of size 1 alone."""
        if [s for s in inner.shape if s != 1] != [s for s in shape if s != 1]:
            raise UnreadableError("reshape")
        labels = iter([a for a, size in zip(axes, shape, strict=True) if size != 1])
        return self.read(inner, tuple(None if size == 1 else next(labels) for size in inner.shape))

    _call_view = _call_unsqueeze = _call_squeeze = _call_reshape

    # -- picking

    def _index(self, expr: Expr, axes: Axes) -> Poly:
        inner, key = expr.args
        if is_view(key):
            return self._reshaped(inner, expr.shape, axes)
        picked = self._picked(key, inner.shape)
        label = new_label(axes)
        within = (*axes, label)
        pick = self._one_hot(picked, inner.shape, within)
        return summed(times(pick, self.read(inner, within)), {label: self.sizes.size(inner.shape[-1])})

    def _scatter(self, expr: Expr, axes: Axes) -> Poly:
        value, key = expr.args
        if is_view(key):
            return self._reshaped(value, expr.shape, axes)
        picked = self._picked(key, expr.shape)
        return times(self._one_hot(picked, expr.shape, axes), self.read(value, fitted(axes[:-1], value.shape)))

    def _picked(self, key: Expr, shape: Shape) -> Expr:
        """Return the index of a key that picks one number of each row: ``x[range(n), i]``."""
        if len(key.args) != 2 or len(shape) != 2:
            raise UnreadableError("index")
        rows, picked = key.args
        if picked.op != "value" or picked.shape != shape[:1] or picked.data.is_floating or not self._all(rows, shape):
            raise UnreadableError("index")
        if "int" not in str(picked.data.dtype):
            raise UnreadableError("index")
        return picked

    def _all(self, rows: Expr, shape: Shape) -> bool:
        """Whether ``rows`` are 0, 1, 2, and so on: each row once."""
        if rows.op == "raw":
            try:
                return list(self.scope.evaluate(rows.data)) == list(range(shape[0]))
            except Exception:  # what the user wrote may call anything
                return False
        step = rows.data.step if rows.op == "value" else None
        return step is not None and plain(step.op) == "arange" and rows.data.value.tolist() == list(range(shape[0]))

    def _one_hot(self, picked: Expr, shape: Shape, axes: Axes) -> Poly:
        text = getattr(shape[-1], "text", None)
        classes = Size(shape[-1], self.sizes.one_text(text) if text else None)
        expr = call("F.one_hot", picked, classes, shape=shape)
        return Poly.of(Leaf("truth", f"one_hot {signature(picked)}", axes, expr, classes=axes[-1]))

    def _call_gather(self, expr: Expr, axes: Axes) -> Poly:
        inner, dim, places = expr.args
        label = new_label(axes)
        within = (*axes[:-1], label)
        pick = self._one_hot(self._picked_along(dim, places, inner.shape), inner.shape, within)
        return summed(times(pick, self.read(inner, within)), {label: self.sizes.size(inner.shape[-1])})

    def _picked_along(self, dim: Expr, places: Expr, shape: Shape) -> Expr:
        if places.op == "value" and places.data.name is None and places.data.step is not None:
            places = self.forward.definition(places.data)
        return picked_along(dim, places, shape)

    def _call_scatter_add(self, expr: Expr, axes: Axes) -> Poly:
        zeros, dim, places, value = expr.args
        if zeros.data != "torch.zeros_like":
            raise UnreadableError("scatter_add")
        pick = self._one_hot(self._picked_along(dim, places, expr.shape), expr.shape, axes)
        return times(pick, self.read(value, fitted(axes, value.shape)))

    def _call_one_hot(self, expr: Expr, axes: Axes) -> Poly:
        return self._one_hot(expr.args[0], expr.shape, axes)
