"""Random forwards as native code: the gradients are autograd's, or the steps run in eager PyTorch and say so.

`make test` runs a few of each theme; ``HANDGRAD_RANDOM_FORWARDS=100`` runs so many. They are the same in every run.
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, reject, seed, settings
from torch import Tensor

import handgrad
from handgrad.errors import DeriveError, NotVerifiedError
from random_forwards import THEMES, Written, forwards

EACH = int(os.environ.get("HANDGRAD_RANDOM_FORWARDS", "4"))
CLOSE = 1e-6  # of the largest number of a gradient, in float64


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def check(written: Written, seen: Counter[str]) -> None:
    """Compile a forward, whose other inputs are constants, and compare loss and gradients."""
    function = written.function()
    parameters = {name: x.detach().clone() for name, x in written.inputs.items() if x.requires_grad}

    def forward(p: dict[str, Tensor], _: Tensor) -> Any:
        return function(*(p.get(name, x.detach()) for name, x in written.inputs.items()))

    leaves = {name: x.clone().requires_grad_() for name, x in parameters.items()}
    row = torch.zeros(1)
    try:
        loss = forward(leaves, row)
        truth = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    except RuntimeError:
        reject()
    if not all(bool(g.isfinite().all()) for g in (loss, *truth) if g is not None):
        reject()
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            step = handgrad.compile(forward, params=parameters, batch=(row,))
    except (DeriveError, NotVerifiedError):
        seen["refused"] += 1
        reject()
    seen[step.engine] += 1
    assert (step.engine == "eager") == any("run in eager PyTorch" in str(w.message) for w in told)
    assert abs(step.loss(row) - loss.item()) <= CLOSE * max(1.0, abs(loss.item()))
    found = step.gradients(row)
    for name, right in zip(leaves, truth, strict=True):
        expected = torch.zeros_like(leaves[name]) if right is None else right
        error = float((torch.from_numpy(found[f"d{name}"]) - expected).abs().max())
        assert error <= CLOSE * float(expected.abs().max()) + 1e-9, f"d{name} is off by {error:.2g}"


@pytest.mark.parametrize("theme", THEMES)
def test_random_forwards_have_autograds_gradients(theme: str) -> None:
    seen: Counter[str] = Counter()

    @seed(zlib.crc32(f"native {theme}".encode()))
    @settings(max_examples=EACH, deadline=None, database=None, phases=(Phase.generate,), print_blob=False,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(forwards(theme))
    def compare(written: Written) -> None:
        check(written, seen)

    compare()

    assert seen["native"] + seen["eager"] >= EACH
