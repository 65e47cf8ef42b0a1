"""`handgrad.compile`: forward, backward and update as one native call that runs many steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from handgrad.errors import CompileError, NoLoweringError
from handgrad.native.calling import Flat, Parameters, by_autograd, flat
from handgrad.native.draws import Draws
from handgrad.native.eager import EagerSteps
from handgrad.native.executor import Executor
from handgrad.native.plan import Numbers
from handgrad.native.planning import Planner
from handgrad.native.steps import Steps
from handgrad.native.updates import SGD, Update

WORK_OF_A_THREAD = 1 << 24  # operations of a step: for fewer it does not pay to wait for one more thread


def compile(  # noqa: A001 as the field calls it
    forward: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    *,
    params: Any,
    batch: Sequence[Tensor],
    update: Update | None = None,
    threads: int | None = None,
    fallback: bool = True,
) -> CompiledStep:
    """Return ``forward``, ``backward`` and ``update`` as native code.

    ``forward(params, *batch)`` returns the scalar loss, alone, first in a tuple, or as the field ``loss``. ``params``
    is a tensor, tuple, NamedTuple, dict or dataclass of floating tensors, all float32 or all float64; of a dict whose
    keys are parameters of ``forward``, each tensor is passed by its name. ``batch`` holds example tensors: their
    shapes are compiled in. ``backward`` gets, by name, the arguments of ``forward``, the fields that it returned, or
    for a name that is neither all that it returned; it returns a gradient for each parameter, in their order or called
    ``d`` + name. Without ``backward`` it is derived. ``update`` is `SGD` or `AdamW`, by default ``SGD(lr=0.1)``.

    A step runs on ``threads`` cores; by default on one if it is small, and else on as many as pay, and as
    ``torch.get_num_threads()`` allows. Results are the same bits for every number of threads. What is compiled is what
    the functions do when they are called once.

    Where an operation has no native form, or a number is taken out of a tensor, a warning says which and where it
    stands, and the steps run in eager PyTorch with the same results (``step.engine`` is then ``"eager"``); with
    ``fallback=False`` that is an error.

    Raises:
        CompileError: the functions do not fit together.
        NoLoweringError: an operation has no native form, and ``fallback`` is False.

    >>> import torch
    >>> def forward(w, x, y):
    ...     return ((x @ w - y) ** 2).mean()
    >>> w = torch.zeros(3, 1)
    >>> step = compile(forward, params=w, batch=(torch.ones(8, 3), torch.ones(8, 1)), update=SGD(lr=0.1))
    >>> step.step(torch.ones(8, 3), torch.ones(8, 1))
    1.0
    >>> w.tolist()  # the given parameters are updated in place
    [[0.20000000298023224], [0.20000000298023224], [0.20000000298023224]]
    """
    if threads is not None and threads < 1:
        raise CompileError(f"threads is {threads}: give 1 or more, or leave it out")
    return CompiledStep(
        forward, backward, Parameters(params), tuple(batch), update or SGD(), threads=threads, fallback=fallback
    )


class CompiledStep:
    """A step of training as native code; see `compile`. The parameters are those that were given, updated in place.

    ``engine`` is ``"native"``, or ``"eager"`` where that could not be; ``threads`` is how many threads share a step.
    """

    def __init__(
        self, forward: Callable[..., Any], backward: Callable[..., Any] | None, parameters: Parameters,
        batch: tuple[Tensor, ...], update: Update, *, threads: int | None = None, fallback: bool = True,
    ) -> None:  # fmt: skip
        self.parameters, self.update = parameters, update
        dtypes = {x.dtype for x in (*parameters.tensors, *(b for b in batch if b.is_floating_point()))}
        if len(dtypes) != 1 or not dtypes <= {torch.float32, torch.float64}:
            raise CompileError(
                f"parameters and batch are {', '.join(sorted(map(str, dtypes)))}: make all of them float32, or float64"
            )
        (self.dtype,) = dtypes
        if not batch or any(b.shape[:1] != batch[0].shape[:1] for b in batch):
            raise CompileError("batch is a tuple of tensors with the same number of rows: (Xb, Yb)")
        self.steps_done = 0
        both: Flat | None = None
        self._training: Steps
        self._new_judge: Callable[[], Steps]
        self._judge: Steps | None = None
        try:
            both = flat(forward, backward, parameters, batch)
            planner = Planner(both, parameters, batch, self.dtype)
            plan = planner.plan(update)
        except NoLoweringError as error:
            if not fallback:
                raise
            warnings.warn(f"{error}; the steps run in eager PyTorch", stacklevel=3)
            both = both or by_autograd(forward, parameters)
            self.engine, self.threads = "eager", torch.get_num_threads()
            self._training = EagerSteps(both, parameters, batch, update)
            self._new_judge = partial(EagerSteps, both, parameters, batch, None)
        else:
            self.engine = "native"
            self.threads = threads or min(torch.get_num_threads(), max(1, plan.work // WORK_OF_A_THREAD))
            self._training = Executor(plan, self.threads)
            self._new_judge = lambda: Executor(planner.plan(None), self.threads)

    def gradients(self, *batch: Any) -> dict[str, Numbers]:
        """Return the gradient of every parameter for one batch, by its name; nothing is updated.

        Raises:
            CompileError: a tensor has another shape than the compiled one, or an index is out of range.
        """
        judge = self._judged(batch)[0]
        places = zip(self.parameters.names, judge.plan.gradients, strict=True)
        return {f"d{name}": judge.read(place) for name, place in places}

    def loss(self, *batch: Any) -> float:
        """Return the loss of one batch; nothing is updated."""
        return self._judged(batch)[1]

    def _judged(self, batch: Sequence[Any]) -> tuple[Steps, float]:
        """Return what holds the gradients of a batch, and the loss."""
        if self._judge is None:
            self._judge = self._new_judge()
        self._judge.load_parameters(self.parameters.tensors)
        self._judge.set_batch(batch)
        return self._judge, float(self._judge.call(1, {}, None)[0])

    def step(self, *batch: Any, lr: float | None = None) -> float:
        """Take one step on one batch, and return the loss before it."""
        self._training.set_batch(batch)
        self._training.load_parameters(self.parameters.tensors)
        losses = self._training.call(1, self._numbers(1, lr), None)
        self.steps_done += 1
        self._training.store_parameters(self.parameters.tensors)
        return float(losses[0])

    def run(
        self, steps: int, *data: Any, rows: Any = None, lr: Any = None, seed: int = 0,
        progress: Callable[[int, float], None] | None = None,
    ) -> Numbers:  # fmt: skip
        """Take ``steps`` steps on minibatches of ``data`` and return the loss before each.

        ``data`` are whole arrays, such as ``(X, Y)``; ``rows``, of shape (steps, batch size), names the rows of each
        minibatch, and without it they are drawn as ``torch.randint(0, len(X), (n,))`` draws them from a generator of
        ``seed``. ``lr`` is a number, or one for each step. ``progress(done, loss)`` is called a few times a second.
        Ctrl-C is answered within a second: what was done until then stays in the parameters.

        Raises:
            CompileError: data or rows do not fit; nothing was run.
        """
        self._training.set_data(data)
        if rows is None:
            rows = self._training.drawn_rows(steps, Draws.seeded(seed))
        else:
            rows = self._training.checked_rows(rows, steps)
        numbers = self._numbers(steps, lr)
        self._training.load_parameters(self.parameters.tensors)
        losses = np.empty(steps, self._training.real)
        done = 0

        def note(last: Numbers) -> None:
            nonlocal done
            losses[done : done + len(last)] = last
            done += len(last)
            self.steps_done += len(last)
            if progress is not None:
                progress(done, float(last[-1]))

        try:
            self._training.run(rows, numbers, note)
        finally:
            self._training.store_parameters(self.parameters.tensors)
        return losses

    def _numbers(self, steps: int, lr: Any) -> dict[str, Numbers]:
        rates = np.broadcast_to(np.asarray(self.update.lr if lr is None else lr, dtype=np.float64), (steps,))
        given = self.update.numbers(self.steps_done + np.arange(steps), rates)
        return {name: np.ascontiguousarray(values, self._training.real) for name, values in given.items()}
