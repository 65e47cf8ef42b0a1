"""What a correct gradient is: autograd on the replayed forward, in float64, at a point of its own.

At a `Point` the parameters are jittered, and every gradient that a hand-written line reads is *given* to it, as random
noise. A correct line is linear in the gradients it reads, so noise hides nothing: where the true gradient happens to be
zero, as before batch norm, a test with the true one would see only rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from handgrad.graph import Escape, Graph, Replay, Value

Stop = Callable[[Value], bool]


class Point:
    """The forward at one point, the gradients given there, and the truth about every contribution."""

    def __init__(
        self,
        graph: Graph,
        loss: Value,
        claimed: Iterable[Value],
        *,
        seed: int,
        jitter: float,
        stop: Callable[[Value], bool],
    ) -> None:
        self.graph, self.loss, self.stop, self.jitter = graph, loss, stop, jitter
        self.claimed = [value for value in dict.fromkeys(claimed) if value is not loss]
        self.seed = seed
        self.given = self._jittered() if jitter else {}
        self.forward = self.replay()
        with torch.no_grad():
            self.forward.run([loss, *self.claimed])
        self._noise: dict[Value, Tensor] = {loss: torch.ones(loss.shape, dtype=torch.float64)}
        self._downstream: dict[Value, set[Value]] = {}
        self._forward_values: set[Value] | None = None
        self._branches: dict[Value, dict[Value, Tensor]] | None = None
        self._through: dict[tuple[Value, frozenset[Value], frozenset[Value], bool], Tensor] = {}
        self._true: dict[Value, Tensor] | None = None

    def claim(self, values: Iterable[Value]) -> None:
        """Let ``values`` be those whose gradients are written by hand."""
        self.claimed = [value for value in dict.fromkeys(values) if value is not self.loss]
        self._branches = None

    def replay(self, cut: Iterable[Value] = (), *, differentiable: bool = False, of: Value | None = None) -> Replay:
        """Return a replay of the forward at this point; with ``of``, of what is computed from it, with autograd."""
        return Replay(
            self.graph,
            given=self.given if of is None else {of: self.forward[of]},
            dtype=torch.float64,
            cut=cut,
            differentiable=differentiable or of is not None,
            obey_no_grad=self.loss.requires_grad,
            stop=self.stop,
            base=None if of is None else self.forward,
            rerun=None if of is None else self.downstream(of),
        )

    def noise(self, value: Value) -> Tensor:
        """Return the gradient of ``value`` that is given to whoever reads it; that of the loss is 1."""
        if value not in self._noise:
            self._noise[value] = self._random(value, value.shape)
        return self._noise[value]

    def random(self, value: Value) -> Tensor:
        """Return noise of the shape of ``value``, other than the gradient that is given for it."""
        return self._random(value, value.shape, purpose=2)

    @property
    def forward_values(self) -> set[Value]:
        """The values of the forward."""
        if self._forward_values is None:
            self._forward_values = set(upstream([self.loss, *self.claimed], self.stop))
        return self._forward_values

    def downstream(self, of: Value) -> set[Value]:
        """Return ``of`` and the values of the forward that are computed from it."""
        if of not in self._downstream:
            found = {of}
            for value in sorted(self.forward_values, key=lambda v: v.id):
                if value.step is not None and not self.stop(value) and any(v in found for v in value.step.inputs):
                    found.add(value)
            self._downstream[of] = found
        return self._downstream[of]

    def _random(self, value: Value, shape: tuple[int, ...], purpose: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed((self.seed * 7 + purpose) * 1_000_003 + value.id)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def _jittered(self) -> dict[Value, Tensor]:
        needed = upstream([self.loss, *self.claimed], self.stop)
        sources, fed = [v for v in needed if v.is_parameter], set()
        for value in needed:
            inputs = [] if value.step is None or self.stop(value) else value.step.inputs
            if value.is_parameter or any(v in fed for v in inputs):
                fed.add(value)
            elif value in self.claimed and value.is_floating:
                sources.append(value)
                fed.add(value)
        given = {}
        for value in sorted(sources, key=lambda v: v.id):
            tensor = value.value
            if not tensor.is_floating_point() or tensor.dtype is torch.bool:
                continue
            x = tensor.double()
            size = x.square().mean().sqrt().item() if x.numel() else 0.0
            noise = self._random(value, (2, *x.shape), purpose=1)
            given[value] = x * (1 + self.jitter * noise[0]) + self.jitter * 0.3 * (size or 1.0) * noise[1]
        return given

    @property
    def is_usable(self) -> bool:
        """Whether every value of the forward is finite here."""
        values = [self.loss, *self.claimed]
        return all(bool(torch.isfinite(self.forward[v]).all()) for v in values if v.is_floating)

    def steers_elsewhere(self, escapes: Iterable[Escape]) -> bool:
        """Whether a number that the code took out of the tensors is another one here."""
        return any(self.forward.differs(escape) for escape in escapes)

    # -- truths

    def branches(self, of: Value) -> dict[Value, Tensor]:
        """Return the contribution to the gradient of ``of`` by each claimed value that uses it, and by the loss."""
        if self._branches is None:
            self._branches = {}
            replay = self.replay(self.claimed, differentiable=True)
            replay.run([self.loss, *self.claimed])
            leaves = [v for v in self.claimed if replay[v].requires_grad]
            for user in [*self.claimed, self.loss]:
                tensor = replay.before_cut.get(user, replay[user])
                if not tensor.requires_grad or tensor.grad_fn is None:
                    continue
                found = _vjp(tensor, [replay[v] for v in leaves], self.noise(user))
                for value, contribution in zip(leaves, found, strict=True):
                    if contribution is not None:
                        self._branches.setdefault(value, {})[user] = contribution
        return self._branches.get(of, {})

    def through(
        self, of: Value, reads: frozenset[Value], without: frozenset[Value] = frozenset(), *, loss: bool = True
    ) -> Tensor:
        """Return the gradient of ``of`` through everything between it and ``reads``.

        Paths that meet none of ``reads`` go on to the loss, or are left out with ``loss=False``. Paths through
        ``without`` are left out.
        """
        if of is self.loss:
            return self.noise(of)
        key = of, reads, without, loss
        if key not in self._through:
            cuts = {of, *reads, *without} - {self.loss}
            replay = self.replay(cuts, of=of)
            ends = [v for v in reads if v is not of and v is not self.loss]
            replay.run([of, *ends, self.loss])
            total = torch.zeros(of.shape, dtype=torch.float64)
            leaf = replay[of]
            for end in [*ends, self.loss] if loss or self.loss in reads else ends:
                tensor = replay.before_cut.get(end, replay[end])
                if leaf.requires_grad and tensor.requires_grad and tensor.grad_fn is not None:
                    part = _vjp(tensor, [leaf], self.noise(end))[0]
                    total = total if part is None else total + part
            self._through[key] = total
        return self._through[key]

    @property
    def true(self) -> dict[Value, Tensor]:
        """The true gradients of the loss at this point."""
        if self._true is None:
            self._true = {v: self.through(v, frozenset()) for v in self.claimed}
            self._true[self.loss] = self.noise(self.loss)
        return self._true

    def true_contribution(self, of: Value, user: Value) -> Tensor:
        """Return what ``user`` contributes to the gradient of ``of`` when the gradients are the true ones."""
        replay = self.replay(set(self.claimed), of=of)
        replay.run([of, user])
        tensor = replay.before_cut.get(user, replay[user])
        part = None
        if tensor.requires_grad and tensor.grad_fn is not None:
            part = _vjp(tensor, [replay[of]], self.true[user])[0]
        return torch.zeros(of.shape, dtype=torch.float64) if part is None else part

    # -- what the user's lines compute here

    def evaluate(self, value: Value, given: dict[Value, Tensor]) -> Tensor:
        """Return ``value`` of the backward, computed again here with ``given`` in place of what it reads."""
        with torch.no_grad():
            tensor = self._local(given)[value]
        return tensor.double() if tensor.dtype is not torch.float64 and not tensor.is_complex() else tensor

    def evaluate_many(self, values: Iterable[Value], given: dict[Value, Tensor]) -> dict[Value, Tensor]:
        """Return those of ``values`` that can be computed again here."""
        local, found = self._local(given), {}
        with torch.no_grad():
            for value in values:
                try:
                    found[value] = local[value]
                except (RuntimeError, IndexError, ValueError, TypeError):
                    continue
        return found

    def _local(self, given: dict[Value, Tensor]) -> Replay:
        stop = self.stop
        return Replay(
            self.graph,
            given=given,
            dtype=torch.float64,
            base=self.forward,
            stop=lambda value: stop(value) and value.grad_of is None,
            obey_no_grad=False,
        )


class ConsistentPoint(Point):
    """The same point, where the gradients that are given are ones that can occur.

    Each is what follows from noise in the gradients one step further on. So a line may use that the gradient of a
    masked entry is zero, and a line whose mistake is hidden by the true gradients alone is still found.
    """

    def __init__(self, point: Point) -> None:
        self.__dict__.update(point.__dict__)
        self._point = point
        self._noise = {self.loss: point.noise(self.loss)}
        self._branches, self._through, self._true = None, {}, None

    def noise(self, value: Value) -> Tensor:
        """Return a gradient of ``value`` that can occur."""
        if value not in self._noise:
            parts = list(self._point.branches(value).values())
            total = sum(parts[1:], parts[0]) if parts else torch.zeros(value.shape, dtype=torch.float64)
            self._noise[value] = total * (1 + self._random(value, (), purpose=3).abs())  # any multiple can occur
        return self._noise[value]


class WidePoint(Point):
    """The same point, where some more values are cuts."""

    def __init__(self, point: Point, more: Iterable[Value]) -> None:
        self.__dict__.update(point.__dict__)
        self.claimed = sorted({*point.claimed, *more} - {point.loss}, key=lambda v: v.id)
        self._branches, self._true = None, None


class FinePoint(Point):
    """The same point, where every named value is a cut: contributions by the very next use, claimed or not."""

    def __init__(self, point: Point) -> None:
        self.__dict__.update(point.__dict__)
        named = [v for v in point.forward_values if v.name and v.is_floating and v is not point.loss]
        self.claimed = sorted({*point.claimed, *named}, key=lambda v: v.id)
        self._branches, self._through, self._true = None, {}, None


def _vjp(tensor: Tensor, inputs: list[Tensor], upstream: Tensor) -> tuple[Tensor | None, ...]:
    """Return the vector-Jacobian products; the inner product spares torch the slow import that checks ``upstream``."""
    return torch.autograd.grad((tensor * upstream).sum(), inputs, allow_unused=True, retain_graph=True)


def upstream(values: Iterable[Value], stop: Stop) -> list[Value]:
    """Return ``values`` and what they are computed from, in order, not looking behind ``stop``."""
    seen: set[Value] = set()
    stack = list(values)
    while stack:
        value = stack.pop()
        if value not in seen:
            seen.add(value)
            if value.step is not None and not stop(value):
                stack.extend(value.step.inputs)
    return sorted(seen, key=lambda v: v.id)


def autograd_gradients(
    graph: Graph, loss: Value, values: Iterable[Value], stop: Stop, dtype: torch.dtype | None
) -> dict[Value, Tensor]:
    """Return autograd's gradients at the recorded point: in ``dtype``, or bit for bit as recorded with None."""
    wanted = [v for v in dict.fromkeys(values) if v.is_floating]
    fed: set[Value] = set()
    first: set[Value] = set()
    for value in upstream([loss, *wanted], stop):
        inputs = [] if value.step is None or stop(value) else value.step.inputs
        if any(v in fed for v in inputs) and not value.is_parameter:
            fed.add(value)
        elif value.is_floating and (value.is_parameter or value in wanted):
            fed.add(value)
            first.add(value)
    replay = Replay(
        graph, dtype=dtype, cut=first - {loss}, differentiable=True, obey_no_grad=loss.requires_grad, stop=stop
    )
    replay.run([loss, *wanted])
    tensors = [replay[v] for v in wanted]
    tracked = [i for i, tensor in enumerate(tensors) if tensor.requires_grad]
    root = replay[loss]
    found: dict[Value, Tensor] = {}
    if root.requires_grad and tracked:
        wanted_tensors = [tensors[i] for i in tracked]
        gradients = torch.autograd.grad(root.sum() if root.numel() != 1 else root, wanted_tensors, allow_unused=True)
        found = {wanted[i]: g for i, g in zip(tracked, gradients, strict=True) if g is not None}
    return {v: found.get(v, torch.zeros_like(replay[v])) for v in wanted}
