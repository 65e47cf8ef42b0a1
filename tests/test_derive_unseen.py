"""The scripts of `bench/unseen` stay derived, and what they found stays mended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from handgrad import source
from handgrad.deriver.derivation import Backward
from handgrad.deriver.files import derive_at, last_loss
from handgrad.errors import DeriveError, HandgradError, NoRuleError
from handgrad.tracer import Tracer, name_modules

FORWARDS = sorted((Path(__file__).parents[1] / "bench" / "unseen").glob("*.py"))
REFUSED: dict[str, tuple[type[HandgradError], str]] = {
    "gaussian_process": (NoRuleError, "no rule for `cholesky_solve`"),
    "highway": (DeriveError, r"what `torch.randn\(n, width\)` drew, and nothing holds it any more"),
    "wavenet": (DeriveError, r"what `torch.randn\(B, C, T\)` drew, and nothing holds it any more"),
}


def derived(path: Path) -> Backward:
    """Return the verified backward of a script, as it can be pasted below it."""
    text = path.read_text()
    source.register(str(path), text)
    names: dict[str, Any] = {"__name__": "__main__"}
    with Tracer() as tracer:
        exec(compile(text, str(path), "exec"), names)  # noqa: S102  (a script of ours)
    name_modules(tracer, names)
    graph = tracer.recording
    return derive_at(graph, last_loss(graph, [], None))


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "script.py"
    path.write_text(text)
    return derived(path).source()


@pytest.mark.parametrize("path", FORWARDS, ids=lambda path: path.stem)
def test_an_unseen_forward_is_derived_or_refused_with_a_reason(path: Path) -> None:
    if path.stem in REFUSED:
        kind, reason = REFUSED[path.stem]
        with pytest.raises(kind, match=reason):
            derived(path)
    else:
        assert str(derived(path))


def test_parameters_that_a_module_of_the_script_draws_are_written_by_their_path(tmp_path: Path) -> None:
    text = """\
import torch
layers = torch.nn.ModuleList([torch.nn.Linear(4, 4, bias=False) for _ in range(2)])
x = torch.ones(3, 4)
h = torch.tanh(layers[0](x))
for layer in layers[1:]:
    out = torch.tanh(layer(h)) * h
loss = out.sum()
"""

    found = written(tmp_path, text)

    assert "@ layers[1].weight" in found
    assert "None" not in found


def test_an_item_of_a_list_is_not_taken_for_the_last_value_of_its_name(tmp_path: Path) -> None:
    text = """\
import torch
w = torch.tensor([[0.5, 0.1], [-0.3, 0.8]], requires_grad=True)
y = torch.ones(1, 2)
path = [y]
for _ in range(3):
    y = y + torch.tanh(y**3 @ w)
    path.append(y)
loss = torch.cat(path).square().sum()
"""

    assert "(path[0]**3).T" in written(tmp_path, text)


def test_the_gradient_of_a_number_made_a_matrix_is_a_number_again(tmp_path: Path) -> None:
    text = """\
import torch
r = torch.tensor(2.0, requires_grad=True)
R = r.exp().reshape(1, 1)
loss = (R @ R).sum()
"""

    assert "dr = r.exp() * dR.reshape(())" in written(tmp_path, text)


def test_a_mask_is_negated_and_a_matrix_transposed_as_people_write_it(tmp_path: Path) -> None:
    text = """\
import torch
a, b = torch.randn(3, 3, requires_grad=True), torch.randn(3, 3, requires_grad=True)
mask = torch.eye(3).bool()
s = (a @ b.t()).masked_fill(~mask, 0.0)
loss = s.square().sum()
"""

    assert "da = ds.masked_fill(~mask, 0) @ b  # (3, 3)" in written(tmp_path, text)


def test_a_name_that_a_loop_binds_twice_stays_a_loop(tmp_path: Path) -> None:
    text = """\
import torch
T = 4
w, u = torch.randn(3, 3, requires_grad=True), torch.randn(3, 3, requires_grad=True)
x = torch.randn(T, 3)
h = torch.zeros(3)
for t in range(T):
    a = x[t] @ w + h
    a = torch.exp(-a * a)
    h = h @ u
    h = h * torch.sin(h) + a
loss = h.sum()
"""

    found = written(tmp_path, text)

    assert "    da_in = " in found  # of the first `a`
    assert "    h_in = h_prev @ u\n" in found  # is computed again: the name has moved on
    assert "h_1" not in found


@pytest.mark.parametrize("name", ["lstm", "kalman"])
def test_recurrences_that_bind_names_twice_are_short(name: str) -> None:
    path = next(path for path in FORWARDS if path.stem == name)

    found = derived(path).source()

    assert "for t in reversed(range(T)):" in found
    assert len(found.splitlines()) < 80
