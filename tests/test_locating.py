"""Where a mistake is: at the line that makes it, not at the one where it shows."""

from __future__ import annotations

import contextlib
import itertools

import pytest
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


def judged_until_it_stops(cell: str) -> Report:
    """Judge a cell that raises an exception."""
    tracer = Tracer()
    filename = f"<located {next(_numbers)}>"
    source.register(filename, cell)
    torch.manual_seed(1)
    with tracer, contextlib.suppress(Exception):
        exec(compile(cell, filename, "exec"), {"torch": torch})  # noqa: S102
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


def test_a_number_where_a_gradient_is_meant_is_named_and_a_size_is_not() -> None:
    forward = "x, w = torch.randn(5, 3), torch.randn(3, 4)\nh = x @ w\nloss = (h ** 2).mean()\n"

    wrong = judged(forward + "dh = 2.0 / 7\ndw = dh * x.T @ torch.ones(5, 4)\n")
    size = judged(forward + "dh = 4\nd = 0.1\ndw = x.T @ (2 * h / (5 * dh))\n")

    assert found(wrong) == [(4, "shape")]
    assert "it is one number, and `h` has shape (5, 4)" in wrong["dh"].mistakes[0].message
    assert [g.name for g in size.gradients if g.verdict != "missing"] == ["dw"]
    assert found(size) == []


def test_a_line_that_raises_on_the_shape_that_another_made_wrong_is_not_blamed() -> None:
    report = judged_until_it_stops(
        "x, w, b = torch.randn(5, 3), torch.randn(3, 4), torch.randn(4)\n"
        "z = x @ w + b\n"
        "loss = (z ** 2).mean()\n"
        "dz = (z / 10).sum(0)\n"
        "dw = x.T @ dz\n"
    )

    assert [line for line, _ in found(report)] == [4]
    assert report["dw"].verdict == "inherited"


HELPER = """\
def back(dy, gain, xhat):
    dgain = (dy * xhat).sum(0)
    dxhat = dy * gain
    return dxhat, dgain
xhat, gain, other = torch.randn(5, 3), torch.rand(3), torch.rand(3)
y = xhat * gain
z = torch.tanh(y)
loss = (z ** 2).sum()
dz = 2 * z
dy = dz * (1 - z ** 2)
dxhat, dgain = back(dy, gain, xhat)
"""


def test_a_wrong_argument_is_named_at_the_call_and_not_in_the_function() -> None:
    assert found(judged(HELPER)) == []

    for wrong, cure in (
        ("back(dz, gain, xhat)", "`dy` for `dz`"),
        ("back(dy, other, xhat)", "`gain` for `other`"),
        ("back(dy, gain, y)", "`xhat` for `y`"),
    ):
        report = judged(HELPER.replace("back(dy, gain, xhat)\n", wrong + "\n"))
        assert {line for line, _ in found(report)} == {11}
        assert cure in report.mistakes[0].message
        assert report.mistakes[0].fix == "dxhat, dgain = back(dy, gain, xhat)"


def test_a_wrong_line_of_a_function_is_named_there_whatever_its_arguments_are_called() -> None:
    renamed = HELPER.replace("def back(dy, gain, xhat)", "def back(dout, g, v)")
    renamed = renamed.replace("(dy * xhat).sum(0)", "(dout * v).sum(0)").replace(
        "dxhat = dy * gain", "dxhat = dout * g"
    )
    assert found(judged(renamed)) == []

    report = judged(renamed.replace("(dout * v).sum(0)", "(dout * v).mean(0)"))
    assert found(report) == [(2, "scale")]


def test_a_wrong_lambda_is_named_where_it_is_written() -> None:
    report = judged(
        "tanh_back = lambda d, out: d * (1 + out * out)\n"
        "x = torch.randn(5, 3)\n"
        "h = torch.tanh(x)\n"
        "loss = (h ** 3).sum()\n"
        "dh = 3 * h ** 2\n"
        "dx = tanh_back(dh, h)\n"
    )

    assert [line for line, _ in found(report)] == [1]
    assert report["dx"].mistakes[0].fix == "tanh_back = lambda d, out: d * (1 - out * out)"


def test_a_part_that_has_a_name_of_its_own_is_named_and_not_the_sum_of_the_parts() -> None:
    report = judged(
        "x, w = torch.randn(5, 3), torch.randn(3, 3)\n"
        "h = torch.tanh(x @ w)\n"
        "y = h * 2 + h @ w\n"
        "loss = (y ** 2).sum()\n"
        "dy = 2 * y\n"
        "direct = 2 * dy\n"
        "by_product = dy @ w\n"
        "dh = direct + by_product\n"
    )

    assert found(report) == [(7, "transposed")]
    assert report["dh"].mistakes[0].fix == "by_product = dy @ w.T"


RECURRENCE = """\
Wx, Wh, Wy = torch.randn(4, 3), torch.randn(4, 4) * 0.5, torch.randn(5, 4)
b, c = torch.randn(4, 1), torch.randn(5, 1)
inputs, targets = torch.randn(6, 3, 1), [0, 3, 1, 4, 4, 2]
hs, ys, ps = {-1: torch.zeros(4, 1)}, {}, {}
loss = 0
for t in range(6):
    hs[t] = torch.tanh(Wx @ inputs[t] + Wh @ hs[t - 1] + b)
    ys[t] = Wy @ hs[t] + c
    ps[t] = torch.softmax(ys[t], 0)
    loss = loss - torch.log(ps[t][targets[t], 0])
dWx, dWh, dWy = torch.zeros_like(Wx), torch.zeros_like(Wh), torch.zeros_like(Wy)
db, dc = torch.zeros_like(b), torch.zeros_like(c)
dhnext = torch.zeros_like(hs[0])
for t in reversed(range(6)):
    dy = ps[t].clone()
    dy[targets[t]] -= 1
    dWy += dy @ hs[t].T
    dc += dy
    dh = Wy.T @ dy + dhnext
    dhraw = (1 - hs[t] * hs[t]) * dh
    db += dhraw
    dWx += dhraw @ inputs[t].T
    dWh += dhraw @ hs[t - 1].T
    dhnext = Wh.T @ dhraw
"""


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [
        ("dy[targets[t]] -= 1", "dy[targets[t]] -= 2", 16),
        ("dy @ hs[t].T", "dy @ hs[t - 1].T", 17),
        ("dc += dy", "dc += 2 * dy", 18),
        ("Wy.T @ dy + dhnext", "Wy.T @ dy", 19),
        ("Wy.T @ dy + dhnext", "Wy.T @ dy - dhnext", 19),
        ("(1 - hs[t] * hs[t])", "(1 + hs[t] * hs[t])", 20),
        ("db += dhraw", "db = dhraw", 21),
        ("dhraw @ inputs[t].T", "-dhraw @ inputs[t].T", 22),
        ("dhraw @ hs[t - 1].T", "dhraw @ hs[t].T", 23),
        ("Wh.T @ dhraw", "Wh @ dhraw", 24),
    ],
)
def test_a_wrong_line_of_a_loop_over_time_is_named(right: str, wrong: str, line: int) -> None:
    assert RECURRENCE.count(right) == 1

    report = judged(RECURRENCE.replace(right, wrong))

    assert {where for where, _ in found(report)} == {line}


def test_a_right_loop_over_time_has_no_finding_and_judges_no_more_than_the_names_of_values() -> None:
    report = judged(RECURRENCE)

    assert [(g.name, g.verdict) for g in report.gradients] == [
        (name, "right") for name in ("dWx", "dWh", "dWy", "db", "dc")
    ]


def test_a_gradient_without_a_value_of_its_name_is_named_with_what_it_belongs_to() -> None:
    report = judged(
        "x, w, v = torch.randn(5, 3), torch.randn(3, 4), torch.randn(4, 2)\n"
        "h = torch.tanh(x @ w)\n"
        "y = h @ v\n"
        "loss = (y ** 3).sum()\n"
        "dy = 3 * y ** 2\n"
        "dv = h.T @ dy\n"
        "dz = (dy @ v.T) * (1 + h ** 2)\n"
        "dw = x.T @ dz\n"
        "dx = dz @ w.T\n"
    )

    assert found(report) == [(7, "sign")]
    assert report["dz"].of == "x @ w"
    assert (report["dw"].verdict, report["dx"].verdict) == ("inherited", "inherited")


def test_cells_that_share_names_count_as_one_piece_of_code() -> None:
    forward = "x, w = torch.randn(5, 3), torch.randn(3, 4)\nh = torch.tanh(x @ w)\nloss = (h ** 2).mean()\n"
    backward = "dz = dh * (1 + h ** 2)\n", "dz = dz * 1.0\n", "dw = x.T @ dz\ndx = dz @ w.T\n"

    number = judged(forward, "dh = 2.0 / 7\n", "dw = x.T @ (dh * (1 - h ** 2))\n")
    hidden = judged(forward, "dh = h / 10\n", *backward)
    call = judged(HELPER.replace("dxhat, dgain = back(dy, gain, xhat)\n", ""), "dxhat, dgain = back(dz, gain, xhat)\n")

    assert [(m.cell, m.kind) for m in number.mistakes] == [(1, "shape")]
    assert [(m.cell, m.kind) for m in hidden.mistakes] == [(2, "sign")]
    assert {m.cell for m in call.mistakes} == {1}
