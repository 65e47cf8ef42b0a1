"""A forward of which a part is computed where the trace cannot see it: its gradients are not judged by half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from handgrad import derive, source
from handgrad.checker.judging import judge
from handgrad.errors import DeriveError
from handgrad.report import Gradient
from handgrad.tracer import Tracer, trace

BEFORE = """\
import torch
torch.manual_seed(0)
x, w, b = torch.randn(4, 3), torch.randn(3, 5, requires_grad=True), torch.randn(5, requires_grad=True)
"""
FUNCTION = """\
class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x)
        return x @ w

    @staticmethod
    def backward(ctx, dy):
        return None, ctx.saved_tensors[0].T @ dy
"""
TRACED = "product = torch.jit.trace(lambda x, w: x @ w, (x, w), check_trace=False)\n"
BACKWARD = """\
z = h * b
loss = z.sum()
dz = torch.ones_like(z)
dh = dz * b
dw = x.T @ dh
db = (dz * h).sum(0)
"""


def judged(text: str, before: str = BEFORE) -> dict[str, Gradient]:
    """Run ``before`` unseen and ``text`` under the tracer, and judge it."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(before, names)  # noqa: S102  (a text of ours)
    path = str(Path(__file__).with_name("out_of_sight.py"))
    source.register(path, text)
    with Tracer() as tracer:
        exec(compile(text, path, "exec"), names)  # noqa: S102
    return {gradient.name: gradient for gradient in judge(tracer.recording, tracer.backward_calls).gradients}


def verdicts(found: dict[str, Gradient]) -> dict[str, str]:
    return {name: gradient.verdict for name, gradient in found.items()}


UNKNOWN = {"dz": "right", "dh": "right", "dw": "unverified", "db": "right"}


def test_a_forward_that_is_seen_is_judged() -> None:
    assert verdicts(judged("h = x @ w\n" + BACKWARD)) == dict.fromkeys(UNKNOWN, "right")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("before", "text"),
    [
        (BEFORE + "h = x @ w\n", BACKWARD + "dx = dh @ w.T\n"),
        (BEFORE + TRACED, "h = product(x, w)\n" + BACKWARD),
        (BEFORE + FUNCTION, "h = Product.apply(x, w)\n" + BACKWARD),
        (BEFORE, FUNCTION + "h = Product.apply(x, w)\n" + BACKWARD),
    ],
    ids=["before the trace", "scripted", "Function", "Function in the file"],
)
def test_what_lies_before_the_unseen_part_is_unverified_and_the_rest_is_judged(before: str, text: str) -> None:
    found = judged(text, before)

    assert verdicts(found) == UNKNOWN
    line = text[: text.index("h = product" if "product" in text else "h = Prod" if "Prod" in text else "z =")].count(
        "\n"
    )
    assert found["dw"].note == (
        f"`h` (out_of_sight.py:{line + 1}) was computed out of sight, by a custom Function, by compiled or scripted "
        "code, or before the trace began: what of it is due to w is not known"
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_mistake_after_the_unseen_part_is_still_found() -> None:
    wrong = BACKWARD.replace("dh = dz * b", "dh = dz + b")

    found = judged("h = product(x, w)\n" + wrong, BEFORE + TRACED)

    assert verdicts(found) == UNKNOWN | {"dh": "wrong"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_one_way_in_sight_does_not_make_the_other_right() -> None:
    text = "h = product(x, w)\nz = h * b + x @ w\nloss = z.sum()\ndz = torch.ones_like(z)\ndw = x.T @ dz\n"

    found = judged(text, BEFORE + TRACED)

    assert verdicts(found) == {"dz": "right", "dw": "unverified", "db": "missing"}
    assert found["dw"].maxdiff is None


def test_a_parameter_that_the_unseen_part_does_not_use_is_judged() -> None:
    text = "z = h * b\nloss = z.sum()\ndz = torch.ones_like(z)\nv = b * 2\ndb = (dz * h).sum(0)\n"

    assert verdicts(judged(text, BEFORE + "h = x @ w\n")) == {"dz": "right", "db": "right"}


def test_views_that_begin_to_need_a_gradient_are_in_sight() -> None:
    text = """\
a = torch.zeros(4, 5)
first, second = a[0], a[1]
second += b
z = first * 2 + second * 3
loss = z.sum()
dz = torch.ones_like(z)
db = 3 * dz
"""

    assert verdicts(judged(text)) == {"dz": "right", "db": "right"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_derive_says_what_it_cannot_see() -> None:
    w = torch.randn(3, 5, requires_grad=True)
    product = torch.jit.trace(lambda x, w: x @ w, (torch.ones(4, 3), w), check_trace=False)

    def forward(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        h = product(x, w)
        return (h**2).sum()

    graph = trace(forward, torch.ones(4, 3), w)

    assert graph["h"].made_elsewhere
    assert graph["h"].behind == [graph["w"]]
    with pytest.raises(DeriveError, match=r"`h` \(test_out_of_sight\.py:\d+\)"):
        derive(forward, torch.ones(4, 3), w)


def test_derive_asks_nothing_of_where_an_argument_comes_from() -> None:
    w = torch.randn(3, 5, requires_grad=True) * 0.1

    def forward(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        h = x @ w
        return (h**2).sum()

    assert "dw = x.T @ dh" in str(derive(forward, torch.ones(4, 3), w))


def test_what_autograd_made_for_a_penalty_is_unseen() -> None:
    text = """\
h = x @ w
energy = (h**3).sum()
(slope,) = torch.autograd.grad(energy, w, create_graph=True)
loss = (slope**2).sum()
dslope = 2 * slope
dw = x.T @ (3 * h**2)
"""

    assert verdicts(judged(text)) == {"dslope": "right", "dw": "unverified"}


def test_an_intermediate_value_before_the_unseen_part_is_unverified() -> None:
    text = "a = w * 2\nh = Product.apply(x, a)\nloss = (h * b).sum()\ndh = b.expand(4, 5)\nda = x.T @ dh\ndw = 2 * da\n"

    found = judged(text, BEFORE + FUNCTION)

    assert verdicts(found) == {"dh": "right", "da": "unverified", "dw": "unverified", "db": "missing"}


def test_a_function_that_returns_a_view_or_changes_its_argument_is_unseen() -> None:
    before = """
class View(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, dy):
        return -dy


class Halve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(0.5)

    @staticmethod
    def backward(ctx, dy):
        return dy / 2
"""
    text = "h = {}\nloss = (h * b).sum()\ndh = b.expand(3, 5)\ndw = -dh\ndb = h.sum(0)\n"
    expected = {"dh": "right", "dw": "unverified", "db": "right"}

    for made in ("View.apply(w)", "Halve.apply(w * 1)"):
        assert verdicts(judged(text.format(made), BEFORE + before)) == expected
