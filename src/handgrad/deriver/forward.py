"""Forward values as expressions: by their names, or again as the user computed them."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from handgrad.deriver.memory import real_key, sharing, unwritten
from handgrad.deriver.scope import Scope
from handgrad.deriver.sizes import Sizes
from handgrad.deriver.spelling import spell, spell_key
from handgrad.errors import DeriveError
from handgrad.expr import Expr, argument, call, index_key, keyword, listed, number, raw, written
from handgrad.graph import Const, Graph, Step, Value
from handgrad.rules.table import plain

CHEAP = 3  # operations that are written again rather than kept under a name of their own
_OPERATORS = {"add", "sub", "mul", "div", "pow", "matmul", "gt", "ge", "lt", "le", "eq", "ne"}
_TUPLES = {"unbind", "split", "split_with_sizes", "chunk", "tensor_split"}  # of one part, too
_REVERSED = {"rsub": "sub", "rdiv": "div", "rpow": "pow", "rmatmul": "matmul"}


class Forward:
    """Expressions for the values of a graph and for the arguments of its steps."""

    def __init__(self, graph: Graph, scope: Scope, extra: dict[str, Any] | None = None) -> None:
        self.graph, self.scope, self.sizes = graph, scope, Sizes(graph, scope)
        self.extra = extra  # names that stand for something only in a loop
        self._leaves: dict[Value, Expr] = {}

    def leaf(self, value: Value) -> Expr:
        """Return the expression that means ``value``; how it is written is decided later."""
        if value not in self._leaves:
            self._leaves[value] = Expr("value", (), self.sizes.shape(value), value)
        return self._leaves[value]

    def gradient(self, value: Value) -> Expr:
        """Return the expression that means the gradient of ``value``."""
        return Expr("gradient", (), self.sizes.shape(value), value)

    # -- arguments of a step

    def convert(self, step: Step) -> Any:
        """Return the function that gives a rule the arguments of ``step`` as it wants them."""
        texts = spell(step, self.scope, self.extra)
        places = {id(item): place for place, item in enumerate(step.args)}
        places_of_keys = {id(item): key for key, item in step.kwargs.items()}

        def text_of(item: Any) -> str | None:
            place: int | str | None = places.get(id(item))
            if place is None:
                place = places_of_keys.get(id(item))
            return texts.get(place) if place is not None else None

        def convert(item: Any, annotation: str) -> Any:
            if annotation == "Key":
                return self.key(step)
            if annotation == "Sharing":
                return sharing(step, self)
            if annotation.startswith("Exprs"):
                items = item.value if isinstance(item, Const) else item
                return [self._expr(one, None) for one in items]
            if annotation.startswith("Expr"):
                return None if isinstance(item, Const) and item.value is None else self._expr(item, text_of(item))
            return self._plain(item)

        return convert

    def _expr(self, item: Any, text: str | None) -> Expr:
        if isinstance(item, Value):
            return self.leaf(item)
        value = item.value if isinstance(item, Const) else item
        if isinstance(value, int | float):
            return number(value, text)
        if isinstance(value, list | tuple):
            return listed([self._expr(one, None) for one in value])
        return raw(text or written(value))

    def _plain(self, item: Any) -> Any:
        if isinstance(item, Const):
            return item.value
        if isinstance(item, Value):
            return self.leaf(item)
        if isinstance(item, list | tuple):
            return [self._plain(one) for one in item]
        return item

    def key(self, step: Step) -> Expr:
        """Return the key of an index as an expression."""
        given = step.args[1]
        if isinstance(given, Const):
            items = list(given.value) if isinstance(given.value, tuple) else [given.value]
        else:
            items = list(given) if isinstance(given, list | tuple) else [given]
        items = [item.value if isinstance(item, Const) else item for item in items]
        texts = spell_key(step, self.scope, self.extra)
        parts: list[Any] = []
        for position, item in enumerate(items):
            text = texts[position] if position < len(texts) else None
            if not isinstance(item, Value | slice) and (array := _as_array(item)) is not None:
                parts.append(_array_item(array, item, text))
            elif text is not None:
                parts.append(raw(text))
            elif isinstance(item, list | tuple):
                parts.append(listed([self._expr(one, None) for one in item]))
            else:
                parts.append(self.leaf(item) if isinstance(item, Value) else item)
        return index_key(parts, self._picked(step))

    def _picked(self, step: Step) -> tuple[int, ...]:
        """Return the shape of what an index picks, or of what an assignment replaces."""
        if plain(step.op) == "getitem":
            return self.sizes.shape(step.outs[0])
        shape = tuple(torch.empty(()).expand(step.args[0].shape)[real_key(step)].shape)
        given = step.args[2] if len(step.args) > 2 else None
        return self.sizes.shape(given) if isinstance(given, Value) and given.shape == shape else shape

    # -- a value written again

    def definition(self, value: Value) -> Expr:
        """Return the step that made ``value`` as an expression of its arguments.

        Raises:
            DeriveError: it was drawn at random, or changed in place, and cannot be computed again.
        """
        step = value.step
        if step is None:
            raise DeriveError(f"{value.name or 'a value'} was bound again, and what it was before is gone: keep it "
                              "under another name")  # fmt: skip
        shape = self.sizes.shape(value)
        if step.is_random or step.generator_state is not None:
            raise DeriveError(f"{step.site}: the backward needs what `{step.text}` drew, and nothing holds it any "
                              "more: give it a name of its own")  # fmt: skip
        op = plain(step.op)
        if step.writes and op not in _OPERATORS and not hasattr(Tensor, op):
            raise DeriveError(f"{step.site}: the backward needs a value that `{step.text}` changed in place: "
                              "write into a clone, or make a new tensor")  # fmt: skip
        if op == "batch_norm":
            step = _without_running(step)
        convert = self.convert(step)
        args = step.args
        if op in _OPERATORS and len(args) == 2 and not step.kwargs:
            a, b = (convert(item, "Expr") for item in args)
            if op == "mul" and b.op == "number":
                a, b = b, a
            return Expr(op, (a, b), shape)
        if op in _REVERSED and len(args) == 2:
            return Expr(_REVERSED[op], (convert(args[1], "Expr"), convert(args[0], "Expr")), shape)
        if op == "neg" and len(args) == 1:
            return Expr("neg", (convert(args[0], "Expr"),), shape)
        if (
            op in ("invert", "__invert__", "bitwise_not", "logical_not")
            and value.dtype is torch.bool
            and len(args) == 1
        ):
            inner = convert(args[0], "Expr")
            if args[0].dtype is torch.bool:
                return Expr("not", (inner,), shape)
        if op == "getitem":
            return Expr("index", (self.leaf(unwritten(step)), self.key(step)), shape)
        if (op in ("T", "mT", "t") and len(shape) == 2) or (op == "transpose" and _is_last_two(args, len(shape))):
            return Expr("T", (convert(args[0], "Expr"),), shape)
        if op == "unbind" and (dim := _unbound(step)) is not None:
            key = [slice(None)] * (dim % len(next(step.inputs).shape))
            return Expr("index", (convert(args[0], "Expr"), index_key([*key, step.outs.index(value)])), shape)
        made = self._call(step, args, convert, shape)
        if len(step.outs) > 1 or op in _TUPLES:
            position = step.outs.index(value)
            return Expr("index", (made, index_key([position])), shape)
        return made

    def _call(self, step: Step, args: list[Any], convert: Any, shape: tuple[int, ...]) -> Expr:
        if step.op == "linear" and isinstance(args[-1], Const) and args[-1].value is None:
            args = args[:-1]  # a module hands on that it has no bias
        given = [self._argument(item, convert) for item in args]
        defaults = _defaults(step.func)
        for key, item in step.kwargs.items():
            if isinstance(item, Const) and key in defaults and _same(defaults[key], item.value):
                continue
            if step.writes and key in ("inplace", "out"):
                continue
            if defaults and not args and not given and key == next(iter(defaults)):
                given.append(self._argument(item, convert))
            else:
                given.append(keyword(key, self._argument(item, convert)))
        name, kind = getattr(step.func, "__name__", step.op), type(step.func).__name__
        if kind == "method-wrapper":
            return Expr("attribute", given[:1], shape, step.op)
        if step.writes and name.rstrip("_") != name:  # the same, not in place
            return Expr("method", given, shape, plain(step.op))
        if kind == "method_descriptor" or "Tensor." in str(getattr(step.func, "__qualname__", "")):
            return Expr("method", given, shape, name)
        written = _written_as(step.func, name)
        if written is None:
            raise DeriveError(f"{step.site}: `{step.text}` is needed again, and how to write it is not known: "
                              "give it a name")  # fmt: skip
        return Expr("call", given, shape, written)

    def _argument(self, item: Any, convert: Any) -> Expr:
        if isinstance(item, Const):
            found = convert(item, "Expr") if isinstance(item.value, int | float) else None
            return found if isinstance(found, Expr) else argument(item.value)
        if isinstance(item, list | tuple):
            return listed([self._argument(one, convert) for one in item])
        return self.leaf(item)


def _without_running(step: Step) -> Step:
    """Return batch norm in training without its running statistics, which it does not read and would change."""
    training = step.kwargs.get("training", step.args[5] if len(step.args) > 5 else Const(False))
    if not (isinstance(training, Const) and training.value):
        return step
    nothing = Const(None)
    kwargs = {key: nothing if key.startswith("running_") else item for key, item in step.kwargs.items()}
    args = [nothing if place in (1, 2) else item for place, item in enumerate(step.args)]
    return replace(step, args=args, kwargs=kwargs)


def _unbound(step: Step) -> int | None:
    """Return the dimension that a step takes apart: `for row in x` and `x.unbind(1)`."""
    given = step.kwargs.get("dim", step.args[1] if len(step.args) > 1 else Const(0))
    return given.value if isinstance(given, Const) and isinstance(given.value, int) else None


def _written_as(function: Any, name: str) -> str | None:
    """Return ``torch.special.expit`` for that function."""
    bare = name.removeprefix("special_").removeprefix("linalg_")
    for module, text in ((F, "F"), (torch, "torch"), (torch.special, "torch.special"), (torch.linalg, "torch.linalg")):
        for known in dict.fromkeys([name, bare, name.replace("log_sigmoid", "logsigmoid")]):
            if getattr(module, known, None) is function:
                return f"{text}.{known}"
    return None


def _is_last_two(args: list[Any], count: int) -> bool:
    dims = [item.value % count for item in args[1:] if isinstance(item, Const) and isinstance(item.value, int)]
    return sorted(dims) == [count - 2, count - 1]


def _as_array(item: Any) -> Tensor | None:
    """Return the numbers of a list, a range or an array; None if it is none, or holds tensors."""
    if not isinstance(item, list | tuple | range) and not hasattr(item, "__array__"):
        return None
    try:
        return torch.as_tensor(list(item) if isinstance(item, range) else item)
    except (TypeError, ValueError, RuntimeError):
        return None


def _array_item(array: Tensor, item: Any, text: str | None) -> Expr:
    """Return an item of a key that holds numbers: as it is if they all differ, as a tensor otherwise."""
    shown = text or written(item if isinstance(item, list | tuple | range) else array.tolist())
    differ = array.dtype == torch.bool or (
        array.ndim <= 1 and bool((array >= 0).all()) and len(set(array.tolist())) == array.numel()
    )
    if differ:
        return Expr("raw", (), array.shape, shown)
    return call("torch.as_tensor", raw(shown), shape=tuple(array.shape))


def _defaults(function: Any) -> dict[str, Any]:
    try:
        return {name: p.default for name, p in inspect.signature(function).parameters.items()}
    except (TypeError, ValueError):
        return {}


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)
