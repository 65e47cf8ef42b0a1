"""One step of training as a list of ATen calls without writes: what lowering reads.

The user's code runs once, on the given inputs. `make_fx` of PyTorch records the calls, and `functionalize` turns writes
in place, also through views, into new values.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx.traceback as fx_traceback
from torch.fx import Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from handgrad.native.table import decompositions

_OURS = ("handgrad/native/", "/torch/", "<frozen")


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
    results: list[Any]
    places: dict[Node, Place]
    constants: dict[str, torch.Tensor]


SITE: ContextVar[Place | None] = ContextVar("SITE", default=None)
"""Where the operation stands that is replayed; without it, the stack tells."""


class _Watch(TorchFunctionMode):
    """Notes where each operation stands, and writes out `F.one_hot`, which looks for its largest index."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        named = dict(kwargs or {})
        place = SITE.get() or _place()
        fx_traceback.set_stack_trace([f'File "{place.file}", line {place.line}\n    {place.text}'])
        if func is torch.nn.functional.one_hot:
            index, *classes = args
            count = classes[0] if classes else named.get("num_classes", -1)
            if count > 0:
                return (index.unsqueeze(-1) == torch.arange(count)).long()
        return func(*args, **named)


def capture(function: Callable[..., Sequence[torch.Tensor]], inputs: Sequence[torch.Tensor]) -> Capture:
    """Run ``function`` on ``inputs`` once and return what it does. It must take and return tensors."""

    def checked(*given: torch.Tensor) -> Sequence[torch.Tensor]:
        with _Watch():
            return function(*given)

    plain = torch.func.functionalize(checked)
    with fx_traceback.preserve_node_meta():
        made = make_fx(plain, decompositions())(*(x.detach() for x in inputs))
    made.graph.eliminate_dead_code()
    nodes = list(made.graph.nodes)
    results = nodes[-1].args[0]
    return Capture(
        calls=[node for node in nodes if node.op in ("call_function", "get_attr")],
        inputs=[node for node in nodes if node.op == "placeholder"],
        results=list(results) if isinstance(results, (list, tuple)) else [results],
        constants={str(n.target): getattr(made, str(n.target)) for n in nodes if n.op == "get_attr"},
        places={node: place for node in nodes if (place := _place_of(node)) is not None},
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


def _place_of(node: Node) -> Place | None:
    """Return the place that `_Watch` noted when a node was made."""
    head, _, text = (node.stack_trace or "").partition("\n")
    file, _, line = head.removeprefix('File "').partition('", line ')
    return Place(file, int(line), text.strip()) if line.isdigit() else None
