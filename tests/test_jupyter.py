"""The extension of IPython in real notebooks, run by a real kernel, and in a real terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient", reason="needs nbclient: pip install handgrad[dev]")
pytest.importorskip("ipykernel", reason="needs ipykernel: pip install handgrad[dev]")

LOAD = "%load_ext handgrad\nimport time\nimport torch\ng = torch.Generator().manual_seed(5)"
FORWARD = """
x = torch.randn(6, 5, generator=g)
W = torch.randn(5, 4, generator=g, requires_grad=True)
b = torch.randn(4, generator=g, requires_grad=True)
h = x @ W + b
y = torch.tanh(h)
loss = (y ** 2).mean()
""".strip()
RIGHT = "dy = 2 * y / y.numel()\ndh = (1 - y**2) * dy\ndW = x.T @ dh\ndb = dh.sum(0)"
WRONG = RIGHT.replace("dh.sum(0)", "dh")


class Output:
    """What stands below a cell."""

    def __init__(self, cell: nbformat.NotebookNode) -> None:
        data = [o.data for o in cell.outputs if o.output_type in ("display_data", "execute_result")]
        self.html = "".join(d.get("text/html", "") for d in data)
        self.plain = "\n".join(d.get("text/plain", "") for d in data)
        self.printed = "".join(o.text for o in cell.outputs if o.output_type == "stream")
        self.errors = [o.ename for o in cell.outputs if o.output_type == "error"]
        self.traceback = "\n".join(line for o in cell.outputs if o.output_type == "error" for line in o.traceback)
        self.is_empty = not cell.outputs

    def verdict(self, gradient: str) -> str:
        """Return the verdict of ``gradient`` in the plain report."""
        for line in self.plain.splitlines():
            if re.match(rf"\S \w+ +{re.escape(gradient)}( |$)", line):
                return line.split()[1]
            if re.match(r"\S \d+ right", line) and gradient in re.split(r"[:, ]+", line):
                return "right"
        raise AssertionError(f"no {gradient} in\n{self.plain or self.printed}")

    def __repr__(self) -> str:
        return f"{self.plain}\n{self.printed}\n{self.errors}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ipython")


def run(folder: Path, *cells: str) -> list[Output]:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    client = nbclient.NotebookClient(notebook, kernel_name="python3", allow_errors=True, timeout=120)
    environment = os.environ | {"IPYTHONDIR": str(folder), "PYTHONWARNINGS": "default"}
    client.execute(env=environment)
    return [Output(cell) for cell in notebook.cells]


LESSON = {
    "load": LOAD,
    "forward": FORWARD,
    "quiet": "data = x.mean()\ndim = 3\nprint(dim)",
    "wrong": WRONG,
    "right": RIGHT,
    "wrong again": WRONG,
    "right again": RIGHT,
    "upstream wrong": "dh = (1 - y) * dy",
    "downstream": "db = dh.sum(0)",
    "exception": "dy = 3 * y / y.numel()\n1 / 0\ndh = 1",
    "syntax": "dy = (",
    "interrupt": "import signal\ndy = 2 * y / y.numel()\nsignal.raise_signal(signal.SIGINT)",
    "time": "%%time\n\ndy = 2 * y / y.numel()\ndh = (1 - y) * dy",
    "time of one line": "print(1)\n%time dh = (1 - y) * dy",
    "capture": "%%capture captured\ndy = 2 * y / y.numel()\ndh = (1 - y) * dy",
    "await": "import asyncio\nawait asyncio.sleep(0.01)\ndh = (1 - y) * dy",
    "blank": "\n\ndh = (1 - y) * dy",
    "define": "def backward(y, dy):\n    dh = (1 - y) * dy\n    return dh",
    "call": "grads = backward(y, dy)",
    "magic": f"%%backward\n{RIGHT}\n'the last value'",
    "magic wrong": f"%%backward\n{WRONG}",
    "magic exception": "%%backward\ndy = 2 * y / y.numel()\n1 / 0",
    "magic gradient": "%%backward --loss loss --gradient foo=h\ndy = 2 * y / y.numel()\nfoo = (1 - y) * dy",
    "magic without a gradient": "%%backward\nprint('ran')",
    "magic with a typo": "%%backward --los\nprint('ran')",
    "magic with an unknown loss": "%%backward --loss lossy\ndy = 2 * y / y.numel()",
    "timeit": "%timeit -n 2 -r 1 (1 - y) * dy",
    "report": "%handgrad report",
    "off": "%handgrad off",
    "wrong while off": WRONG,
    "on": "%handgrad on",
    "wrong while on": WRONG,
    "typo": "%handgrad repotr",
    "reset": "%handgrad reset",
    "wrong after reset": WRONG,
    "forward after reset": FORWARD,
    "right after reset": RIGHT,
    "unload": "%unload_ext handgrad",
    "wrong after unload": WRONG,
    "magic after unload": "%handgrad",
}


@pytest.fixture(scope="module")
def lesson(folder: Path) -> dict[str, Output]:
    return dict(zip(LESSON, run(folder, *LESSON.values()), strict=True))


def number(name: str) -> int:
    """Return the number in the brackets of a cell of the lesson."""
    return list(LESSON).index(name) + 1


# what a cell shows


def test_a_cell_without_a_gradient_shows_nothing_of_ours(lesson: dict[str, Output]) -> None:
    assert lesson["load"].is_empty
    assert lesson["forward"].is_empty
    assert lesson["quiet"].printed == "3\n"
    assert not lesson["quiet"].html
    assert lesson["define"].is_empty


def test_a_wrong_line_is_shown_below_its_cell(lesson: dict[str, Output]) -> None:
    shown = lesson["wrong"]

    assert "HG201" in shown.html
    assert "1 of 4 gradients is wrong" in shown.html
    assert shown.verdict("db") == "wrong"
    assert shown.verdict("dW") == "right"
    assert f"cell {number('wrong')}, line 4  HG201 missing-sum  db" in shown.plain
    assert "did you mean: db = dh.sum(0)" in shown.plain


def test_right_lines_are_shown_as_right(lesson: dict[str, Output]) -> None:
    shown = lesson["right"]

    assert "All 4 gradients are right" in shown.html
    assert "HG2" not in shown.html


def test_a_corrected_cell_that_runs_again_turns_right_and_back(lesson: dict[str, Output]) -> None:
    verdicts = [lesson[name].verdict("db") for name in ("wrong", "right", "wrong again", "right again")]

    assert verdicts == ["wrong", "right", "wrong", "right"]


def test_a_cell_that_reads_a_wrong_gradient_inherits_the_mistake(lesson: dict[str, Output]) -> None:
    assert lesson["upstream wrong"].verdict("dh") == "wrong"
    assert lesson["downstream"].verdict("db") == "inherited"


def test_what_a_cell_did_before_its_exception_is_judged(lesson: dict[str, Output]) -> None:
    shown = lesson["exception"]

    assert shown.errors == ["ZeroDivisionError"]
    assert shown.verdict("dy") == "wrong"
    assert "the cell ended with ZeroDivisionError" in shown.plain
    assert lesson["syntax"].errors == ["SyntaxError"]
    assert not lesson["syntax"].html


def test_what_an_interrupted_cell_did_is_judged(lesson: dict[str, Output]) -> None:
    shown = lesson["interrupt"]

    assert shown.errors == ["KeyboardInterrupt"]
    assert shown.verdict("dy") == "right"


@pytest.mark.parametrize(
    ("name", "line"),
    [("time", 4), ("time of one line", 2), ("capture", 3), ("await", 3), ("blank", 3)],
)
def test_lines_keep_their_numbers_under_magics(lesson: dict[str, Output], name: str, line: int) -> None:
    assert lesson[name].verdict("dh") == "wrong"
    assert f"cell {number(name)}, line {line}  HG" in lesson[name].plain


def test_a_gradient_in_a_function_is_judged_where_the_function_stands(lesson: dict[str, Output]) -> None:
    assert f"cell {number('define')}, line 2  HG" in lesson["call"].plain


def test_no_cell_of_the_lesson_shows_a_traceback_of_ours(lesson: dict[str, Output]) -> None:
    said = "".join(f"{output.printed}{output.traceback}" for output in lesson.values())

    assert "handgrad/jupyter" not in said
    assert "mistake of handgrad's" not in said
    assert "Error in callback" not in said


# the magics


def test_the_magic_runs_its_cell_like_any_other(lesson: dict[str, Output]) -> None:
    assert "All 4 gradients are right" in lesson["magic"].html
    assert "'the last value'" in lesson["magic"].plain
    assert lesson["magic wrong"].verdict("db") == "wrong"
    assert f"cell {number('magic wrong')}, line 5  HG201" in lesson["magic wrong"].plain
    assert lesson["magic exception"].errors == ["ZeroDivisionError"]
    assert lesson["magic exception"].verdict("dy") == "right"


def test_the_magic_is_told_the_loss_and_the_gradients(lesson: dict[str, Output]) -> None:
    assert lesson["magic gradient"].verdict("foo") == "wrong"


def test_the_magic_says_in_one_line_what_it_cannot_do(lesson: dict[str, Output]) -> None:
    assert re.fullmatch(r"ran\nhandgrad: HG503: .*\n", lesson["magic without a gradient"].printed)
    assert re.fullmatch(r"handgrad: HG701: %%backward: .*\nran\n", lesson["magic with a typo"].printed)
    assert re.fullmatch(r"handgrad: HG503: .*lossy.*\n", lesson["magic with an unknown loss"].printed)


def test_measured_lines_are_left_alone(lesson: dict[str, Output]) -> None:
    assert "per loop" in lesson["timeit"].printed
    assert not lesson["timeit"].html


def test_the_whole_session_is_judged_on_demand(lesson: dict[str, Output]) -> None:
    assert lesson["report"].html
    assert lesson["report"].plain.startswith("session")


def test_watching_is_turned_off_and_on(lesson: dict[str, Output]) -> None:
    assert lesson["wrong while off"].is_empty
    assert lesson["wrong while on"].verdict("db") == "wrong"
    assert "there are %handgrad report, on, off and reset" in lesson["typo"].printed


def test_after_a_reset_the_forward_must_run_again(lesson: dict[str, Output]) -> None:
    assert "run the cells of the forward again" in lesson["wrong after reset"].printed
    assert "All 4 gradients are right" in lesson["right after reset"].html


def test_an_unloaded_extension_is_gone(lesson: dict[str, Output]) -> None:
    assert lesson["wrong after unload"].is_empty
    assert "not found" in lesson["magic after unload"].printed


# other notebooks


def test_an_extension_that_is_loaded_late_says_what_to_do(folder: Path) -> None:
    forward = f"import torch\ng = torch.Generator().manual_seed(5)\n{FORWARD}"

    *_, early, magic, _, late = run(
        folder, forward, "%load_ext handgrad", WRONG, f"%%backward\n{WRONG}", FORWARD, f"%%backward\n{WRONG}"
    )

    advice = (
        "handgrad: dy, dh, dW, db could not be judged: loss was computed while handgrad did not watch; "
        "run the cells of the forward again, then this one\n"
    )
    assert early.printed == advice
    assert magic.printed == advice
    assert late.verdict("db") == "wrong"


def test_the_cell_that_loads_the_extension_is_watched_from_there(folder: Path) -> None:
    (both,) = run(folder, f"{LOAD}\n{FORWARD}\n{WRONG}")

    assert both.verdict("db") == "wrong"


TRAINING = """
X, Y = torch.randn(16, 3, generator=g), torch.randn(16, 1, generator=g)
w = torch.randn(3, 1, generator=g)
for step in range({steps}):
    p = X @ w
    e = p - Y
    loss = (e**2).mean()
    de = 2 * e / e.numel()
    dp = de
    dw = X.T @ dp{mistake}
    w -= 0.01 * dw
print(step)
"""
PARAMETERS = """
w.requires_grad_()
for step in range(10_000):
    with torch.no_grad():
        p = X @ w
        e = p - Y
        loss = (e**2).mean()
        de = 2 * e / e.numel()
        dw = X.T @ de
        w -= 0.01 * dw
print(step)
"""
AUTOGRAD = """
v = torch.randn(3, 1, generator=g, requires_grad=True)
for step in range(10_000):
    loss = ((X @ v - Y)**2).mean()
    v.grad = None
    loss.backward()
    v.data -= 0.01 * v.grad
print(step)
"""


def test_a_long_training_loop_is_left_alone_after_its_first_iterations(folder: Path) -> None:
    autograd = (
        AUTOGRAD + "from handgrad import jupyter\nprint(len(jupyter._loaded[id(get_ipython())].recorder.graph.steps))"
    )

    _, short, right, wrong, parameters, quiet, status = run(
        folder,
        LOAD,
        TRAINING.format(steps=2, mistake=""),
        TRAINING.format(steps=10_000, mistake=""),
        TRAINING.format(steps=10_000, mistake=" * 2"),
        PARAMETERS,
        autograd,
        "%handgrad",
    )

    assert short.printed == "1\n"
    assert "tracing stopped" not in short.plain
    assert right.printed == wrong.printed == "9999\n"
    assert "a training loop: tracing stopped after 8 iterations" in right.plain
    assert right.verdict("dw") == "right"
    assert wrong.verdict("dw") == "wrong"
    assert parameters.printed == "9999\n"
    assert "a training loop: tracing stopped after 3 iterations" in parameters.plain
    last, steps = quiet.printed.split()
    assert last == "9999"
    assert int(steps) < 200
    assert not quiet.html
    assert int(re.search(r"([\d,]+) operations", status.printed)[1].replace(",", "")) < 200  # type: ignore[index]


def test_parameters_that_changed_unseen_are_taken_as_they_are_now(folder: Path) -> None:
    forward = "loss = ((X @ v - Y)**2).mean()"
    right, wrong = "dv = 2 * X.T @ (X @ v - Y) / Y.numel()", "dv = X.T @ (X @ v - Y) / Y.numel()"

    *_, after, planted = run(folder, LOAD, TRAINING.format(steps=1, mistake=""), AUTOGRAD, forward, right, wrong)

    assert after.verdict("dv") == "right"
    assert planted.verdict("dv") == "wrong"


STEPS = "from handgrad import jupyter\nlen(jupyter._loaded[id(get_ipython())].recorder.graph.steps)"
FORGETFUL = "from handgrad.jupyter.recorder import Recorder\nRecorder.forget = lambda self: None"


def test_cells_that_run_again_do_not_fill_the_memory(folder: Path) -> None:
    twice = [FORWARD, RIGHT] * 2

    outputs = run(folder, LOAD, *twice, STEPS, *twice, *twice, STEPS, FORGETFUL, *twice, *twice, STEPS)

    few, still_few, planted = (int(output.plain) for output in outputs if output.plain.isdigit())
    assert few == still_few
    assert planted > 2 * few


def test_a_mistake_of_ours_is_one_line_and_the_cell_runs_on(folder: Path) -> None:
    _, _, judged, traced, after = run(
        folder,
        LOAD,
        FORWARD,
        "import handgrad.jupyter.session as s\njudge, s.judge = s.judge, lambda *_, **__: 1 / 0\n" + RIGHT,
        "s.judge = judge\nimport handgrad.tracer.memory as t\nk = torch.zeros(2)\nValue, t.Value = t.Value, None\n"
        "k.add_(1)\nz = k + 1\nprint(k.tolist(), z.tolist())",
        "t.Value = Value\n" + WRONG,
    )

    assert re.fullmatch(
        r"handgrad: the gradients could not be judged \(ZeroDivisionError: .*\); this is a mistake of handgrad's\n",
        judged.printed,
    )
    assert traced.printed.startswith("[1.0, 1.0] [2.0, 2.0]\nhandgrad: handgrad itself failed (TypeError")
    assert after.verdict("db") == "wrong"


def test_judging_leaves_random_numbers_and_settings_as_they_are(folder: Path) -> None:
    state = "torch.manual_seed(1)\ntorch.set_default_dtype(torch.float64)\ntorch.set_grad_enabled(False)"
    ask = "torch.rand(3).tolist(), torch.get_default_dtype(), torch.is_grad_enabled()"

    outputs = run(folder, LOAD, FORWARD, state, RIGHT, ask, state, ask)

    assert outputs[3].html
    assert outputs[4].plain == outputs[6].plain
    assert re.search(r"torch.float64,\s+False", outputs[4].plain)


def test_the_terminal_shows_text(folder: Path) -> None:
    lines = [*LOAD.splitlines(), *FORWARD.splitlines(), "dy = 2 * y / y.numel()", "dh = (1 - y) * dy", "exit"]

    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit"],
        input="\n".join(lines) + "\n",
        env=os.environ | {"IPYTHONDIR": str(folder), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    text = textwrap.dedent(done.stdout)
    assert "The one gradient is right" in text
    assert re.search(r"cell \d+, line 1  HG\d+ \S+  dh", text)
    assert "<div" not in text


def test_the_package_offers_the_extension_without_loading_anything() -> None:
    code = (
        "import sys, handgrad\n"
        "assert 'load_ipython_extension' not in handgrad.__all__\n"
        "print(handgrad.load_ipython_extension.__module__, [m for m in ('torch', 'IPython') if m in sys.modules])"
    )

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed == "handgrad.jupyter []\n"
