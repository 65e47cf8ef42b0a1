"""Comparing gradients: each check stands beside the mistake that it must find."""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import handgrad
from handgrad.checker import Comparison, compare, compare_pass
from handgrad.diagnosis.shape import sum_back
from handgrad.errors import NotComparableError
from handgrad.models.mlp import atomic, fast
from handgrad.passes import autograd_gradients
from pairs import fixed_pair_input, random_pair_input, with_line_changed


def leaf(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, requires_grad=True)


def after_backward(x: Tensor) -> Tensor:
    (x**2).sum().backward()
    return x


# cmp: the drop-in


def test_cmp_prints_the_row_of_the_notebooks_with_shape_and_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    logprobs = after_backward(leaf([1.0, 2.0]))

    handgrad.cmp("logprobs", 2 * logprobs.detach(), logprobs)

    expected = (
        "logprobs        | exact: True  | approximate: True  | maxdiff: 0.0                    | (1, 2)       | right\n"
    )
    assert capsys.readouterr().out == expected


def test_cmp_returns_what_it_found() -> None:
    x = after_backward(leaf([1.0, 2.0]))

    comparison = handgrad.cmp("x", 2 * x.detach(), x)

    assert (comparison.verdict, comparison.bits, comparison.shape) == ("right", "exact", (1, 2))


def test_cmp_flags_a_gradient_of_shape_64_for_a_value_of_shape_1_64() -> None:
    bnmeani = after_backward(torch.linspace(-1, 1, 64)[None].requires_grad_())
    dbnmeani = 2 * bnmeani.detach()[0]
    assert torch.all(dbnmeani == bnmeani.grad).item()  # what the notebooks' own cmp asks

    comparison = handgrad.cmp("dbnmeani", dbnmeani, bnmeani)

    assert comparison.verdict == "wrong"
    assert not comparison.exact
    assert comparison.mistakes[0].code == "HG202"
    assert comparison.mistakes[0].message == (
        "its gradient has shape (64,) and bnmeani has shape (1, 64): `keepdim=True` in a sum keeps the dimension"
    )


def test_cmp_names_the_missing_sum_where_a_value_was_broadcast() -> None:
    counts_sum_inv = torch.rand(32, 1, requires_grad=True)
    counts = torch.rand(32, 27)
    (counts * counts_sum_inv).sum().backward()

    comparison = handgrad.cmp("counts_sum_inv", counts, counts_sum_inv)

    assert comparison.mistakes == (
        (
            "missing-sum",
            "counts_sum_inv (32, 1) was broadcast over dim 1, so its gradient needs `.sum(1, keepdim=True)`",
            None,
        ),
    )
    assert comparison.to_dict()["mistakes"][0]["code"] == "HG201"


def test_cmp_calls_an_unfinished_line_missing_and_not_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    x = after_backward(leaf([1.0]))

    comparison = handgrad.cmp("x", None, x)

    assert comparison.verdict == "missing"
    assert capsys.readouterr().out.rstrip().endswith("missing: dx is None: not written yet")


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (leaf([1.0]) * 2, "call `y.retain_grad()` before `loss.backward()`"),
        (leaf([1.0]), "call `loss.backward()` first"),
        (torch.ones(2), "set `y.requires_grad = True` before the forward"),
        (3.0, "the value is a float, not a tensor"),
    ],
)
def test_cmp_says_what_to_do_where_the_value_has_no_gradient(value: Tensor, advice: str) -> None:
    with pytest.raises(NotComparableError) as raised:
        handgrad.cmp("y", torch.ones(1, 1), value)

    assert advice in str(raised.value)


# compare: shape, dtype, values


@given(st.sampled_from([(3,), (1, 3), (3, 1), (2, 3), (1,), (), (2, 1, 3)]), st.sampled_from([(2, 3), (1, 3), (3,)]))
def test_only_the_same_shape_is_ever_right(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    comparison = compare("x", torch.zeros(shape), torch.zeros(expected))

    assert bool(comparison) == (shape == expected)
    assert comparison.exact == (shape == expected)


@pytest.mark.parametrize(
    ("shape", "expected", "message"),
    [
        ((5, 3), (3,), "x (3,) was broadcast over dim 0, so its gradient needs `.sum(0)`"),
        (
            (2, 5, 3),
            (1, 1, 3),
            "x (1, 1, 3) was broadcast over dims 0, 1, so its gradient needs `.sum((0, 1), keepdim=True)`",
        ),
        ((5, 3), (1,), "x (1,) was broadcast over dims 0, 1, so its gradient needs `.sum(0).sum(0, keepdim=True)`"),
        ((5, 3), (), "x () was broadcast over dims 0, 1, so its gradient needs `.sum((0, 1))`"),
        ((3,), (5, 3), "its gradient has shape (3,) and x has shape (5, 3): a gradient has the shape of its value"),
        ((3, 5), (5, 3), "its gradient has shape (3, 5) and x has shape (5, 3): a gradient has the shape of its value"),
    ],
)
def test_a_wrong_shape_is_explained(shape: tuple[int, ...], expected: tuple[int, ...], message: str) -> None:
    assert [m.message for m in compare("x", torch.zeros(shape), torch.zeros(expected)).mistakes] == [message]


@given(st.lists(st.integers(1, 4), max_size=4), st.data())
def test_the_advised_sums_give_back_the_shape_when_they_are_executed(into: list[int], data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.booleans(), min_size=len(into), max_size=len(into)))
    drop = data.draw(st.integers(0, len(into)))
    shape = tuple(size if keep else 1 for size, keep in zip(into, kept, strict=True))[drop:]
    gradient = torch.zeros(into)

    summed = eval("gradient" + sum_back(shape, tuple(into)), {"gradient": gradient})  # noqa: S307

    assert summed.shape == shape


@pytest.mark.parametrize(
    ("shape", "expected", "advice"),
    [
        ((64,), (1, 64), "`keepdim=True` in a sum keeps the dimension"),
        ((), (1,), "`.sum(0)` keeps the dimension, `.sum()` does not"),
        ((), (1, 1), "`keepdim=True` in a sum keeps the dimension"),
        ((1, 27), (27,), "a sum without `keepdim=True` drops the dimension"),
        ((1, 32, 5), (32, 1, 5), "`.view(x.shape)` gives it back"),
    ],
)
def test_a_shape_that_differs_in_ones_gets_fitting_advice(
    shape: tuple[int, ...], expected: tuple[int, ...], advice: str
) -> None:
    (mistake,) = compare("x", torch.zeros(shape), torch.zeros(expected)).mistakes

    assert mistake.message == f"its gradient has shape {shape} and x has shape {expected}: {advice}"


def test_another_dtype_is_wrong() -> None:
    comparison = compare("x", torch.zeros(2, dtype=torch.float64), torch.zeros(2))

    assert [m.kind for m in comparison.mistakes] == ["dtype"]


def test_nan_is_wrong_and_counted() -> None:
    comparison = compare("x", torch.tensor([1.0, float("nan")]), torch.ones(2))

    assert comparison.verdict == "wrong"
    assert comparison.mistakes[0].message == "1 of 2 entries are NaN or infinite"


def test_nan_on_autograds_side_is_unverified() -> None:
    comparison = compare("x", torch.ones(1), torch.tensor([float("nan")]))

    assert comparison.verdict == "unverified"
    assert "there is nothing to compare with" in str(comparison.note)


def test_a_zero_gradient_does_not_pass_for_a_tiny_one() -> None:
    tiny = torch.full((3,), 1e-9)
    assert torch.allclose(torch.zeros(3), tiny)  # the trap: the default atol is larger than the gradient

    assert not compare("x", torch.zeros(3), tiny)


def test_two_tensors_alone_leave_the_middle_ground_unverified() -> None:
    autograd = torch.ones(3)

    verdicts = [compare("x", autograd * (1 + d), autograd).verdict for d in (1e-7, 9e-6, 1e-2)]

    assert verdicts == ["right", "unverified", "wrong"]


@pytest.mark.parametrize(
    ("dtype", "factor"), [(torch.bfloat16, 1.1), (torch.float16, 33 / 32), (torch.float32, 1 + 1e-5)]
)
def test_two_tensors_of_low_precision_are_never_called_right_by_size(dtype: torch.dtype, factor: float) -> None:
    autograd = torch.ones(3, dtype=dtype)

    assert not compare("x", autograd * factor, autograd)


def test_a_small_entry_of_the_wrong_sign_is_not_right() -> None:
    assert not compare("x", torch.tensor([1, -1e-6, -1e-6]), torch.tensor([1, 1e-6, 1e-6]))


@pytest.mark.parametrize("scale", [1.0, 32.0, 1000.0])
def test_cmp_calls_no_right_gradient_wrong_however_the_loss_is_scaled(
    scale: float, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters, Xb, Yb = fixed_pair_input()
    leaves = type(parameters)(*(p.requires_grad_() for p in parameters))
    values = atomic.forward(leaves, Xb, Yb)
    for value in values:
        value.retain_grad()
    (scale * values.loss).backward()
    with torch.no_grad():
        gradients = atomic.backward(leaves, values, Xb, Yb)._asdict()

    tensors = values._asdict() | leaves._asdict()
    verdicts = {k: handgrad.cmp(k, scale * g, tensors[k[1:]]).verdict for k, g in gradients.items()}

    assert "wrong" not in verdicts.values()
    assert {k for k, verdict in verdicts.items() if verdict != "right"} <= {"dlogit_maxes", "db1"}


def test_a_label_is_the_name_of_the_value_or_of_its_gradient(capsys: pytest.CaptureFixture[str]) -> None:
    data = after_backward(leaf([1.0]))
    x = after_backward(leaf([1.0]))

    dy = torch.ones(1, 1)

    assert handgrad.cmp("data", None, data).name == "data"
    assert handgrad.cmp("dx", None, x).name == "x"
    assert handgrad.cmp("dy", dy, x).name == "y"
    assert handgrad.cmp("other", dy, x).name == "other"
    assert "\ndx              | exact" in capsys.readouterr().out


def test_empty_gradients_are_compared_by_shape() -> None:
    assert compare("x", torch.zeros(0, 3), torch.zeros(0, 3))
    assert not compare("x", torch.zeros(3, 0), torch.zeros(0, 3))


def test_complex_gradients_are_compared_with_both_parts() -> None:
    z = torch.tensor([1 + 2j])

    assert compare("z", z, z)
    assert not compare("z", z.conj().resolve_conj(), z)


def test_sparse_gradients_are_compared_as_dense_ones() -> None:
    dense = torch.eye(3)

    assert compare("C", dense, dense.to_sparse())
    assert not compare("C", 2 * dense, dense.to_sparse())


def test_something_that_is_no_tensor_cannot_be_compared() -> None:
    with pytest.raises(NotComparableError, match="dx is a list, not a tensor"):
        compare("x", [1.0], torch.ones(1))  # type: ignore[arg-type]


def test_a_comparison_is_true_only_if_right() -> None:
    for verdict, truth in (("right", True), ("wrong", False), ("missing", False), ("unverified", False)):
        assert bool(Comparison("x", (1,), (1,), verdict)) is truth  # type: ignore[arg-type]


def test_json_holds_no_nan() -> None:
    found = compare("x", torch.tensor([float("nan")]), torch.ones(1)).to_dict()

    assert found["maxdiff"] == "nan"


# compare_pass: rounding or mistake, told apart by precision


@given(random_pair_input())
def test_the_plain_spelling_differs_by_rounding_only(pair_input: tuple[object, Tensor, Tensor]) -> None:
    comparisons = compare_pass(atomic.forward, atomic.backward, *pair_input)

    assert [c.name for c in comparisons if not c] == []


@given(random_pair_input())
def test_the_closed_forms_differ_by_rounding_only(pair_input: tuple[object, Tensor, Tensor]) -> None:
    comparisons = compare_pass(fast.forward, fast.backward, *pair_input)

    assert [c.name for c in comparisons if not c] == []


MISTAKES = [
    ("-1.0 / n", "-1.0 / (n + 1)", "logprobs"),
    ("-(counts_sum**-2)", "(counts_sum**-2)", "counts_sum"),
    ("dcounts += torch.ones_like(counts) * dcounts_sum", "dcounts += 0 * dcounts_sum", "counts"),
    ("h.T @ dlogits", "h.T @ (dlogits * 1.00001)", "W2"),
    ("(1.0 - h**2) * dh", "(1.0 - h) * dh", "hpreact"),
    ("** -1.5", "** -0.5", "bnvar"),
    ("(bnvar + 1e-5) ** -1.5", "(bnvar + 1e-4) ** -1.5", "bnvar"),
    ("1.0 / (n - 1) * torch.ones_like(bndiff2)", "1.0 / n * torch.ones_like(bndiff2)", "bndiff2"),
    ("dbndiff += 2.0 * bndiff", "dbndiff += bndiff", "bndiff"),
    ("1.0 / n * (torch.ones_like(hprebn) * dbnmeani)", "dbnmeani", "hprebn"),
    (".index_add_(0, Xb.flatten(), demb.flatten(0, 1))", ".index_copy_(0, Xb.flatten(), demb.flatten(0, 1))", "C"),
]


@pytest.mark.parametrize(("line", "changed", "row"), MISTAKES, ids=[m[2] + ": " + m[1] for m in MISTAKES])
def test_a_planted_mistake_turns_its_row_red(line: str, changed: str, row: str) -> None:
    backward = with_line_changed(atomic.backward, line, changed)

    comparisons = compare_pass(atomic.forward, backward, *fixed_pair_input())

    assert row in [c.name for c in comparisons if c.verdict == "wrong"]


def test_a_mistake_of_a_hundred_thousandth_is_found_where_allclose_passes_it() -> None:
    backward = with_line_changed(atomic.backward, "h.T @ dlogits", "h.T @ dlogits * (1 + 9e-6)")

    dW2 = next(c for c in compare_pass(atomic.forward, backward, *fixed_pair_input()) if c.name == "W2")

    assert dW2.approximate
    assert dW2.verdict == "wrong"


def test_the_float64_errors_of_both_sides_are_reported() -> None:
    dh = compare_pass(fast.forward, fast.backward, *fixed_pair_input())[1]

    assert dh.name == "h"
    assert 0 < dh.error < 1e-6
    assert 0 < dh.autograd_error < 1e-6


def test_bfloat16_rounds_too() -> None:
    parameters, Xb, Yb = fixed_pair_input()
    halves = type(parameters)(*(p.bfloat16() for p in parameters))

    comparisons = compare_pass(fast.forward, fast.backward, halves, Xb, Yb)

    assert [c.name for c in comparisons if not c] == []


@pytest.mark.parametrize("pair", [atomic, fast], ids=["atomic", "fast"])
def test_float64_passes_are_decided_by_a_float32_run(pair: ModuleType) -> None:
    parameters, Xb, Yb = fixed_pair_input()
    doubles = type(parameters)(*(p.double() for p in parameters))
    mistaken = with_line_changed(pair.backward, "h.T @ dlogits", "h.T @ dlogits * (1 + 1e-6)")

    right = compare_pass(pair.forward, pair.backward, doubles, Xb, Yb)
    wrong = compare_pass(pair.forward, mistaken, doubles, Xb, Yb)

    assert [c.name for c in right if not c] == []
    assert [c.name for c in wrong if not c] == ["W2"]


GRADIENTS = atomic.Gradients._fields
ZERO_IN_TRUTH = ("dlogit_maxes", "db1")


@pytest.mark.parametrize("factor", [1.001, -1.0, 0.0])
@pytest.mark.parametrize("name", GRADIENTS)
def test_every_gradient_that_is_scaled_is_found_but_those_that_are_zero_in_truth(name: str, factor: float) -> None:
    def backward(*arguments: object) -> atomic.Gradients:
        right = atomic.backward(*arguments)  # type: ignore[arg-type]
        return right._replace(**{name: factor * getattr(right, name)})

    comparisons = compare_pass(atomic.forward, backward, *fixed_pair_input())

    assert [f"d{c.name}" for c in comparisons if not c] == [name] * (name not in ZERO_IN_TRUTH)


def test_a_gradient_that_is_zero_in_truth_must_be_zero() -> None:
    backward = with_line_changed(atomic.backward, "db1 = dhprebn.sum(0)", "db1 = dhprebn.abs().sum(0)")

    assert [c.name for c in compare_pass(atomic.forward, backward, *fixed_pair_input()) if not c] == ["b1"]


class P(NamedTuple):
    x: Tensor


class V(NamedTuple):
    loss: Tensor


class G(NamedTuple):
    dx: Tensor


X = P(torch.linspace(0.3, 1.9, 7))


def mean_of_cubes(parameters: P) -> V:
    return V((parameters.x**3).mean())


def test_a_form_that_loses_digits_is_right_and_noted() -> None:
    def backward(parameters: P, _values: V) -> G:
        x_and_more = parameters.x**2 + 1e5
        return G((x_and_more - 1e5) * 3 / 7)

    (dx,) = compare_pass(mean_of_cubes, backward, X)

    assert dx.verdict == "right"
    assert "it loses digits: its error is" in str(dx)


def test_a_constant_with_few_digits_is_right_as_far_as_float32_goes_and_noted() -> None:
    def eleven_digits(parameters: P, _values: V) -> G:
        return G(parameters.x**2 * (3 * 0.14285714286))

    def five_digits(parameters: P, _values: V) -> G:
        return G(parameters.x**2 * (3 * 0.14286))

    (right,) = compare_pass(mean_of_cubes, eleven_digits, X)
    (wrong,) = compare_pass(mean_of_cubes, five_digits, X)

    assert right.verdict == "right"
    assert right.exact or "remains in float64: a constant with few digits?" in str(right)
    assert wrong.verdict == "wrong"


def test_a_backward_that_works_in_float32_only_is_not_called_wrong() -> None:
    def backward(parameters: P, _values: V) -> G:
        dx = torch.zeros(7)
        dx[:] = 3 * parameters.x * (parameters.x / 7) * (1 + 1e-5)
        return G(dx)

    (dx,) = compare_pass(mean_of_cubes, backward, X)

    assert dx.verdict == "unverified"
    assert dx.note == "dx is torch.float32 even when all it reads is float64: use `torch.zeros_like` and the like"


def test_a_forward_that_draws_anew_every_time_is_told() -> None:
    def forward(parameters: P) -> V:
        return V((parameters.x * torch.rand(7)).sum())

    with pytest.raises(NotComparableError, match=r"forward gave a loss of .*: draw random numbers once"):
        compare_pass(forward, lambda p, _: G(p.x), X)


def test_a_gradient_without_its_d_and_one_of_an_untracked_value_are_named() -> None:
    class Untracked(NamedTuple):
        m: Tensor
        loss: Tensor

    class Wrong(NamedTuple):
        x: Tensor

    class Dm(NamedTuple):
        dm: Tensor

    def forward(parameters: P) -> Untracked:
        return Untracked(parameters.x.max().detach(), parameters.x.sum())

    with pytest.raises(NotComparableError, match=r"backward returns x: call a gradient d \+ the name of its value"):
        compare_pass(forward, lambda p, _: Wrong(p.x), X)
    with pytest.raises(NotComparableError, match="no value or parameter called m that autograd tracks"):
        compare_pass(forward, lambda _, v: Dm(v.m), X)


@pytest.mark.parametrize(
    ("forward", "backward", "parameters", "message"),
    [
        (mean_of_cubes, lambda p, _: G(p.x), {"x": X.x}, "the parameters are a dict: make it a NamedTuple of tensors"),
        (mean_of_cubes, lambda p, _: {"dx": p.x}, X, "backward returns a dict: make it a NamedTuple of gradients"),
        (mean_of_cubes, lambda *_: None, X, "backward returns a NoneType: make it a NamedTuple of gradients"),
        (lambda p: p.x.sum(), lambda p, _: G(p.x), X, "forward returns a Tensor: make it a NamedTuple of values"),
        (mean_of_cubes, lambda p, _: G(p.x), P([1.0]), "the parameter x is a list, not a tensor"),
        (lambda p: V((p.x * float("nan")).sum()), lambda p, _: G(p.x), X, "the loss is nan"),
    ],
)
def test_what_is_no_named_tuple_of_tensors_is_told(
    forward: object, backward: object, parameters: object, message: str
) -> None:
    with pytest.raises(NotComparableError, match=message):
        compare_pass(forward, backward, parameters)  # type: ignore[arg-type]


def test_a_difference_from_zeros_is_wrong() -> None:
    assert compare("x", torch.full((3,), 5.0), torch.zeros(3)).verdict == "wrong"


def test_nan_in_low_precision_of_a_line_that_is_right_is_unverified() -> None:
    def backward(parameters: P, _values: V) -> G:
        huge = parameters.x * 1e30
        return G(3 / 7 * (huge * huge) / 1e60)

    (dx,) = compare_pass(mean_of_cubes, backward, X)

    def wrong(parameters: P, values: V) -> G:
        return G(2 * backward(parameters, values).dx)

    assert [c.verdict for c in compare_pass(mean_of_cubes, wrong, X)] == ["wrong"]
    assert dx.verdict == "unverified"
    assert dx.note == "right in float64; in torch.float32 7 entries are NaN or infinite"


def test_an_integer_parameter_is_told() -> None:
    with pytest.raises(NotComparableError, match=r"the parameter x is torch.int64, which has no gradient"):
        compare_pass(mean_of_cubes, lambda p, _: G(p.x), P(torch.arange(3)))


def test_compare_pass_changes_nothing_that_it_is_given() -> None:
    parameters, Xb, Yb = fixed_pair_input()
    before = [p.clone() for p in (*parameters, Xb, Yb)]

    compare_pass(fast.forward, fast.backward, parameters, Xb, Yb)

    assert all(map(torch.equal, (*parameters, Xb, Yb), before))
    assert not any(p.requires_grad for p in parameters)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"out": torch.ones(2)}, "forward returns no value called loss"),
        ({"loss": torch.ones(2, requires_grad=True)}, "forward returns a loss that is no scalar tensor"),
        ({"loss": 3.0}, "forward returns a loss that is no scalar tensor"),
        ({"loss": torch.ones(())}, "autograd does not track the loss: forward detaches it, or runs under `no_grad`"),
    ],
)
def test_a_forward_without_a_scalar_loss_is_told(values: dict[str, object], message: str) -> None:
    class Result:
        def _asdict(self) -> dict[str, object]:
            return values

    with pytest.raises(NotComparableError, match=message):
        autograd_gradients(lambda *_: Result(), *fixed_pair_input())


def test_values_that_are_no_tensors_are_passed_over() -> None:
    parameters, Xb, Yb = fixed_pair_input()

    class Result:
        def __init__(self, loss: Tensor) -> None:
            self.loss = loss

        def _asdict(self) -> dict[str, object]:
            return {"n": 33, "label": "a", "loss": self.loss}

    gradients = autograd_gradients(lambda p, X, Y: Result(atomic.forward(p, X, Y).loss), parameters, Xb, Yb)

    assert set(gradients) == {*parameters._fields, "loss"}


# the model itself


@given(random_pair_input(max_batch=100))
def test_the_exact_spelling_equals_autograd_bit_for_bit(pair_input: tuple[object, Tensor, Tensor]) -> None:
    comparisons = compare_pass(atomic.forward, partial(atomic.backward, spelling="exact"), *pair_input)

    assert len(comparisons) == 26
    assert [c.name for c in comparisons if not c.exact] == []
