"""Matrix products of native code at any size, and threads that share a step: as exact as a dot product can be."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import handgrad
from handgrad.errors import CompileError
from handgrad.models import MODELS
from handgrad.native.arrays import Tensor as Formula
from handgrad.native.arrays import reshaped
from handgrad.native.executor import Executor
from handgrad.native.llvm.objects import vector_bytes
from handgrad.native.loops import Division, block_of, division_of, turned
from handgrad.native.nests import nests_of
from handgrad.native.planning import plan_of
from handgrad.native.program import Program
from handgrad.native.scalars import number, op

Numbers = np.ndarray[Any, Any]
THREADS = (1, 2, 3)


class Sheet:
    """Arrays of random numbers, and results of them: natively, and as NumPy computes them in float64."""

    def __init__(self, item: int, seed: int = 0) -> None:
        self.item, self.program = item, Program()
        self.real: Any = np.float32 if item == 4 else np.float64
        self.random = np.random.default_rng(seed)
        self.given: list[tuple[Formula, Numbers]] = []
        self.results: list[Formula] = []

    def array(self, *shape: int) -> tuple[Formula, Numbers]:
        numbers = self.random.standard_normal(shape).astype(self.real)
        self.given.append((self.program.give(shape, "float", f"x{len(self.given)}", "parameter"), numbers))
        return self.given[-1]

    def factor(self, *shape: int, transposed: bool) -> tuple[Formula, Numbers]:
        """Return a matrix that lies in memory by rows, or by columns."""
        if not transposed:
            return self.array(*shape)
        *lead, m, n = shape
        formula, numbers = self.array(*lead, n, m)
        return Formula(shape, lambda p: formula.at((*p[:-2], p[-1], p[-2]))), numbers.swapaxes(-1, -2)

    def keep(self, formula: Formula) -> None:
        self.results.append(self.program.realise(formula))

    def executor(self, threads: int = 1) -> Executor:
        arrays = [r.array for r in (self.program.realise(self.program.reduce("sum", self.given[0][0], ())),
                                    *self.results)]  # fmt: skip
        assert None not in arrays
        plan = plan_of(self.program, [f for f, _ in self.given], arrays, self.item)  # type: ignore[arg-type]
        return Executor(plan, threads)

    def divided(self) -> list[tuple[str, Division]]:
        """Return of what kind the nests are that threads share, and how they do."""
        lanes, registers = vector_bytes()[0] // self.item, vector_bytes()[1]
        nests = nests_of(self.program, [r.array for r in self.results if r.array is not None])
        kinds = ("product" if n.product else "reduce" if n.over else "copy" if turned(n) else "map" for n in nests)
        divisions = (division_of(n, lanes, registers) for n in nests)
        return [(kind, found) for kind, found in zip(kinds, divisions, strict=True) if found]

    def run(self, threads: int = 1) -> list[Numbers]:
        executor = self.executor(threads)
        executor.load_parameters([numbers for _, numbers in self.given])
        executor.call(2, {}, np.zeros((2, 1), np.int32))  # the second finds what the first has left
        return [executor.read(place) for place in executor.plan.gradients]


def assert_product(found: Numbers, left: Numbers, right: Numbers) -> None:
    """Assert the bound of a dot product, in any order: |error| <= k u / (1 - k u) times the sum of |a b| (Higham)."""
    left, right = left.astype(np.float64), right.astype(np.float64)
    k, u = left.shape[-1], np.finfo(found.dtype).eps / 2
    slack = 4 * np.finfo(np.float64).eps * k  # of the truth itself
    bound = (k * u / (1 - k * u) + slack) * (np.abs(left) @ np.abs(right))
    error = np.abs(found.astype(np.float64) - left @ right)
    assert found.shape == error.shape
    assert (error <= bound).all(), f"an error of {error.max()} at {np.unravel_index(error.argmax(), error.shape)}"


# edges below and above tiles, panels and vectors; long sums, and longer ones in chunks; rows that lie a power of two
# apart; many parts
SIZES = [(2, 2, 2), (7, 5, 3), (6, 64, 16), (13, 65, 17), (31, 129, 33), (5, 257, 2), (257, 3, 31), (2, 3, 1027),
         (19, 70, 515), (9, 512, 64), (64, 100, 256), (101, 103, 107),
         (7, 70, 1025), (40, 37, 2049), (13, 129, 1537)]  # fmt: skip


@pytest.mark.parametrize("item", [4, 8])
@pytest.mark.parametrize("sizes", [SIZES[k::3] for k in range(3)], ids=str)
def test_a_product_of_any_size_is_as_exact_as_a_dot_product(sizes: list[tuple[int, int, int]], item: int) -> None:
    sheet, factors = Sheet(item), []
    for (m, n, k), (left, right) in itertools.product(sizes, itertools.product((False, True), repeat=2)):
        (a, A), (b, B) = sheet.factor(m, k, transposed=left), sheet.factor(k, n, transposed=right)
        sheet.keep(sheet.program.multiply(a, b))
        factors.append((A, B))

    for found, (A, B) in zip(sheet.run(), factors, strict=True):
        assert_product(found, A, B)


@pytest.mark.parametrize("item", [4, 8])
def test_what_follows_a_product_of_long_sums_reads_all_of_them(item: int) -> None:
    sheet = Sheet(item)
    (a, A), (b, B) = sheet.array(23, 1300), sheet.array(1300, 75)
    found = sheet.program.multiply(a, b)
    sheet.keep(Formula(found.shape, lambda p: op("sin", op("mul", found.at(p), number(0.02)))))
    sheet.keep(sheet.program.reduce("max", Formula(found.shape, lambda p: op("neg", found.at(p))), [0]))
    product = A.astype(np.float64) @ B

    sines, least = sheet.run()

    np.testing.assert_allclose(sines, np.sin(product * 0.02), atol=1e-5 if item == 4 else 1e-12)
    np.testing.assert_allclose(least, (-product).max(0), rtol=1e-4 if item == 4 else 1e-12)


def test_the_bound_of_a_product_finds_a_sum_that_lacks_its_last_term() -> None:
    random = np.random.default_rng(0)
    A, B = random.standard_normal((5, 300)), random.standard_normal((300, 7))

    assert_product((A @ B).astype(np.float32), A, B)
    with pytest.raises(AssertionError, match="an error of"):
        assert_product((A[:, :-1] @ B[:-1]).astype(np.float32), A, B)


def shared(item: int) -> Sheet:
    """Return work that is large enough for threads, of every kind and with edges."""
    sheet = Sheet(item)
    x, _ = sheet.array(40, 1111)
    w, _ = sheet.factor(1111, 37, transposed=True)
    v, _ = sheet.array(37, 1111)
    narrow = sheet.program.multiply(x, w)  # (40, 37): few columns
    sheet.keep(narrow)
    wide = sheet.program.multiply(narrow, v)
    sheet.keep(Formula(wide.shape, lambda p: op("tanh", op("add", wide.at(p), x.at(p)))))  # follows the sums
    sheet.keep(sheet.program.reduce("sum", Formula(x.shape, lambda p: op("exp", x.at(p))), [0]))
    sheet.keep(sheet.program.reduce("max", Formula(x.shape, lambda p: op("exp", x.at(p))), [1]))
    sheet.keep(Formula((1111, 40), lambda p: op("sin", x.at((p[1], p[0])))))
    a, _ = sheet.array(9, 31, 43)
    b, _ = sheet.factor(9, 43, 29, transposed=True)
    sheet.keep(sheet.program.multiply(a, b))
    sheet.keep(sheet.program.multiply(reshaped(a, (9 * 31, 43)), sheet.array(43, 30)[0]))
    tall = sheet.program.multiply(sheet.array(1111, 37)[0], sheet.array(37, 100)[0])
    sheet.keep(sheet.program.reduce("sum", Formula(tall.shape, lambda p: op("sin", tall.at(p))), [0], keepdim=True))
    return sheet


@pytest.mark.parametrize("item", [4, 8])
def test_every_number_of_threads_gives_the_same_bits(item: int) -> None:
    found = {threads: shared(item).run(threads) for threads in THREADS}

    assert {kind for kind, _ in shared(item).divided()} == {"product", "reduce", "map"}
    *_, (A, B) = itertools.pairwise(numbers.astype(np.float64) for _, numbers in shared(item).given)
    np.testing.assert_allclose(found[1][-1], np.sin(A @ B).sum(0, keepdims=True), atol=1e-3 if item == 4 else 1e-9)
    for threads in THREADS[1:]:
        for one, several in zip(found[1], found[threads], strict=True):
            assert one.dtype == several.dtype
            assert one.tobytes() == several.tobytes()


def pair(rows: int = 256) -> tuple[Any, list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    parameters = MODELS["mlp"].initialise(27, n_hidden=100, n_embd=10, block_size=3, generator=generator)
    X = torch.randint(0, 27, (rows, 3), generator=generator)
    return parameters, [X, torch.randint(0, 27, (rows,), generator=generator)]


def compiled(parameters: Any, batch: list[Tensor], **given: Any) -> handgrad.CompiledStep:
    model = MODELS["mlp"]
    return handgrad.compile(model.forward, model.backward, params=parameters, batch=batch, **given)


def test_a_run_of_several_threads_is_that_of_one() -> None:
    losses, ends = [], []
    for threads in (1, 2, 5):  # more than most machines of a CI have
        parameters, batch = pair()
        step = compiled(parameters, batch, threads=threads)
        assert step.threads == threads
        losses.append(step.run(30, *batch, seed=1))
        ends.append([p.numpy().tobytes() for p in parameters])
        assert {name: g.tobytes() for name, g in step.gradients(*batch).items()} == {
            name: g.tobytes() for name, g in compiled(parameters, batch, threads=1).gradients(*batch).items()
        }

    assert losses[0].tobytes() == losses[1].tobytes() == losses[2].tobytes()
    assert ends[0] == ends[1] == ends[2]


def test_a_small_step_runs_in_one_thread_and_no_number_below_one_is_taken() -> None:
    parameters, batch = pair(8)

    assert compiled(parameters, batch).threads == 1
    with pytest.raises(CompileError, match="threads is 0: give 1 or more"):
        compiled(parameters, batch, threads=0)


def test_where_the_system_starts_too_few_threads_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters, batch = pair()
    before = [p.clone() for p in parameters]
    step = compiled(parameters, batch, threads=3)
    start, asked = threading.Thread.start, itertools.count()

    def start_two(self: threading.Thread) -> None:
        if next(asked) >= 2:
            raise RuntimeError("can't start new thread")
        start(self)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_two)
        with pytest.raises(CompileError, match="the system starts no 3 threads"):
            step.run(5, *batch)

    assert all(torch.equal(a, b) for a, b in zip(before, parameters, strict=True))
    assert len(step.run(5, *batch)) == 5
    assert not [t.name for t in threading.enumerate() if t.name.startswith("handgrad")]


@pytest.mark.parametrize("item", [4, 8])
@pytest.mark.parametrize("dims", [(1, 0), (0, 2, 1), (2, 0, 1), (2, 1, 0)], ids=str)
def test_a_transposed_copy_has_every_number_at_its_place(dims: tuple[int, ...], item: int) -> None:
    sheet, wanted = Sheet(item), []
    for sizes in [(1, 2, 3), (7, 8, 9), (3, 16, 33), (5, 31, 40), (2, 61, 700)]:
        x, X = sheet.array(*sizes[-len(dims) :])
        shape = tuple(X.shape[d] for d in dims)
        sheet.keep(Formula(shape, lambda p, x=x: x.at(tuple(p[dims.index(d)] for d in range(len(dims))))))
        wanted.append(X.transpose(dims))

    for threads in THREADS:
        for found, right in zip(sheet.run(threads), wanted, strict=True):
            np.testing.assert_array_equal(found, right)


def test_a_large_transposed_copy_is_shared_by_threads() -> None:
    sheet = Sheet(4)
    for m, n in ((1111, 501), (37, 9001)):
        x, _ = sheet.array(m, n)
        sheet.keep(Formula((n, m), lambda p, x=x: x.at((p[1], p[0]))))

    copies = [division for kind, division in sheet.divided() if kind == "copy"]
    assert {d.variable.place for d in copies} == {0, 1}  # by rows, and by columns
    assert all(d.grain % block_of(vector_bytes()[0] // 4, 4) == 0 for d in copies)
    for threads in THREADS:
        for (_, X), found in zip(sheet.given, sheet.run(threads), strict=True):
            np.testing.assert_array_equal(found, X.T)
