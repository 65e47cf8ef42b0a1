"""How a user's forward and backward are called, and where among their results the loss and the gradients are."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from handgrad.errors import CompileError, NoLoweringError
from handgrad.graph import Graph, Replay, Step, Value
from handgrad.native.capture import SITE, TAKEN_OUT, Place

Flat = Callable[..., Sequence[Tensor]]  # (*parameters, *batch) -> (loss, *gradients)


class Parameters:
    """Parameters as they were given (a tensor, tuple, NamedTuple, dict or dataclass), and their names."""

    def __init__(self, given: Any) -> None:
        self.given = given
        found = _items(given)
        wrong = [name for name, item in found if not isinstance(item, Tensor) or not item.is_floating_point()]
        if wrong or not found:
            what = f"params[{wrong[0]}] is no floating tensor" if wrong else "params holds no tensor"
            raise CompileError(f"{what}: give the parameters as a NamedTuple, dict, tuple or dataclass of tensors")
        self.names = [name for name, _ in found]
        self.tensors = [item for _, item in found]

    def rebuilt(self, tensors: Sequence[Tensor]) -> Any:
        """Return the given structure with other tensors."""
        given, by_name = self.given, dict(zip(self.names, tensors, strict=True))
        if isinstance(given, Tensor):
            return tensors[0]
        if isinstance(given, Mapping):
            return {name: by_name[name] for name in given}
        if isinstance(given, tuple | list):
            return type(given)(*tensors) if hasattr(given, "_fields") else type(given)(tensors)
        return dataclasses.replace(given, **by_name)


def _items(given: Any) -> list[tuple[str, Any]]:
    if isinstance(given, Tensor):
        return [("w", given)]
    if isinstance(given, Mapping):
        return list(given.items())
    if hasattr(given, "_asdict"):
        return list(given._asdict().items())
    if isinstance(given, tuple | list):
        return [(str(k), item) for k, item in enumerate(given)]
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        return [(f.name, getattr(given, f.name)) for f in dataclasses.fields(given) if f.init]
    return []


def flat(
    forward: Callable[..., Any], backward: Callable[..., Any] | None, parameters: Parameters, batch: Sequence[Tensor]
) -> Flat:
    """Return forward and backward as one function of plain tensors; the backward is derived if there is none.

    Raises:
        CompileError: the functions do not fit together.
        NoRuleError, DeriveError: the backward could not be derived.
        NoLoweringError: it would be right for one call only: numbers are drawn, or taken out of tensors.
    """
    if backward is None:
        return _derived(forward, parameters, batch)
    count = len(parameters.tensors)

    def both(*tensors: Tensor) -> Sequence[Tensor]:
        given = _arguments(forward, parameters, tensors[:count], tensors[count:])
        result = _called(forward, given)
        gradients = backward(**_for_backward(backward, given, result))
        return [loss_of(result), *_gradients(gradients, parameters, tensors[:count])]

    return both


def _arguments(
    forward: Any, parameters: Parameters, tensors: Sequence[Tensor], batch: Sequence[Tensor]
) -> dict[str, Any]:
    """Return the arguments of the forward by name: ``(params, *batch)``, or a dict's tensors each by its own name."""
    try:
        signature = inspect.signature(forward).parameters
    except (TypeError, ValueError):
        raise CompileError("forward has no signature: give a function written in Python") from None
    names = [name for name, parameter in signature.items() if parameter.kind is not parameter.VAR_KEYWORD]
    rest = next((name for name, parameter in signature.items() if parameter.kind is parameter.VAR_POSITIONAL), None)
    given: dict[str, Any] = {}
    if isinstance(parameters.given, Mapping) and set(parameters.names) <= set(names):
        given = dict(zip(parameters.names, tensors, strict=True))
        names = [name for name in names if name not in given]
    elif names:
        given = {names[0]: parameters.rebuilt(tensors)}
        names = names[1:]
    if rest in names:  # `*batch`: what the names before it have left
        count = names.index(rest)
        return given | dict(zip(names, batch[:count], strict=False)) | {rest: tuple(batch[count:])}
    if len(names) < len(batch):
        raise CompileError(
            f"forward takes {len(names)} arguments beside the parameters, and the batch has {len(batch)} tensors: they "
            "are passed as forward(params, *batch)"
        )
    return given | dict(zip(names, batch, strict=False))


def _called(forward: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Return ``forward`` of arguments by name, those of a ``*batch`` too."""
    bound = inspect.BoundArguments(inspect.signature(forward), dict(given))
    return forward(*bound.args, **bound.kwargs)


def loss_of(result: Any) -> Tensor:
    """Return the scalar among what a forward returned: it alone, the field ``loss``, or the first of a tuple."""
    if isinstance(result, Mapping):
        result = result.get("loss", result)
    elif hasattr(result, "loss"):
        result = result.loss
    elif isinstance(result, tuple | list) and result:
        result = result[0]
    if not isinstance(result, Tensor) or result.numel() != 1:
        raise CompileError("forward returns no scalar loss: return it alone, first, or as a field called `loss`")
    return result


def _for_backward(backward: Any, given: dict[str, Any], result: Any) -> dict[str, Any]:
    """Return the arguments of the backward: the forward's by name, its results by name, else all that it returned."""
    fields = result._asdict() if hasattr(result, "_asdict") else result if isinstance(result, dict) else {}
    rest = result[1] if isinstance(result, tuple) and not fields and len(result) == 2 else result
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(backward).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if name in given or name in fields:
            arguments[name] = given.get(name, fields.get(name))
        elif parameter.default is parameter.empty:
            arguments[name] = rest
    return arguments


def _gradients(returned: Any, parameters: Parameters, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return a gradient for each parameter: by the name ``d`` + its name, or in their order."""
    named = returned._asdict() if hasattr(returned, "_asdict") else returned if isinstance(returned, Mapping) else {}
    if named:
        found = [named.get(f"d{name}", named.get(name)) for name in parameters.names]
    else:
        found = [returned] if isinstance(returned, Tensor) else list(returned)
    if len(found) < len(tensors) or any(g is None for g in found):
        missing = [n for n, g in zip(parameters.names, [*found, *[None] * len(tensors)], strict=False) if g is None]
        raise CompileError(
            f"backward returned no gradient of {', '.join(missing)}: return one for each parameter, in their order or "
            "named d + its name"
        )
    for name, gradient, tensor in zip(parameters.names, found, tensors, strict=False):
        if tuple(gradient.shape) != tuple(tensor.shape):
            raise CompileError(
                f"d{name} has shape {tuple(gradient.shape)}, and {name} has {tuple(tensor.shape)}: `handgrad check` "
                "says why"
            )
    return found[: len(tensors)]


def by_autograd(forward: Callable[..., Any], parameters: Parameters) -> Flat:
    """Return a forward and its gradients by autograd as one function of plain tensors."""
    count = len(parameters.tensors)

    def both(*tensors: Tensor) -> Sequence[Tensor]:
        leaves = [x.detach().requires_grad_() for x in tensors[:count]]
        with torch.enable_grad():
            loss = loss_of(_called(forward, _arguments(forward, parameters, leaves, tensors[count:])))
            found = torch.autograd.grad(loss, leaves, allow_unused=True)
        return [loss.detach(), *(torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True))]

    return both


def _check_that_nothing_is_fixed(graph: Graph, output: Value, given: set[Value]) -> None:
    """Raise NoLoweringError if a replay would do something as it was recorded, whatever it is given."""
    known = graph.ancestors(output)
    for step in graph.steps:
        if (step.is_random or step.generator_state is not None) and not known.isdisjoint(step.made):
            raise NoLoweringError(f"{step.site}: `{step.text}` draws other numbers in every step")
        if _is_sized_by_data(step) and not known.isdisjoint(step.made):
            raise NoLoweringError(f"{step.site}: how many numbers `{step.text}` makes depends on the data")
    for escape in graph.escapes:
        if not given.isdisjoint(graph.ancestors(escape.value)):
            raise NoLoweringError(f"{escape.site}: {TAKEN_OUT}")


_SIZED_BY_DATA = frozenset({"nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount"})


def _is_sized_by_data(step: Step) -> bool:
    picks = step.op == "__getitem__" and any(v.dtype == torch.bool for v in list(step.inputs)[1:])
    return picks or step.op in _SIZED_BY_DATA


def _derived(forward: Callable[..., Any], parameters: Parameters, batch: Sequence[Tensor]) -> Flat:
    from handgrad.deriver.derivation import derive_graph
    from handgrad.deriver.scope import ScopeOfAll
    from handgrad.tracer import Tracer

    class Again(Replay):
        """A replay that says where each step stands."""

        def _execute(self, step: Step) -> None:
            site = step.site
            token = SITE.set(Place(site.source.filename, site.line, site.text))
            try:
                super()._execute(step)
            finally:
                SITE.reset(token)

    leaves = [x.detach().clone().requires_grad_() for x in parameters.tensors]
    inputs = [x.detach().clone() for x in batch]
    tracer = Tracer(scopes=True)
    with tracer, torch.enable_grad():
        loss = loss_of(_called(forward, _arguments(forward, parameters, leaves, inputs)))
    graph, output = tracer.recording, tracer.known_value(loss)
    if output is None:
        raise CompileError("forward did nothing with tensors that could be seen: its source must be in a file")
    known = [tracer.known_value(x) for x in (*leaves, *inputs)]
    _check_that_nothing_is_fixed(graph, output, {value for value in known if value is not None})
    backward = derive_graph(graph, [output], scope=lambda: ScopeOfAll(graph))
    of = {value: name for name, value in zip(parameters.names, known, strict=False) if value is not None}

    def both(*tensors: Tensor) -> Sequence[Tensor]:
        replay = Again(graph, given={v: x for v, x in zip(known, tensors, strict=True) if v is not None})
        gradients = {of[value]: gradient for value, gradient in backward.run(replay).items() if value in of}
        zeros = (torch.zeros_like(x) for x in tensors)
        return [
            replay[output],
            *(gradients.get(name, zero) for name, zero in zip(parameters.names, zeros, strict=False)),
        ]

    return both
