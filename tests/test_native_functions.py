"""The functions of native code over the whole range of their type: bounds in ulp, infinities, NaN, signs of zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from handgrad.native.llvm.functions import ULP
from native_code import natively

Numbers = np.ndarray[Any, Any]
WORDS: dict[Any, Any] = {np.float32: np.uint32, np.float64: np.uint64}


def numbers(real: Any, seed: int = 0) -> Numbers:
    """Return numbers of every size and sign, dense where functions bend, and all that is special."""
    random = np.random.default_rng(seed)
    info = np.finfo(real)
    bits = random.integers(0, np.iinfo(WORDS[real]).max, 1 << 16, WORDS[real], endpoint=True).view(real)
    special = [0.0, np.inf, np.nan, info.max, info.tiny, info.smallest_subnormal, info.eps, 1.0, 0.5, 2.0]
    near = np.concatenate([np.linspace(-20, 20, 1 << 16), np.linspace(-110, 110, 1 << 15), np.linspace(-1, 1, 1 << 14)])
    small = np.geomspace(1e-12, 1.0, 1 << 12)
    found = np.concatenate([bits, np.array(special, real), -np.array(special, real), near.astype(real)])
    return np.concatenate([found, small.astype(real), -small.astype(real), (1 + small).astype(real)])


def ulps(found: Numbers, truth: Numbers) -> Numbers:
    """Return how many steps of its type ``found`` is from ``truth``; those below the smallest normal number, too."""
    step = np.spacing(np.abs(truth.astype(found.dtype))).astype(np.longdouble)
    return np.abs(found.astype(np.longdouble) - truth.astype(np.longdouble)) / step


def assert_close(found: Numbers, truth: Numbers, bound: float, *given: Numbers) -> None:
    with np.errstate(all="ignore"):
        rounded = truth.astype(found.dtype)
        finite = np.isfinite(rounded) & np.isfinite(found)
        largest = np.finfo(found.dtype).max * (1 - 1e-6)
        beyond = ~finite & (np.abs(truth) > largest) & (np.abs(found) > largest)  # a step on either side of the end
        np.testing.assert_array_equal(np.isnan(found), np.isnan(rounded))
        agree = finite | beyond | np.isnan(found) | (found == rounded)
        assert agree.all(), f"infinite where it is not, or not where it is: {[x[~agree][:5] for x in given]}"
        error = np.where(finite, ulps(found, np.where(finite, truth, 0)), 0)
    worst = int(error.argmax())
    assert error[worst] <= bound, f"{error[worst]:.2f} ulp at {[x[worst] for x in given]}"
    exact = finite & (truth == 0)
    np.testing.assert_array_equal(np.signbit(found[exact]), np.signbit(rounded[exact]))


@pytest.mark.parametrize("real", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", [name for name in ULP if name != "pow"])
def test_a_function_is_within_its_bound_at_every_number(name: str, real: Any) -> None:
    x = numbers(real)

    def function(t: Tensor) -> list[Tensor]:
        return [getattr(torch, name)(t)]

    (found,) = natively(function, torch.from_numpy(x))

    with np.errstate(all="ignore"):
        truth = exact(name, x) if real == np.float64 else getattr(torch, name)(torch.from_numpy(x).double()).numpy()
    assert found.dtype == real
    assert_close(found, truth, ULP[name][real == np.float64], x)


def test_the_page_states_these_bounds() -> None:
    page = (Path(__file__).parent.parent / "docs/compile.md").read_text()

    for name, (single, double) in ULP.items():
        assert f"| `{name}` | {single} | {double} |" in page


def exact(name: str, x: Numbers) -> Numbers:
    """Return a function of float64 in NumPy's long double, or PyTorch's float64 where NumPy has none."""
    if np.finfo(np.longdouble).nmant <= 52 or name not in LONG:
        return np.asarray(getattr(torch, name)(torch.from_numpy(x)).numpy())
    return np.asarray(LONG[name](x.astype(np.longdouble)))


LONG: dict[str, Any] = {
    "exp": np.exp, "log": np.log, "tanh": np.tanh, "expm1": np.expm1, "log1p": np.log1p, "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x), "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "sin": np.sin, "cos": np.cos,
}  # fmt: skip


@pytest.mark.parametrize("real", [np.float32, np.float64], ids=["float32", "float64"])
def test_a_power_is_within_its_bound(real: Any) -> None:
    x = numbers(real)
    y = np.random.default_rng(1).permutation(numbers(real, 2))

    (found,) = natively(lambda t, u: [t**u], torch.from_numpy(x), torch.from_numpy(y))

    with np.errstate(all="ignore"):
        truth = np.power(x.astype(np.longdouble), y.astype(np.longdouble))
    assert_close(found, truth, ULP["pow"][real == np.float64], x, y)


def test_a_function_that_is_a_step_too_far_off_is_found() -> None:
    x = np.linspace(0.1, 1, 100, dtype=np.float32)
    right = np.exp(x.astype(np.float64))

    assert_close(right.astype(np.float32), right, 0.5, x)
    with pytest.raises(AssertionError, match="ulp at"):
        assert_close(np.nextafter(right.astype(np.float32), np.float32(9)), right, 0.5, x)
    with pytest.raises(AssertionError, match="infinite where it is not"):
        assert_close(np.full_like(x, np.inf), right, 1e9, x)
