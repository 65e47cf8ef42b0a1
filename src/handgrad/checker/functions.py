"""Two functions, a forward and a backward, judged line by line."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from handgrad.checker.judging import judge
from handgrad.errors import NothingToJudgeError
from handgrad.graph import Value
from handgrad.report import Report
from handgrad.tracer import Tracer


def check(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    *inputs: Any,
    gradient: dict[str, str] | None = None,
    loss: str | None = None,
    explained: bool = True,
) -> Report:
    """Judge every line of ``backward``, which reverses ``forward`` by hand.

    ``forward(*inputs)`` returns the scalar loss, alone or among other things: a tuple, dict or NamedTuple. The
    parameters of ``backward`` are matched by name: one that ``forward`` has too gets the same input; one that is named
    like a value of ``forward`` gets that value; one that is left gets all that ``forward`` returned (or, if that is
    ``(loss, cache)``, the cache). What ``backward`` returns does not matter: every gradient that it gives a name
    (``dX`` for a value ``X``) is judged. ``inputs`` are tensors, or tuples, dicts, dataclasses and modules of them;
    nothing that is given is changed.

    ``gradient`` says of which value a name is the gradient, where the names do not tell; ``loss`` names the loss.

    Raises:
        NothingToJudgeError: ``forward`` returns no scalar, or ``backward`` computes no gradient, or cannot be called.

    >>> import torch
    >>> def forward(x, w):
    ...     h = x @ w
    ...     loss = (h * h).sum()
    ...     return loss
    >>> def backward(x, w, h):
    ...     dh = 2 * h
    ...     dw = x.T @ dh
    ...     dx = dh @ w
    ...     return dx, dw
    >>> report = check(forward, backward, torch.randn(5, 3), torch.randn(3, 3))
    >>> report["dh"].verdict, report["dx"].verdict, report["dx"].mistakes[0].fix
    ('right', 'wrong', 'dx = dh @ w.T')
    """
    copies = [_copied(item) for item in inputs]
    tracer = Tracer()
    notes = []
    with tracer:
        with torch.enable_grad():
            result = forward(*copies)
        found = _loss(result, tracer, loss)
        before = tracer.recording
        arguments = _arguments(forward, backward, copies, result, before.named, tracer)
        with torch.no_grad():
            try:
                backward(**arguments) if isinstance(arguments, dict) else backward(*arguments)
            except Exception as error:
                line = _line_of(error, backward)
                notes.append(f"backward stopped{line}: {type(error).__name__}: {error}".split("\n")[0])
    if all(not t.requires_grad for t in _tensors(inputs)):
        expected: list[Value] | None = []
    else:
        expected = None
    calls = [] if loss is not None else [(found.time, found)]
    try:
        return judge(
            tracer.recording, calls, gradient=gradient, loss=loss, notes=notes, explained=explained, expected=expected
        )
    except NothingToJudgeError as error:
        if notes:
            raise NothingToJudgeError(f"{notes[0]}; {error.message}") from None
        raise


def _line_of(error: Exception, function: Callable[..., Any]) -> str:
    code, traceback, line = getattr(function, "__code__", None), error.__traceback__, ""
    while traceback is not None:
        if traceback.tb_frame.f_code is code:
            line = f" at line {traceback.tb_lineno}"
        traceback = traceback.tb_next
    return line


def _copied(item: Any) -> Any:
    if isinstance(item, torch.nn.Module):
        return item
    if isinstance(item, Tensor):
        copy = item.detach().clone()
        return copy.requires_grad_() if item.is_floating_point() else copy
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*map(_copied, item))
    if isinstance(item, list | tuple):
        return type(item)(map(_copied, item))
    if isinstance(item, dict):
        return {key: _copied(inner) for key, inner in item.items()}
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return dataclasses.replace(
            item, **{f.name: _copied(getattr(item, f.name)) for f in dataclasses.fields(item) if f.init}
        )
    return item


def _tensors(item: Any) -> list[Tensor]:
    if isinstance(item, Tensor):
        return [item]
    if isinstance(item, torch.nn.Module):
        return list(item.parameters())
    if isinstance(item, dict):
        item = list(item.values())
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        item = [getattr(item, f.name) for f in dataclasses.fields(item)]
    if isinstance(item, list | tuple):
        return [tensor for inner in item for tensor in _tensors(inner)]
    return []


def _loss(result: Any, tracer: Tracer, name: str | None) -> Value:
    named = result._asdict() if hasattr(result, "_asdict") else result if isinstance(result, dict) else {}
    chosen = named.get(name or "loss")
    scalars = [t for t in _tensors(result) if t.is_floating_point() and t.numel() == 1]
    tensor = chosen if isinstance(chosen, Tensor) else next(iter(scalars), None)
    if tensor is None or tensor.numel() != 1:
        raise NothingToJudgeError(
            "forward returns no scalar of floating type: it must return the loss, alone or among other values"
        )
    return tracer.value_of(tensor)


def _arguments(
    forward: Any, backward: Any, inputs: list[Any], result: Any, named: list[Value], tracer: Tracer
) -> dict[str, Any] | list[Any]:
    try:
        wanted = list(inspect.signature(backward).parameters.values())
        given = inspect.signature(forward).bind(*inputs).arguments
    except (TypeError, ValueError) as error:
        raise NothingToJudgeError(f"backward cannot be called: {error}") from None
    if isinstance(result, tuple) and not hasattr(result, "_fields") and len(result) == 2:
        rest = result[1] if isinstance(result[0], Tensor) and result[0].numel() == 1 else result
    else:
        rest = result
    returned = result._asdict() if hasattr(result, "_asdict") else result if isinstance(result, dict) else {}
    values = {v.name: tracer.tensor_of(v) for v in named}
    arguments: dict[str, Any] = {}
    extra = [item for name, item in given.items() if name not in {p.name for p in wanted}]
    for parameter in wanted:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY) or (
            parameter.default is not parameter.empty and parameter.name not in given
        ):
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            return [*arguments.values(), *extra]
        if parameter.name in given:
            arguments[parameter.name] = given[parameter.name]
        elif parameter.name in returned:
            arguments[parameter.name] = returned[parameter.name]
        elif values.get(parameter.name) is not None:
            arguments[parameter.name] = values[parameter.name]
        else:
            arguments[parameter.name] = rest
    return arguments
