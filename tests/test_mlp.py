"""The names model: parameters, the equivalence of its spellings, calibration, and the bigram baseline."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import Tensor

from handgrad.models import bigram
from handgrad.models.mlp import Parameters, atomic, batch_norm, cross_entropy, fast, inference, initialise
from pairs import fixed_pair_input, random_pair_input

THE_26 = (  # in the order of the exercise
    "dlogprobs dprobs dcounts_sum_inv dcounts_sum dcounts dnorm_logits dlogit_maxes dlogits dh dW2 db2 dhpreact "
    "dbngain dbnraw dbnbias dbndiff dbnvar_inv dbnvar dbndiff2 dhprebn dbnmeani dembcat dW1 db1 demb dC"
)


def assert_close(actual: Tensor, expected: Tensor, within: float) -> None:
    """Raise unless shapes agree and the largest difference is ``within`` times the largest entry."""
    assert actual.shape == expected.shape
    difference = (actual - expected).abs().max().item()
    assert difference <= within * expected.abs().max().item(), (actual, expected)


def to_float64(parameters: Parameters) -> Parameters:
    return Parameters(*(p.double() for p in parameters))


@pytest.mark.parametrize(("n_hidden", "size"), [(64, 4137), (200, 12297)])
def test_the_model_has_as_many_parameters_as_the_lecture_says(n_hidden: int, size: int) -> None:
    parameters = initialise(27, 3, 10, n_hidden, generator=torch.Generator().manual_seed(2147483647))

    assert sum(p.nelement() for p in parameters) == size


@pytest.mark.parametrize("seed", [2147483647, 456789096543])
def test_the_first_draws_are_those_of_the_lecture(seed: int) -> None:
    parameters = initialise(27, 3, 10, 64, generator=torch.Generator().manual_seed(seed))

    g = torch.Generator().manual_seed(seed)
    C = torch.randn((27, 10), generator=g)
    W1 = torch.randn((30, 64), generator=g) * (5 / 3) / (30**0.5)
    assert torch.equal(parameters.C, C)
    assert torch.equal(parameters.W1, W1)


def test_nothing_draws_from_the_global_generator() -> None:
    before = torch.get_rng_state()

    parameters, Xb, Yb = fixed_pair_input()
    fast.backward(parameters, fast.forward(parameters, Xb, Yb), Xb, Yb)

    assert torch.equal(torch.get_rng_state(), before)


def test_backward_writes_the_26_gradients_of_the_exercise_each_with_the_shape_of_its_value() -> None:
    parameters, Xb, Yb = fixed_pair_input()
    values = atomic.forward(parameters, Xb, Yb)

    gradients = atomic.backward(parameters, values, Xb, Yb)

    shapes = {f"d{name}": t.shape for name, t in (values._asdict() | parameters._asdict()).items()}
    assert " ".join(gradients._fields) == THE_26
    assert {name: g.shape for name, g in gradients._asdict().items()} == {name: shapes[name] for name in THE_26.split()}


@given(random_pair_input())
def test_the_fast_forward_computes_the_same_function(pair_input: tuple[Parameters, Tensor, Tensor]) -> None:
    parameters, Xb, Yb = pair_input
    parameters = to_float64(parameters)

    assert_close(fast.forward(parameters, Xb, Yb).loss, atomic.forward(parameters, Xb, Yb).loss, within=1e-12)


def test_the_closed_forms_equal_the_libraries_own_operations() -> None:
    parameters, Xb, Yb = fixed_pair_input()
    parameters = to_float64(parameters)
    values = atomic.forward(parameters, Xb, Yb)
    hprebn = values.hprebn.clone().requires_grad_()

    hpreact = F.batch_norm(hprebn, None, None, parameters.bngain[0], parameters.bnbias[0], training=True, eps=1e-5)

    n = len(Xb)
    ours = batch_norm.forward(hprebn, parameters.bngain, parameters.bnbias).hpreact.detach()
    assert_close(values.loss, cross_entropy.forward(values.logits, Yb), within=1e-12)
    assert not torch.allclose(ours, hpreact)  # the library divides by n, the exercise by n - 1
    shrunk = (ours - parameters.bnbias) * (n / (n - 1)) ** 0.5 + parameters.bnbias
    assert_close(shrunk, hpreact.detach(), within=1e-4)  # but for epsilon


def test_a_repeated_symbol_gathers_the_gradient_of_each_place() -> None:
    parameters, Xb, Yb = fixed_pair_input()
    Xb = Xb.clamp(min=3)
    Xb[::2, 0] = 2

    values = fast.forward(parameters, Xb, Yb)
    gradients = fast.backward(parameters, values, Xb, Yb)

    assert_close(gradients.dC[2], gradients.demb[::2, 0].sum(0), within=1e-5)
    assert gradients.dC[:2].abs().max() == 0  # these stand nowhere


def test_calibration_gives_mean_and_variance_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters, X, _ = fixed_pair_input()
    hprebn = (parameters.C[X].flatten(1) @ parameters.W1 + parameters.b1).double()
    monkeypatch.setattr(inference, "ROWS_AT_A_TIME", 7)

    bnmean, bnvar = inference.calibrate(parameters, X)

    assert_close(bnmean.double(), hprebn.mean(0, keepdim=True), within=1e-6)
    assert_close(bnvar.double(), hprebn.var(0, keepdim=True), within=1e-6)


def test_inference_on_the_minibatch_that_calibrated_it_gives_the_training_forward() -> None:
    parameters, X, Y = fixed_pair_input()
    parameters = to_float64(parameters)

    logits = inference.logits(parameters, inference.calibrate(parameters, X), X)

    assert_close(logits, fast.forward(parameters, X, Y).logits, within=1e-12)


def test_bigram_probabilities_are_counts_over_counts() -> None:
    X, Y = torch.tensor([[9, 0], [9, 0], [9, 0], [9, 1]]), torch.tensor([1, 1, 0, 1])

    logprobs = bigram.count(X, Y, 2, smoothing=0.5)

    assert_close(logprobs.exp(), torch.tensor([[1.5 / 4, 2.5 / 4], [0.5 / 2, 1.5 / 2]]).double(), within=1e-12)
    assert bigram.loss(logprobs, X[:1], Y[:1]) == pytest.approx(-logprobs[0, 1].item())
