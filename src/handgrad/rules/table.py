"""The table of local derivatives: how a rule is written, found, and called.

A rule is a generator function with the parameters of the operation it reverses, after two of its own::

    @rule("exp", samples=[sample("torch.exp(x)", x=(3, 5))])
    def exp(g: Expr, y: Expr, x: Expr) -> Terms:
        yield to(x, y * g, "exp is its own derivative")

``g`` is the gradient of the output, in the output's shape; ``y`` is the output. A parameter annotated ``Expr`` comes as
an expression (a number too, as the user wrote it), ``Exprs`` as a list of them, ``Key`` as the key of an index; any
other is the plain Python value. Each ``to`` gives one input its share, in the shape of the *output*: broadcasting is
undone elsewhere. Values that a rule does not mention are not needed by the backward, and need not be kept.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from handgrad.errors import NoRuleError
from handgrad.expr import Expr

Key = Expr  # the key of an index
Exprs = list[Expr]  # a list of tensors, as torch.cat takes it


class Term(NamedTuple):
    """The share of one input in the gradient: in plain form and, where it differs, as autograd rounds it."""

    target: Expr
    gradient: Expr
    why: str
    exact: Expr | None = None
    unknown_at_zero: bool = False


Terms = Iterator[Term]


def to(target: Expr, gradient: Expr, why: str, *, exact: Expr | None = None, unknown_at_zero: bool = False) -> Term:
    """Return the share of ``target``: ``gradient``, because ``why``; ``exact`` is bit for bit as autograd computes.

    ``unknown_at_zero`` says that nothing tells the gradient where ``target`` is 0, which is well if no gradient passes
    there, as after a relu.
    """
    return Term(target, gradient, why, exact, unknown_at_zero)


class Sample(NamedTuple):
    """A forward that a rule is tested on: an expression of its inputs, and what the inputs are."""

    text: str
    inputs: dict[str, Any]  # name -> shape, or a maker such as `positive(3, 4)`
    kink: bool = False  # no finite difference: the point lies on a kink, or the gradient is stopped
    before: str = ""  # statements that run before it


def sample(text: str, *, kink: bool = False, before: str = "", **inputs: Any) -> Sample:
    """Return a sample; ``inputs`` are shapes of random tensors, or makers from `handgrad.rules.makers`.

    ``before`` holds statements that run before the expression: ``y = x.clone(); y[0] = 1``.
    """
    return Sample(text, inputs, kink, before)


@dataclass(frozen=True)
class Rule:
    """The local derivative of some operations."""

    ops: tuple[str, ...]
    function: Callable[..., Terms]
    samples: tuple[Sample, ...]
    many: bool = False  # several outputs have gradients: g and y are lists
    parameters: dict[str, inspect.Parameter] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The rule as it is written."""
        return inspect.getsource(self.function)


RULES: dict[str, Rule] = {}
CONSTANT: dict[str, str] = {}  # operations without a gradient, and why


def rule(*ops: str, samples: Sequence[Sample], many: bool = False) -> Callable[[Callable[..., Terms]], Rule]:
    """Return a decorator that enters a rule for ``ops`` into the table.

    ``ops`` are names as the trace shows them, without ``__`` and without the ``_`` of in-place forms: ``"mul"``
    reverses ``a * b``, ``torch.mul``, ``a.mul_(b)`` and ``a *= b``. A rule of a user takes the place of ours.

    Raises:
        ValueError: there is no sample: a rule that nothing tests is not entered.

    >>> from handgrad.rules import Terms, rule, sample, to
    >>> @rule("sinc", samples=[sample("torch.sinc(x)", x=(3, 4))])
    ... def sinc(g, y, x: "Expr") -> Terms:
    ...     pi = number(math.pi, "math.pi")
    ...     yield to(x, ((pi * x).pointwise("torch.cos") - y) / x * g, "sinc' = (cos(pi*x) - sinc(x))/x")
    """
    if not samples:
        raise ValueError(f"rule {', '.join(ops)}: give samples, so that it is tested")

    def enter(function: Callable[..., Terms]) -> Rule:
        parameters = dict(inspect.signature(function).parameters)
        made = Rule(ops, function, tuple(samples), many, parameters)
        for op in ops:
            RULES[op] = made
        return made

    return enter


def constant(why: str, *ops: str) -> None:
    """Enter operations that have no gradient."""
    for op in ops:
        CONSTANT[op] = why


_ALIASES = {"axis": "dim", "keepdims": "keepdim", "exponent": "p", "dims": "dim", "dim0": "a", "dim1": "b"}
_FIRST = ("input", "self", "tensor", "tensors")


def plain(op: str) -> str:
    """Return the name of an operation without its spelling: ``mul`` for ``__imul__`` and ``mul_``."""
    bare = op
    if bare.startswith("__") and bare.endswith("__"):
        bare = bare[2:-2]
        if bare.startswith("i") and bare not in ("invert", "index", "int") and bare[1:] in _AUGMENTED:
            bare = bare[1:]
    elif bare.endswith("_"):
        bare = bare.rstrip("_")
    if bare.startswith("special_") and _SAME.get(bare[8:], bare[8:]) in RULES:
        bare = bare[8:]
    return _SAME.get(bare, bare)


_AUGMENTED = frozenset(["add", "sub", "mul", "div", "truediv", "pow", "matmul", "floordiv", "mod", "and", "or", "xor"])
_SAME = {
    "truediv": "div", "divide": "div", "true_divide": "div", "multiply": "mul", "subtract": "sub", "negative": "neg",
    "absolute": "abs", "rtruediv": "rdiv", "float_power": "pow", "clip": "clamp", "radd": "add", "rmul": "mul",
    "concat": "cat", "concatenate": "cat", "swapaxes": "transpose", "swapdims": "transpose",
    "log_sigmoid": "logsigmoid", "_threshold": "threshold", "expit": "sigmoid", "gammaln": "lgamma", "psi": "digamma",
    "arctan": "atan", "arcsin": "asin", "arccos": "acos", "arctanh": "atanh", "arcsinh": "asinh", "arccosh": "acosh",
}  # fmt: skip


def find(op: str, place: str) -> Rule | None:
    """Return the rule for ``op``; None if it has no gradient.

    Raises:
        NoRuleError: there is none; the message names ``place``, the nearest rules, and how to add one.
    """
    bare = plain(op)
    if bare in RULES:
        return RULES[bare]
    if bare in CONSTANT:
        return None
    near = difflib.get_close_matches(bare, RULES, 3)
    hint = f" (nearest: {', '.join(near)})" if near else ""
    raise NoRuleError(
        f"{place}: no rule for `{bare}` yet{hint}. Write it with other operations, or add the rule: "
        f"`@handgrad.rule({bare!r}, samples=[...])`, see `handgrad.rules`"
    )


def bind(
    rule_: Rule, args: list[Any], kwargs: dict[str, Any], convert: Callable[[Any, str], Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call as the rule takes them, positional and by name, each converted as annotated.

    Raises:
        TypeError: the call has an argument that the rule does not know.
    """
    names = [n for n in rule_.parameters if n not in ("g", "y")]
    variadic = next((n for n in names if rule_.parameters[n].kind is inspect.Parameter.VAR_POSITIONAL), None)
    given: dict[str, Any] = {}
    for position, item in enumerate(args):
        if variadic is not None and position >= names.index(variadic):
            given.setdefault(variadic, []).append(item)
        elif position < len(names):
            given[names[position]] = item
        else:
            raise TypeError(f"{rule_.ops[0]}: more arguments than its rule knows")
    for key, item in kwargs.items():
        key = _ALIASES.get(key, key) if key not in names else key
        if key in _FIRST and key not in names:
            key = names[0]
        elif key == "other" and key not in names:
            key = names[1]
        if key in names:
            given[key] = item
        elif key not in _IGNORED and not (item is None or getattr(item, "value", item) in (None, False)):
            raise TypeError(f"{rule_.ops[0]}: its rule does not know `{key}`")
    positional: list[Any] = []
    for key in names if variadic in given else []:
        annotation = str(rule_.parameters[key].annotation)
        if key == variadic:
            positional += [convert(one, annotation) for one in given.pop(key)]
            break
        positional.append(convert(given.pop(key), annotation))
    return positional, {key: convert(item, str(rule_.parameters[key].annotation)) for key, item in given.items()}


_IGNORED = frozenset(["inplace", "dtype", "device", "out", "memory_format", "size_average", "reduce", "_stacklevel"])
