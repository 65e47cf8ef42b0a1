"""A rule is proved on its samples: derived, compared with autograd, and with finite differences, in float64."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from handgrad import source
from handgrad.deriver.derivation import Backward, derive
from handgrad.errors import NoRuleError, NotVerifiedError
from handgrad.graph import Replay
from handgrad.rules import makers
from handgrad.rules.table import RULES, Rule, Sample

STEP = 1e-6
CLOSE = 1e-5
MOST = 24  # so many numbers of an input are moved

_count = itertools.count()


def check_rule(rule: Rule | str, *, seed: int = 0) -> int:
    """Prove a rule of the table on all its samples, and return how many there are.

    Each sample is derived, and the result compared with autograd at a jittered point and, unless the sample lies on a
    kink, with central finite differences.

    Raises:
        NoRuleError: there is no rule of that name.
        NotVerifiedError: the derived gradient of a sample is wrong; the message names the sample.

    >>> check_rule("tanh") >= 1
    True
    """
    if isinstance(rule, str):
        if rule not in RULES:
            raise NoRuleError(f"no rule for `{rule}`; there are {', '.join(sorted(RULES))}")
        rule = RULES[rule]
    for sample in rule.samples:
        try:
            check_sample(sample, seed=seed)
        except NotVerifiedError as error:
            raise NotVerifiedError(f"rule {rule.ops[0]}, `{sample.text}`: {error.message}") from None
    return len(rule.samples)


def check_sample(sample: Sample, *, seed: int = 0) -> Backward:
    """Derive one sample, compare it with autograd and with finite differences, and return the backward."""
    backward = derive(function_of(sample), *inputs_of(sample, seed))
    if not sample.kink:
        for name, found, expected in _differences(backward, seed):
            if not abs(found - expected) <= CLOSE * max(1.0, abs(expected)):
                raise NotVerifiedError(f"{name}: {found:.6g}, and the finite difference is {expected:.6g}")
    return backward


def function_of(sample: Sample) -> Callable[..., Any]:
    """Return a sample as a function whose source is known."""
    rows = [*filter(None, sample.before.split("; ")), f"out = {sample.text}", "return out"]
    code = f"def forward({', '.join(sample.inputs)}):\n" + "".join(f"    {row}\n" for row in rows)
    filename = f"<sample {next(_count)}>"
    source.register(filename, code)
    space: dict[str, Any] = {"torch": torch, "F": F, "math": math}
    exec(compile(code, filename, "exec"), space)  # noqa: S102 the samples of the rules
    made: Callable[..., Any] = space["forward"]
    return made


def inputs_of(sample: Sample, seed: int) -> list[Any]:
    """Return the inputs of a sample."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (makers.normal(*item) if isinstance(item, tuple) else item)(generator)
        if isinstance(item, tuple) or inspect.isfunction(item) else item
        for item in sample.inputs.values()
    ]  # fmt: skip


def _differences(backward: Backward, seed: int) -> Iterator[tuple[str, float, float]]:
    """Yield derived numbers beside central finite differences of the forward, replayed at moved inputs."""
    graph, outputs = backward.graph, list(backward.walk.seeds)
    generator = torch.Generator().manual_seed(seed + 1)
    base = {leaf: leaf.value.clone() for leaf in graph.leaves if leaf.is_floating}
    replay = Replay(graph, given=base)
    weights = {
        output: torch.ones_like(replay[output]) if not output.shape
        else torch.randn(output.shape, generator=generator, dtype=output.dtype)
        for output in outputs
    }  # fmt: skip
    gradients = backward.run(replay, weights)

    def total(given: dict[Any, Tensor]) -> float:
        again = Replay(graph, given=given)
        return sum(float((again[output] * weights[output]).sum()) for output in outputs)

    for value, gradient in gradients.items():
        if value.step is not None:
            continue
        count = gradient.numel()
        for place in range(0, count, max(1, count // MOST)):
            ends = []
            for sign in (1, -1):
                moved = base[value].clone()
                moved.view(-1)[place] += sign * STEP
                ends.append(total({**base, value: moved}))
            yield f"d{value.name}[{place}]", float(gradient.reshape(-1)[place]), (ends[0] - ends[1]) / (2 * STEP)
