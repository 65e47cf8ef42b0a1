"""`handgrad.derive`: the backward of a forward, written, executed, and compared with autograd before it is shown."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from types import CodeType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from handgrad.deriver.forward import Forward
from handgrad.deriver.loops import NotALoopError, find_loops
from handgrad.deriver.page import Line, Page
from handgrad.deriver.scope import Scope
from handgrad.deriver.walk import Style, Walk, needed, seed
from handgrad.errors import DeriveError, NotDifferentiableError, NotVerifiedError, ReplayError
from handgrad.graph import Graph, Replay, Value
from handgrad.tracer import trace

JITTER = 0.15
CLOSE = 1e-7  # of the largest number, in float64: PyTorch takes some constants in float32 even there
VANISHING = 1e-10


class Backward:
    """A derived backward: its lines, its source, and the graph that it reverses.

    ``str(backward)`` is the source; it runs below the forward. ``lines`` hold each gradient's code, its reason, and its
    expression.
    """

    def __init__(
        self,
        graph: Graph,
        outputs: list[Value],
        wrt: set[Value],
        style: Style = "plain",
        *,
        upstream: bool = False,
        loops: bool = True,
        scope: Callable[[], Scope] | None = None,
    ) -> None:
        self.graph, self.outputs, self.style, self.upstream = graph, outputs, style, upstream
        self._new_scope = scope
        passed_on: frozenset[str] | None = None
        while passed_on is None or not passed_on <= self.scope.passed_on:
            self._write(wrt, loops, passed_on or frozenset())
            passed_on = self.scope.passed_on | self.scope.given_back(self.page.kept)

    def _write(self, wrt: set[Value], loops: bool, passed_on: frozenset[str]) -> None:
        """Derive the lines, with other words for what ``passed_on`` mean while earlier values have those names."""
        graph, outputs = self.graph, self.outputs
        self.scope = Scope(graph) if self._new_scope is None else self._new_scope()
        self.scope.passed_on = passed_on
        carries = needed(graph, outputs, wrt)
        self.scope.reserve({v for step in graph.steps if not carries.isdisjoint(step.made) for v in step.inputs})
        self.forward = Forward(graph, self.scope)
        found = find_loops(graph, self.scope) if loops else []
        self.scope.unsteady = frozenset(name for loop in found for name in loop.binds)
        self.walk = Walk(self.forward, outputs, wrt, self.style, found)
        for output in outputs:
            if output in self.walk.needed:
                self.walk.seeds[output] = seed(output, self.forward, upstream=self.upstream)
        self.shares = self.walk.run()
        self.page = Page(self.forward, self.shares)

    @property
    def lines(self) -> list[Line]:
        """The lines, in their order."""
        return self.page.lines

    @property
    def gradients(self) -> dict[str, Value]:
        """The name of every gradient, and the value that it belongs to."""
        return {line.target: line.of for line in self.lines if line.of is not None}

    @property
    def _final(self) -> dict[str, Value]:
        """The value whose gradient each name holds when all has run; of a loop, that is its last iteration's."""
        final: dict[str, Value] = {}
        for block in self.page.blocks:
            for line in block.lines:
                if line.final is None:
                    final.pop(line.target, None)
                else:
                    final[line.target] = self.walk.same.get(line.final, line.final)
            for row in block.handed:
                final.pop(row.split(" = ")[0], None)
        return final

    def __getitem__(self, gradient: str) -> list[Line]:
        """Return the lines of one gradient; raises KeyError with the names there are."""
        found = [line for line in self.lines if line.target == gradient]
        if not found:
            raise KeyError(f"no gradient {gradient}; there are {', '.join(self.gradients)}")
        return found

    def source(self, *, reasons: bool = False, to: Iterable[str] | None = None, only_these: bool = False) -> str:
        """Return the source: with the reason for each line, or only as far as the gradients ``to``.

        With ``only_these`` the lines that those need are left out: they are written already.

        Raises:
            DeriveError: there is no such gradient.
        """
        only = None
        if to is not None:
            only = {name if name in self.gradients else f"d{name}" for name in to}
            if missing := only - set(self.gradients):
                raise DeriveError(f"no gradient {', '.join(sorted(missing))}; there are {', '.join(self.gradients)}")
        return self.page.source(reasons=reasons, only=only, needed=not only_these)

    def __str__(self) -> str:
        return self.source()

    def __repr__(self) -> str:
        return f"<Backward: {len(self.lines)} lines, {len(self.gradients)} gradients>"

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.source()}```"

    def as_function(self, form: Literal["function", "custom-op"] = "function") -> str:
        """Return the source of a `torch.autograd.Function`, or of an operator of `torch.library`.

        Raises:
            DeriveError: the forward cannot be written as one, or the derivation is not with ``upstream=True``.
            NotVerifiedError: the source does not pass its own test.
        """
        from handgrad.deriver.function_page import FunctionPage

        page = FunctionPage(self)
        page.prove(form)
        return page.source(form)

    def as_numpy(self, name: str = "forward_backward") -> str:
        """Return a module of NumPy, the forward and the backward as one function: see `deriver/numpy_page`.

        Raises:
            DeriveError: an operation has no form in NumPy.
            NotVerifiedError: the text computes something else.
        """
        from handgrad.deriver.numpy_page import as_numpy

        return as_numpy(self, name)

    def unrolled(self) -> Backward:
        """Return the same backward with its loops written out."""
        return Backward(
            self.graph, self.outputs, self.walk.wrt, self.style,
            upstream=self.upstream, loops=False, scope=self._new_scope,
        )  # fmt: skip

    # -- running it

    @cached_property
    def _executable(self) -> tuple[Page, CodeType]:
        """The lines as they are run, made once: whoever records a run sees nothing but the run."""
        page = Page(self.forward, self.shares, by_path=False)
        return page, compile(page.source(), "<derived>", "exec")

    def run(self, replay: Replay, seeds: dict[Value, Tensor] | None = None) -> dict[Value, Tensor]:
        """Execute the lines on the values of ``replay`` and return the gradients."""
        page, code = self._executable
        space: dict[str, Any] = {"torch": torch, "F": F, "math": math}
        for name, item in self.scope.names.items():
            if not isinstance(item, Value):
                space.setdefault(name, _real(item, replay))
        for value in [*self.scope.known, *page.used]:
            own = self.scope.identifier(value)
            if own is not None:
                space[own] = replay[value].detach()
        for value in [*self.scope.known, *page.used]:
            text = self.scope.text(value)
            if text is not None and text.isidentifier():
                space[text] = replay[value].detach()
        for value, written in page.used.items():
            if value not in page.kept and written.isidentifier():
                space[written] = replay[value].detach()
        for name, item in self.scope.names.items():
            if isinstance(item, Value):  # a loop that runs again reads what it read, by its own names
                space.setdefault(name, replay[item].detach())
        for output, given in (seeds or {}).items():
            space[f"d{self.scope.identifier(output)}"] = given.clone()
        with torch.no_grad(), replay.default_dtype():
            exec(code, space)  # noqa: S102 our own text, made from rules
        return {value: space[name] for name, value in self._final.items()}

    def verify(self) -> float:
        """Compare every gradient with autograd's, in float64, at a point of its own; return the largest error.

        The error is relative to the largest number of the gradient.

        Raises:
            NotVerifiedError: one differs; the message names it.
        """
        worst = self._compare(JITTER, 0.0)
        return max(worst, self._compare(0.0)) if self.walk.unknown_at_zero else worst

    def _compare(self, *jitters: float) -> float:
        """Return the largest error at the first point, moved by one of ``jitters``, at which the forward is defined."""
        worst = 0.0
        replay, seeds = self._point(jitters)
        found = self.run(replay, seeds)
        truth = self.truth(replay, seeds)
        self._check_that_none_is_missing(replay, seeds, found)
        for value, gradient in found.items():
            name, expected = f"d{self.scope.identifier(value)}", truth[value]
            if gradient.shape != expected.shape:
                raise NotVerifiedError(
                    f"{name} came out with shape {tuple(gradient.shape)}, and {value.name} has {tuple(expected.shape)}"
                )
            if value in self.walk.unknown_at_zero:
                gradient, expected = gradient[replay[value] != 0], expected[replay[value] != 0]
            if not expected.numel():
                continue
            scale = max(expected.abs().max().item(), 1e-12)
            error = (gradient - expected).abs().max().item() / scale
            if scale <= VANISHING and gradient.abs().max().item() <= VANISHING:
                continue  # both are zero, up to rounding
            undefined = int((expected.isfinite() & ~gradient.isfinite()).sum())
            if undefined:
                raise NotVerifiedError(
                    f"{name} is nan or infinite in {undefined} of {gradient.numel()} places where autograd's is not: "
                    "at this input its formula divides by 0, and what autograd writes there is a choice of its own. "
                    "Derive at another input, or keep the divisor away from 0"
                )
            if not error < CLOSE:
                raise NotVerifiedError(f"{name} differs from autograd's by {error:.1g} of its largest number")
            worst = max(worst, error)
        return worst

    def _check_that_none_is_missing(self, replay: Replay, seeds: dict[Value, Tensor], found: Iterable[Value]) -> None:
        """Raise NotVerifiedError if there is no line for a gradient that is not zero."""
        missing = [value for value in self.walk.wrt if value.name and value not in set(found)]
        outputs = [output for output in seeds if replay[output].requires_grad]
        given = [replay[value] for value in missing]
        if not outputs or not given:
            return
        gradients = torch.autograd.grad(
            [replay[output] for output in outputs], given, [seeds[o].to(replay[o].dtype) for o in outputs],
            allow_unused=True, retain_graph=True,
        )  # fmt: skip
        for value, gradient in zip(missing, gradients, strict=True):
            if gradient is not None and bool((gradient.abs() > VANISHING).any()):
                raise NotVerifiedError(f"there is no line for d{self.scope.identifier(value)}, which is not zero")

    def _point(self, jitters: Sequence[float]) -> tuple[Replay, dict[Value, Tensor]]:
        """Return the forward again in float64, near where it was run, and random gradients of its results."""
        generator = torch.Generator().manual_seed(0)
        for jitter in jitters:
            given = {}
            for leaf in dict.fromkeys([*self.graph.leaves, *sorted(self.walk.wrt, key=lambda value: value.id)]):
                if leaf.is_floating and not leaf.dtype.is_complex:
                    exact = leaf.value.to(torch.float64)
                    noise = torch.randn(exact.shape, generator=generator, dtype=torch.float64)
                    moved = exact * (1 + jitter * noise) if leaf in self.walk.needed else exact
                    given[leaf] = moved.requires_grad_(leaf in self.walk.wrt)
            replay = Replay(self.graph, given=given, dtype=torch.float64, differentiable=True)
            known = self.graph.ancestors(*self.walk.seeds)
            try:
                with warnings.catch_warnings(action="ignore"):  # they came when the user's forward ran
                    replay.run([*self.walk.seeds, *self._final.values()])
                replay.check_escapes(escape for escape in self.graph.escapes if escape.value in known)
            except ReplayError:
                continue
            except RuntimeError:  # not a point where the forward is defined, such as a probability above 1
                if not jitter:
                    raise
                continue
            same = all(
                replay[value].shape == value.shape for value in known
            )  # but for `x[x > 0]`, of more numbers here
            if same and all(bool(replay[output].isfinite().all()) for output in self.walk.seeds):
                break
        seeds = {
            output: torch.ones((), dtype=torch.float64) if not (output.shape or self.upstream)
            else torch.randn(output.shape, generator=generator, dtype=torch.float64)
            for output in self.walk.seeds
        }  # fmt: skip
        return replay, seeds

    def truth(self, replay: Replay, seeds: dict[Value, Tensor]) -> dict[Value, Tensor]:
        """Return autograd's gradients of everything that has a line."""
        values = list(dict.fromkeys(self._final.values()))
        outputs = [replay[output] for output in seeds]
        try:
            found = torch.autograd.grad(
                outputs, [replay[v] for v in values], [seeds[o].to(replay[o].dtype) for o in seeds],
                allow_unused=True, retain_graph=True,
            )  # fmt: skip
        except RuntimeError as error:
            if "inplace operation" not in str(error):
                raise
            raise NotVerifiedError(
                "autograd itself cannot differentiate this forward, and there is nothing to compare with: a value that "
                "its backward needs is changed in place (`h = h * h`, not `h *= h`)"
            ) from None
        return {
            value: torch.zeros_like(replay[value]) if gradient is None else gradient
            for value, gradient in zip(values, found, strict=True)
        }


def _real(item: Any, replay: Replay) -> Any:
    if isinstance(item, Value):
        return replay[item].detach()
    if type(item) in (list, tuple):
        return type(item)(_real(one, replay) for one in item)
    if type(item) is dict:
        return {key: _real(one, replay) for key, one in item.items()}
    return item


def derive(forward: Callable[..., Any], *inputs: Any, style: Style = "plain", upstream: bool = False) -> Backward:
    """Run ``forward(*inputs)`` and return its backward, written in its own names.

    The gradients are those of every value and parameter on a path to the result: a scalar loss, alone or called
    ``loss`` among several results, or tensors, whose gradients ``dX`` are then taken as given. If nothing requires a
    gradient, every floating input does. ``style`` is ``"plain"``, as one writes by hand, or ``"exact"``, rounded as
    autograd rounds. With ``upstream`` the gradient of a loss is given, too, and not 1. What is returned has been
    executed and agrees with autograd in float64.

    Raises:
        TraceError: nothing could be traced.
        NoRuleError: an operation has no rule.
        NotDifferentiableError: no value that wants a gradient reaches the result.
        DeriveError: a value that the backward needs is gone.
        NotVerifiedError: the derived backward does not agree with autograd.

    >>> import torch
    >>> def forward(x, w):
    ...     h = torch.tanh(x @ w)
    ...     loss = h.sum()
    ...     return loss
    >>> print(derive(forward, torch.ones(2, 3), torch.ones(3, 4, requires_grad=True)))
    # loss = h.sum()
    dh = torch.ones_like(h)  # (2, 4)
    # h = torch.tanh(x @ w)
    dw = x.T @ ((1.0 - h**2) * dh)  # (3, 4)
    <BLANKLINE>
    """
    graph = trace(forward, *inputs, scopes=True)
    outputs = graph.outputs if graph.named_loss is None else [graph.named_loss]
    return derive_graph(graph, outputs, style=style, upstream=upstream)


def derive_graph(
    graph: Graph,
    outputs: list[Value],
    *,
    style: Style = "plain",
    upstream: bool = False,
    scope: Callable[[], Scope] | None = None,
) -> Backward:
    """Return the verified backward of a graph from ``outputs`` to its parameters, in the names of ``scope``."""
    results = [value for value in dict.fromkeys(outputs) if value.is_floating]
    if not results:
        raise NotDifferentiableError("the forward returned no floating tensor: return the loss, or the result")
    known = graph.ancestors(*results)
    _check_sight(graph, results)
    wrt = {value for value in known if value.is_parameter}
    if not wrt:
        wrt = {value for value in known if value.is_floating and value.step is None}
    try:
        backward = Backward(graph, results, wrt, style, upstream=upstream, scope=scope)
        backward.verify()
    except (NotALoopError, NotVerifiedError):
        backward = Backward(graph, results, wrt, style, upstream=upstream, loops=False, scope=scope)
        backward.verify()
    return backward


def _check_sight(graph: Graph, results: list[Value]) -> None:
    """Raise DeriveError if a value with a name reaches a result through steps that were not seen."""
    for value in sorted(graph.ancestors(*results, unseen=True), key=lambda value: value.id) if graph.is_partial else ():
        unseen = graph.out_of_sight(value, *results) if value.name else None
        if unseen is not None:
            raise DeriveError(f"{unseen}; write it in plain PyTorch inside the forward")
