"""The samples of every rule as native code: forward and gradient, in NumPy and as machine code, are autograd's."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from handgrad.deriver.proving import function_of, inputs_of
from handgrad.errors import CompileError, DeriveError, NoLoweringError, NotVerifiedError
from handgrad.models import MODELS
from handgrad.native import reference
from handgrad.native.arrays import Array, domain_of, variables_of
from handgrad.native.calling import Parameters, flat
from handgrad.native.indices import Index
from handgrad.native.nests import Nest
from handgrad.native.program import Map
from handgrad.native.scalars import load
from handgrad.rules import RULES, Sample
from native_code import Lowered, Numbers, case

SAMPLES = [one for rule in {id(entry): entry for entry in RULES.values()}.values() for one in rule.samples]
GROUPS = 24
CLOSE = 1e-10  # of the largest number, in float64
LOOSE = {"hardsigmoid": 1e-7, "hardswish": 1e-7, "celu": 1e-7}  # PyTorch has their constants in float32

WITHOUT_A_FORM = {
    "_adaptive_avg_pool2d", "_cdist_forward", "_trilinear", "adaptive_max_pool2d", "addbmm", "cumprod", "digamma",
    "_embedding_bag_forward_only", "_native_batch_norm_legit", "dist", "erfinv", "logcumsumexp", "median", "remainder",
    "repeat_interleave", "sort", "topk",
}  # fmt: skip
REFUSED = ("draws other numbers", "depends on the data", "taken out of a tensor", "ceil_mode", "writes through a view",
           "a number of elements of its own")  # fmt: skip


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def loss_of(one: Sample, differentiable: list[bool]) -> Callable[..., Tensor]:
    """Return a sample as a scalar of its parameters and the other inputs."""
    function = function_of(one)

    def forward(parameters: dict[str, Tensor], *others: Tensor) -> Tensor:
        own, rest = iter(parameters.values()), iter(others)
        result = function(*(next(own) if is_parameter else next(rest) for is_parameter in differentiable))
        results = result if isinstance(result, (tuple, list)) else [result]
        return sum(((r * r).sum() for r in results if r.is_floating_point()), torch.zeros(()))

    return forward


def autograds(one: Sample, given: list[Tensor]) -> tuple[list[bool], list[Tensor]]:
    """Return which inputs are parameters (all, or the first where others have no gradient), loss and gradients."""
    floating = [x.is_floating_point() for x in given]
    first = [k == floating.index(True) for k in range(len(given))]
    for chosen in (floating, first):
        parameters = {f"p{k}": x.clone().requires_grad_() for k, x in enumerate(given) if chosen[k]}
        try:
            loss = loss_of(one, chosen)(parameters, *(x for k, x in enumerate(given) if not chosen[k]))
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        except RuntimeError:
            continue
        zeros = (torch.zeros_like(x) for x in parameters.values())
        return chosen, [loss.detach(), *(z if g is None else g for g, z in zip(found, zeros, strict=True))]
    raise AssertionError(f"autograd computes no gradient of {one.text}")


def assert_close(found: list[Numbers], right: list[Any], what: str, close: float) -> None:
    assert len(found) == len(right)
    for k, (numbers, wanted) in enumerate(zip(found, map(np.asarray, right), strict=True)):
        scale = float(np.abs(wanted).max()) if wanted.size and np.isfinite(wanted).all() else 1.0
        np.testing.assert_allclose(numbers, wanted, rtol=close, atol=close * max(scale, 1e-3), err_msg=f"{what}, {k}")


def is_known(message: str) -> bool:
    """Whether it is known that there is no native form."""
    missing = re.search(r"aten\.(\w+)\S* has no native form", message)
    return missing[1] in WITHOUT_A_FORM if missing else any(why in message for why in REFUSED)


def check(one: Sample) -> str:
    """Compare a sample's three ways; return how it went: equal, or why it is not compiled."""
    given = inputs_of(one, 0)
    if not all(isinstance(x, Tensor) for x in given) or not any(x.is_floating_point() for x in given):
        return "no tensors"
    chosen, right = autograds(one, given)
    parameters = {f"p{k}": x.detach() for k, x in enumerate(given) if chosen[k]}
    others = [x for k, x in enumerate(given) if not chosen[k]]
    try:
        both = flat(loss_of(one, chosen), None, Parameters(parameters), others)
        lowered = Lowered(both, *parameters.values(), *others)
    except NoLoweringError as error:
        return "no form" if is_known(error.message) else f"no form: {error}"
    except (DeriveError, NotVerifiedError, CompileError):
        return "not derived"
    close = next((loose for name, loose in LOOSE.items() if name in one.text), CLOSE)
    in_numpy = lowered.by_numpy()
    assert_close(in_numpy, right, f"{one.text} in NumPy", close)
    assert_close(lowered.by_machine_code(), in_numpy, f"{one.text} as machine code", CLOSE)
    return "equal"


@pytest.mark.parametrize("group", range(GROUPS))
def test_the_samples_of_every_rule_are_autograds_in_numpy_and_as_machine_code(group: int) -> None:
    samples = SAMPLES[group::GROUPS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        went = [check(one) for one in samples]
    assert set(went) <= {"equal", "no form", "not derived", "no tensors"}, went
    assert went.count("equal") >= 0.7 * len(samples), went


@pytest.mark.parametrize("name", MODELS)
def test_the_models_by_hand_are_the_same_in_numpy_and_as_machine_code(name: str) -> None:
    c = case(name, dtype=torch.float64)
    parameters = Parameters(c.parameters)
    both = flat(c.model.forward, c.model.backward, parameters, (c.X, c.Y))

    lowered = Lowered(both, *parameters.tensors, c.X, c.Y)

    right = both(*parameters.tensors, c.X, c.Y)
    in_numpy = lowered.by_numpy()
    assert_close(in_numpy, list(right), "in NumPy", 1e-9)
    assert_close(lowered.by_machine_code(), in_numpy, "as machine code", 1e-9)


def test_a_place_outside_of_an_array_is_found() -> None:
    source, target = Array((4,), name="source"), Array((4,), name="target")
    (at,) = variables_of((4,))
    shifted = Map(target, (at,), load(source, (at + Index.of(1),)), domain_of((4,)))

    with pytest.raises(IndexError, match=r"source: 1\.\.4 in dimension 0, which has 4"):
        reference.run([Nest(shifted.domain, [shifted])], {source: np.zeros(4)})


def test_a_wrong_lowering_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from handgrad.native.table import LOWERINGS

    sample = next(one for one in SAMPLES if one.text == "torch.tanh(x)" or one.text == "x.tanh()")
    assert check(sample) == "equal"
    monkeypatch.setitem(LOWERINGS, "tanh", LOWERINGS["sigmoid"])
    with pytest.raises(AssertionError, match="in NumPy"):
        check(sample)
