"""Typed expressions: what a line of a derived backward says, before it is text.

An `Expr` knows its operation, its arguments and its shape. Smart constructors keep it short: ``x * 1`` is ``x``,
``--x`` is ``x``, and a value that is only repeated along a dimension (`expand`) stays outside of elementwise
operations, so that broadcasting does its work and no line says more than it must. `Size` is an int that remembers how
the user wrote it. The text is made in `printer.py`.

>>> counts, dprobs = name("counts", (32, 27)), name("dprobs", (32, 27))
>>> print(total(counts * dprobs, (1,), keepdim=True))
(counts * dprobs).sum(1, keepdim=True)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

Shape = tuple[int, ...]


class Size(int):
    """A size, and what the user calls it: ``n``, ``x.shape[1]``; None where only the number is known."""

    text: str | None

    def __new__(cls, size: int, text: str | None = None) -> Size:
        """Return ``size`` with a name."""
        made = super().__new__(cls, size)
        made.text = text
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Size:
        return self


class Expr:
    """An expression: an operation, its arguments, the shape of the result; ``data`` is what else the operation needs.

    Leaves are ``name`` (data: its text), ``number`` (data: value and text), ``value`` and ``gradient`` (data: the
    value of a graph that is meant), and ``raw`` (data: an argument that is no tensor, as text). A ``let`` (data: the
    name it would like) is an expression that gets a line and a name of its own.
    """

    __slots__ = ("args", "data", "op", "shape")

    def __init__(self, op: str, args: Iterable[Expr] = (), shape: Shape = (), data: Any = None) -> None:
        self.op, self.args, self.shape, self.data = op, tuple(args), tuple(shape), data

    def __repr__(self) -> str:
        from handgrad.printer import text

        return text(self)

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes it equal to another expression."""
        return self.op, self.data, self.shape, tuple(argument.key for argument in self.args)

    def __add__(self, other: Operand) -> Expr:
        return add(self, lift(other))

    def __radd__(self, other: Operand) -> Expr:
        return add(lift(other), self)

    def __sub__(self, other: Operand) -> Expr:
        return subtract(self, lift(other))

    def __rsub__(self, other: Operand) -> Expr:
        return subtract(lift(other), self)

    def __mul__(self, other: Operand) -> Expr:
        return multiply(self, lift(other))

    def __rmul__(self, other: Operand) -> Expr:
        return multiply(lift(other), self)

    def __truediv__(self, other: Operand) -> Expr:
        return divide(self, lift(other))

    def __rtruediv__(self, other: Operand) -> Expr:
        return divide(lift(other), self)

    def __pow__(self, other: Operand) -> Expr:
        return power(self, lift(other))

    def __rpow__(self, other: Operand) -> Expr:
        return power(lift(other), self)

    def __matmul__(self, other: Expr) -> Expr:
        return matmul(self, other)

    def __neg__(self) -> Expr:
        return negate(self)

    def __gt__(self, other: Operand) -> Expr:
        return elementwise("gt", self, lift(other))

    def __ge__(self, other: Operand) -> Expr:
        return elementwise("ge", self, lift(other))

    def __lt__(self, other: Operand) -> Expr:
        return elementwise("lt", self, lift(other))

    def __le__(self, other: Operand) -> Expr:
        return elementwise("le", self, lift(other))

    def __and__(self, other: Expr) -> Expr:
        return elementwise("and", self, other)

    def __or__(self, other: Expr) -> Expr:
        return elementwise("or", self, other)

    def __invert__(self) -> Expr:
        return Expr("not", (strip(self),), strip(self).shape).to(self.shape)

    def equals(self, other: Operand) -> Expr:
        """Return ``self == other``, elementwise."""
        return elementwise("eq", self, lift(other))

    def differs(self, other: Operand) -> Expr:
        """Return ``self != other``, elementwise."""
        return elementwise("ne", self, lift(other))

    @property
    def T(self) -> Expr:
        """The last two dimensions exchanged."""
        return transposed(self)

    def to(self, shape: Shape) -> Expr:
        """Repeat to ``shape``: the same as `expand`."""
        return expand(self, shape)

    def method(self, method: str, *args: Any, shape: Shape | None = None, **kwargs: Any) -> Expr:
        """Return ``self.method(*args, **kwargs)``; the shape is ``self``'s unless given."""
        given = [*map(argument, args), *(keyword(key, item) for key, item in kwargs.items())]
        return Expr("method", (self, *given), self.shape if shape is None else shape, method)

    def pointwise(self, function: str, *args: Any, **kwargs: Any) -> Expr:
        """Return ``function(self)``, a function of each element, such as ``torch.exp``."""
        inner = strip(self)
        return call(function, inner, *args, shape=inner.shape, **kwargs).to(self.shape)

    def __getitem__(self, _key: Any) -> Expr:
        raise TypeError("an expression is indexed with `index(x, key, shape)`")

    __iter__ = None


Operand = Expr | float


# -- leaves


def name(text: str, shape: Shape) -> Expr:
    """Return a variable called ``text``."""
    return Expr("name", (), shape, text)


def number(value: float, text: str | None = None) -> Expr:
    """Return a number, and how it is written."""
    if text is None:
        text = getattr(value, "text", None)
    return Expr("number", (), (), (value, repr(value) if text is None else text))


def raw(text: str) -> Expr:
    """Return an argument that is no tensor."""
    return Expr("raw", (), (), text)


def lift(item: Operand) -> Expr:
    """Return ``item`` as an expression."""
    return item if isinstance(item, Expr) else number(item)


def argument(item: Any) -> Expr:
    """Return an argument of a call as an expression: sizes print as the user calls them."""
    return item if isinstance(item, Expr) else raw(written(item))


def keyword(key: str, item: Any) -> Expr:
    """Return ``key=item`` of a call."""
    return Expr("keyword", (argument(item),), (), key)


def written(item: Any) -> str:
    """Return Python for a constant."""
    text = getattr(item, "text", None)
    if isinstance(item, Size) and text:
        return str(text)
    if isinstance(item, Size):
        return repr(int(item))
    if type(item) is tuple:
        inside = ", ".join(map(written, item))
        return f"({inside},)" if len(item) == 1 else f"({inside})"
    if type(item) is list:
        return "[" + ", ".join(map(written, item)) + "]"
    if isinstance(item, slice):
        ends = ["" if end is None else written(end) for end in (item.start, item.stop)]
        return ":".join(ends) + ("" if item.step is None else f":{written(item.step)}")
    if item is Ellipsis:
        return "..."
    if isinstance(item, float) and not math.isfinite(item):
        return f"float('{item}')"
    return repr(item)


def is_number(expr: Expr, value: float | None = None) -> bool:
    """Whether ``expr`` is a number, and this one."""
    return expr.op == "number" and (value is None or expr.data[0] == value)


# -- broadcasting


def is_mask(expr: Expr) -> bool:
    """Whether ``expr`` holds truth values or whole numbers, and becomes floating in a product only."""
    inner = strip(expr)
    if inner.op == "let":
        return is_mask(inner.args[0])
    if inner.op == "method" and inner.args:
        return is_mask(inner.args[0]) and inner.data not in ("to", "type_as")
    return inner.op in ("gt", "ge", "lt", "le", "eq", "ne", "and", "or", "not") or inner.data == "F.one_hot"


def broadcast(*shapes: Shape) -> Shape:
    """Return the shape that ``shapes`` broadcast to; names of sizes are kept."""
    length = max(map(len, shapes), default=0)
    result: list[int] = [1] * length
    for shape in shapes:
        for position, size in enumerate(shape, start=length - len(shape)):
            known = result[position]
            if known == 1 or (size == known and getattr(known, "text", None) is None):
                result[position] = size
            elif size not in (1, known):
                raise ValueError(f"shapes {', '.join(map(str, shapes))} do not broadcast")
    return tuple(result)


def expand(expr: Expr, shape: Shape) -> Expr:
    """Return ``expr`` repeated to ``shape``."""
    inner = strip(expr)
    return inner if inner.shape == tuple(shape) else Expr("expand", (inner,), shape)


def strip(expr: Expr) -> Expr:
    """Return what `expand` repeats."""
    return expr.args[0] if expr.op == "expand" else expr


def elementwise(op: str, *args: Expr, data: Any = None) -> Expr:
    """Return an elementwise operation, with repetition kept outside of it."""
    inner = [strip(item) for item in args]
    made = Expr(op, inner, broadcast(*(item.shape for item in inner)), data)
    return expand(made, broadcast(*(item.shape for item in args)))


# -- arithmetic


def negate(x: Expr) -> Expr:
    """Return ``-x``."""
    if x.op == "expand":
        return expand(negate(strip(x)), x.shape)
    if x.op == "neg":
        return x.args[0]
    if x.op == "number":
        value, text = x.data
        plain = text[1:] if text.startswith("-") else f"-{text}"
        return number(-value, plain) if _is_atom(text.removeprefix("-")) else Expr("neg", (x,))
    return Expr("neg", (x,), x.shape)


def add(a: Expr, b: Expr) -> Expr:
    """Return ``a + b``."""
    if is_number(a, 0):
        return b
    if is_number(b, 0):
        return a
    if strip(b).op == "neg":
        return subtract(a, negate(b))
    return elementwise("add", a, b)


def subtract(a: Expr, b: Expr) -> Expr:
    """Return ``a - b``."""
    if is_number(b, 0):
        return a
    if is_number(a, 0):
        return negate(b)
    if strip(b).op == "neg":
        return add(a, negate(b))
    return elementwise("sub", a, b)


def multiply(a: Expr, b: Expr) -> Expr:
    """Return ``a * b``."""
    shape = broadcast(a.shape, b.shape)
    for one, other in ((a, b), (b, a)):
        if is_mask(other):
            continue  # the product makes numbers of it
        if is_number(strip(one), 1):
            return expand(other, shape)
        if is_number(strip(one), -1):
            return expand(negate(other), shape)
    if strip(a).op == "neg" and strip(b).op == "neg":
        a, b = negate(a), negate(b)
    if strip(b).op == "div" and is_number(strip(b).args[0], 1) and not is_mask(a):
        return expand(divide(a, strip(b).args[1]), shape)
    return elementwise("mul", a, b)


def divide(a: Expr, b: Expr) -> Expr:
    """Return ``a / b``."""
    if is_number(b, 1):
        return a
    return elementwise("div", a, b)


def power(a: Expr, b: Expr) -> Expr:
    """Return ``a ** b``."""
    if is_number(b, 1):
        return a
    return elementwise("pow", a, b)


def matmul(a: Expr, b: Expr) -> Expr:
    """Return ``a @ b``; both have two dimensions or more."""
    lead = broadcast(a.shape[:-2], b.shape[:-2])
    return Expr("matmul", (a, b), (*lead, a.shape[-2], b.shape[-1]))


# -- names for what is said more than once


def let(wish: str, expr: Expr) -> Expr:
    """Return ``expr``, to be written on a line of its own, above, under a name like ``wish``; a name stays as it is.

    Equal ones get one line. Whoever reads the expression finds the definition in it: ``args[0]``.
    """
    inner = strip(expr)
    return expand(Expr("let", (inner,), inner.shape, wish) if cost(inner) else inner, expr.shape)


# -- shapes


def transposed(x: Expr) -> Expr:
    """Return ``x`` with its last two dimensions exchanged: ``x.T``, or ``x.transpose(-2, -1)``."""
    if x.op == "T":
        return x.args[0]
    if is_repeated_number(x):
        return expand(x, (*x.shape[:-2], x.shape[-1], x.shape[-2]))
    return Expr("T", (x,), (*x.shape[:-2], x.shape[-1], x.shape[-2]))


def total(x: Expr, dims: Sequence[int] | None = None, *, keepdim: bool = False) -> Expr:
    """Return the sum of ``x`` over ``dims``, or over all."""
    return reduction("sum", x, dims, keepdim=keepdim)


def reduction(method: str, x: Expr, dims: Sequence[int] | None = None, *, keepdim: bool = False, **more: Any) -> Expr:
    """Return ``x.method(dims, keepdim)``, such as ``x.mean(1, keepdim=True)``."""
    if dims is None:
        return x.method(method, shape=(), **more)
    chosen = [dim % len(x.shape) for dim in dims]
    shape = tuple(1 if d in chosen else s for d, s in enumerate(x.shape) if keepdim or d not in chosen)
    if keepdim:
        more["keepdim"] = True
    return x.method(method, dims[0] if len(dims) == 1 else tuple(dims), shape=shape, **more)


def reshape(x: Expr, shape: Shape) -> Expr:
    """Return ``x.reshape(shape)``."""
    if x.shape == tuple(shape):
        return x
    if is_repeated_number(x):
        return expand(x, shape)
    if x.op == "method" and x.data == "reshape":
        x = x.args[0]
    return x.method("reshape", *(shape or [raw("()")]), shape=shape) if x.shape != tuple(shape) else x


def unsqueeze(x: Expr, dim: int) -> Expr:
    """Return ``x.unsqueeze(dim)``; ``dim`` counts in the result and is not negative."""
    shape = (*x.shape[:dim], 1, *x.shape[dim:])
    return x.method("unsqueeze", -1 if dim == len(x.shape) and dim else dim, shape=shape)


def unreduce(g: Expr, shape: Shape, dims: Sequence[int] | None, *, keepdim: bool) -> Expr:
    """Return ``g``, the result of a reduction of ``shape`` over ``dims``, with its dimensions back, repeated."""
    if dims is None or keepdim or not g.shape:
        return expand(g, shape)
    chosen = sorted(dim % len(shape) for dim in dims)
    if chosen != list(range(len(chosen))):
        if g.op == "expand" and not strip(g).shape:
            return expand(strip(g), shape)
        for dim in chosen:
            g = unsqueeze(g, dim)
    return expand(g, shape)


def rearranged(x: Expr, method: str, *args: Any, shape: Shape, **kwargs: Any) -> Expr:
    """Return ``x.method(*args, **kwargs)``, which only moves numbers or picks some: nothing to do if all are one."""
    if is_repeated_number(x):
        return expand(x, shape)
    return x.method(method, *args, shape=shape, **kwargs)


def is_repeated_number(x: Expr) -> bool:
    """Whether ``x`` is one number, repeated to its shape."""
    return not strip(x).shape and (x.op == "expand" or x.op == "number")


def index(x: Expr, key: Expr, shape: Shape) -> Expr:
    """Return ``x[key]``; ``key`` is made by `index_key`."""
    if is_repeated_number(x):
        return expand(x, shape)
    return Expr("index", (x, key), shape)


def index_key(items: Sequence[Any], shape: Shape = ()) -> Expr:
    """Return the key of an index: expressions, slices, numbers; ``shape`` is that of what it picks, if it is known."""
    return Expr("key", map(argument, items), shape)


def scatter(value: Expr, key: Expr, shape: Shape, *, accumulate: bool) -> Expr:
    """Return zeros of ``shape`` with ``value`` written, or added, at ``key``. It becomes two statements."""
    return Expr("scatter", (value, key), shape, accumulate)


def hole(shape: Shape) -> Expr:
    """Return what stands in a place for the tensor that the place is in."""
    return Expr("hole", (), shape)


def fill(place: Expr, x: Expr) -> Expr:
    """Return ``place`` in ``x``: ``x[:, 0]`` for the place ``hole[:, 0]``."""
    if place.op == "hole":
        return x
    if not place.args:
        return place
    args = [fill(item, x) for item in place.args]
    return (
        index(args[0], args[1], place.shape) if place.op == "index" else Expr(place.op, args, place.shape, place.data)
    )


def overwritten(x: Expr, place: Expr, value: Expr | None = None) -> Expr:
    """Return a copy of ``x`` with ``value``, or zeros, at ``place``. It becomes two statements."""
    return Expr("overwritten", (x, place, number(0) if value is None else value), x.shape)


def call(function: str, *args: Any, shape: Shape, **kwargs: Any) -> Expr:
    """Return ``function(*args, **kwargs)``, such as ``torch.where``."""
    given = [*map(argument, args), *(keyword(key, item) for key, item in kwargs.items())]
    return Expr("call", given, shape, function)


def choose(condition: Expr, a: Operand, b: Operand, like: Expr) -> Expr:
    """Return ``torch.where(condition, a, b)``, elementwise; of two numbers, one becomes a tensor like ``like``."""
    one, other = (strip(lift(item)) for item in (a, b))
    shape = broadcast(condition.shape, lift(a).shape, lift(b).shape)
    if one.op == other.op == "number":
        like = strip(like)
        one = (call("torch.ones_like", like, shape=like.shape) if is_number(one, 1) else
               call("torch.full_like", like, one, shape=like.shape))  # fmt: skip
    inner = strip(condition)
    return call("torch.where", inner, one, other, shape=broadcast(inner.shape, one.shape, other.shape)).to(shape)


def listed(items: Sequence[Expr]) -> Expr:
    """Return ``[a, b, c]``, an argument of ``torch.cat``."""
    return Expr("list", items)


# -- undoing a broadcast


def unbroadcast(x: Expr, shape: Shape) -> tuple[Expr, str]:
    """Return ``x`` summed to ``shape``, the shape of a value that was broadcast, and why; "" if there was no need.

    This is the only place that undoes broadcasting: rules return gradients in the shape of the output. Where ``x`` is
    itself only repeated along a dimension, its sum there is a product with the size.
    """
    shape = tuple(shape)
    if x.shape == shape:
        return x, ""
    inner, full = strip(x), x.shape
    lead = len(full) - len(shape)
    ones = [lead + i for i, size in enumerate(shape) if size == 1 and full[lead + i] != 1]
    summed = [*range(lead), *ones]
    own = (1,) * (len(full) - len(inner.shape)) + inner.shape
    constant = [d for d in summed if own[d] == 1 and full[d] != 1]
    if x.op == "expand" and len(constant) == len([d for d in summed if full[d] != 1]):
        times = product([full[d] for d in constant])
        scaled = inner if is_number(times, 1) else multiply(times, inner)
        kept = tuple(s for d, s in enumerate(own) if d >= lead)
        fitted = scaled if scaled.shape == kept[len(kept) - len(scaled.shape) :] else reshape(scaled, kept)
        return expand(fitted, shape), f"it was repeated {math.prod(full[d] for d in constant)} times"
    if not shape:
        return total(x), "it is one number, used everywhere: sum over all"
    if lead and ones:
        return reshape(total(x, summed), shape), f"it was broadcast over dims {', '.join(map(str, summed))}"
    if lead:
        where = "dim 0" if lead == 1 else f"dims {', '.join(map(str, range(lead)))}"
        return total(x, list(range(lead))), f"it was broadcast over {where}"
    where = f"dim {ones[0]}" if len(ones) == 1 else f"dims {', '.join(map(str, ones))}"
    return total(x, ones, keepdim=True), f"it was broadcast over {where}"


def product(sizes: Sequence[int]) -> Expr:
    """Return the product of ``sizes`` as a number with its text: ``n * T``."""
    known = [size for size in sizes if size != 1]
    texts = [written(size) for size in known]
    if len(texts) > 1 and not all(getattr(size, "text", None) for size in known):
        return number(math.prod(sizes))
    return number(math.prod(sizes), " * ".join(texts) or "1")


# -- reading expressions


def walk(expr: Expr) -> Iterator[Expr]:
    """Yield ``expr`` and everything in it."""
    yield expr
    for item in expr.args:
        yield from walk(item)


def replace(expr: Expr, change: Callable[[Expr], Expr | None]) -> Expr:
    """Return ``expr`` with each part for which ``change`` returns something replaced by that."""
    new = change(expr)
    if new is not None:
        return new
    args = [replace(item, change) for item in expr.args]
    if all(old is item for old, item in zip(expr.args, args, strict=True)):
        return expr
    return Expr(expr.op, args, expr.shape, expr.data)


_HEAVY = frozenset([
    "F.linear", "F.bilinear", "F.embedding", "F.conv1d", "F.conv2d", "F.softmax", "F.log_softmax", "F.layer_norm",
    "F.batch_norm", "F.group_norm", "F.rms_norm", "F.scaled_dot_product_attention", "torch.einsum", "torch.cat",
    "torch.stack", "torch.matmul", "torch.bmm", "torch.baddbmm", "torch.addmm", "F.max_pool1d", "F.max_pool2d",
    "F.avg_pool1d", "F.avg_pool2d", "F.unfold", "F.fold", "F.normalize", "torch.cumsum", "torch.softmax",
])  # fmt: skip


def cost(expr: Expr) -> int:
    """Return how much there is to read, and to compute: 0 for a name, 1 for each operation, 4 for a product."""
    if expr.op in ("name", "number", "raw", "value", "gradient", "let"):
        return 0
    if expr.op == "call" and expr.data in _HEAVY:
        return 4 + sum(map(cost, expr.args))
    own = 0 if expr.op in ("expand", "neg", "T", "keyword", "key", "list") else 4 if expr.op == "matmul" else 1
    return own + sum(map(cost, expr.args))


def _is_atom(text: str) -> bool:
    return text.replace(".", "", 1).replace("e", "", 1).replace("-", "", 1).isalnum() or text.isidentifier()
