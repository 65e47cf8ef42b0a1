"""Backward through a loop: one iteration is derived, and stands for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handgrad.deriver.loops import Loop, NotALoopError, Position
from handgrad.deriver.shares import LoopShares, Share
from handgrad.expr import Expr, number, unbroadcast
from handgrad.graph import Value

if TYPE_CHECKING:
    from handgrad.deriver.walk import Walk


class LoopWalk:
    """The walk through one iteration of a loop, which stands for all of them."""

    def __init__(self, walk: Walk, loop: Loop) -> None:
        self.walk, self.loop, self.scope = walk, loop, walk.forward.scope
        self.made = LoopShares(loop)
        self.names: dict[Position, str] = {}

    def run(self) -> None:
        """Walk through the middle iteration, and add the loop to the shares."""
        walk, loop = self.walk, self.loop
        if not any(value in walk.needed for value in loop.home):
            return
        self._unite_names()
        handed = [p for p in loop.carried if loop.value(1, p) in walk.needed]
        from_after = self._shares_from_after(handed)
        saved = walk.shares, set(walk._given), dict(walk._inlined), dict(walk._pending)
        through = self._passed_through(handed, from_after)
        walk.shares, walk._given, walk._inlined, walk._pending = saved
        self.made.carried = [p for p in handed if p not in through]
        outer = walk.shares
        for position in self.made.carried:
            final = loop.value(-1, position)
            if final not in walk._given:
                self.made.starts.append(final)
        body = self._body(handed, from_after, through)
        outside = dict.fromkeys(share.value for share in body if share.value not in loop.home)
        for value in outside:
            for share in outer:
                if isinstance(share, Share) and share.value is value:
                    share.more = True
        walk.shares = [*outer, self.made]
        self.made.body = body
        for position in through:
            self._hand_to_start(position, self._final(position))
        for position in self.made.carried:
            self._hand_to_start(position, walk.forward.gradient(loop.value(-1, position)))

    def _unite_names(self) -> None:
        loop = self.loop
        for position in loop.positions():
            base = loop.value(1, position).base_name
            if base is None:
                continue
            if not base.isidentifier():
                raise NotALoopError(f"`{base}` is not a name")
            if loop.is_bound_again(position):
                base = f"{base}_in"
            start = loop.carried.get(position)
            values = [loop.value(k, position) for k in range(len(loop.iterations))]
            name = self.scope.unite(values, base, start if isinstance(start, Value) else None)
            if not name:
                raise NotALoopError(f"`{base}` means something else, too")
            self.names[position] = name

    def _shares_from_after(self, handed: list[Position]) -> dict[Position, list[Share]]:
        """Take out what later steps gave to each iteration's value, such as a `torch.stack` of them, as one share."""
        walk, loop = self.walk, self.loop
        found: dict[Position, list[list[Share]]] = {}
        for share in walk.shares:
            if isinstance(share, Share) and share.value in loop.home:
                k, position = loop.home[share.value]
                found.setdefault(position, [[] for _ in loop.iterations])[k].append(share)
        if any(value in loop.home for value in walk._pending):
            raise NotALoopError("a value without a name is read after the loop")
        united: dict[Position, list[Share]] = {}
        for position, per in found.items():
            count = len(per[0])
            if position in handed and not count:
                continue  # only the last one is read afterwards
            last = [s for s in per[-1] if any(s.step is other.step for other in per[0])]
            if any(len(shares) != count for shares in [*per[:-1], last]):
                raise NotALoopError("later steps read some iterations only")
            for i in range(count):
                shares = [*(shares[i] for shares in per[:-1]), last[i]]
                gradient = unite([share.gradient for share in shares], loop)
                one = Share(loop.value(1, position), gradient, shares[0].why, shares[0].step)
                united.setdefault(position, []).append(one)
                walk.shares = [share for share in walk.shares if share not in shares]
            rest = [s for s in per[-1] if s not in last]
            for place, share in enumerate(rest):
                share.first = place == 0
            if not rest:
                walk._given.discard(loop.value(-1, position))
        return united

    def _final(self, position: Position) -> Expr | None:
        final = self.loop.value(-1, position)
        if final in self.walk.seeds:
            return self.walk.seeds[final]
        return self.walk.forward.gradient(final) if final in self.walk._given else None

    def _passed_through(self, handed: list[Position], after: dict[Position, list[Share]]) -> dict[Position, Expr]:
        """Return the positions whose gradient each iteration hands on as it is, such as a sum of losses."""
        through: dict[Position, Expr] = {}
        body = self._body(handed, after, {})
        for position in handed:
            own, before = self.loop.value(1, position), self.loop.value(0, position)
            shares = [share for share in body if share.value is before]
            same = len(shares) == 1 and shares[0].gradient.op == "gradient" and shares[0].gradient.data is own
            final = self._final(position)
            if same and final is not None and not any(share.value is own for share in body):
                through[position] = final
        return through

    def _body(
        self, handed: list[Position], after: dict[Position, list[Share]], through: dict[Position, Expr]
    ) -> list[Share]:
        walk, loop = self.walk, self.loop
        walk.shares = []
        forward, walk.forward.extra = walk.forward, {loop.target: loop.counts[1]}
        for position in handed:
            walk._given.discard(loop.value(0, position))  # here it stands for what the turn before made
            if position in through:
                walk._inlined[loop.value(1, position)] = through[position]
            else:
                walk._given.add(loop.value(1, position))
        for step in loop.body:
            for value in step.inputs:
                if value in walk.needed and value not in loop.home:
                    walk.force(value)
                    if value not in walk._given:
                        walk._given.add(value)
                        if value not in self.made.starts:
                            self.made.starts.append(value)
        for shares in after.values():
            for share in shares:
                walk.give(share.value, share.gradient, share.why, share.step or loop.body[-1])
        try:
            for step in reversed(loop.body):
                walk.reverse(step)
        finally:
            forward.extra = None
        body = [share for share in walk.shares if isinstance(share, Share)]
        befores = {loop.value(0, position) for position in through}
        return [share for share in body if share.value not in befores]

    def _hand_to_start(self, position: Position, gradient: Expr | None) -> None:
        start, loop = self.loop.carried[position], self.loop
        if not isinstance(start, Value) or start not in self.walk.needed or gradient is None:
            return
        fitted, reason = unbroadcast(gradient, self.walk.forward.sizes.shape(start))
        why = "what the first iteration hands back" + (f"; {reason}" if reason else "")
        readers = [s for s in self.walk.graph.steps if start in s.inputs and s not in loop.iterations[0]]
        if not reason and not readers and start.base_name == loop.value(1, position).base_name:
            self.walk._inlined[start] = fitted
        else:
            self.walk.give(start, fitted, why, loop.iterations[0][position[0]])


def unite(gradients: list[Expr], loop: Loop) -> Expr:
    """Return one expression for what each iteration gets, with the loop's variable where they differ.

    Raises:
        NotALoopError: they differ in another way.
    """
    first = gradients[0]
    if all(other.key == first.key for other in gradients):
        return first
    if any((e.op, len(e.args), e.shape) != (first.op, len(first.args), first.shape) for e in gradients):
        raise NotALoopError("later steps read each iteration in another way")
    if first.op == "value" or first.op == "gradient":
        places = [loop.home.get(e.data) for e in gradients]
        if [p and p[0] for p in places] == list(range(len(gradients))) and len({p and p[1] for p in places}) == 1:
            return gradients[1]
        raise NotALoopError("later steps read another value for each iteration")
    if first.op in ("raw", "number"):
        values = [_whole(e) for e in gradients]
        offsets = {v - c if v is not None else None for v, c in zip(values, loop.counts, strict=True)}
        if len(offsets) == 1 and None not in offsets:
            offset = offsets.pop() or 0
            text = loop.target if not offset else f"{loop.target} {'+' if offset > 0 else '-'} {abs(offset)}"
            return Expr("raw", (), (), text) if first.op == "raw" else number(values[1] or 0, text)
        raise NotALoopError("later steps read each iteration at an odd place")
    if first.data != gradients[1].data:
        raise NotALoopError("later steps read each iteration in another way")
    args = [unite(list(each), loop) for each in zip(*(e.args for e in gradients), strict=True)]
    return Expr(first.op, args, first.shape, first.data)


def _whole(expr: Expr) -> int | None:
    text = expr.data if expr.op == "raw" else repr(expr.data[0])
    try:
        return int(text)
    except ValueError:
        return None
