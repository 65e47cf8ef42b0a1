"""The text of derived backwards, held in `tests/golden`: valid Python that is run, and changes only on purpose.

Each file there has a forward, and below it the same forward with its derived backward pasted in.
`pytest tests/test_derive_golden.py --update-golden` writes the second part anew.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from handgrad.deriver import Backward, derive

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*.py"))
MARK = "\n\n# -- derived\n"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"golden_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pasted(module: ModuleType, backward: Backward) -> str:
    """Return the forward with the derived source below it, as a function that returns every name."""
    source = inspect.getsource(module.forward)
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    rows = source.split("\n")
    body = rows[function.body[0].lineno - 1 : function.body[-1].lineno - 1]
    head = f"def forward_and_backward({', '.join(inspect.signature(module.forward).parameters)}):"
    page = textwrap.indent(str(backward), "    ").rstrip()
    return "\n".join([head, *body, "", page, "    return locals()"]) + "\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_text_is_what_it_was(path: Path, request: pytest.FixtureRequest) -> None:
    module = load(path)
    text = pasted(module, derive(module.forward, *module.inputs()))
    written = path.read_text()
    if request.config.getoption("--update-golden"):
        assert not os.environ.get("CI"), "golden files are not written in CI"
        path.write_text(written.partition(MARK)[0].rstrip("\n") + MARK + "\n\n" + text)
        return

    expected = written.partition(MARK)[2].lstrip("\n")

    assert text == expected


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_pasted_text_computes_what_autograd_does(path: Path) -> None:
    module = load(path)
    given = [x.detach().double().requires_grad_(x.requires_grad) if is_floating(x) else x for x in module.inputs()]
    torch.set_default_dtype(torch.float64)
    try:
        module.forward(*given).backward()
        with torch.no_grad():
            names = module.forward_and_backward(*given)
    finally:
        torch.set_default_dtype(torch.float32)

    compared = 0
    for name, tensor in zip(inspect.signature(module.forward).parameters, given, strict=True):
        if is_floating(tensor) and tensor.requires_grad:
            torch.testing.assert_close(names[f"d{name}"], tensor.grad, rtol=1e-9, atol=1e-12)
            compared += 1
    assert compared >= 5


def is_floating(item: Any) -> bool:
    return isinstance(item, Tensor) and item.is_floating_point()


@pytest.mark.parametrize("n", [5, 27, 32, 33, 100])
def test_the_exact_style_of_the_names_model_is_autograds_to_the_bit(n: int) -> None:
    module = load(GOLDEN / "mlp.py")
    given = module.inputs(n=n)
    backward = derive(module.forward, *given, style="exact")
    values = dict(zip(inspect.signature(module.forward).parameters, given, strict=True))
    text = pasted(module, backward)
    space: dict[str, Any] = {"torch": torch, "F": torch.nn.functional}
    exec(text, space)  # noqa: S102

    module.forward(*given).backward()
    with torch.no_grad():
        names = space["forward_and_backward"](*given)

    for name, tensor in values.items():
        if is_floating(tensor):
            assert torch.equal(names[f"d{name}"], tensor.grad), name


def test_the_names_model_comes_out_in_about_as_many_lines_as_by_hand() -> None:
    module = load(GOLDEN / "mlp.py")

    backward = derive(module.forward, *module.inputs())

    rows = [row for row in str(backward).split("\n") if row and not row.startswith("#")]
    assert len(backward.gradients) == 26
    assert len(rows) <= 32
    assert not backward.page.prelude


def test_the_text_is_the_same_in_every_process() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests/golden'); import gru; from handgrad import derive; "
        "print(derive(gru.forward, *gru.inputs()))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=GOLDEN.parent.parent,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip

    assert len(texts) == 1


def test_a_changed_text_is_noticed(tmp_path: Path) -> None:
    module = load(GOLDEN / "mlp.py")
    written = (GOLDEN / "mlp.py").read_text()

    other = pasted(module, derive(module.forward, *module.inputs(), style="exact"))

    assert other not in written
