"""`trace`: a function becomes a graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from handgrad.errors import TraceError
from handgrad.graph import Graph
from handgrad.tracer.naming import name_modules
from handgrad.tracer.operations import Tracer, tensors_of


def trace(forward: Callable[..., Any], *inputs: Any, scopes: bool = False) -> Graph:
    """Run ``forward(*inputs)`` and return the graph of what it did: steps, values, names.

    ``forward`` is any function, method or `nn.Module` of plain PyTorch. Values carry the names that the code gives
    them; a name bound again is ``h_1``. No derivative is taken. With ``scopes`` each binding keeps what its frame could
    see.

    Raises:
        TraceError: ``forward`` cannot be called, or no operation of PyTorch was seen in code whose source is known.

    >>> import torch
    >>> def forward(x, w):
    ...     h = torch.tanh(x @ w)
    ...     loss = h.mean()
    ...     return loss
    >>> graph = trace(forward, torch.ones(2, 3), torch.ones(3, 4))
    >>> print(graph)
    h     (2, 4)  h = torch.tanh(x @ w)
    loss  ()      loss = h.mean()
    """
    if not callable(forward):
        raise TraceError(f"trace(forward, *inputs): {type(forward).__name__} cannot be called")
    tracer = Tracer(scopes=scopes)
    with tracer:
        result = forward(*inputs)
    graph = tracer.recording
    for given in map(tracer.known_value, tensors_of(_flatten(inputs))):
        if given is not None:
            given.behind = []  # where an argument comes from is nobody's business here
    _name_parameters(tracer, forward, inputs)
    if not graph.steps:
        raise TraceError(
            f"{getattr(forward, '__name__', forward)} did nothing with tensors that could be seen: "
            "its source must be in a file or a notebook, and its operations PyTorch's"
        )
    known = (tracer.known_value(tensor) for tensor in tensors_of(_flatten(result)))
    graph.outputs = [value for value in known if value is not None]
    loss = result.get("loss") if isinstance(result, Mapping) else getattr(result, "loss", None)
    graph.named_loss = tracer.known_value(loss) if isinstance(loss, torch.Tensor) and loss.numel() == 1 else None
    return graph


def _flatten(result: Any) -> Any:
    if isinstance(result, Mapping):
        return [_flatten(item) for item in result.values()]
    if isinstance(result, list | tuple):
        return [_flatten(item) for item in result]
    return result


def _name_parameters(tracer: Tracer, forward: Any, inputs: Any) -> None:
    """Name the parameters of modules that only library code has touched."""
    if all(value.name for value in tracer.graph.values if value.is_parameter):
        return
    owner = getattr(forward, "__self__", forward)  # of a bound method, such as `net.forward`
    name_modules(tracer, {"": owner} if isinstance(owner, torch.nn.Module) else {})
    name_modules(tracer, {f"input{i}": item for i, item in enumerate(inputs)})
    closure = inspect.getclosurevars(forward) if inspect.isfunction(forward) else None
    if closure:
        name_modules(tracer, {**closure.globals, **closure.nonlocals})
