"""Every rule of the table, on every sample that it declares."""

from __future__ import annotations

import pytest
import torch

from handgrad.deriver.proving import check_rule, check_sample
from handgrad.errors import NoRuleError, NotVerifiedError
from handgrad.expr import number
from handgrad.rules import CONSTANT, RULES, rule, sample, to
from handgrad.rules.table import Sample, plain

RULES_ONCE = list({id(entry): entry for entry in RULES.values()}.values())
SAMPLES = [(entry.ops[0], entry_sample) for entry in RULES_ONCE for entry_sample in entry.samples]


def test_the_table_has_the_operations_that_people_use() -> None:
    assert len(RULES) >= 90


def test_no_operation_has_a_rule_and_none() -> None:
    assert not set(RULES) & set(CONSTANT)


@pytest.mark.parametrize(("op", "one"), SAMPLES, ids=[f"{op}: {s.text}" for op, s in SAMPLES])
def test_a_sample_agrees_with_autograd_and_with_finite_differences(op: str, one: object) -> None:
    for seed in (0, 1):
        check_sample(one, seed=seed)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    "one",
    [
        sample("F.conv1d(x, W, padding='same')", x=(2, 3, 7), W=(4, 3, 4)),
        sample("F.conv2d(x, W, padding='same')", x=(2, 3, 4, 5), W=(2, 3, 2, 3)),
    ],
)
def test_a_border_that_is_larger_on_the_right_is_derived(one: Sample) -> None:
    assert check_sample(one).lines


@pytest.fixture
def broken_tanh() -> object:
    good = RULES["tanh"]

    @rule("tanh", samples=[sample("x.tanh()", x=(3, 5))])
    def tanh(g, y, x: Expr):  # type: ignore[no-untyped-def, name-defined]  # noqa: F821
        yield to(x, (1 - y) * g, "forgot the square")

    yield tanh
    RULES["tanh"] = good


def test_a_wrong_rule_is_found(broken_tanh: object) -> None:
    with pytest.raises(NotVerifiedError, match=r"rule tanh, `x.tanh\(\)`: dx differs from autograd's"):
        check_rule("tanh")


def test_a_rule_without_a_sample_is_not_entered() -> None:
    with pytest.raises(ValueError, match="give samples"):
        rule("nothing", samples=[])


def test_a_missing_rule_names_the_place_the_nearest_ones_and_what_to_do() -> None:
    from handgrad.deriver import derive

    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.special.erfcx(x).sum()

    with pytest.raises(NoRuleError) as caught:
        derive(forward, torch.randn(3, requires_grad=True))

    message = str(caught.value)
    assert "test_rules.py:" in message
    assert "no rule for `special_erfcx`" in message
    assert "@handgrad.rule(" in message


def test_spellings_of_an_operation_have_one_name() -> None:
    assert [plain(op) for op in ("__imul__", "mul_", "__rsub__", "__itruediv__", "__getitem__", "__invert__")] == [
        "mul", "mul", "rsub", "div", "getitem", "invert",
    ]  # fmt: skip


def test_a_users_rule_takes_five_lines() -> None:
    @rule("erf", samples=[sample("torch.erf(x)", x=(3, 4))])
    def erf(g, y, x: Expr):  # type: ignore[no-untyped-def, name-defined]  # noqa: F821
        slope = number(2 / torch.pi**0.5, "2 / math.pi**0.5") * (-(x**2)).pointwise("torch.exp")
        yield to(x, slope * g, "erf' = 2/sqrt(pi) * exp(-x**2)")

    assert check_rule("erf") == 1
