"""One step of training as a list of ATen calls without writes: what lowering reads.

The user's code runs once, on the given inputs, and a dispatch mode records the calls. PyTorch's `functionalize` turns
writes in place, also through views, into new values. (`make_fx` records the same, and loads all of TorchDynamo for it.)
"""

from __future__ import annotations

import linecache
import operator
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Graph, Node
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from handgrad.errors import NoLoweringError
from handgrad.native.cache import key_of
from handgrad.native.table import decomposition_of

TAKEN_OUT = "a number is taken out of a tensor, and what is compiled would have this one in every step"
_OURS = ("handgrad/native/", "/torch/", "<frozen")


CLOSE = 1e-3  # of the largest number of a result
NOISE = 1e-6  # of the largest number of all results: a gradient that is 0 but for rounding


@dataclass(frozen=True)
class Place:
    """Where a call stands in the user's code."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.text else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Capture:
    """The calls in their order, the nodes of the inputs and of the results, and the place of each call."""

    calls: list[Node]
    inputs: list[Node]
    truths: list[bool]  # whether each input holds truth values
    results: list[Any]
    places: dict[Node, Place]
    constants: dict[str, torch.Tensor]
    numbers: list[torch.Tensor]  # the results as they were computed while the calls were recorded

    def check(self, found: Sequence[torch.Tensor]) -> None:
        """Compare what the function returns when nothing is recorded.

        Raises:
            NoLoweringError: it is something else: `functionalize` has not seen a write.
        """
        largest = [float(x.abs().nan_to_num(0, 0, 0).max()) if x.numel() else 0.0 for x in found]
        for k, (recorded, plain) in enumerate(zip(self.numbers, found, strict=True)):
            close = CLOSE * largest[k] + NOISE * max(largest)
            if not torch.allclose(recorded, plain, rtol=CLOSE, atol=close, equal_nan=True):
                what = f"gradient {k}" if k else "the loss"
                raise NoLoweringError(f"{what} is another when the step is recorded: a write through a view gets lost")

    def digest(self) -> str:
        """Return a sum of the calls, their arguments, and the tensors that are no inputs."""
        texts = [f"{node} = {node.target}{node.args}{node.kwargs}" for node in self.calls]
        tensors: list[str | bytes] = []
        for name, x in self.constants.items():
            numbers = x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            tensors += [name, f"{x.dtype} {tuple(x.shape)}", numbers.tobytes()]
        return key_of(*texts, str(self.results), *tensors)


SITE: ContextVar[Place | None] = ContextVar("SITE", default=None)
"""Where the operation stands that is replayed; without it, the stack tells."""


_IN_PLACE: dict[Any, Any] = {
    getattr(torch.Tensor, name): getattr(torch.Tensor, plain)
    for plain in ("add", "sub", "mul", "div")
    for name in (f"{plain}_", f"__i{plain.replace('div', 'truediv')}__")
} | {torch.Tensor.index_add_: torch.Tensor.index_add}
"""Arithmetic in place: written as a copy, since `functionalize` would load SymPy, half a second, for each of these."""


_TAKEN_OUT = frozenset({torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__})


class _Watch(TorchFunctionMode):
    """Notes where each operation stands, and writes out `F.one_hot`, which looks for its largest index."""

    def __init__(self) -> None:
        super().__init__()
        self.place: Place | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        named = dict(kwargs or {})
        self.place = SITE.get() or _place()
        if func is torch.nn.functional.one_hot:
            index, *classes = args
            count = classes[0] if classes else named.get("num_classes", -1)
            if count > 0:
                return (index.unsqueeze(-1) == torch.arange(count)).long()
        if func is torch.einsum and (view := _view_by_einsum(*args)) is not None:
            return view
        if func in _TAKEN_OUT:
            raise NoLoweringError(f"{self.place}: {TAKEN_OUT}")
        if func in _IN_PLACE and args[0].is_floating_point():
            return args[0].copy_(_IN_PLACE[func](*args, **named))
        return func(*args, **named)


def _view_by_einsum(equation: Any, *operands: Any) -> torch.Tensor | None:
    """Return what `einsum` makes if that is a view: `functionalize` would lose what is written into it."""
    given = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else list(operands)
    if not isinstance(equation, str) or len(given) != 1:
        return None
    letters, arrow, result = equation.replace(" ", "").partition("->")
    if not arrow or not letters.isalpha() or set(letters) != set(result):
        return None
    view: torch.Tensor = given[0]
    while twice := next((c for c in letters if letters.count(c) > 1), ""):
        first = letters.index(twice)
        second = letters.index(twice, first + 1)
        view = view.diagonal(0, first, second)
        letters = "".join(c for d, c in enumerate(letters) if d not in (first, second)) + twice
    return view.permute([letters.index(c) for c in result])


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records ATen calls as nodes; those that PyTorch writes with others, and that have no lowering here, as these."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: PyTorch would load TorchDynamo, a second, to keep it away from the method below."""
        return False

    def __init__(self, watch: _Watch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watch, self.graph = watch, Graph()
        self.places: dict[Node, Place] = {}
        self.constants: dict[str, torch.Tensor] = {}
        self._nodes: dict[int, Node] = {}
        self._kept: list[torch.Tensor] = []  # so that no other tensor gets the id of one

    def note(self, tensor: torch.Tensor, node: Node) -> None:
        """Let a node stand for a tensor."""
        self._nodes[id(tensor)] = node
        self._kept.append(tensor)

    def node_of(self, item: Any) -> Any:
        """Return what was given, with nodes in the place of tensors."""
        if isinstance(item, torch.Tensor):
            if id(item) not in self._nodes:  # made of numbers, or of the user's surroundings
                name = f"constant{len(self.constants)}"
                self.constants[name] = item
                self.note(item, self._placed(self.graph.create_node("get_attr", name)))
            return self._nodes[id(item)]
        if isinstance(item, (list, tuple)):
            return type(item)([self.node_of(one) for one in item])
        return item

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        named = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default and id(args[0]) in self._nodes:
            raise NoLoweringError(f"{self.watch.place or 'the step'}: {TAKEN_OUT}")
        simpler = decomposition_of(func)
        with self:
            found = NotImplemented if simpler is None else simpler(*args, **named)
        if found is NotImplemented:
            found = func(*args, **named)
            given = {key: self.node_of(value) for key, value in named.items()}
            node = self._placed(self.graph.create_node("call_function", func, self.node_of(tuple(args)), given))
            self._note_all(found, node)
        return found

    def _placed(self, node: Node) -> Node:
        if self.watch.place is not None:
            self.places[node] = self.watch.place
        return node

    def _note_all(self, found: Any, node: Node) -> None:
        if isinstance(found, torch.Tensor):
            self.note(found, node)
        elif isinstance(found, (list, tuple)):
            for k, one in enumerate(found):
                self._note_all(one, self._placed(self.graph.create_node("call_function", operator.getitem, (node, k))))


def capture(function: Callable[..., Sequence[torch.Tensor]], inputs: Sequence[torch.Tensor]) -> Capture:
    """Run ``function`` on ``inputs`` once and return what it does. It must take and return tensors.

    Raises:
        NoLoweringError: a number is taken out of a tensor: what depends on it cannot be compiled.
    """
    watch = _Watch()
    recorder = _Recorder(watch)
    given = [x.detach() for x in inputs]
    places = [recorder.graph.placeholder(f"input{k}") for k in range(len(given))]
    for tensor, node in zip(given, places, strict=True):
        recorder.note(tensor, node)

    def watched(*tensors: torch.Tensor) -> Sequence[torch.Tensor]:
        with watch:
            return function(*tensors)

    with recorder:
        results = torch.func.functionalize(watched)(*given)
    several = list(results) if isinstance(results, (list, tuple)) else [results]
    output = [recorder.node_of(result) for result in several]
    recorder.graph.output(output)
    recorder.graph.eliminate_dead_code()
    nodes = list(recorder.graph.nodes)
    return Capture(
        calls=[node for node in nodes if node.op in ("call_function", "get_attr")],
        inputs=places,
        truths=[x.dtype == torch.bool for x in inputs],
        results=output,
        constants=recorder.constants,
        numbers=[x.detach() for x in several],
        places=recorder.places,
    )


def _place() -> Place:
    """Return the innermost line on the stack that is the user's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        any(part in frame.f_code.co_filename for part in _OURS) or frame.f_code.co_filename == "<string>"
    ):
        frame = frame.f_back
    file, line = frame.f_code.co_filename, frame.f_lineno
    return Place(file, line, linecache.getline(file, line).strip())
