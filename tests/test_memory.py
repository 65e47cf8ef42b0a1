"""What a trace keeps: the latest numbers, and of the rest only what nothing can compute again."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from handgrad import source
from handgrad.checker.judging import judge
from handgrad.errors import ReplayError
from handgrad.report import Report
from handgrad.tracer import Tracer

PASSES = Path(__file__).parent / "passes"
ALL = float("inf")


def kept(tracer: Tracer) -> int:
    """Return the bytes of the tensors that still exist because of the trace."""
    gc.collect()
    pieces = {}
    for value in tracer.graph.values:
        if isinstance(value.kept, torch.Tensor):
            storage = value.kept.untyped_storage()
            pieces[storage.data_ptr()] = storage.nbytes()
    return sum(pieces.values())


def evaluated(x: torch.Tensor, w: torch.Tensor) -> float:
    h = torch.tanh(x * w)
    y = h.view(-1)[::2] + 1
    y += h.view(-1)[1::2]
    loss = y.square().mean()
    return loss.item()


@pytest.mark.parametrize("needs_gradient", [False, True], ids=["plain", "with autograd"])
def test_fifty_evaluations_keep_no_more_than_the_bound(needs_gradient: bool) -> None:
    x, w = torch.randn(1000, 250), torch.randn(250, requires_grad=needs_gradient)  # 1 MB a step

    bounded, unbounded = Tracer(kept_bytes=8e6), Tracer()
    for tracer in (bounded, unbounded):
        with tracer:
            for _ in range(50):
                evaluated(x, w)

    assert kept(bounded) < 8e6 + 2e6
    assert kept(unbounded) > 100e6


def test_the_autograd_graphs_of_old_losses_are_let_go() -> None:
    x, w = torch.randn(1000, 250), torch.randn(250, requires_grad=True)
    alive: list[int] = []

    with Tracer(kept_bytes=4e6) as tracer:
        for _ in range(20):
            evaluated(x, w)
            alive.append(sum(value.kept.grad_fn is not None for value in tracer.graph.values if kept_here(value)))

    assert max(alive[5:]) <= max(alive[:5]) + 2


def kept_here(value: object) -> bool:
    return isinstance(getattr(value, "kept", None), torch.Tensor)


def test_what_was_let_go_is_computed_again_to_the_bit() -> None:
    x, w = torch.randn(40, 30), torch.randn(30)

    nothing, everything = Tracer(kept_bytes=0, given_bytes=0), Tracer()
    for tracer in (nothing, everything):
        with tracer:
            evaluated(x, w)
            evaluated(x + 1, w)

    pairs = list(zip(nothing.graph.values, everything.graph.values, strict=True))
    assert all(torch.equal(a.value, b.value) for a, b in pairs)
    assert sum(not a.is_kept for a, _ in pairs) >= 6


def test_random_numbers_and_what_comes_from_elsewhere_are_kept_apart_from_the_rest() -> None:
    with Tracer(kept_bytes=3e6) as tracer:
        noise = torch.randn(1000, 250)
        before = noise.clone()
        for _ in range(20):
            h = noise * 2
            h = h + 1
        first = tracer.value_of(noise)

    assert torch.equal(first.value, before)


def test_a_tensor_that_the_code_still_holds_is_not_lost() -> None:
    held = []
    with Tracer(kept_bytes=0, given_bytes=0) as tracer:
        for _ in range(3):
            x = torch.rand(2000)
            held.append((x, tracer.value_of(x)))
        x = torch.rand(2000)
        lost = tracer.value_of(x)
        x = torch.rand(2000)

    assert all(torch.equal(value.value, tensor) for tensor, value in held)
    with pytest.raises(ReplayError, match=r"HG501: .*test_memory.py:\d+: .* \(2000,\) was let go to save memory"):
        _ = lost.value


def test_a_write_into_a_held_tensor_changes_no_older_value() -> None:
    with Tracer(kept_bytes=0) as tracer:
        x = torch.rand(2000)
        a = x * 2
        before, old = a.clone(), tracer.value_of(a)
        a.data.mul_(3)
        x.zero_()

    assert torch.equal(old.value, before)


def test_inference_mode_is_traced() -> None:
    with Tracer() as tracer, torch.inference_mode():
        x = torch.ones(2)
        y = x * 2
        before = tracer.value_of(y)
        y += 1
        after = tracer.value_of(y)
        y[0] = 7.0
        last = tracer.value_of(y)

    assert before.value.tolist() == [2.0, 2.0]
    assert after.value.tolist() == [3.0, 3.0]
    assert last.value.tolist() == [7.0, 3.0]


def judged(path: Path, kept_bytes: float) -> Report:
    text = path.read_text()
    source.register(str(path), text)
    torch.seed()  # another one than the file's own
    tracer = Tracer(kept_bytes=kept_bytes)
    code = compile(text, str(path), "exec")
    with tracer, contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
        exec(code, {"__name__": "__main__"})  # noqa: S102  (a file of ours)
    return judge(tracer.recording, tracer.backward_calls)


FILES = [  # without those of 100,000 steps, of which the runner leaves the loops
    path
    for path in [*sorted((PASSES / "right").glob("*.py"))[::6], *sorted((PASSES / "wrong").glob("*.py"))[::24]]
    if not path.stem.startswith("long_")
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_trace_that_keeps_nothing_is_judged_as_one_that_keeps_everything(path: Path) -> None:
    nothing, everything = judged(path, 0), judged(path, ALL)

    assert nothing.to_dict() == everything.to_dict()


EVALUATING = """\
import torch
torch.manual_seed(0)
X = torch.rand(500_000, 100)  # 200 MB
w = torch.randn(100, requires_grad=True)

@torch.no_grad()
def evaluate():
    h = X * w  # 200 MB
    y = torch.relu(h)  # 200 MB
    return y.mean().item()

losses = []
for _ in range({times}):
    losses.append(evaluate())

x = X[:32] * 1.0
h = x * w
loss = (h**2).mean()
dh = {factor} * h / h.numel()
dw = (dh * x).sum(0)
"""


@pytest.mark.parametrize(("factor", "verdicts"), [(2, ["right", "right"]), (3, ["wrong", "inherited"])])
def test_a_split_of_200_mb_is_evaluated_fifty_times_in_bounded_memory(
    tmp_path: Path, factor: int, verdicts: list[str]
) -> None:
    path = tmp_path / "evaluating.py"
    path.write_text(EVALUATING.format(times=50, factor=factor))

    command = [sys.executable, "-m", "handgrad", "check", "--memory", "2.5", "--json", str(path)]
    completed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)

    assert completed.stderr == ""
    report = json.loads(completed.stdout)
    assert [g["verdict"] for p in report["passes"] for g in p["gradients"]] == verdicts
