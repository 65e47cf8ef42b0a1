"""Comparing gradients: each check stands beside the mistake that it must find."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import handgrad
from handgrad.checker import Comparison, autograd_gradients, broadcast_dims, compare, compare_pass
from handgrad.errors import NotComparableError
from handgrad.models.mlp import atomic, fast
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
            "HG201",
            "missing-sum",
            "counts_sum_inv (32, 1) was broadcast over dim 1, so its gradient needs `.sum(1, keepdim=True)`",
        ),
    )


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
        ((5, 3), (), "x () was broadcast over dims 0, 1, so its gradient needs `.sum((0, 1))`"),
        ((3,), (5, 3), "its gradient has shape (3,) and x has shape (5, 3): a gradient has the shape of its value"),
        ((3, 5), (5, 3), "its gradient has shape (3, 5) and x has shape (5, 3): a gradient has the shape of its value"),
    ],
)
def test_a_wrong_shape_is_explained(shape: tuple[int, ...], expected: tuple[int, ...], message: str) -> None:
    assert [m.message for m in compare("x", torch.zeros(shape), torch.zeros(expected)).mistakes] == [message]


@given(st.lists(st.integers(1, 4), max_size=4), st.data())
def test_summing_over_the_broadcast_dims_gives_back_the_shape(into: list[int], data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.booleans(), min_size=len(into), max_size=len(into)))
    drop = data.draw(st.integers(0, len(into)))
    shape = tuple(size if keep else 1 for size, keep in zip(into, kept, strict=True))[drop:]
    wide = tuple(into)

    dims = broadcast_dims(shape, wide)

    summed = torch.zeros(wide).sum(dims, keepdim=True) if dims else torch.zeros(wide)
    assert summed.reshape(shape).shape == shape


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
    assert "the forward has overflowed" in str(comparison.note)


def test_a_zero_gradient_does_not_pass_for_a_tiny_one() -> None:
    tiny = torch.full((3,), 1e-9)
    assert torch.allclose(torch.zeros(3), tiny)  # the trap: the default atol is larger than the gradient

    assert not compare("x", torch.zeros(3), tiny)


def test_two_tensors_alone_leave_the_middle_ground_unverified() -> None:
    autograd = torch.ones(3)

    verdicts = [compare("x", autograd * (1 + d), autograd).verdict for d in (1e-7, 9e-6, 1e-3)]

    assert verdicts == ["right", "unverified", "wrong"]


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


def test_float64_itself_is_compared_by_roundings() -> None:
    parameters, Xb, Yb = fixed_pair_input()
    doubles = type(parameters)(*(p.double() for p in parameters))

    wrong = compare_pass(
        atomic.forward, with_line_changed(atomic.backward, "h.T @ dlogits", "h.T @ dlogits * 1.0001"), doubles, Xb, Yb
    )

    assert [c.name for c in wrong if c.verdict == "wrong"] == ["W2"]


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
        ({"loss": torch.ones(2, requires_grad=True)}, r"forward returns a loss of shape \(2,\)"),
        ({"loss": torch.ones(())}, "forward returns a loss of another kind"),
        ({"loss": 3.0}, "forward returns a loss of another kind"),
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


def test_a_gradient_without_a_value_is_named() -> None:
    class Wrong(NamedTuple):
        dlogitz: Tensor

    with pytest.raises(NotComparableError, match="forward has no value or parameter called logitz"):
        compare_pass(atomic.forward, lambda _parameters, values, *_: Wrong(values.logits), *fixed_pair_input())


# the model itself


@given(random_pair_input(max_batch=100))
def test_the_exact_spelling_equals_autograd_bit_for_bit(pair_input: tuple[object, Tensor, Tensor]) -> None:
    comparisons = compare_pass(atomic.forward, partial(atomic.backward, spelling="exact"), *pair_input)

    assert len(comparisons) == 26
    assert [c.name for c in comparisons if not c.exact] == []
