"""People's files: read as they are, run in a process of their own, and ended whatever they do."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import psutil
import pytest

from handgrad import errors
from handgrad.data.words import load_words
from handgrad.errors import HandgradError
from handgrad.report import Report
from handgrad.runner.loops import MOST_AT_ONCE, Loops
from handgrad.runner.magics import without_magics
from handgrad.runner.options import Options
from handgrad.runner.process import run
from handgrad.runner.program import Program, load
from handgrad.source import Source

JUDGE = '''
import json, os
from handgrad.errors import NothingToJudgeError
from handgrad.report import Report

def tell(execution, options):
    """Report the plain values among the program's names, and the notes."""
    def is_plain(v): return isinstance(v, (int, float, str)) or (isinstance(v, list) and all(map(is_plain, v)))
    plain = {k: v for k, v in execution.namespace.items() if is_plain(v) and k[0] != "_"}
    facts = {"names": plain, "notes": execution.notes, "output": execution.output,
             "failures": [[*f.place, f.error] for f in execution.failures]}
    return Report((), file=str(execution.program.path), notes=(json.dumps(facts),))

def refuse(execution, options):
    raise NothingToJudgeError("there is no loss")

def fail(execution, options):
    return {}["x"]

def write_much(execution, options):
    return Report((), notes=("x" * 5_000_000,))
'''


class Ran:
    """What a file did, as the judge above saw it."""

    def __init__(self, report: Report) -> None:
        facts = json.loads(report.notes[0])
        self.names: dict[str, Any] = facts["names"]
        self.notes: list[str] = facts["notes"]
        self.output: str = facts["output"]
        self.failures: list[list[Any]] = facts["failures"]


@pytest.fixture(scope="session", autouse=True)
def _the_judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("judge")
    (folder / "told.py").write_text(JUDGE)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(folder)
    yield
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def written(folder: Path, *cells: str, name: str = "file.ipynb") -> Path:
    """Write a notebook of code cells, or a script of one text; cells that begin with ``#md`` are markdown."""
    path = folder / name
    texts = [textwrap.dedent(cell).strip("\n") for cell in cells]
    if path.suffix != ".ipynb":
        path.write_text("\n".join(texts) + "\n")
        return path
    v4: Any = nbformat.v4
    made = [(v4.new_markdown_cell if text.startswith("#md") else v4.new_code_cell)(text) for text in texts]
    path.write_text(v4.writes(v4.new_notebook(cells=made)))
    return path


def ran(path: Path, **options: Any) -> Ran:
    return Ran(run(path, Options(**{"timeout": 60.0} | options), judge="told:tell"))


def sources(program: Program) -> list[tuple[int | None, int, str]]:
    return [(cell.index, cell.first_line, cell.source) for cell in program.cells]


# -- reading


def test_madeare_counted_among_all_cells(tmp_path: Path) -> None:
    program = load(written(tmp_path, "#md title", "a = 1", "#md text", "b = 2"))

    assert program.kind == "notebook"
    assert sources(program) == [(1, 1, "a = 1"), (3, 1, "b = 2")]
    assert program.cells[1].filename == f"{tmp_path}/file.ipynb#3"


def test_an_old_notebook_is_read(tmp_path: Path) -> None:
    cell = {"cell_type": "code", "language": "python", "input": ["a = 1\n", "b = 2"], "outputs": [], "collapsed": False}
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": [cell]}]}
    path = tmp_path / "old.ipynb"
    path.write_text(json.dumps(old))

    assert sources(load(path)) == [(0, 1, "a = 1\nb = 2")]


def test_magics_are_left_out_and_lines_keep_their_numbers(tmp_path: Path) -> None:
    program = load(
        written(
            tmp_path,
            "%matplotlib inline\nimport math\n!pip install \\\n  torch\nfiles = !ls\nmath?\nif 1:\n    %reset\na = 7",
            "%%time\n%time b = 2",
            "%%bash\nrm -rf x",
            "c = 3",
        )
    )

    assert [cell.source.split("\n") for cell in program.cells] == [
        ["pass", "import math", "pass", "pass", "pass", "pass", "if 1:", "    pass", "a = 7"],
        ["", "b = 2"],
        ["", ""],
        ["c = 3"],
    ]
    assert program.notes == (
        "cell 0: `%matplotlib inline` not run",
        "cell 0: `!pip install \\` not run",
        "cell 0: `files = !ls` not run",
        "cell 0: `math?` not run",
        "cell 0: `%reset` not run",
        "cell 1: `%%time` not run",
        "cell 2: `%%bash` not run",
    )


@pytest.mark.parametrize(
    "source",
    [
        'text = """\n%matplotlib inline\n!ls\nwhat?\n"""',
        "a = (5\n% 3)",
        "a = 5 \\\n% 3",
        "print('why?')  # why?",
        "x = '''it's\n!ls\n'''\ny = 'a # b'",
        "s = 'a\\\n%b'",
    ],
)
def test_what_only_looks_like_a_magic_stays(source: str) -> None:
    ast.parse(source)

    assert without_magics(source) == (source, ())


def test_a_broken_cell_is_noted_and_the_others_stay(tmp_path: Path) -> None:
    program = load(written(tmp_path, "a = 1", "x = 1\ny = = 2", "return 5", "b = 2"))

    assert [cell.index for cell in program.cells] == [0, 3]
    assert program.notes == (
        "cell 1, line 2: syntax error (invalid syntax); the cell was not run",
        "cell 2, line 1: syntax error ('return' outside function); the cell was not run",
    )


PERCENT = """\
import math
# %% [markdown]
# words
# %%
a = 1

# %% broken
b = = 2
# %%
c = 3
"""


def test_a_script_in_percent_format_has_madewith_the_lines_of_the_file(tmp_path: Path) -> None:
    program = load(written(tmp_path, PERCENT, name="file.py"))

    assert program.kind == "percent"
    assert [(cell.index, cell.first_line, cell.tree.body[0].lineno) for cell in program.cells] == [
        (None, 1, 1),
        (None, 4, 5),
        (None, 9, 10),
    ]
    assert program.notes == ("line 8: syntax error (invalid syntax); the cell was not run",)
    assert len(Source("file.py", str(program.text)).tree.body) == 3


def test_percent_marks_within_a_function_make_no_cells(tmp_path: Path) -> None:
    program = load(written(tmp_path, "def f():\n    a = 1\n# %%\n    return a\n", name="file.py"))

    assert program.kind == "script"
    assert len(program.cells) == 1


MARIMO = """\
import marimo

app = marimo.App(width="medium")


@app.cell
def _(b, mo):
    c = b + 1
    mo.md("text")
    return (c,)


@app.cell
def _():
    import marimo as mo
    b = 1
    _private = 2
    return b, mo


@app.cell(disabled=True)
def _():
    d = 1
    return


if __name__ == "__main__":
    app.run()
"""


def test_a_marimo_file_runs_in_the_order_of_its_names(tmp_path: Path) -> None:
    program = load(written(tmp_path, MARIMO, name="file.py"))

    assert program.kind == "marimo"
    assert [[node.lineno for node in cell.tree.body] for cell in program.cells] == [[15, 16, 17], [8, 9]]
    assert program.notes == ("line 22: the cell is switched off, and was not run",)


def test_a_script_with_another_encoding_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    path.write_bytes("# -*- coding: latin-1 -*-\r\nname = 'é'\r\n".encode("latin-1"))

    assert load(path).cells[0].source == "# -*- coding: latin-1 -*-\nname = 'é'\n"


HOSTILE: list[tuple[str, bytes, str]] = [
    ("a.ipynb", b"print(1)", "HG403: {path} is not a notebook: it is not JSON (line 1: Expecting value; it begins with "
        "'print(1)'); save it again in Jupyter, or name it .py if it is a script"),
    ("a.ipynb", b"[" * 200_000, "HG403: {path} is not a notebook: it is not JSON"),
    ("a.ipynb", b"{}", "HG403: {path} is not a notebook: its JSON has no cells"),
    ("a.ipynb", b'{"cells": 5, "nbformat": 4}', "HG403: {path} is a damaged notebook"),
    ("a.ipynb", b'{"cells": [], "metadata": {"language_info": {"name": "R"}}}', "HG403: {path} is a notebook in r; "),
    ("a.ipynb", b'{"cells": [], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "HG405: {path} holds no code"),
    ("a.ipynb", b"\xff\xfe{}", "HG402: {path}, line 1: the byte 0xff is not UTF-8 text; save the file with"),
    ("a.py", b"", "HG405: {path} holds no code to run"),
    ("a.py", b"# only words\n", "HG405: {path} holds no code to run"),
    ("a.py", b"a = 1\nb = '\xe9'\n", "HG402: {path}, line 2: the byte 0xe9 is not UTF-8 text"),
    ("a.py", b"\x7fELF\0\0", "HG402: {path} is binary, not text"),
    ("a.py", b"a = = 1", "HG406: {path}: line 1: syntax error (invalid syntax); nothing else is left to run"),
    ("a.py", b"(" * 100_000, "HG406: {path}: line 1: syntax error (too many nested parentheses)"),
    ("a", b"a = 1\nb =", "HG406: {path}: line 2: syntax error"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), HOSTILE)
def test_a_hostile_file_is_one_clear_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(HandgradError) as raised:
        load(path)

    assert str(raised.value).startswith(message.format(path=path))


def test_a_missing_file_a_folder_and_a_pipe_are_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    for name, words in [("no.ipynb", "does not exist"), ("", "is a folder"), ("pipe", "is not a file"), ("\0", "null")]:
        with pytest.raises(errors.FileNotReadableError, match=words):
            run(tmp_path / name, Options())


def test_a_large_script_is_refused_and_a_notebook_with_large_plots_is_not(tmp_path: Path) -> None:
    script, notebook = tmp_path / "large.py", written(tmp_path, "a = 1")
    script.write_bytes(b"#" * (33 * 2**20))
    content = json.loads(notebook.read_text())
    image = {"output_type": "display_data", "data": {"image/png": "A" * (50 * 2**20)}, "metadata": {}}
    content["cells"][0]["outputs"] = [image]
    notebook.write_text(json.dumps(content))

    with pytest.raises(errors.FileTooLargeError, match="has 33 MB, too much for code; is it data"):
        load(script)
    assert sources(load(notebook)) == [(0, 1, "a = 1")]


# -- loops


class Counting(SimpleNamespace):
    """A tracer that counts what it is told."""

    updates: int = 0
    step_count: int = 0

    def train(self, steps: int = 50) -> None:
        self.updates += 1
        self.step_count += steps

    def work(self, steps: int) -> None:
        self.step_count += steps


def looped(code: str, iterations: int = 3) -> tuple[dict[str, Any], list[str]]:
    """Run ``code`` with its loops watched; return its names and the notes."""
    tracer, notes = Counting(), []
    names: dict[str, Any] = {"train": tracer.train, "work": tracer.work, "seen": []}
    with Loops(tracer, iterations, lambda note: notes.append(note) if note not in notes else None) as loops:
        exec(compile(loops.watched(ast.parse(textwrap.dedent(code)), "", 5), "<cell>", "exec"), names)  # noqa: S102
    return names, notes


def test_a_training_loop_is_left_after_the_first_iterations() -> None:
    names, notes = looped("for i in range(200_000):\n    train()\nelse:\n    ended = True")

    assert (names["i"], names["ended"]) == (2, True)
    assert notes == ["cell 5, line 1: the loop was left after 3 iterations"]


def test_a_while_loop_is_left_and_may_be_started_again() -> None:
    names, notes = looped("for again in range(2):\n    i = 0\n    while i < 1000:\n        train()\n        i += 1")

    assert (names["again"], names["i"]) == (1, 3)
    assert notes == ["cell 5, line 3: the loop was left after 3 iterations"]


def test_of_epochs_and_batches_both_are_left() -> None:
    names, notes = looped(
        """
        def fit():
            for epoch in range(10):
                for batch in iter(range(100)):
                    if batch == 1:
                        continue
                    train()
                    seen.append((epoch, batch))
        fit()
        """
    )

    assert names["seen"] == [(epoch, batch) for epoch in range(3) for batch in (0, 2, 3)]
    assert notes == [
        "cell 5, line 4: the loop was left after 4 iterations",
        "cell 5, line 3: the loop was left after 3 iterations",
    ]


def test_iterations_before_the_training_do_not_count() -> None:
    names, _ = looped("for i in range(1000):\n    if i > 100:\n        train()")

    assert 102 < names["i"] < 101 + MOST_AT_ONCE + 3


@pytest.mark.parametrize(
    "loop",
    [
        "for i in range(3):\n    train()",
        "for i, _ in enumerate([1, 2, 3]):\n    train()",
        "for i in range(100_000):\n    pass",
        "for i in range(100_000):\n    work(1)",
        "for i in range(300):\n    work(100)",
        "for i in range(150):\n    train(2)",
        "for i in range(9):\n    train()\n    if i == 1: break",
        "i = 0\nwhile i < 100_000: i += 1",
    ],
    ids=["as long as that", "of unknown length", "plain", "few steps", "time steps", "parameters", "break", "while"],
)
def test_a_loop_that_is_no_long_training_runs_in_full(loop: str) -> None:
    expected: dict[str, Any] = {"train": lambda *_: None, "work": lambda *_: None}
    exec(loop, expected)  # noqa: S102

    names, notes = looped(loop)

    assert names["i"] == expected["i"]
    assert notes == []


def test_a_loop_over_many_layers_or_parameters_runs_in_full() -> None:
    names, notes = looped(
        """
        class Layer:
            def parameters(self): return []
        class Parameter:
            requires_grad = is_leaf = True
        for n, item in enumerate([Layer()] * 500 + [Parameter()] * 500):
            train(3)
        """
    )

    assert names["n"] == 999
    assert notes == []


def test_a_long_loop_of_tensor_work_is_left_though_nothing_is_trained() -> None:
    names, notes = looped("for i in range(5001):\n    work(20)\nj = 0\nwhile True:\n    work(100)\n    j += 1")

    assert (names["i"], names["j"]) == (2, 500)
    assert len(notes) == 2


def test_iteration_keeps_the_laziness_and_the_errors_of_the_loop() -> None:
    names, _ = looped(
        """
        def numbers():
            for i in range(100):
                seen.append(i)
                yield i
            raise ValueError("end")
        taken = numbers()
        for i in taken:
            if i == 70:
                break
        rest = next(taken)
        try:
            for i in taken: pass
        except ValueError as error:
            message = str(error)
        """
    )

    assert names["rest"] == 71
    assert names["message"] == "end"


LOOPS = """
def f(xs):
    for i, x in enumerate(xs):
        while x > 0 and i:
            x = x - 1
        else:
            yield [y for y in range(x)]
class A:
    for k in range(3): pass
"""


def test_watched_loops_keep_every_place_of_the_author() -> None:
    with Loops(Counting(), 3, print) as loops:
        watched = compile(loops.watched(ast.parse(LOOPS)), "<cell>", "exec")

    source = Source("<cell>", LOOPS)
    places = {
        span for code in codes(watched) for span in code.co_positions() if None not in span and span[3] != span[2]
    }
    unknown = {span for span in places if source.node_at(span) is None}
    plain = {span for code in codes(compile(LOOPS, "<cell>", "exec")) for span in code.co_positions()}
    assert unknown <= plain


def codes(code: Any) -> Iterator[Any]:
    yield code
    for constant in code.co_consts:
        if hasattr(constant, "co_code"):
            yield from codes(constant)


# -- running


def test_a_cell_that_fails_is_noted_and_the_next_one_is_run(tmp_path: Path) -> None:
    result = ran(
        written(tmp_path, "#md", "a = 1\nb = foo\nc = 3", "def f(x):\n    return 1 / x", "d = 4\nf(0)", "e = a + d")
    )

    assert result.names == {"a": 1, "d": 4, "e": 5}
    assert result.notes == [
        "cell 1, line 2: NameError: name 'foo' is not defined; the rest of the cell was not run",
        "cell 3, line 2: ZeroDivisionError: division by zero (from cell 2, line 2); the rest of the cell was not run",
    ]
    assert result.failures == [[1, 2, "NameError"], [3, 2, "ZeroDivisionError"]]


SCRIPT = """
from __future__ import annotations
import dataclasses, inspect, os, pickle, sys
@dataclasses.dataclass
class Point:
    x: Missing = 1
def main():
    global point, text
    point = pickle.loads(pickle.dumps(Point(5))).x
    text = inspect.getsource(Point)
name, file, arguments, folder = __name__, __file__, sys.argv, os.getcwd()
if __name__ == "__main__":
    main()
    sys.exit("done")
after = 1
"""


def test_a_script_is_the_main_module_until_it_ends_itself(tmp_path: Path) -> None:
    path = written(tmp_path, SCRIPT, name="file.py")

    result = ran(path)

    assert result.names["point"] == 5
    assert result.names["text"].startswith("@dataclasses.dataclass\nclass Point:")
    assert (result.names["name"], result.names["file"]) == ("__main__", str(path))
    assert (result.names["arguments"], result.names["folder"]) == ([str(path)], str(tmp_path))
    assert "after" not in result.names
    assert result.notes == ["line 13: SystemExit(done) ended the program; what ran until then is judged"]
    assert not list(tmp_path.glob("__pycache__"))


TRAINING = """
import torch
from tqdm import tqdm
from helpers import fit
torch.set_default_dtype(torch.float64)
W = torch.randn(3, 4, requires_grad=True)
bs = [torch.zeros(4, requires_grad=True) for _ in range(300)]
for i in tqdm(range(10_000)):
    loss = (torch.ones(2, 3) @ W).pow(2).mean()
    loss.backward()
    with torch.no_grad():
        for n, b in enumerate(bs):
            b -= 0.1
        W -= 0.1 * W.grad
total = float(sum(b.sum() for b in bs))
j = fit(W)
"""
HELPERS = """
def fit(W):
    j = 0
    while j < 1000:
        W.sum().backward()
        j += 1
    return j
"""


def test_training_is_cut_short_here_and_in_modules_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text(HELPERS)

    result = ran(written(tmp_path, TRAINING, name="file.py"))

    assert (result.names["i"], result.names["n"], result.names["j"]) == (2, 299, 3)
    assert result.names["total"] == pytest.approx(-0.1 * 3 * 4 * 300)
    assert result.notes == [
        "line 7: the loop was left after 3 iterations",
        "helpers.py:4: the loop was left after 3 iterations",
    ]


def test_a_names_list_that_is_missing_is_found(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "near.txt").write_text("ada\nben\n")
    url = '"https://example.invalid/data/names.txt"'

    result = ran(
        written(
            tmp_path,
            "import pathlib, urllib.request, requests",
            "first = len(open('../names.txt').read().splitlines())",
            "near = pathlib.Path('data/near.txt').read_text()",
            f"sent = urllib.request.urlopen({url}).read().decode().split()[0]",
            f"got = requests.get({url}).text.split()[0]",
            f"urllib.request.urlretrieve({url}, 'names.txt')",
            "open('missing.csv')",
            "open('new.txt', 'w').close()",
        )
    )

    beginning = load_words().words[0]
    assert result.names == {"first": 11451, "near": "ada\nben\n", "sent": beginning, "got": beginning}
    assert result.failures == [[6, 1, "FileNotFoundError"]]
    assert result.notes[:2] == [
        "../names.txt not found: the built-in list of 11,451 names stands in",
        f"data/near.txt not found: {tmp_path}/near.txt stands in",
    ]
    assert not (tmp_path / "names.txt").exists()
    assert (tmp_path / "new.txt").exists()


def test_words_of_ones_own_stand_in_for_a_missing_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("x\ny\n")
    (tmp_path / "sub").mkdir()

    result = ran(written(tmp_path / "sub", "words = open('names.txt').read()", name="a.py"), words="mine")

    assert result.names["words"] == "x\ny\n"


def test_a_missing_module_has_a_stand_in_until_its_value_is_needed(tmp_path: Path) -> None:
    result = ran(
        written(
            tmp_path,
            "import torch, missing_plots.style as sp\nfrom missing_plots import Grid",
            "fig, (a, b) = sp.subplots(2)\nwith sp.theme('dark') as t:\n    t.x[0] = 1\nprint(f'{fig:.3f}')",
            "@sp.jit\ndef f(x: Grid[int, 'a b'] | None) -> int: return 7\nseven = f(1)",
            "torch.ones(2) + sp.palette()",
            "x = torch.tensor(sp.numbers)",
            "float(Grid)",
            "if sp.ready: pass",
            "try:\n    import another_missing\n    has = 1\nexcept ImportError:\n    has = 0",
            "import torch.nothing",
            "import importlib.util\nfound = int(importlib.util.find_spec('third_missing') is not None)",
        )
    )

    assert result.names == {"seven": 7, "has": 0, "found": 0}
    assert [failure[0] for failure in result.failures] == [3, 4, 5, 6, 8]
    assert result.notes == [
        "`missing_plots` is not installed: a stand-in takes its place",
        *(
            f"cell {cell}, line 1: ModuleNotFoundError: `missing_plots` is not installed, and the value of "
            f"`missing_plots.{text}` is needed here; the rest of the cell was not run"
            for cell, text in enumerate(["style.palette(...)", "style.numbers", "Grid", "style.ready"], start=3)
        ),
        "cell 8, line 1: ModuleNotFoundError: No module named 'torch.nothing'; the rest of the cell was not run",
    ]


def test_a_notebook_finds_the_names_of_ipython_and_plots_go_nowhere(tmp_path: Path) -> None:
    result = ran(
        written(
            tmp_path,
            "import IPython\nfrom IPython.display import clear_output\nfrom IPython import get_ipython as g",
            "display('x'); get_ipython().run_line_magic('matplotlib', 'inline'); g().magic('x'); clear_output()",
            "import matplotlib\nmatplotlib.use('TkAgg')\nimport matplotlib.pyplot as plt\nplt.plot([1]); plt.show()",
        )
    )

    assert result.notes == []


def test_nobody_answers_and_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = ran(
        written(
            tmp_path,
            "import os, sys\nprint('p'); sys.stderr.write('e')\nos.write(1, b'o'); sys.stdout.buffer.write(b'b')",
            "import subprocess; subprocess.run(['echo', 'child'], check=True)",
            "name = input('your name? ')",
            "sys.stdin.readline()",
            "for i in range(30_000): print('line', i)",
        )
    )

    assert [failure[2] for failure in result.failures] == ["EOFError", "EOFError"]
    assert result.notes[0].startswith(
        "cell 2, line 1: EOFError: handgrad runs files without a terminal: input('your name? ') has no answer"
    )
    assert result.output.endswith("line 29999\n")
    assert len(result.output) <= 2**16
    assert capfd.readouterr() == ("", "")


# -- ends


def ended(path: Path, error: type[HandgradError], **options: Any) -> str:
    """Run ``path``, which must end with ``error``; return the message after the path."""
    with pytest.raises(error) as raised:
        run(path, Options(**{"timeout": 60.0} | options), judge="told:tell")
    assert raised.value.message.startswith(str(path))
    return raised.value.message.removeprefix(str(path)).strip()


def test_an_endless_loop_is_ended_and_its_place_told(tmp_path: Path) -> None:
    path = written(tmp_path, "a = 1", "import time\nwhile True:\n    time.sleep(0.01)")

    message = ended(path, errors.TimeLimitError, timeout=1.0)

    assert message == (
        "ran longer than 1 s (at cell 1, line 3); leave out what the backward pass does not need, or allow more time"
    )


def test_a_growing_memory_is_ended(tmp_path: Path) -> None:
    path = written(tmp_path, "import torch\nx = [torch.ones(10**7) for _ in range(1000)]", name="a.py")

    message = ended(path, errors.MemoryLimitError, memory=2**30)

    assert message == "took more than 1 GiB of memory; make what it computes smaller, or allow more memory"


def test_memory_of_what_the_file_starts_counts(tmp_path: Path) -> None:
    grow = "x = []\nwhile True: x.append(b'0' * 10**7)"
    path = written(tmp_path, f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {grow!r}])", name="a.py")

    ended(path, errors.MemoryLimitError, memory=2**30)


def test_one_giant_request_fails_where_it_is_made(tmp_path: Path) -> None:
    result = ran(written(tmp_path, "x = b'0' * 10**11", "import torch\ny = torch.ones(10**11)", "z = 1"))

    assert result.names == {"z": 1}
    assert [failure[:2] for failure in result.failures] == [[0, 1], [1, 2]]


CRASH = "import ctypes\na = 1\nctypes.string_at(0)"


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("import os\nos._exit(3)", errors.ProcessEndedError,
            "ended its own process, as os._exit(3) does, before it could be judged; leave that out, or use sys.exit()"),
        ("import os\nos._exit(0)", errors.ProcessEndedError, "ended its own process, as os._exit(0) does"),
        ("import os\nos.kill(os.getpid(), 9)", errors.ProcessKilledError,
            "was ended from outside with SIGKILL (the system does so when memory runs out); run it again"),
        ("import os\nos.kill(os.getpid(), 15)", errors.ProcessKilledError,
            "was ended from outside with SIGTERM; run it again"),
        (CRASH, errors.ProcessCrashedError,
            "crashed with SIGSEGV (at line 3); run that line alone to see what it does"),
        ("import os\nos.abort()", errors.ProcessCrashedError, "crashed with SIGABRT (at line 2)"),
        ("import os\nos.closerange(3, 65536)", errors.NoResultError,
            "closed files that are not its own, and its result was lost; leave that out"),
    ],
)  # fmt: skip
def test_every_end_is_one_clear_error(tmp_path: Path, code: str, error: type[HandgradError], message: str) -> None:
    assert ended(written(tmp_path, code, name="a.py"), error).startswith(message)


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.remove(__file__)",
        "import os\nos.closerange(3, 256)\nos.close(1)",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()",
        "import atexit, time\natexit.register(time.sleep, 600)",
        "import os, time\nif os.fork() == 0: a = 2\nelse: time.sleep(2)",
        "import warnings, sys\nwarnings.simplefilter('error'); sys.setrecursionlimit(10**6)",
        "import sys\nsys.stdout.close(); sys.stdout = None; sys.settrace(None)",
        "import builtins\nbuiltins.print = builtins.sum = None",
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN); signal.alarm(600)",
        "import torch\ntorch.set_default_device('meta'); torch.set_grad_enabled(False)",
        "class Bad(Exception):\n    def __str__(self): raise Bad\nraise Bad",
    ],
    ids=lambda code: code.split("\n")[0].removeprefix("import ").partition(",")[0],
)
def test_odd_habits_do_not_lose_the_result(tmp_path: Path, code: str) -> None:
    result = ran(written(tmp_path, "a = 1", code))

    assert result.names["a"] == 1


LEFT = """
import os, subprocess, sys
command = [sys.executable, "-c", "import time; time.sleep(600)"]
pids = [subprocess.Popen(command, start_new_session=new).pid for new in (False, True)]
if (pid := os.fork()) == 0:
    os.setsid()
    if os.fork() == 0:
        import time
        time.sleep(600)
    os._exit(0)
os.waitpid(pid, 0)
"""


def running(mark: str) -> list[int]:
    """Return the processes whose environment or command holds ``mark``."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and mark in str([process.environ(), process.cmdline()]):
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def test_nothing_that_the_file_started_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEFT_BY", str(tmp_path))

    result = ran(written(tmp_path, LEFT, name="a.py"))

    assert len(result.names["pids"]) == 2
    assert running(f"'LEFT_BY': '{tmp_path}'") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_nothing_is_left_when_the_one_who_asked_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    path = written(tmp_path, "open('begun', 'w').close()\nimport time\ntime.sleep(600)", name="a.py")
    code = f"from handgrad.runner.process import Options, run; run({str(path)!r}, Options(), judge='told:tell')"
    asking = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"LEFT_BY": str(tmp_path)},
        stderr=subprocess.DEVNULL,
    )
    wait_until((tmp_path / "begun").exists)

    asking.send_signal(number)
    asking.wait()

    wait_until(lambda: running(f"'LEFT_BY': '{tmp_path}'") == [])


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.05)


def test_the_judges_refusal_its_mistake_and_a_long_report_arrive(tmp_path: Path) -> None:
    path = written(tmp_path, "a = 1", name="a.py")

    with pytest.raises(errors.NothingToJudgeError, match="there is no loss"):
        run(path, Options(), judge="told:refuse")
    with pytest.raises(errors.NoResultError, match=r"handgrad itself failed: KeyError: 'x' \(told.py:\d+\)"):
        run(path, Options(), judge="told:fail")
    assert len(run(path, Options(), judge="told:write_much").notes[0]) == 5_000_000


@pytest.mark.parametrize("option", [{"timeout": 0.0}, {"timeout": float("nan")}, {"memory": 5}, {"iterations": 0}])
def test_an_option_that_cannot_work_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidOptionError, match=next(iter(option))):
        Options(**option)


def test_options_survive_the_way_to_the_child() -> None:
    options = Options(timeout=1.5, words="w", gradient=("dW=W", "db=b"), loss="loss")

    assert Options.from_json(options.to_json()) == options
