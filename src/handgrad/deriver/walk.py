"""The walk backward through a graph: each step's rule gives its inputs their shares of the gradient.

A share of a value with a name becomes a line: ``dX = ...``, and ``dX += ...`` for every further use of X. A value
without one is an expression inside a larger one; its gradient is written where it is read, if it is read once and
short, and gets a line of its own otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from handgrad.deriver.forward import Forward
from handgrad.deriver.loop_walk import LoopWalk
from handgrad.deriver.loops import Loop
from handgrad.deriver.memory import are_apart, check_tracked, writes_itself
from handgrad.deriver.shares import LoopShares, Share
from handgrad.errors import DeriveError, NotDifferentiableError
from handgrad.expr import Expr, add, cost, is_number, let, number, overwritten, strip, unbroadcast
from handgrad.graph import Graph, Step, Value
from handgrad.rules.table import CONSTANT, Term, bind, find, plain

Style = Literal["plain", "exact"]
_PLAIN = "passes the gradient on"  # the end of a reason that goes without saying beside others
WRITTEN = ("scatter", "overwritten")  # gradients that take statements, not an expression
LONGEST = 6  # a gradient that costs more is not written inside another one


@dataclass
class Walk:
    """The gradients of a graph, in reverse order of its steps."""

    forward: Forward
    outputs: list[Value]
    wrt: set[Value]
    style: Style = "plain"
    loops: list[Loop] = field(default_factory=list)
    shares: list[Share | LoopShares] = field(default_factory=list)
    seeds: dict[Value, Expr] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.graph: Graph = self.forward.graph
        self.needed = needed(self.graph, self.outputs, self.wrt)
        if not any(output in self.needed for output in self.outputs):
            names = ", ".join(str(output.name or "the result") for output in self.outputs)
            raise NotDifferentiableError(f"no value that wants a gradient reaches {names}")
        self.unknown_at_zero: set[Value] = set()  # their gradients are right only where they are not 0
        self.same: dict[Value, Value] = {}  # what an assignment that changes nothing made of a value
        self._pending: dict[Value, list[Share]] = {}
        self._inlined: dict[Value, Expr] = {}
        self._reasons: dict[Value, list[str]] = {}  # of the gradients that are written inside others
        self._given: set[Value] = set()  # those whose gradient has a line already
        self._gaps: dict[Value, list[Step]] = {}  # of gradients without a line: the assignments that took parts out
        self._readers = Counter(value for step in self.graph.steps for value in set(step.inputs))
        self._open: set[Value] = set()  # results that others were computed from
        self._forced: set[Value] = set()  # those without a name that need a line all the same

    def run(self) -> list[Share | LoopShares]:
        """Return the shares in the order of their lines."""
        last = {loop.iterations[-1][-1].index: loop for loop in self.loops}
        inside = {step.index for loop in self.loops for steps in loop.iterations for step in steps}
        for output, seed in self.seeds.items():
            self._seed(output, seed)
        for step in reversed(self.graph.steps):
            if step.index in last:
                LoopWalk(self, last[step.index]).run()
            if step.index in inside:
                continue
            self.reverse(step)
        return self.shares

    def _seed(self, output: Value, seed: Expr) -> None:
        """Begin with the gradient of a result; one that another result was computed from gets more of it."""
        if not any(output in step.inputs and any(v in self.needed for v in step.made) for step in self.graph.steps):
            self._inlined[output] = seed
            return
        self._open.add(output)
        self._forced.add(output)
        self.forward.scope.name(output, "out")
        if seed.op == "gradient":
            self._given.add(output)  # `dX` is given, and is added to
        else:
            self.shares.append(Share(output, seed, "the gradient of the result itself", output.step))
            self._given.add(output)

    def reverse(self, step: Step) -> None:
        """Let the rule of ``step`` give its inputs their shares."""
        if step.writes and self._pass_by(step):
            return
        if any(value in self.needed and value not in self.wrt for value in step.made):
            gradients = [self._gradient(value, step) if value in self.needed else None for value in _results(step)]
            if any(gradient is not None for gradient in gradients):
                self._apply(step, gradients)

    def _pass_by(self, step: Step) -> bool:
        """Pass an assignment that changes nothing, such as the one at the end of ``x[:, 0] -= 1``."""
        before, after = step.writes[0]
        if not writes_itself(step) or before not in self.needed:
            return False
        gradient = self._gradient(after, step)
        if gradient is not None:
            self.same[before] = after
            self.give(before, gradient, "it is written where it stands already", step)
        return True

    def _apply(self, step: Step, gradients: list[Expr | None]) -> None:
        rule = find(step.op, f"{step.site}: `{step.text}`")
        if rule is None:
            raise NotDifferentiableError(
                f"{step.site}: `{step.text}`: `{plain(step.op)}` has no gradient: {CONSTANT[plain(step.op)]}"
            )
        try:
            given, named = bind(rule, step.args, step.kwargs, self.forward.convert(step))
        except TypeError as error:
            raise DeriveError(f"{step.site}: `{step.text}`: {error}") from None
        results = [self.forward.leaf(value) for value in _results(step)]
        first = gradients[0]
        if not rule.many and first is None:
            return
        gaps: list[tuple[Expr, ...]] = []
        while first is not None and first.op == "overwritten":  # what was taken out lies elsewhere
            gaps.append(first.args[1:])
            first = first.args[0]
        try:
            terms = list(rule.function(gradients, results, *given, **named) if rule.many else
                         rule.function(first, results[0], *given, **named))  # fmt: skip
        except NotImplementedError as error:
            raise DeriveError(f"{step.site}: `{step.text}`: {error}") from None
        for term in _twice(terms):
            if term.target.op != "value" or term.target.data not in self.needed:
                continue
            value: Value = term.target.data
            if term.unknown_at_zero:
                self._allow_unknown(value, step)
            chosen = term.exact if self.style == "exact" and term.exact is not None else term.gradient
            if chosen.op == "overwritten":
                for gap in gaps:
                    chosen = overwritten(chosen, *gap)
                if self._passes_on(step, value):
                    self._inlined[value] = chosen
                    continue
            fitted, reason = (
                (chosen, "") if chosen.op in WRITTEN else unbroadcast(chosen, self.forward.sizes.shape(value))
            )
            why = self._chained(step, term.why)
            if reason:
                why = f"{why}; `{_called(value)}` {tuple(value.shape)}: {reason}"
            self.give(value, fitted, why, step)

    def _passes_on(self, step: Step, value: Value) -> bool:
        """Whether ``value`` was made by an assignment, is read by another, ``step``, and they write to other places.

        So it is with ``out[:, t] = h`` in a loop: the gradient of each h is a part of the last one.
        """
        before = value.step
        if plain(step.op) != "setitem" or before is None or plain(before.op) != "setitem" or self._readers[value] != 1:
            return False
        later = [step, *self._gaps.get(step.writes[0][1], [])]
        if value in self.wrt or value in self.outputs or not all(are_apart(before, one) for one in later):
            return False
        self._gaps[value] = later
        return True

    def _chained(self, step: Step, why: str) -> str:
        """Return ``why`` after the reasons of the gradient that it continues, if that has no line of its own."""
        before = [reason for value in _results(step) for reason in self._reasons.get(value, ())]
        told = [reason for reason in (*before, why) if not reason.endswith(_PLAIN)]
        return "; ".join(dict.fromkeys(told)) or why

    def _allow_unknown(self, value: Value, step: Step) -> None:
        if value.step is None and bool((value.value == 0).any()):
            raise DeriveError(f"{step.site}: `{step.text}`: where `{_called(value)}` is 0 its gradient cannot be told: "
                              "draw the mask yourself, and multiply by it")  # fmt: skip
        self.unknown_at_zero.add(value)

    def give(self, value: Value, gradient: Expr, why: str, step: Step) -> None:
        """Add a share to the gradient of ``value``."""
        if gradient.op == "scatter" and not gradient.data:
            whole = self._put_back(value, gradient)
            if whole is None:
                return
            if whole is not gradient:
                gradient, why = whole, f"{why}; the rest as it was"
        if gradient.op == "overwritten" and (value in self._given or self._pending.get(value)):
            gradient = let(f"d{plain(step.op)}", gradient)
        share = Share(value, gradient, why, step)
        if self._has_line(value):
            share.first = value not in self._given
            for other in self.shares:
                if isinstance(other, Share) and other.value is value:
                    other.more = True
            self._given.add(value)
            self.shares.append(share)
        else:
            self._pending.setdefault(value, []).append(share)

    def _put_back(self, value: Value, gradient: Expr) -> Expr | None:
        """Return ``gradient``; if it belongs into the gap of one that is there, as of `x[0] *= 2`, both in one.

        None if nothing is left to add: what was taken out is put back.
        """
        shares = [s for s in self.shares if isinstance(s, Share) and s.value is value] + self._pending.get(value, [])
        if not shares or shares[0].gradient.op != "overwritten":
            return gradient
        whole, place, gap = shares[0].gradient.args
        if not is_number(gap, 0) or place.op != "index" or place.args[0].op != "hole":
            return gradient
        if place.args[1].key[:2] + place.args[1].key[3:] != gradient.args[1].key[:2] + gradient.args[1].key[3:]:
            return gradient
        put = strip(gradient.args[0])
        same = put.op == "index" and put.args[0].key == whole.key and put.args[1].key == place.args[1].key
        if len(shares) > 1:
            if not same:
                return gradient
            shares[0].gradient, shares[0].more = whole, True
            return None
        if shares[0] in self.shares:
            self.shares.remove(shares[0])
            self._given.discard(value)
        else:
            self._pending.pop(value)
        return whole if same else overwritten(whole, place, put)

    def _has_line(self, value: Value) -> bool:
        return (value.name is not None or value in self._forced) and (value not in self.seeds or value in self._open)

    def _gradient(self, value: Value, step: Step) -> Expr | None:
        """Return the gradient of ``value``, whose shares are complete now, as its step reads it."""
        if value in self._inlined:
            return self._inlined[value]
        if self._has_line(value):
            return self.forward.gradient(value) if value in self._given else None
        shares = self._pending.pop(value, [])
        if not shares:
            return None
        readers = sum(1 for item in step.inputs if item in self.needed)
        if not any(s.gradient.op in WRITTEN for s in shares):
            whole = shares[0].gradient
            for share in shares[1:]:
                whole = add(whole, share.gradient)
            if cost(whole) <= 1 or (readers <= 1 and cost(whole) <= LONGEST):
                self._inlined[value] = whole
                self._reasons[value] = [why for share in shares for why in share.why.split("; ")]
                return whole
        self._name(value, step)
        for position, share in enumerate(shares):
            share.first, share.more = position == 0, len(shares) > 1
            self.shares.append(share)
        self._given.add(value)
        self._inlined[value] = self.forward.gradient(value)
        return self._inlined[value]

    def force(self, value: Value) -> None:
        """Let the gradient of a value without a name have a line, to which a loop adds."""
        if value.name is None and value.step is not None and value not in self._forced:
            self._name(value, value.step)
            self._forced.add(value)
            for share in self._pending.pop(value, []):
                self.give(value, share.gradient, share.why, share.step or value.step)

    def _name(self, value: Value, step: Step) -> None:
        """Give a value inside an expression a name, for its gradient's sake."""
        base = plain(step.op)
        for binding in self.graph.bindings:
            made = binding.value.step if binding.value is not None else None
            if made is not None and made.statement is step.statement and made.frame == step.frame:
                base = f"{binding.name}_in"
                break
        self.forward.scope.name(value, base)


def _twice(terms: list[Term]) -> list[Term]:
    """Return the shares of one step with two equal ones as one: of ``h * h`` it is ``2 * h * g``."""
    if len(terms) != 2 or terms[0].target is not terms[1].target:
        return terms
    one, other = terms
    if one.gradient.op in WRITTEN or one.exact is not None or one.gradient.key != other.gradient.key:
        return terms
    return [one._replace(gradient=2 * one.gradient)]


def _called(value: Value) -> str:
    return value.name or (value.step.text if value.step is not None else "a value")


def _results(step: Step) -> list[Value]:
    """Return the outputs of a step; of one in place, what it changed."""
    if step.writes:
        return [after for _, after in step.writes]
    return step.outs


def needed(graph: Graph, outputs: Iterable[Value], wrt: set[Value]) -> set[Value]:
    """Return the values on a path from ``wrt`` to ``outputs`` that carry a gradient."""
    carries, known = set(wrt), graph.ancestors(*outputs)
    for step in graph.steps:
        if not step.grad_enabled or plain(step.op) in CONSTANT:
            continue
        if any(value in carries for value in step.inputs):
            carries.update(value for value in step.made if value.is_floating)
    check_tracked(graph, carries, known)
    return carries & known


def seed(output: Value, forward: Forward, *, upstream: bool) -> Expr:
    """Return the gradient of a result: a given ``dX``, and 1 for a loss unless ``upstream`` is given for it, too."""
    if not output.shape and not upstream:
        return number(1.0)
    forward.scope.name(output, "out")
    return forward.gradient(output)
