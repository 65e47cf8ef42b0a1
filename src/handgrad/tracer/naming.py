"""The names of values when the run is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from handgrad.graph import Graph, Value

if TYPE_CHECKING:
    from handgrad.tracer.memory import Memory


def name_values(graph: Graph) -> None:
    """Give each value the name of its outermost binding; a name that is used again is numbered."""
    depth = dict.fromkeys(graph.frames, 0)
    for serial, info in graph.frames.items():
        depth[serial] = 0 if info.caller is None else depth[info.caller] + 1
    best: dict[Value, tuple[int, int, str]] = {}
    for binding in graph.bindings:
        if binding.value is not None and not binding.name.startswith("_"):
            rank = (depth[binding.frame], binding.time, str(binding.access))
            if binding.value not in best or rank < best[binding.value]:
                best[binding.value] = rank
    used: dict[str, int] = {}
    for value in graph.values:
        if value in best:
            base = best[value][2]
            number = used[base] = used.get(base, -1) + 1
            value.base_name, value.name = base, f"{base}_{number}" if number else base


def name_modules(memory: Memory, namespace: dict[str, Any]) -> None:
    """Name values that are parameters or buffers of the `nn.Module`s in ``namespace``: ``net.fc1.weight``."""
    used = {value.name for value in memory.graph.values}
    for name, module in namespace.items():
        if not isinstance(module, torch.nn.Module):
            continue
        for path, tensor in [*module.named_parameters(), *module.named_buffers()]:
            value = memory.known_value(tensor)
            full = f"{name}.{path}" if name else path
            if value is not None and value.name is None and full not in used:
                value.name = value.base_name = full
