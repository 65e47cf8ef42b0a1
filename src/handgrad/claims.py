"""Which of the user's statements claim to compute which gradient, and of which loss.

A claim is found by its name (``dX``, ``grad_X``, ``X_grad``, ``grads["X"]``, ...), by the tensor that it is compared
with (``cmp("X", dX, X)``, or anything else that sets it beside ``X.grad``), or by what the user says with
``--gradient dX=X``. Claims about one loss that belong together form a pass.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from handgrad.errors import NothingToJudgeError
from handgrad.graph import Binding, Const, Failure, Graph, Scope, Step, Value
from handgrad.source import Access, Site, Statement, access_of, enclosing

CONVENTIONS = [
    re.compile(pattern)
    for pattern in (
        r"d[lL](?:oss)?_?d_?(?P<of>.+)",
        r"d(?:elta)?_(?P<of>.+)",
        r"grad(?:ient)?_?(?:of_|wrt_)?(?P<of>.+)",
        r"g_(?P<of>.+)",
        r"(?P<of>.+?)_?(?:grad|gradient)",
        r"(?P<of>.+)_(?:bar|g|d|delta)",
        r"d(?P<of>.+)",
    )
]
CONTAINER = re.compile(
    r"_?(d|dp|grads?|gradients?|dparams|dparameters|param_grads|g|dcache|ders?|derivatives)\Z", re.IGNORECASE
)
LOSS_NAMES = ("loss", "total_loss", "L", "cost", "J", "nll", "objective", "error", "E", "l", "out")
_COMPARISONS = frozenset({
    "eq", "ne", "sub", "__sub__", "__rsub__", "rsub", "subtract", "__eq__", "__ne__", "isclose", "allclose", "equal",
    "mse_loss", "l1_loss", "dist", "assert_close",
})  # fmt: skip


@dataclass(eq=False)
class Event:
    """A statement, or a block such as a loop, that sets or changes a gradient."""

    statement: Statement
    bindings: list[Binding]
    before: Value | None
    after: Value | None

    @property
    def last(self) -> Binding:
        """The last binding in it."""
        return self.bindings[-1]

    @property
    def line(self) -> int:
        """The line of its last binding."""
        return self.last.statement.line


@dataclass(eq=False)
class Claim:
    """Someone says that ``events`` compute the gradient of ``of``."""

    name: str
    candidates: list[Value]  # the values that it may be the gradient of, best first
    events: list[Event] = field(default_factory=list)
    compared_with: list[tuple[Value, Step]] = field(default_factory=list)
    failure: Failure | None = None  # its last line raised an exception
    carried: Value | None = None  # what an earlier pass left, where this one adds to it

    @property
    def of(self) -> Value:
        """The value that it is the gradient of."""
        return self.candidates[0]

    @property
    def final(self) -> Value | None:
        """What it ended as."""
        return self.events[-1].after

    @property
    def bindings(self) -> Iterator[Binding]:
        """Every binding of its name."""
        for event in self.events:
            yield from event.bindings

    @property
    def values(self) -> set[Value]:
        """Every value that its name stood for."""
        return {binding.value for binding in self.bindings if binding.value is not None}


@dataclass(eq=False)
class ClaimedPass:
    """The claims about one loss that belong together."""

    loss: Value
    claims: list[Claim] = field(default_factory=list)


def names_of_gradient(binding: Binding) -> Iterator[str]:
    """Yield the names of which ``binding`` may be the gradient, by its own name; most likely first."""
    name = binding.name
    if _in_container(binding):
        yield name
    seen = []
    for convention in CONVENTIONS:
        match = convention.fullmatch(name)
        if match and match["of"] not in seen:
            seen.append(match["of"])
            yield match["of"]


def find_passes(
    graph: Graph,
    backward_calls: Iterable[tuple[int, Value]] = (),
    *,
    gradient: dict[str, str] | None = None,
    loss: str | None = None,
) -> list[ClaimedPass]:
    """Return the backward passes by hand in ``graph``.

    ``gradient`` maps names of gradients to names of values where the names themselves do not tell; ``loss`` names the
    loss.

    Raises:
        NothingToJudgeError: there is no loss, or no gradient, or a name that was given does not exist.
    """
    search = _Search(graph, list(backward_calls), gradient or {}, loss)
    return search.passes()


class _Search:
    def __init__(
        self, graph: Graph, backward_calls: list[tuple[int, Value]], gradient: dict[str, str], loss: str | None
    ) -> None:
        self.graph, self.given = graph, gradient
        self.by_name: dict[str, list[Binding]] = {}
        for binding in graph.bindings:
            self.by_name.setdefault(binding.name, []).append(binding)
        self.losses = self._losses(backward_calls, loss)
        self.ancestors = {value: graph.ancestors(value) for _, value in self.losses}
        self.pairs = self._pairs()
        self.failure_of: dict[Binding, Failure] = {}
        for name in (*gradient, *gradient.values()):
            if name not in self.by_name and not any(str(b.access) == name for b in graph.bindings):
                raise NothingToJudgeError(f"--gradient: no tensor is called {name}")

    # -- losses

    def _losses(self, backward_calls: list[tuple[int, Value]], name: str | None) -> list[tuple[int, Value]]:
        """Return the candidates, each with the time from which it counts."""
        if name is not None:
            found = [(b.value.time, b.value) for b in self.by_name.get(name, ()) if b.value is not None]
            if not found:
                raise NothingToJudgeError(f"--loss: no tensor is called {name}")
            wrong = found[-1][1]
            if any(size != 1 for size in wrong.shape) or not wrong.is_floating:
                raise NothingToJudgeError(
                    f"--loss: {name} has shape {wrong.shape} and type {wrong.dtype}: a loss is one floating number"
                )
            return found
        called = [(value.time, value) for _, value in backward_calls if value.step is not None]
        scalars = [
            b for b in self.graph.bindings if b.value is not None and _is_scalar(b.value) and b.value.step is not None
        ]
        if called:
            also = [b.value for b in scalars if b.value is not None and b.name.startswith("loss")]
            return called + [(v.time, v) for v in dict.fromkeys(also) if v not in {value for _, value in called}]
        for wanted in LOSS_NAMES:
            named = [b for b in scalars if b.name == wanted or (wanted == "loss" and b.name.startswith("loss"))]
            if named:
                return [(b.value.time, b.value) for b in named if b.value is not None]
        return [(b.value.time, b.value) for b in scalars if b.value is not None]

    def loss_for(self, value: Value, time: int) -> Value | None:
        """Return the loss that a gradient of ``value``, claimed at ``time``, is about."""
        fitting = [(start, loss) for start, loss in self.losses if value in self.ancestors[loss]]
        before = [(start, loss) for start, loss in fitting if start <= time]
        if before:
            return max(before, key=lambda item: item[0])[1]
        return fitting[0][1] if fitting else None

    # -- what is compared with what

    def _pairs(self) -> dict[Value, list[tuple[Value, Step]]]:
        """Return, for each tensor set beside some ``X.grad``, that X."""
        pairs: dict[Value, list[tuple[Value, Step]]] = {}
        for step in [*self.graph.steps, *self.graph.comparisons]:
            if step.op in _COMPARISONS:
                inputs = list(step.inputs)
                for value, other in zip(inputs, reversed(inputs), strict=True):
                    if other.grad_of is not None and value.grad_of is None and value is not other:
                        pairs.setdefault(value, []).append((other.grad_of, step))
        return pairs

    # -- claims

    def candidates(self, binding: Binding) -> list[Value]:
        """Return the forward values that ``binding`` may be the gradient of."""
        told = self.given.get(binding.name) or self.given.get(str(binding.access))
        names = [told] if told else list(names_of_gradient(binding))
        for name in names:
            found = self._values_called(name, binding)
            if found:
                return found
        return []

    def _values_called(self, name: str, binding: Binding) -> list[Value]:
        tail = name.rpartition(".")[2]
        ranked: dict[Value, tuple[int, int]] = {}
        for other in self.by_name.get(tail, ()):
            value = other.value
            if _in_container(other) or other is binding:
                continue
            if value is None or not value.is_floating or (tail != name and str(other.access) != name):
                continue
            if value.time > binding.time or not self._is_forward(value):
                continue
            near = 0 if other.scope == binding.scope else 1 if self._encloses(other.scope, binding) else 2
            rank = (near, -other.time)
            ranked[value] = min(rank, ranked.get(value, rank))
        return sorted(ranked, key=lambda value: ranked[value])

    def _is_forward(self, value: Value) -> bool:
        return any(value in self.ancestors[loss] for _, loss in self.losses)

    def _encloses(self, scope: Scope, binding: Binding) -> bool:
        if scope.kind == "module":
            return True
        frame: int | None = binding.frame
        while frame is not None:
            info = self.graph.frames[frame]
            if info.scope == scope:
                return True
            frame = info.caller
        return False

    def passes(self) -> list[ClaimedPass]:
        if not self.losses:
            raise NothingToJudgeError(
                "no loss was computed: the forward must end in a scalar of floating type; name it with --loss NAME"
            )
        made: list[tuple[Binding, list[Value], Value]] = []
        doubtful: list[tuple[Binding, list[Value], Value]] = []  # numbers and masks: a gradient, or a size
        for binding in self.graph.bindings:
            value = binding.value
            if _is_argument(binding) or self._is_late(binding):
                continue
            candidates = self.candidates(binding)
            if value is not None and value.grad_of is not None and value.grad_of not in candidates:
                continue
            if not candidates and value is not None and value in self.pairs:
                if any(self.candidates(b) for b in self.by_value(value)):
                    continue
                candidates = [pair for pair, _ in self.pairs[value]]
            if not candidates:
                continue
            loss = self.loss_for(candidates[0], binding.time)
            if loss is None or (value is not None and value in self.ancestors[loss] and not self._is_alias(binding)):
                continue
            candidates = [c for c in candidates if c in self.ancestors[loss]]
            is_number = value is None and binding.number is not None and candidates[0].shape
            is_mask = value is not None and not value.is_floating
            (doubtful if is_number or is_mask else made).append((binding, candidates, loss))
        made += self._unnamed(made)
        made += self._failed(made)
        made += self._meant(doubtful, made)
        for binding, _, _ in made:
            self._separate(binding)
        made.sort(key=lambda item: item[0].time)
        if not made:
            raise NothingToJudgeError(
                "no gradient by hand was found: name it d + the name of its value (dlogits for logits), or say what is "
                "what with --gradient NAME=VALUE"
            )
        return self._divide(made)

    def _separate(self, binding: Binding) -> None:
        """Give the second name of a tensor, as in ``dhpreact = dh``, a value of its own.

        What is read under the second name is then another gradient than what is read under the first.
        """
        value, node = binding.value, binding.statement.node
        if value is None or not isinstance(node, ast.Assign):
            return
        if not isinstance(node.value, ast.Name | ast.Attribute | ast.Subscript) or binding.access.parts:
            return
        first = next((b for b in self.graph.bindings if b.value is value), binding)
        if first is binding or first.name == binding.name or first.time >= binding.time:
            return
        step = Step(
            len(self.graph.steps), "alias", _itself, [value], {}, [], self._site(binding, value), binding.frame,
            binding.time, True,
        )  # fmt: skip
        copy = Value(len(self.graph.values), value.tensor, value.shape, value.dtype, step, time=binding.time)
        step.outs.append(copy)
        self.graph.steps.append(step)
        self.graph.values.append(copy)
        other, own = str(first.access), str(binding.access)
        changed: set[Value] = set()  # what the tensor became by writes through the second name
        for later in self.graph.steps[:-1]:
            if later.time <= binding.time or later.statement is None:
                continue
            inputs = set(later.inputs)
            if not (value in inputs or changed & inputs):
                continue
            names = later.statement.names
            if own in names and other not in names:
                later.args = _with(later.args, value, copy)
                later.kwargs = _with(later.kwargs, value, copy)
                later.writes = [(copy if before is value else before, after) for before, after in later.writes]
                changed |= {after for before, after in later.writes if before is copy or before in changed}
            elif other in names and own not in names:  # it meant the first name, as it was
                for spoilt in changed & inputs:
                    later.args, later.kwargs = _with(later.args, spoilt, value), _with(later.kwargs, spoilt, value)
            elif own in names and not later.writes:
                later.args = _renamed(later, value, copy, own, other)
        for later_binding in self.graph.bindings:
            if later_binding.time >= binding.time:
                if later_binding.visible.get(binding.name) is value:
                    later_binding.visible[binding.name] = copy
                if later_binding.value is value and later_binding.name == binding.name:
                    later_binding.value = copy

    @staticmethod
    def _site(binding: Binding, value: Value) -> Site:
        if value.step is not None:
            return value.step.site
        source = binding.statement.source
        return Site(compile("0", source.filename, "eval"), 0, binding.statement.line, source)

    def _failed(self, made: list[tuple[Binding, list[Value], Value]]) -> list[tuple[Binding, list[Value], Value]]:
        """Return claims of lines that raised an exception, where the name was not bound later."""
        found = []
        for failure in self.graph.failures:
            for access in assigned(failure.statement):
                last = access.parts[-1][1] if access.parts else access.root
                binding = Binding(
                    failure.time,
                    failure.scope,
                    str(last),
                    access,
                    None,
                    failure.statement,
                    failure.frame,
                    failure.visible,
                )
                candidates = self.candidates(binding)
                loss = self.loss_for(candidates[0], binding.time) if candidates else None
                later = any(b.name == binding.name and b.time > binding.time for b, _, _ in made)
                if loss is not None and not later:
                    self.failure_of[binding] = failure
                    found.append((binding, [c for c in candidates if c in self.ancestors[loss]], loss))
        return found

    def _meant(
        self, doubtful: list[tuple[Binding, list[Value], Value]], made: list[tuple[Binding, list[Value], Value]]
    ) -> list[tuple[Binding, list[Value], Value]]:
        """Return those numbers and masks that are meant as gradients: ``derr = 2.0 / n``, but no ``dh = 64``.

        They are the only claim about their value, and a gradient further up is made from them.
        """
        claimed = {of for _, candidates, _ in made for of in candidates}
        found = []
        for binding, candidates, loss in doubtful:
            number, value = binding.number, binding.value
            if claimed.intersection(candidates) or (number is not None and number == int(number)):
                continue
            if value is not None and value.shape != candidates[0].shape:
                continue
            name, above = str(binding.access), self.graph.ancestors(candidates[0]) - {candidates[0]}
            readers = [
                other
                for other, of, _ in made
                if other.time > binding.time and other.frame == binding.frame and name in other.statement.names
                and other.name != binding.name and above.intersection(of)
            ]  # fmt: skip
            if readers:
                if number is not None:
                    self._as_value(binding, number, candidates[0])
                found.append((binding, candidates, loss))
        return found

    def _as_value(self, binding: Binding, number: float, of: Value) -> None:
        """Let a number that is meant as a gradient be a value, wherever it is read."""
        value = Value(
            len(self.graph.values), torch.tensor(number, dtype=of.dtype), (), of.dtype, time=binding.time,
            name=binding.name, base_name=binding.name,
        )  # fmt: skip
        self.graph.values.append(value)
        binding.value = value
        own = str(binding.access)
        for step in self.graph.steps:
            if step.time > binding.time and step.frame == binding.frame:
                texts = [str(access_of(node)) for node in _operands(step.site.node)]
                if own in texts:
                    step.args = [value if isinstance(a, Const) and a.value == number else a for a in step.args]
        seen: list[Binding | Failure] = [*self.graph.bindings, *self.graph.failures]
        for later in seen:
            if later.time > binding.time and later.frame == binding.frame and later.visible:
                later.visible[own] = value
                binding.visible = binding.visible or later.visible

    def _unnamed(self, made: list[tuple[Binding, list[Value], Value]]) -> list[tuple[Binding, list[Value], Value]]:
        """Return claims about tensors that have no name and are compared with some ``X.grad``."""
        known = {binding.value for binding, _, _ in made} | {of for _, candidates, _ in made for of in candidates}
        found = []
        for value, pairs in self.pairs.items():
            of, step = pairs[0]
            statement = value.step.statement if value.step else None
            loss = self.loss_for(of, step.time)
            if value in known or of in known or statement is None or loss is None or value in self.ancestors[loss]:
                continue
            if any(of in known for of in self.graph.ancestors(value)) and value.step and value.step.op in _COMPARISONS:
                continue
            assert value.step is not None
            name = f"d{of.name or '?'}"
            scope = self.graph.frames[value.step.frame].scope
            binding = Binding(value.time, scope, name, Access(name), value, statement, value.step.frame)
            found.append((binding, [of], loss))
        return found

    def _is_alias(self, binding: Binding) -> bool:
        """Whether the name is a second one for a value of the forward: ``dS = w``."""
        node = binding.statement.node
        earlier = next((b for b in self.graph.bindings if b.value is binding.value), binding)
        plain = isinstance(node, ast.Assign) and isinstance(node.value, ast.Name | ast.Attribute | ast.Subscript)
        return earlier.time < binding.time and plain and not binding.access.parts

    def _is_late(self, binding: Binding) -> bool:
        """Whether the statement only mentions what another one has changed before, through another name."""
        if binding.value is None or binding.access in assigned(binding.statement):
            return False
        return not self.graph.ran_in(binding)

    def by_value(self, value: Value) -> list[Binding]:
        return [b for b in self.graph.bindings if b.value is value and not _is_argument(b)]

    def _divide(self, made: list[tuple[Binding, list[Value], Value]]) -> list[ClaimedPass]:
        passes: list[ClaimedPass] = []
        open_claims: dict[tuple[Scope, str], list[tuple[Binding, list[Value]]]] = {}
        groups: list[tuple[Value, dict[tuple[Scope, str], list[tuple[Binding, list[Value]]]]]] = []
        loss_now: Value | None = None
        read: set[Value] = set()
        read_until = 0
        values: set[Value] = set()
        for binding, candidates, loss in made:
            key = (binding.scope, binding.name)
            so_far = open_claims.get(key, [])
            again = False
            if so_far and binding.value is not None and loss is loss_now:
                past = {b.value for b, _ in so_far if b.value is not None}
                fresh = not (past & self._near_ancestors(binding.value, past))
                repeated = any(b.statement is binding.statement for b, _ in so_far)
                if fresh and not repeated:
                    other_cell = so_far[-1][0].statement.source is not binding.statement.source
                    for step in self.graph.steps[read_until:]:
                        if step.time > binding.time:
                            break
                        read_until = step.index + 1
                        if not any(out in past for out in step.made):
                            read.update(step.inputs)
                    again = other_cell or (bool(past & read) and self._consumed(past, binding, values))
            if loss is not loss_now or again:
                open_claims, loss_now = {}, loss
                groups.append((loss, open_claims))
                values = set()
            if binding.value is not None:
                values.add(binding.value)
            open_claims.setdefault(key, []).append((binding, candidates))
        last_values: dict[tuple[Scope, str], Value | None] = {}
        for loss, claims in groups:
            claimed = ClaimedPass(loss)
            statements = _levels(b for items in claims.values() for b, _ in items)
            for items in claims.values():
                claimed.claims.append(self._claim(items, statements, last_values.get(self._key(items))))
            for items in claims.values():
                last_values[self._key(items)] = items[-1][0].value
            passes.append(claimed)
        return _without_copies(passes)

    def _consumed(self, past: set[Value], binding: Binding, values: set[Value]) -> bool:
        """Whether another gradient of the pass was computed from ``past`` before ``binding``."""
        others = [v for v in values if v not in past and v is not binding.value]
        return any(past & self._near_ancestors(value, past) for value in others if value.step is not None)

    def _near_ancestors(self, value: Value, stop: set[Value]) -> set[Value]:
        """Return what ``value`` was computed from, not looking behind ``stop``."""
        seen: set[Value] = set()
        stack = [value]
        oldest = min((v.time for v in stop), default=0)
        while stack:
            current = stack.pop()
            if current in seen or current.time < oldest:
                continue
            seen.add(current)
            if current not in stop and current.step is not None:
                stack.extend(current.step.inputs)
        return seen

    @staticmethod
    def _key(items: list[tuple[Binding, list[Value]]]) -> tuple[Scope, str]:
        return items[0][0].scope, items[0][0].name

    def _claim(
        self, items: list[tuple[Binding, list[Value]]], level: dict[Binding, Statement], past: Value | None
    ) -> Claim:
        first = items[0][0]
        claim = Claim(str(first.access), items[-1][1])
        last: Value | None = None
        value = items[0][0].value
        if past is not None and value is not None and past in self._near_ancestors(value, {past}):
            claim.carried = last = past
        for binding, _ in items:
            statement = level[binding]
            if claim.events and claim.events[-1].statement is statement:
                claim.events[-1].bindings.append(binding)
                claim.events[-1].after = binding.value
            else:
                claim.events.append(Event(statement, [binding], last, binding.value))
            claim.failure = self.failure_of.get(binding)
            last = binding.value
        for value in claim.values:
            claim.compared_with += self.pairs.get(value, [])
        return claim


def _in_container(binding: Binding) -> bool:
    """Whether it is an item of ``grads`` or the like."""
    parts = binding.access.parts
    owner = str(parts[-2][1]) if len(parts) > 1 else binding.access.root
    return bool(parts) and bool(CONTAINER.match(owner))


def _itself(tensor: Tensor) -> Tensor:
    return tensor.clone()


def _with(argument: Any, old: Value, new: Value) -> Any:
    """Return arguments of a step with one value replaced."""
    if argument is old:
        return new
    if isinstance(argument, dict):
        return {key: _with(item, old, new) for key, item in argument.items()}
    if isinstance(argument, list | tuple) and not isinstance(argument, Const):
        return type(argument)(_with(item, old, new) for item in argument)
    return argument


def _renamed(step: Step, value: Value, copy: Value, own: str, other: str) -> list[Any]:
    """Return the arguments of a step whose statement mentions both names, with ``copy`` where ``own`` is written."""
    texts = [str(access_of(node)) for node in _operands(step.site.node)]
    if len(texts) > len(step.args):
        texts = texts[-len(step.args) :]  # `torch.mul(a, b)`
    if own not in texts:
        return step.args
    if other not in texts:
        return [copy if argument is value else argument for argument in step.args]
    return [copy if a is value and text == own else a for a, text in zip(step.args, texts, strict=False)]


def _operands(node: ast.AST | None) -> list[ast.expr]:
    """Return the expressions that an operation computes with, in order."""
    if isinstance(node, ast.BinOp):
        return [node.left, node.right]
    if isinstance(node, ast.UnaryOp):
        return [node.operand]
    if isinstance(node, ast.Call):
        return [*([node.func.value] if isinstance(node.func, ast.Attribute) else []), *node.args]
    return []


def _is_scalar(value: Value) -> bool:
    return value.is_floating and all(size == 1 for size in value.shape) and len(value.shape) <= 1


def assigned(statement: Statement) -> list[Access]:
    """Return what a statement assigns to: names, attributes and constant items."""
    node = statement.node
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = [t for target in node.targets for t in (target.elts if isinstance(target, ast.Tuple) else [target])]
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        targets = [node.target]
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        targets = [node.value.func.value] if node.value.func.attr.endswith("_") else []
    return [access for target in targets if (access := access_of(target)) is not None]


def _is_argument(binding: Binding) -> bool:
    """Whether the name is only a function's parameter: the gradient was made by whoever called it."""
    node = binding.statement.node
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _levels(bindings: Iterable[Binding]) -> dict[Binding, Statement]:
    """Return for each binding the statement that counts as one event: its own, or the loop that repeats it."""
    items = list(bindings)
    times: dict[tuple[int, Statement], set[int]] = {}
    per_key: dict[tuple[int, Statement, str], int] = {}
    for binding in items:
        key = (binding.frame, binding.statement, str(binding.access))
        per_key[key] = per_key.get(key, 0) + 1
        times.setdefault((binding.frame, binding.statement), set()).add(binding.time)
    repeated = {(frame, statement) for (frame, statement, _), count in per_key.items() if count > 1}
    loops = set()
    for frame, statement in repeated:
        for node in enclosing(statement.node):
            if isinstance(node, ast.For | ast.While):
                loops.add((frame, node))
                break
    level = {}
    for binding in items:
        chosen = binding.statement
        for node in enclosing(binding.statement.node):
            if isinstance(node, ast.FunctionDef | ast.Lambda | ast.AsyncFunctionDef):
                break
            if (binding.frame, node) in loops and isinstance(node, ast.stmt):
                chosen = binding.statement.source.statement_at[node]
        level[binding] = chosen
    return level


def _without_copies(passes: list[ClaimedPass]) -> list[ClaimedPass]:
    """Drop claims that only hand on what another claim computed: ``self.dW1 = dW1``, ``a, b = f()``."""
    for claimed in passes:
        kept: list[Claim] = []
        for claim in sorted(claimed.claims, key=lambda c: c.events[0].bindings[0].time):
            twin = next((k for k in kept if k.final is not None and k.final is claim.final and k.of is claim.of), None)
            if twin is not None and len(claim.events) == 1:
                twin.compared_with += [pair for pair in claim.compared_with if pair not in twin.compared_with]
            else:
                kept.append(claim)
        claimed.claims = kept
    return [claimed for claimed in passes if claimed.claims]
