"""Random forwards, derived, and their backward pasted below them: every gradient is autograd's.

`make test` runs a few of each theme. This runs 2,400, and they are the same ones in every run::

    HANDGRAD_RANDOM_FORWARDS=200 .venv/bin/python -m pytest tests/test_derive_random.py --numprocesses 2

The number is that of each of twelve themes. What counts is compared: a forward without finite gradients, or one that
is refused, is replaced by another one.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, reject, seed, settings
from torch import Tensor

from handgrad.deriver import derive
from handgrad.deriver.derivation import Backward
from handgrad.errors import DeriveError, NotVerifiedError
from handgrad.expr import Expr
from handgrad.rules import RULES
from handgrad.rules.table import Terms
from random_forwards import THEMES, Written, forwards

EACH = int(os.environ.get("HANDGRAD_RANDOM_FORWARDS", "20"))  # forwards of each theme, half of them in each style
REFUSED = 0.1  # so many may be refused, with one of these sentences
REFUSALS = [
    "was bound again, and what it was before is gone: keep it under another name",
    "changed in place: write into a clone, or make a new tensor",
    "at this input its formula divides by 0",
]
PHASES = (Phase.generate, Phase.shrink)
CLOSE = 1e-7  # of the largest number of a gradient
VANISHING = 1e-9


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@dataclass
class Tally:
    """What became of the forwards of a test."""

    compared: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def check(self, written: Written, style: str) -> None:
        """Derive a forward and compare; reject it if there is nothing to compare."""
        truth = gradients(written)
        try:
            backward = derive(written.function(), *written.inputs.values(), style=style)
        except (DeriveError, NotVerifiedError) as error:
            sentence = next((known for known in REFUSALS if known in error.message), None)
            if sentence is None:
                raise
            self.refused[sentence] += 1
            reject()
        compare(written, backward, truth)
        self.compared += 1


def gradients(written: Written) -> dict[str, Tensor | None]:
    """Return autograd's gradients of the inputs; reject a forward that has no finite ones."""
    wanted = {name: x for name, x in written.inputs.items() if x.requires_grad}
    try:
        loss = written.function()(*written.inputs.values())
        found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    except RuntimeError:  # autograd itself cannot, such as after a write to what it had saved
        reject()
    if not all(bool(g.isfinite().all()) for g in (loss, *found) if g is not None):
        reject()
    if not any(g is not None and bool(g.any()) for g in found):
        reject()
    return dict(zip(wanted, found, strict=True))


def compare(written: Written, backward: Backward, truth: dict[str, Tensor | None]) -> None:
    """Run the forward's statements and the derived text below them, and compare every gradient with autograd's."""
    names = written.run_here()
    forward = dict(names)
    kept = [x for x in forward.values() if isinstance(x, Tensor) and x.requires_grad]
    with torch.no_grad():
        exec(compile(str(backward), "<pasted>", "exec"), names)  # noqa: S102 derived from our own text
    found = torch.autograd.grad(forward["loss"], kept, allow_unused=True)
    expected = {id(x): torch.zeros_like(x) if g is None else g for x, g in zip(kept, found, strict=True)}
    told = set()
    for gradient, value in backward._final.items():
        own = backward.scope.text(value)
        if own in forward and id(forward[own]) in expected:
            told.add(own)
            if value not in backward.walk.unknown_at_zero:
                expect_equal(gradient, names[gradient], expected[id(forward[own])])
    for name, given_ in written.inputs.items():
        right = truth.get(name)
        if forward[name] is given_ and right is not None and bool(right.any()):
            assert name in told, f"there is no gradient of {name}"


def expect_equal(name: str, found: Tensor, expected: Tensor) -> None:
    assert tuple(found.shape) == tuple(expected.shape), f"{name} has {tuple(found.shape)}, not {tuple(expected.shape)}"
    scale = float(expected.detach().abs().max())
    error = float((found - expected).detach().abs().max())
    assert error <= CLOSE * scale + VANISHING, f"{name} is off by {error:.2g}, its largest number is {scale:.2g}"


def run(theme: str, style: str, count: int, *phases: Phase) -> Tally:
    """Compare ``count`` forwards of a theme."""
    tally = Tally()

    @seed(zlib.crc32(f"{theme} {style}".encode()))
    @settings(max_examples=count, deadline=None, database=None, phases=phases or PHASES, print_blob=False,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(forwards(theme))
    def check(written: Written) -> None:
        tally.check(written, style)

    check()
    return tally


@pytest.mark.parametrize("style", ["plain", "exact"])
@pytest.mark.parametrize("theme", THEMES)
def test_pasted_below_a_random_forward_every_gradient_is_autograds(theme: str, style: str) -> None:
    count = (EACH + 1) // 2

    tally = run(theme, style, count)

    assert tally.compared >= count
    assert tally.refused.total() <= max(1, REFUSED * tally.compared), tally.refused


def too_large(op: str) -> Any:
    """Return the rule of an operation with a mistake: the first share is 1 % too large."""
    true = RULES[op]

    def wrong(*args: Any, **kwargs: Any) -> Terms:
        for position, term in enumerate(true.function(*args, **kwargs)):
            scaled: Expr = term.gradient if position else 1.01 * term.gradient
            yield term._replace(gradient=scaled, exact=None)

    return replace(true, function=wrong)


@pytest.mark.parametrize("op", ["tanh", "mul", "sub", "mean", "matmul"])
def test_a_rule_with_a_mistake_is_found_by_this_comparison(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, op, too_large(op))
    monkeypatch.setattr(Backward, "verify", lambda _: 0.0)  # `derive` itself would have noticed

    with pytest.raises(AssertionError, match="is off by"):
        run("everything", "plain", 50, Phase.generate)


def test_the_same_forward_gives_the_same_bytes() -> None:
    @seed(1)
    @settings(max_examples=EACH, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(forwards("everything"))
    def derive_twice(written: Written) -> None:
        gradients(written)
        try:
            first, second = (str(derive(written.function(), *written.inputs.values())) for _ in range(2))
        except (DeriveError, NotVerifiedError):
            reject()
        assert first == second

    derive_twice()
