"""Where a mistake is: at the line that makes it, not at the one where it shows."""

from __future__ import annotations

import itertools

import torch

from handgrad import source
from handgrad.checker import judge
from handgrad.report import Report
from handgrad.tracer import Tracer

_numbers = itertools.count()


def judged(*cells: str) -> Report:
    """Run cells as IPython does, each in a frame of its own and all with the same names, and judge them."""
    names: dict[str, object] = {"torch": torch, "__name__": "__main__"}
    tracer = Tracer()
    torch.manual_seed(1)
    with tracer:
        for number, cell in enumerate(cells):
            filename = f"<located {next(_numbers)}>"
            source.register(filename, cell, number if len(cells) > 1 else None)
            exec(compile(cell, filename, "exec"), names)  # noqa: S102
    return judge(tracer.recording, tracer.backward_calls)


def found(report: Report) -> list[tuple[int | None, str]]:
    """Return the lines that are called wrong, each with the kind of mistake."""
    return [(mistake.line, mistake.kind) for mistake in report.mistakes]


def test_a_cure_may_use_an_item_that_an_earlier_cell_has_bound() -> None:
    report = judged(
        "x, w = torch.randn(5, 3), torch.randn(3, 3)\ncache = {}\ncache['h'] = torch.tanh(x @ w)\n"
        "loss = (cache['h'] * x).sum()\n",
        "dh = x.clone()\n",
        "dw = x.T @ (dh * (1 - x ** 2))\n",
    )

    assert report["dw"].mistakes[0].fix == "dw = x.T @ (dh * (1 - cache['h'] ** 2))"


def test_a_line_that_is_written_twice_is_named_and_not_the_one_before() -> None:
    report = judged(
        "z = torch.randn(5, 3)\ny = torch.tensor([0, 2, 1, 1, 0])\n"
        "loss = torch.nn.functional.cross_entropy(z, y)\n"
        "dz = z.softmax(1)\n"
        "dz[range(5), y] -= 1; dz[range(5), y] -= 1\n"
        "dz /= 5\n"
    )

    assert found(report) == [(5, "counted-twice")]
    assert report["dz"].mistakes[0].fix == "dz[range(5), y] -= 1"


def test_a_try_that_changes_a_tensor_in_place_does_not_spoil_those_that_follow() -> None:
    report = judged(
        "z = torch.randn(5, 3)\ny = torch.tensor([0, 2, 1, 1, 0])\nn = 5\n"
        "loss = torch.nn.functional.cross_entropy(z, y)\n"
        "dz = z.softmax(1)\n"
        "dz[torch.arange(n), y.flip(0)] -= 1\n"
        "dz /= n\n"
    )

    assert report["dz"].mistakes[0].fix == "dz[torch.arange(n), y] -= 1"


def test_a_line_that_reads_a_wrong_gradient_beside_the_way_inherits() -> None:
    forward = (
        "x, gain, bias = torch.randn(7, 4), torch.rand(1, 4), torch.randn(1, 4)\n"
        "xhat = x / x.norm(dim=0, keepdim=True)\n"
        "y = gain * xhat + bias\n"
        "loss = (y ** 3).sum()\n"
    )
    backward = (
        "dy = 3 * y ** 2\n"
        "dgain = (xhat * dy).sum(0, keepdim=True)\n"
        "dx = (dy * gain - xhat * dgain * gain) / x.norm(dim=0, keepdim=True)\n"
    )
    assert found(judged(forward + backward)) == []

    for wrong, kind in (("(xhat * xhat)", "wrong-operand"), ("xhat", "missing-factor")):
        report = judged(forward + backward.replace("(xhat * dy)", wrong))
        assert found(report) == [(6, kind)]
        assert report["dx"].verdict == "inherited"


def test_two_names_of_one_tensor_in_one_line_are_told_apart() -> None:
    report = judged(
        "x, bias = torch.randn(7, 4), torch.randn(1, 4)\n"
        "y = x - x.mean(0, keepdim=True) + bias\n"
        "loss = (y ** 3).sum()\n"
        "dy = 3 * y ** 2\n"
        "dbias = dy\n"
        "dx = dy - dbias / 7\n",
    )

    assert found(report) == [(5, "missing-sum")]
    assert report["dx"].verdict == "inherited"
