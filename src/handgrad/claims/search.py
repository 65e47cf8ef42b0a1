"""Which bindings claim to be a gradient, and of what."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from handgrad.claims.aliases import separate
from handgrad.claims.claim import ClaimedPass, Made
from handgrad.claims.division import Division
from handgrad.claims.losses import Losses
from handgrad.claims.names import assigned, in_container, is_argument, names_of_gradient
from handgrad.claims.numbers import meant_as_gradients
from handgrad.errors import NothingToJudgeError
from handgrad.graph import Binding, Failure, Graph, Scope, Step, Value
from handgrad.source import Access

_COMPARISONS = frozenset({
    "eq", "ne", "sub", "__sub__", "__rsub__", "rsub", "subtract", "__eq__", "__ne__", "isclose", "allclose", "equal",
    "mse_loss", "l1_loss", "dist", "assert_close",
})  # fmt: skip


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
    losses = Losses(graph, list(backward_calls), loss)
    return _Search(graph, losses, gradient or {}).passes()


class _Search:
    def __init__(self, graph: Graph, losses: Losses, gradient: dict[str, str]) -> None:
        self.graph, self.losses, self.given = graph, losses, gradient
        self.ancestors = losses.ancestors
        self.by_name: dict[str, list[Binding]] = {}
        for binding in graph.bindings:
            self.by_name.setdefault(binding.name, []).append(binding)
        self.pairs = self._pairs()
        self.failure_of: dict[Binding, Failure] = {}
        for name in (*gradient, *gradient.values()):
            if name not in self.by_name and not any(str(b.access) == name for b in graph.bindings):
                raise NothingToJudgeError(f"--gradient: no tensor is called {name}")

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
            if in_container(other) or other is binding:
                continue
            if value is None or not value.is_floating or (tail != name and str(other.access) != name):
                continue
            if value.time > binding.time or not self.losses.is_forward(value):
                continue
            near = 0 if other.scope == binding.scope else 1 if self._encloses(other.scope, binding) else 2
            rank = (near, -other.time)
            ranked[value] = min(rank, ranked.get(value, rank))
        return sorted(ranked, key=lambda value: ranked[value])

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
        if not self.losses.known:
            raise NothingToJudgeError(
                "no loss was computed: the forward must end in a scalar of floating type; name it with --loss NAME"
            )
        made: list[Made] = []
        doubtful: list[Made] = []  # numbers and masks: a gradient, or a size
        for binding in self.graph.bindings:
            value = binding.value
            if is_argument(binding) or self._is_late(binding):
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
            loss = self.losses.of(candidates[0], binding.time)
            if loss is None or (value is not None and value in self.ancestors[loss] and not self._is_alias(binding)):
                continue
            candidates = [c for c in candidates if c in self.ancestors[loss]]
            is_number = value is None and binding.number is not None and candidates[0].shape
            is_mask = value is not None and not value.is_floating
            (doubtful if is_number or is_mask else made).append(Made(binding, candidates, loss))
        made += self._unnamed(made)
        made += self._failed(made)
        made += meant_as_gradients(self.graph, doubtful, made)
        for binding, _, _ in made:
            separate(self.graph, binding)
        made.sort(key=lambda item: item.binding.time)
        if not made:
            raise NothingToJudgeError(
                "no gradient by hand was found: name it d + the name of its value (dlogits for logits), or say what is "
                "what with --gradient NAME=VALUE"
            )
        return Division(self.graph, self.pairs, self.failure_of).passes(made)

    def _failed(self, made: list[Made]) -> list[Made]:
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
                loss = self.losses.of(candidates[0], binding.time) if candidates else None
                later = any(b.name == binding.name and b.time > binding.time for b, _, _ in made)
                if loss is not None and not later:
                    self.failure_of[binding] = failure
                    found.append(Made(binding, [c for c in candidates if c in self.ancestors[loss]], loss))
        return found

    def _unnamed(self, made: list[Made]) -> list[Made]:
        """Return claims about tensors that have no name and are compared with some ``X.grad``."""
        known = {binding.value for binding, _, _ in made} | {of for _, candidates, _ in made for of in candidates}
        found = []
        for value, pairs in self.pairs.items():
            of, step = pairs[0]
            statement = value.step.statement if value.step else None
            loss = self.losses.of(of, step.time)
            if value in known or of in known or statement is None or loss is None or value in self.ancestors[loss]:
                continue
            if any(of in known for of in self.graph.ancestors(value)) and value.step and value.step.op in _COMPARISONS:
                continue
            assert value.step is not None
            name = f"d{of.name or '?'}"
            scope = self.graph.frames[value.step.frame].scope
            binding = Binding(value.time, scope, name, Access(name), value, statement, value.step.frame)
            found.append(Made(binding, [of], loss))
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
        return [b for b in self.graph.bindings if b.value is value and not is_argument(b)]
