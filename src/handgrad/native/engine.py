"""`handgrad.compile`: forward, backward and update as one native call that runs many steps."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from handgrad.errors import CompileError
from handgrad.native.arrays import Array
from handgrad.native.arrays import Tensor as Formula
from handgrad.native.calling import Flat, Parameters, flat
from handgrad.native.capture import capture
from handgrad.native.indices import Entry, Index, Var
from handgrad.native.layout import layout_of
from handgrad.native.llvm.compiler import Code, Fed, host, ir_of
from handgrad.native.lower import lower
from handgrad.native.nests import nests_of
from handgrad.native.program import Program, Scatter, bodies_of, loads_of
from handgrad.native.updates import SGD, Update, add_updates

SECONDS_A_CALL = 0.2  # after so long a native call comes back, so that Ctrl-C is answered
_SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)


def compile(  # noqa: A001 as the field calls it
    forward: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    *,
    params: Any,
    batch: Sequence[Tensor],
    update: Update | None = None,
) -> CompiledStep:
    """Return ``forward``, ``backward`` and ``update`` as native code.

    ``forward(params, *batch)`` returns the scalar loss, alone, first in a tuple, or as the field ``loss``. ``params``
    is a tensor, tuple, NamedTuple, dict or dataclass of floating tensors, all float32 or all float64; of a dict whose
    keys are parameters of ``forward``, each tensor is passed by its name. ``batch`` holds example tensors: their
    shapes are compiled in. ``backward`` gets, by name, the arguments of ``forward``, the fields that it returned, or
    for a name that is neither all that it returned; it returns a gradient for each parameter, in their order or called
    ``d`` + name. Without ``backward`` it is derived. ``update`` is `SGD` or `AdamW`, by default ``SGD(lr=0.1)``.

    The code runs on one core. What is compiled is what the functions do when they are called once: control flow that
    depends on numbers is fixed.

    Raises:
        CompileError: the functions do not fit together.
        NoLoweringError: an operation has no native form; the message says where it stands.

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
    return CompiledStep(forward, backward, Parameters(params), tuple(batch), update or SGD())


class CompiledStep:
    """A step of training as native code; see `compile`. The parameters are those that were given, updated in place."""

    def __init__(
        self, forward: Callable[..., Any], backward: Callable[..., Any] | None, parameters: Parameters,
        batch: tuple[Tensor, ...], update: Update,
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
        both = flat(forward, backward, parameters, batch)
        self.steps_done = 0
        self._chunk = 1  # steps of a native call, as many as fit in `SECONDS_A_CALL`
        self._program_of = _Maker(both, parameters, batch, self.dtype)
        self._training = self._program_of(update)
        self._judging: _Compiled | None = None

    def gradients(self, *batch: Any) -> dict[str, np.ndarray[Any, Any]]:
        """Return the gradient of every parameter for one batch, by its name; nothing is updated.

        Raises:
            CompileError: a tensor has another shape than the compiled one, or an index is out of range.
        """
        if self._judging is None:
            self._judging = self._program_of(None)
        self._judging.load_parameters(self.parameters.tensors)
        self._judging.set_batch(batch)
        self._judging.call(1, {}, None)
        return {f"d{name}": self._judging.read(array) for name, array in
                zip(self.parameters.names, self._judging.gradients, strict=True)}  # fmt: skip

    def loss(self, *batch: Any) -> float:
        """Return the loss of one batch; nothing is updated."""
        self.gradients(*batch)
        assert self._judging is not None
        return float(self._judging.losses[0])

    def step(self, *batch: Any, lr: float | None = None) -> float:
        """Take one step on one batch, and return the loss before it."""
        compiled = self._training
        compiled.load_parameters(self.parameters.tensors)
        compiled.set_batch(batch)
        compiled.call(1, self._numbers(1, lr), None)
        self.steps_done += 1
        compiled.store_parameters(self.parameters.tensors)
        return float(compiled.losses[0])

    def run(
        self, steps: int, *data: Any, rows: Any = None, lr: Any = None, seed: int = 0,
        progress: Callable[[int, float], None] | None = None,
    ) -> np.ndarray[Any, Any]:  # fmt: skip
        """Take ``steps`` steps on minibatches of ``data`` and return the loss before each.

        ``data`` are whole arrays, such as ``(X, Y)``; ``rows``, of shape (steps, batch size), names the rows of each
        minibatch, and without it they are drawn as ``torch.randint(0, len(X), (n,))`` draws them from a generator of
        ``seed``. ``lr`` is a number, or one for each step. ``progress(done, loss)`` is called a few times a second.
        Ctrl-C is answered within a second: what was done until then stays in the parameters.

        Raises:
            CompileError: data or rows do not fit; nothing was run.
        """
        compiled = self._training
        compiled.load_parameters(self.parameters.tensors)
        compiled.set_data(data)
        rows = compiled.checked_rows(rows, steps, seed)
        numbers = self._numbers(steps, lr)
        losses = np.empty(steps, compiled.real)
        done = 0
        try:
            while done < steps:
                chunk = min(self._chunk, steps - done)
                began = time.perf_counter()
                compiled.call(chunk, {k: v[done : done + chunk] for k, v in numbers.items()}, rows[done : done + chunk])
                spent = max(time.perf_counter() - began, 1e-6)
                losses[done : done + chunk] = compiled.losses[:chunk]
                done += chunk
                self.steps_done += chunk
                if progress is not None:
                    progress(done, float(losses[done - 1]))
                self._chunk = max(1, int(chunk * min(SECONDS_A_CALL / spent, 16)))
        finally:
            compiled.store_parameters(self.parameters.tensors)
        return losses

    def _numbers(self, steps: int, lr: Any) -> dict[str, np.ndarray[Any, Any]]:
        rates = np.broadcast_to(np.asarray(self.update.lr if lr is None else lr, dtype=np.float64), (steps,))
        given = self.update.numbers(self.steps_done + np.arange(steps), rates)
        return {name: np.ascontiguousarray(values, self._training.real) for name, values in given.items()}


class _Maker:
    """Compiles the captured step, with an update or without."""

    def __init__(self, both: Flat, parameters: Parameters, batch: tuple[Tensor, ...], dtype: torch.dtype) -> None:
        self.parameters, self.batch, self.dtype = parameters, batch, dtype
        self.captured = capture(both, [*parameters.tensors, *batch])

    def __call__(self, update: Update | None) -> _Compiled:
        program = Program()
        parameters = [program.give(tuple(x.shape), "float", name, "parameter")
                      for name, x in zip(self.parameters.names, self.parameters.tensors, strict=True)]  # fmt: skip
        batch = [program.give(tuple(x.shape), "float" if x.is_floating_point() else "whole", f"batch[{k}]", "batch")
                 for k, x in enumerate(self.batch)]  # fmt: skip
        loss, *gradients = lower(self.captured, program, [*parameters, *batch])
        loss = program.realise(loss)
        numbers: dict[str, Formula] = {}
        results: list[Array] = [_array(loss)]
        if update is None:
            gradients = [program.realise(g) for g in gradients]
            results += map(_array, gradients)
        else:
            numbers = {
                name: program.give((), "float", name, "number") for name in update.numbers(np.zeros(1), np.zeros(1))
            }

            def state(name: str, parameter: Formula) -> Formula:
                return program.give(parameter.shape, "float", f"{name} of {parameter.array}", "state")

            add_updates(program, update, parameters, gradients, state, numbers)
        return _Compiled(
            program, [_array(p) for p in parameters], [_array(b) for b in batch], results,
            {name: _array(n) for name, n in numbers.items()}, self.dtype.itemsize,
        )  # fmt: skip


def _array(tensor: Formula) -> Array:
    assert tensor.array is not None
    return tensor.array


class _Compiled:
    """Machine code with its memory."""

    def __init__(
        self, program: Program, parameters: list[Array], batch: list[Array], results: list[Array],
        numbers: dict[str, Array], item: int,
    ) -> None:  # fmt: skip
        self.parameters, self.batch, self.numbers = parameters, batch, numbers
        self.loss, *self.gradients = results
        self.real = np.float32 if item == 4 else np.float64
        machine = host(item)
        nests = nests_of(program, results)
        self.layout = layout_of(nests, program.given, results, item=item, lanes=machine.lanes)
        fed = [*(Fed(a, by_rows=True) for a in batch), *(Fed(a, by_rows=False) for a in numbers.values())]
        self._code = Code.of(ir_of(nests, self.layout, machine, fed=fed, loss=self.loss))
        self._function = _SIGNATURE(self._code.address)
        memory = np.zeros(self.layout.size + 64, np.uint8)
        self._memory = memory[-memory.ctypes.data % 64 :]
        for array, numbers_ in program.constants.items():
            np.copyto(self.view(array), numbers_, casting="same_kind" if array.kind == "float" else "unsafe")
        self._limits = limits_of(program)
        self._data: list[np.ndarray[Any, Any]] = []
        self._seen: dict[Array, tuple[Any, int | None, np.ndarray[Any, Any] | None]] = {}
        self.losses = np.empty(1, self.real)

    # -- memory

    def view(self, array: Array) -> np.ndarray[Any, Any]:
        """Return an array of the arena as it stands there."""
        slot = self.layout.slots[array]
        kind: Any = np.int32 if array.kind == "whole" else self.real
        item = np.dtype(kind).itemsize
        flat_ = self._memory[slot.offset : slot.offset + slot.size * item].view(kind)
        return np.lib.stride_tricks.as_strided(flat_, array.shape, [s * item for s in slot.strides])

    def read(self, array: Array) -> np.ndarray[Any, Any]:
        """Return a copy of an array."""
        return self.view(array).copy()

    def load_parameters(self, tensors: Sequence[Tensor]) -> None:
        """Take the parameters as they are."""
        for array, tensor in zip(self.parameters, tensors, strict=True):
            np.copyto(self.view(array), tensor.detach().numpy())

    def store_parameters(self, tensors: Sequence[Tensor]) -> None:
        """Write the parameters back."""
        for array, tensor in zip(self.parameters, tensors, strict=True):
            np.copyto(tensor.detach().numpy(), self.view(array))

    # -- what is given

    def set_batch(self, batch: Sequence[Any]) -> None:
        """Take one batch, whose shapes are the compiled ones."""
        self.set_data(batch)
        for array, given in zip(self.batch, self._data, strict=True):
            if given.shape != array.shape:
                raise CompileError(
                    f"{array} has shape {given.shape}, and the step is compiled for {array.shape}: compile it again "
                    "for another batch size"
                )

    def set_data(self, data: Sequence[Any]) -> None:
        """Take whole arrays, of which batches are rows; each index in them is checked."""
        if len(data) != len(self.batch):
            raise CompileError(f"{len(data)} arrays are given, and a batch has {len(self.batch)}")
        self._data = [self._known(array, given) for array, given in zip(self.batch, data, strict=True)]
        lengths = {len(d) for d in self._data}
        if len(lengths) > 1:
            raise CompileError(f"the arrays have {', '.join(map(str, sorted(lengths)))} rows: give as many of each")

    def _known(self, array: Array, given: Any) -> np.ndarray[Any, Any]:
        """Return what is given as it is read; a tensor that was given before, and not changed, is not read again."""
        version = given._version if isinstance(given, Tensor) and not given.is_inference() else None
        before, its_version, found = self._seen.get(array, (None, None, None))
        if before is not given or version is None or its_version != version or found is None:
            found = self._checked(array, given)
            self._seen[array] = (given, version, found)
        return found

    def _checked(self, array: Array, given: Any) -> np.ndarray[Any, Any]:
        raw = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
        if raw.shape[1:] != array.shape[1:] or not raw.ndim:
            rows = ", ".join(["n", *map(str, array.shape[1:])])
            raise CompileError(f"{array} has shape {raw.shape}, and the step is compiled for ({rows})")
        if (array.kind == "float") != (raw.dtype.kind == "f") or (
            array.kind != "float" and raw.dtype.kind not in "iub"
        ):
            wanted = np.dtype(self.real).name if array.kind == "float" else "whole numbers"
            raise CompileError(f"{array} is {raw.dtype}, and the step is compiled for {wanted}")
        if array.kind == "float" and raw.dtype != self.real:
            raise CompileError(f"{array} is {raw.dtype}, and the step is compiled for {np.dtype(self.real).name}")
        limit = self._limits.get(array)
        if limit is not None and raw.size:
            low, high = int(raw.min()), int(raw.max())
            if low < 0 or high >= limit:
                raise CompileError(
                    f"{array} holds {low if low < 0 else high}, which is out of range for an index below {limit}"
                )
        if array.kind != "float":
            return np.array(raw, np.int32, order="C")  # a copy: what was checked stays as it is
        return np.ascontiguousarray(raw, self.real)

    def checked_rows(self, rows: Any, steps: int, seed: int) -> np.ndarray[Any, Any]:
        """Return the rows of every minibatch, drawn if they are not given."""
        size, count = self.batch[0].shape[0], len(self._data[0])
        if count == 0:
            raise CompileError("the data have no rows")
        if rows is None:
            generator = torch.Generator().manual_seed(seed)
            return torch.randint(0, count, (steps, size), generator=generator).numpy().astype(np.int32)
        found = rows.detach().numpy() if isinstance(rows, Tensor) else np.asarray(rows)
        if found.shape != (steps, size) or found.dtype.kind not in "iu":
            raise CompileError(
                f"rows are {found.dtype} of shape {found.shape}, not whole numbers of shape {(steps, size)}: a row of "
                "indices for each step"
            )
        if found.size and (found.min() < 0 or found.max() >= count):
            wrong = int(found.min() if found.min() < 0 else found.max())
            raise CompileError(f"rows hold {wrong}, and the data have {count} rows")
        return np.ascontiguousarray(found, np.int32)

    def call_once(self) -> None:
        """Run one step on what lies in the arena."""
        self.call(1, {}, np.zeros((1, 1), np.int32))

    def call(self, steps: int, numbers: dict[str, np.ndarray[Any, Any]], rows: np.ndarray[Any, Any] | None) -> None:
        """Run ``steps`` steps; without rows, on the first rows of the data."""
        if rows is None:
            rows = np.tile(np.arange(self.batch[0].shape[0], dtype=np.int32), (steps, 1))
        rows = np.ascontiguousarray(rows, np.int32)
        fed = [*self._data, *(np.ascontiguousarray(numbers[name], self.real) for name in self.numbers)]
        pointers = (ctypes.c_void_p * max(len(fed), 1))(*(f.ctypes.data for f in fed))
        if len(self.losses) < steps:
            self.losses = np.empty(steps, self.real)
        self._function(self._memory.ctypes.data, ctypes.addressof(pointers), rows.ctypes.data, steps,
                       self.losses.ctypes.data)  # fmt: skip


def limits_of(program: Program) -> dict[Array, int]:
    """Return how large the numbers of each given array of indices may be, from the arrays that they index."""
    limits: dict[Array, int] = {}
    for definition in program.definitions:
        positions = [node.position for node in loads_of(*bodies_of(definition))]
        if isinstance(definition, Scatter):
            positions.append(definition.position)
        for entry in (e for position in positions for index in position for e in _entries(index)):
            if entry.of.op == "load":
                array = entry.of.array
                limits[array] = min(entry.extent, limits.get(array, entry.extent))
    return limits


def _entries(index: Index) -> list[Entry]:
    found: list[Entry] = []
    for atom, _ in index.terms:
        if isinstance(atom, Entry):
            found.append(atom)
        elif not isinstance(atom, Var):
            found.extend(_entries(atom.of))
    return found
