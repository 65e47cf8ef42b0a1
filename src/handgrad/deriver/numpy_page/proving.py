"""A page is executed and compared, with the forward in PyTorch and with autograd, before anybody sees it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from handgrad.deriver.derivation import CLOSE, JITTER, VANISHING
from handgrad.errors import NotVerifiedError
from handgrad.rules.table import plain

if TYPE_CHECKING:
    from torch import Tensor

    from handgrad.deriver.numpy_page.module import Module
    from handgrad.graph import Replay, Value


def prove(module: Module) -> float:
    """Run the function of ``module`` in float64, compare all it computes, and return the largest error.

    Raises:
        NotVerifiedError: it cannot be run, or something differs; the message names it.
    """
    backward, names = module.backward, module.names
    replay, seeds = backward._point((JITTER, 0.0))
    given = [_array(replay[value]) for value in module.arguments]
    given += [_array(seeds[output]) for output in module.upstream]
    results, gradients = _run(module, module.source(), given)
    inside = _run(module, module.source("return locals()"), given)
    truth = backward.truth(replay, seeds)
    pairs: list[tuple[str, Any, Tensor, Value]] = []
    outputs = results if len(backward.outputs) > 1 else (results,)
    pairs += [(names.of(v), found, replay[v], v) for v, found in zip(backward.outputs, outputs, strict=True)]
    pairs += [(f"d{names.of(v)}", gradients[names.of(v)], truth[v], v) for v in module.with_gradient]
    inside_loops = {value for loop in module.stored for value in loop.home}
    for value in backward.graph.values:
        own = names.scope.identifier(value)
        made = "" if value.step is None else plain(value.step.op).removeprefix("new_")
        known = value in names.read - inside_loops - set(module.folded) and not made.startswith("empty")
        if own is not None and own in inside and known:
            pairs.append((own, inside[own], replay[value], value))
    for own, value in backward._final.items():
        if own in inside:
            pairs.append((own, inside[own], truth[value], value))
    return max((_error(*pair, replay, backward.walk.unknown_at_zero) for pair in pairs), default=0.0)


def _run(module: Module, source: str, given: list[Any]) -> Any:
    space: dict[str, Any] = {}
    exec(compile(source, "<numpy>", "exec"), space)  # noqa: S102 our own text, made from rules
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return space[module.name](*(item.copy() for item in given))
    except Exception as error:  # whatever NumPy makes of it
        raise NotVerifiedError(f"the NumPy text does not run: {type(error).__name__}: {error}") from error


def _error(name: str, found: Any, expected: Tensor, value: Value, replay: Replay, unknown_at_zero: set[Value]) -> float:
    import numpy as np

    array, right = np.asarray(found), _array(expected)
    if array.shape != right.shape:
        raise NotVerifiedError(f"{name} came out of NumPy with shape {array.shape}, and has {right.shape}")
    if value in unknown_at_zero and name.startswith("d"):
        known = _array(replay[value]) != 0
        array, right = array[known], right[known]
    if not right.size:
        return 0.0
    with np.errstate(invalid="ignore"):
        same = (array == right) | (np.isnan(array) & np.isnan(right) if right.dtype.kind == "f" else False)
        differences = np.abs(np.where(same, 0.0, array.astype(float) - right.astype(float)))
        scale = max(float(np.abs(np.where(np.isfinite(right), right, 0)).max()), 1e-12)
    if scale <= VANISHING and float(np.abs(array).max()) <= VANISHING:
        return 0.0  # both are zero, up to rounding
    error = float(differences.max()) / scale
    if not error < CLOSE:
        raise NotVerifiedError(f"{name} of the NumPy text differs by {error:.1g} of its largest number")
    return error


def _array(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy()
