"""Compiled code is kept and found again, whatever happens to the folder; plans and draws need no torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import handgrad
from handgrad.errors import CompileError
from handgrad.native import cache, planning
from handgrad.native.draws import Draws
from handgrad.native.executor import Executor
from handgrad.native.plan import Plan


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HANDGRAD_CACHE", str(tmp_path))
    return tmp_path / "native"


def forward(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return ((torch.tanh(x @ w) - y) ** 2).mean()


def compiled() -> handgrad.CompiledStep:
    return handgrad.compile(forward, params=torch.zeros(3, 1), batch=(torch.ones(8, 3), torch.ones(8, 1)))


def one_step() -> float:
    step = compiled()
    step.step(torch.ones(8, 3), torch.ones(8, 1))
    return float(step.step(torch.ones(8, 3), torch.ones(8, 1)))


# -- the folder


def test_code_that_was_compiled_before_is_not_compiled_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = one_step()
    monkeypatch.setattr(planning, "object_of", lambda _: pytest.fail("compiled again"))

    assert one_step() == first
    assert len(list(folder.iterdir())) == 1


@pytest.mark.usefixtures("folder")
def test_what_differs_anywhere_is_another_entry() -> None:
    def loss_of(target: Tensor, power: float, update: Any, rows: int = 8, size: int = 3) -> tuple[float, ...]:
        def forward(w: Tensor, x: Tensor) -> Tensor:
            return ((x @ w - target).abs() ** power).mean()

        w = torch.full((size, 1), 0.5)
        step = handgrad.compile(forward, params=w, batch=(torch.ones(rows, size),), update=update)
        return step.step(torch.ones(rows, size)), *w.flatten().tolist()

    target = torch.tensor([0.0])
    asked = [
        (target, 2.0, handgrad.SGD(0.1)), (target + 1, 2.0, handgrad.SGD(0.1)), (target, 3.0, handgrad.SGD(0.1)),
        (target, 2.0, handgrad.SGD(0.2)), (target, 2.0, handgrad.SGD(0.1, weight_decay=0.5)),
        (target, 2.0, handgrad.AdamW(0.1)), (target, 2.0, handgrad.SGD(0.1, max_norm=0.1)),
        (target, 2.0, handgrad.SGD(0.1), 8, 4),
    ]  # fmt: skip

    first = [loss_of(*one) for one in asked]

    assert len(set(first)) == len(asked)
    assert [loss_of(*one) for one in asked] == first


@pytest.mark.parametrize("damage", [b"", b"short", b"\0" * 5000])
def test_a_damaged_entry_is_made_again(folder: Path, damage: bytes) -> None:
    first = one_step()
    (entry,) = folder.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(damage)

    assert one_step() == first
    assert entry.read_bytes() == whole


def test_one_flipped_bit_is_damage(folder: Path) -> None:
    cache.write("key", b"content")
    content = bytearray((folder / "key").read_bytes())
    content[-1] ^= 1
    (folder / "key").write_bytes(content)

    assert cache.read("key") is None


def test_without_a_folder_nothing_is_kept_and_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HANDGRAD_CACHE", str(tmp_path / "file"))

    assert one_step() < 1.0
    assert cache.read("key") is None


def test_the_entries_that_were_not_used_for_long_go_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LARGEST", 400)
    for number, name in enumerate(["old", "used", "new"]):
        cache.write(name, bytes(80))
        os.utime(folder / name, (number, number))
    assert cache.read("old") is not None  # is the latest now

    cache.write("last", bytes(80))

    assert {path.name for path in folder.iterdir()} == {"old", "new", "last"}


def test_the_key_tells_parts_apart() -> None:
    assert cache.key_of("ab", "c") != cache.key_of("a", "bc")


COMPILE = """
import sys
import torch
import handgrad

def forward(w, x):
    return (torch.tanh(x @ w) ** 2).mean()

sys.stdin.readline()
step = handgrad.compile(forward, params=torch.ones(3, 2), batch=(torch.ones(8, 3),))
print(step.step(torch.ones(8, 3)))
"""


def test_processes_that_compile_the_same_at_once_get_the_same(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(COMPILE)
    command = [sys.executable, str(script)]
    processes = [subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True) for _ in range(3)]

    answers = {process.communicate("go\n", timeout=120) for process in processes}

    assert len(answers) == 1
    assert {process.returncode for process in processes} == {0}
    assert len(list(folder.iterdir())) == 1  # no half-written parts


# -- plans


def test_a_plan_is_the_same_after_it_was_written_and_read() -> None:
    step = compiled()
    plan = step._training.plan

    again = Plan.from_bytes(plan.to_bytes())

    assert again.to_bytes() == plan.to_bytes()
    assert (again.parameters, again.batch, again.limits, again.code) == (
        plan.parameters, plan.batch, plan.limits, plan.code,
    )  # fmt: skip


RUN = """
import sys
import numpy as np
from pathlib import Path
from handgrad.native.executor import Executor
from handgrad.native.draws import Draws
from handgrad.native.plan import Plan

run = Executor(Plan.from_bytes(Path(sys.argv[1]).read_bytes()))
w = np.zeros((3, 1), np.float32)
run.load_parameters([w])
run.set_data([np.ones((20, 3), np.float32), np.ones((20, 1), np.float32)])
rows = run.drawn_rows(5, Draws.seeded(3))
run.run(rows, {"lr": np.full(5, 0.1, np.float32)}, lambda losses: print(*losses))
run.store_parameters([w])
print(*w.ravel())
assert "torch" not in sys.modules
"""


def test_a_plan_runs_without_torch(tmp_path: Path) -> None:
    step = compiled()
    (tmp_path / "plan").write_bytes(step._training.plan.to_bytes())
    losses = step.run(5, torch.ones(20, 3), torch.ones(20, 1), seed=3)

    done = subprocess.run([sys.executable, "-c", RUN, str(tmp_path / "plan")], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    *said, weights = done.stdout.splitlines()
    assert [float(x) for row in said for x in row.split()] == pytest.approx(losses.tolist())
    assert [float(x) for x in weights.split()] == pytest.approx(np.ravel(step.parameters.tensors[0]).tolist())


def test_data_of_another_length_leave_what_was_given_before() -> None:
    executor = Executor(compiled()._training.plan)
    executor.set_data([np.ones((20, 3), np.float32), np.ones((20, 1), np.float32)])

    with pytest.raises(CompileError, match="20, 21 rows"):
        executor.set_data([np.ones((20, 3), np.float32), np.ones((21, 1), np.float32)])

    assert [len(data) for data in executor._data] == [20, 20]


# -- draws


@given(
    seed=st.integers(0, 2**63 - 1), before=st.integers(0, 2000), count=st.integers(1, 2**28 - 1),
    shape=st.tuples(st.integers(0, 40), st.integers(1, 40)), fresh=st.booleans(),
)  # fmt: skip
def test_draws_are_those_of_torch(seed: int, before: int, count: int, shape: tuple[int, int], fresh: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    draws = Draws.seeded(seed)
    if before:
        torch.randint(0, 7, (before,), generator=generator)
        draws.below(7, (before,))
    if not fresh:
        draws = Draws(generator.get_state().numpy())

    assert draws.below(count, shape).tolist() == torch.randint(0, count, shape, generator=generator).tolist()
    assert draws.state.tolist() == generator.get_state().tolist()


def test_too_many_rows_are_refused() -> None:
    with pytest.raises(CompileError, match="268,435,456: give them as `rows`"):
        Draws.seeded(1).below(2**28, (1,))


def test_a_start_loads_no_sympy() -> None:
    """Half a second that PyTorch would spend on the first write in place, such as that of an embedding's gradient."""
    code = (
        "import sys, torch, handgrad\n"
        "from handgrad.models import MODELS\n"
        "m = MODELS['mlp']\n"
        "p = m.initialise(11, n_embd=5, n_hidden=9, block_size=3, generator=torch.Generator().manual_seed(3))\n"
        "batch = torch.zeros(4, 3, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)\n"
        "handgrad.compile(m.forward, m.backward, params=p, batch=batch, fallback=False).loss(*batch)\n"
        "assert 'sympy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
