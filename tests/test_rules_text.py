"""Rules of shapes, indices and products print what a person would write."""

from __future__ import annotations

import pytest

from handgrad.deriver.proving import check_sample
from handgrad.errors import DeriveError
from handgrad.rules import makers, sample
from handgrad.rules.table import Sample

TEXTS = [
    (sample("x.permute(2, 0, 1)", x=(3, 5, 2)), ["dx = dout.permute(1, 2, 0)"]),
    (sample("x.permute(0, 2, 1)", x=(3, 5, 2)), ["dx = dout.transpose(-2, -1)"]),
    (sample("x.permute(2, 0, 1).sum()", x=(3, 5, 2)), ["dx = torch.ones_like(x)"]),
    (sample("torch.cat([a, b], 1)", a=(3, 2), b=(3, 5)), ["da = dout[:, :a.shape[1]]", "db = dout[:, a.shape[1]:]"]),
    (sample("torch.stack([a, b], 1)", a=(3, 2), b=(3, 2)), ["da = dout[:, 0]", "db = dout[:, 1]"]),
    (sample("torch.cat(x.split([1, 4], 1)[::-1], 1)", x=(3, 5)), ["dx = torch.cat([dout[:, 4:], dout[:, :4]], 1)"]),
    (sample("x.roll(2, 1)", x=(3, 5)), ["dx = dout.roll(-2, 1)"]),
    (sample("F.pad(x, (1, 2))", x=(3, 5)), ["dx = dout[:, 1:-2]"]),
    (sample("x[i]", x=(4, 5), i=makers.integers(7, high=4)),
     ["dx = torch.zeros_like(x)", "dx.index_put_((i,), dout, accumulate=True)"]),
    (sample("x[:, i]", x=(4, 5), i=makers.integers(7, high=5)),
     ["dx = torch.zeros_like(x)", "dx.index_add_(1, i, dout)"]),
    (sample("x[[2, 0]]", x=(4, 5)), ["dx = torch.zeros_like(x)", "dx[[2, 0]] = dout"]),
    (sample("x.gather(1, i)", x=(4, 5), i=makers.integers(4, 2, high=5)),
     ["dx = torch.zeros_like(x).scatter_add(1, i, dout)"]),
    (sample("F.linear(x, W, b)", x=(3, 5), W=(2, 5), b=(2,)), ["dx = dout @ W", "dW = dout.T @ x", "db = dout.sum(0)"]),
    (sample("torch.einsum('bij,bjk->bik', a, b)", a=(4, 3, 5), b=(4, 5, 2)),
     ["da = torch.einsum('bik,bjk->bij', dout, b)", "db = torch.einsum('bik,bij->bjk', dout, a)"]),
    (sample("F.conv2d(x, W, b, padding=1)", x=(2, 3, 5, 6), W=(4, 3, 3, 3), b=(4,)),
     ["dx = F.conv_transpose2d(dout, W, padding=1)", "dW = torch.nn.grad.conv2d_weight(x, W.shape, dout, padding=1)",
      "db = dout.sum((0, 2, 3))"]),
]  # fmt: skip


@pytest.mark.parametrize(("one", "lines"), TEXTS, ids=[one.text for one, _ in TEXTS])
def test_a_rule_prints_what_a_person_would_write(one: Sample, lines: list[str]) -> None:
    source = str(check_sample(one))

    assert [row.split("  # ")[0] for row in source.splitlines() if row and not row.startswith("#")] == lines


REFUSED = [
    (sample("F.pad(x, (1, 1, 1, 1), mode='reflect')", x=(2, 3, 5, 4)), "pad one after the other"),
    (
        sample("x.scatter(1, i, v, reduce='multiply')", x=(3, 5), i=makers.integers(3, 2, high=5), v=(3, 2)),
        "scatter with",
    ),
    (
        sample("F.embedding(i, C, scale_grad_by_freq=True)", C=(5, 2), i=makers.integers(7, high=5)),
        "scale_grad_by_freq",
    ),
    (sample("F.avg_pool1d(x, 3, padding=1, count_include_pad=False)", x=(2, 3, 6)), "pad first, and pool what is full"),
    (sample("F.interpolate(x, scale_factor=2, mode='linear')", x=(2, 3, 5)), "other than nearest"),
    (sample("torch.kron(a, b)", a=(3,), b=(2, 2)), "unsqueeze one"),
]


@pytest.mark.parametrize(("one", "why"), REFUSED, ids=[one.text for one, _ in REFUSED])
@pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter")
def test_what_a_rule_does_not_know_is_refused_with_what_to_do(one: Sample, why: str) -> None:
    with pytest.raises(DeriveError, match=why):
        check_sample(one)
