"""Forwards that write in place: their backward is right, or refused with the place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handgrad.deriver import Backward, derive
from handgrad.errors import DeriveError


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def derived(forward: Callable[..., Tensor], *inputs: Any, same: Callable[..., Tensor] | None = None) -> Backward:
    """Derive ``forward``, run the lines below it, and compare the gradients of its inputs with autograd's.

    Autograd differentiates the function itself, or one that is the ``same`` where it refuses that.
    """
    backward = derive(forward, *inputs)
    space: dict[str, Any] = {"torch": torch, "F": F}
    names = forward.__code__.co_varnames[: forward.__code__.co_argcount]
    frames = locals_of(forward, inputs)
    space |= frames | dict(zip(names, inputs, strict=True))
    with torch.no_grad():
        exec(str(backward), space)  # noqa: S102 what a reader would run
    wanted = [(name, item) for name, item in zip(names, inputs, strict=True) if item.is_floating_point()]
    truth = torch.autograd.grad((same or forward)(*inputs), [item for _, item in wanted], allow_unused=True)
    for (name, _), expected in zip(wanted, truth, strict=True):
        if expected is not None:
            torch.testing.assert_close(space[f"d{name}"], expected, rtol=1e-9, atol=1e-9)
    return backward


def locals_of(forward: Callable[..., Tensor], inputs: Any) -> dict[str, Any]:
    """Return the names of ``forward`` as they are when it returns: what the code below it sees."""
    import sys

    seen: dict[str, Any] = {}

    def watch(frame: Any, event: str, _argument: Any) -> Any:
        if frame.f_code is forward.__code__:
            if event == "return":
                seen.update(frame.f_locals)
            return watch
        return None

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        forward(*inputs)
    finally:
        sys.settrace(before)
    return {name: item.detach() if isinstance(item, Tensor) else item for name, item in seen.items()}


def test_a_buffer_of_zeros_that_is_filled_in_a_loop_hands_its_parts_back() -> None:
    def forward(x: Tensor, W: Tensor) -> Tensor:
        out = torch.zeros(2, 4, 3, dtype=x.dtype)
        h = torch.zeros(2, 3, dtype=x.dtype)
        for t in range(4):
            h = torch.tanh(x[:, t] @ W + h)
            out[:, t] = h
        return (out**2).sum()

    backward = derived(forward, numbers(2, 4, 5), numbers(5, 3, seed=1))

    assert not re.search(r"\] = 0", str(backward))  # nothing is hidden, so nothing is taken out


def test_an_assignment_takes_the_gradient_of_what_it_overwrites() -> None:
    def forward(x: Tensor, v: Tensor) -> Tensor:
        y = x * 2
        y[:, 0] = v
        return (y**2).sum()

    backward = derived(forward, numbers(3, 4), numbers(3, seed=1))

    assert [line.code for line in backward["dy"]] == [["dy = dy_1.clone()", "dy[:, 0] = 0  # (3, 4)"]]
    assert [line.code for line in backward["dv"]] == [["dv = dy_1[:, 0]  # (3,)"]]


def test_adding_to_a_part_passes_the_whole_gradient_on() -> None:
    def forward(x: Tensor, c: Tensor) -> Tensor:
        y = x * 1.5
        y[1:] += c
        return (y**2).sum()

    backward = derived(forward, numbers(3, 4), numbers(4, seed=1))

    assert [line.code for line in backward["dy"]] == [["dy = dy_1  # (3, 4)"]]
    assert [line.code for line in backward["dc"]] == [["dc = dy_1[1:].sum(0)  # (4,)"]]


def test_scaling_a_part_scales_its_gradient_and_needs_what_was_there() -> None:
    def forward(x: Tensor, c: Tensor) -> Tensor:
        y = x.clone()
        y[1] += c
        y[2] *= c
        return (y**2).sum()

    backward = derived(forward, numbers(3, 4), numbers(4, seed=1))

    assert [line.code for line in backward["dy_1"]] == [["dy_1 = dy_2.clone()", "dy_1[2] = c * dy_2[2]  # (3, 4)"]]
    assert "dc = y[2] * dy_2[2]" in str(backward)


def test_a_running_sum_written_in_place_is_right() -> None:
    def forward(x: Tensor) -> Tensor:
        y = x.clone()
        for i in range(1, 4):
            y[i] += y[i - 1]
        return (y**3).sum()

    derived(forward, numbers(4, 3))


def test_rows_that_are_read_again_after_they_were_overwritten_are_right() -> None:
    def forward(x: Tensor) -> Tensor:
        y = x * x
        y[0] = y[1]
        y[1:3] = y[0:2].clone()
        return (y * x).sum()

    derived(forward, numbers(3, 4))


@pytest.mark.parametrize("seed", [0, 1])
def test_relu_in_place_is_told_by_its_output(seed: int) -> None:
    def forward(x: Tensor, W: Tensor) -> Tensor:
        h = x @ W
        h.relu_()
        return (h * h).sum()

    backward = derived(forward, numbers(3, 4, seed=seed), numbers(4, 2, seed=2))

    assert "dh = (h_1 > 0) * dh_1" in str(backward)


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.LeakyReLU(0.1, inplace=True)], ids=["relu", "leaky"])
def test_a_module_that_works_in_place_is_followed(activation: nn.Module) -> None:
    def forward(x: Tensor, W: Tensor) -> Tensor:
        h = x @ W
        y = activation(h)
        return (y * h).sum()

    backward = derive(forward, numbers(3, 4), numbers(4, 2, seed=2))

    assert {"dx", "dW"} <= set(backward.gradients)


def test_a_mask_filled_in_place_gets_no_gradient() -> None:
    def forward(x: Tensor, m: Tensor) -> Tensor:
        scores = x * 2
        scores.masked_fill_(m, -1e9)
        return scores.softmax(1)[:, 0].log().sum()

    mask = torch.ones(4, 4, dtype=torch.bool).triu(1)

    assert "masked_fill(m, 0)" in str(derived(forward, numbers(4, 4), mask))


def test_numbers_below_zero_set_to_zero_by_a_mask_of_themselves_are_right() -> None:
    def forward(x: Tensor, W: Tensor) -> Tensor:
        h = x @ W
        h[h < 0] = 0
        return (h**2).sum()

    backward = derived(forward, numbers(3, 4), numbers(4, 3, seed=1))

    assert "h = x @ W" in backward.page.prelude[1]  # the mask reads what h was


def test_a_view_that_is_written_changes_what_it_was_taken_from() -> None:
    def forward(x: Tensor, W: Tensor) -> Tensor:
        h = x @ W
        v = h[:, 1:]
        v.mul_(2)
        return (h * h).sum() + v.sum()

    derived(forward, numbers(3, 4), numbers(4, 3, seed=1))


def test_a_view_that_is_read_after_its_base_was_written_is_right() -> None:
    def forward(x: Tensor, c: Tensor) -> Tensor:
        y = x * 2
        row = y[1]
        y.mul_(c)
        return (row * row).sum() + y.sum()

    derived(forward, numbers(3, 4), numbers(4, seed=1))


def test_two_rows_that_are_written_in_turn_are_right() -> None:
    def forward(x: Tensor) -> Tensor:
        y = x.clone()
        a, b = y[0], y[1]
        a += b
        b *= a
        return (y**2).sum()

    def same(x: Tensor) -> Tensor:
        a = x[0] + x[1]
        return (a**2).sum() + ((x[1] * a) ** 2).sum()

    derived(forward, numbers(2, 3), same=same)


def test_a_view_of_a_view_that_is_written_is_right() -> None:
    def forward(x: Tensor, c: Tensor) -> Tensor:
        y = x * 2
        y.view(2, 2, 3).transpose(0, 1)[0].mul_(c)
        return (y**2).sum()

    derived(forward, numbers(4, 3), numbers(3, seed=1))


def test_what_was_changed_in_place_is_computed_again_where_it_is_needed() -> None:
    def forward(x: Tensor, W: Tensor) -> Tensor:
        h = x @ W
        h -= h.mean(0, keepdim=True)
        h /= h.std(0, keepdim=True)
        return (h**3).sum()

    def same(x: Tensor, W: Tensor) -> Tensor:
        h = x @ W
        h = h - h.mean(0, keepdim=True)
        return ((h / h.std(0, keepdim=True)) ** 3).sum()

    derived(forward, numbers(5, 4), numbers(4, 3, seed=1), same=same)


def test_adding_at_repeated_indices_in_place_is_right() -> None:
    def forward(x: Tensor, i: Tensor) -> Tensor:
        out = torch.zeros(4, dtype=x.dtype)
        out.index_add_(0, i, x)
        out.scatter_add_(0, i, x * x)
        return (out**2).sum()

    derived(forward, numbers(7), torch.tensor([0, 3, 1, 1, 0, 1, 3]))


def test_statistics_that_carry_no_gradient_may_be_updated() -> None:
    def forward(x: Tensor, W: Tensor) -> Tensor:
        running = torch.zeros(3, dtype=x.dtype)
        h = x @ W
        with torch.no_grad():
            running.mul_(0.9).add_(h.mean(0), alpha=0.1)
        return ((h - running) ** 2).sum()

    backward = derive(forward, numbers(5, 4), numbers(4, 3, seed=1))

    assert "drunning" not in backward.gradients


def test_a_write_that_autograd_does_not_see_is_refused_with_its_place() -> None:
    def forward(x: Tensor, W: Tensor) -> Tensor:
        h = x @ W
        with torch.no_grad():
            h[0] = 0
        return (h**2).sum()

    with pytest.raises(
        DeriveError, match=r"test_derive_inplace\.py:\d+: `h\[0\].*` changes a value in place under"
    ) as caught:
        derive(forward, numbers(3, 4), numbers(4, 3))

    assert "or into a clone" in caught.value.message


@pytest.mark.parametrize("alias", [lambda h: h.detach(), lambda h: h.data], ids=["detach", "data"])
def test_a_write_through_a_detached_tensor_is_refused(alias: Callable[[Tensor], Tensor]) -> None:
    def forward(x: Tensor, W: Tensor) -> Tensor:
        h = x @ W
        alias(h)[0] = 0
        return (h**2).sum()

    with pytest.raises(DeriveError, match="autograd does not follow `detach` and `data` either"):
        derive(forward, numbers(3, 4), numbers(4, 3))


def test_a_name_whose_memory_was_written_through_another_is_not_read() -> None:
    def forward(x: Tensor, w: Tensor) -> Tensor:
        h = x.exp()
        y = h * w
        h.data[0] = 0
        return y.sum()

    backward = derive(forward, numbers(2, 3), numbers(3, seed=1))

    assert any(row.startswith("h = x.exp()") for row in backward.page.prelude)


def test_a_second_name_of_what_was_written_is_not_read() -> None:
    def forward(x: Tensor, w: Tensor) -> Tensor:
        h = x * w
        y = h
        z = h.exp() * w
        y += 1
        return (z * y).sum()

    def same(x: Tensor, w: Tensor) -> Tensor:
        return ((x * w).exp() * w * (x * w + 1)).sum()

    backward = derived(forward, numbers(3), numbers(3, seed=1), same=same)

    assert any(row.startswith("h = x * w") for row in backward.page.prelude)


def test_a_chain_of_writes_is_computed_again_without_writing() -> None:
    def forward(x: Tensor, W: Tensor) -> Tensor:
        h = x @ W
        h.clamp_(min=-0.5)
        h.exp_()
        h.div_(h.sum(1, keepdim=True))
        return (h**2).sum()

    def same(x: Tensor, W: Tensor) -> Tensor:
        return ((x @ W).clamp(min=-0.5).softmax(1) ** 2).sum()

    backward = derived(forward, numbers(3, 4), numbers(4, 2, seed=1), same=same)

    assert [row.split("  #")[0] for row in backward.page.prelude[1:]] == [
        "h = x @ W", "h_1 = h.clamp(min=-0.5)", "h_2 = h_1.exp()",
    ]  # fmt: skip


def test_an_index_of_an_index_that_is_written_is_right() -> None:
    def forward(x: Tensor, c: Tensor) -> Tensor:
        y = x * 2
        y[0][1] = c
        y[1:][0] *= c
        return (y**2).sum()

    derived(forward, numbers(3, 4), numbers(seed=1))


def test_what_autograd_refuses_is_refused_in_words() -> None:
    from handgrad.errors import NotVerifiedError

    def forward(x: Tensor) -> Tensor:
        h = x * 2
        h *= h
        return h.sum()

    with pytest.raises(NotVerifiedError, match=r"autograd itself cannot differentiate this forward.*changed in place"):
        derive(forward, numbers(3))


def test_an_input_that_was_written_cannot_be_brought_back() -> None:
    def forward(x: Tensor, w: Tensor) -> Tensor:
        y = x * w
        x.mul_(2)
        return (y * x).sum()

    with pytest.raises(DeriveError, match="x was bound again, and what it was before is gone"):
        derive(forward, numbers(3).detach(), numbers(3, seed=1))


def test_a_missing_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from handgrad.errors import NotVerifiedError
    from handgrad.rules import RULES, rule, sample

    def forward(x: Tensor, c: Tensor) -> Tensor:
        y = x * 2
        y.copy_(c)
        return (y * x).sum()

    monkeypatch.setitem(RULES, "copy", RULES["copy"])

    @rule("copy", samples=[sample("x", x=(3,))])
    def forgets(g, y, x: Expr, source: Expr):  # type: ignore[no-untyped-def, name-defined]  # noqa: F821
        yield from ()

    with pytest.raises(NotVerifiedError, match="there is no line for dc, which is not zero"):
        derive(forward, numbers(3), numbers(3, seed=1))
