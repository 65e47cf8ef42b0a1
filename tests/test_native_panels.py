"""Nests that run together for one panel of columns after the other, and arrays that lie where others lay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import handgrad
from handgrad.native.arrays import Tensor
from handgrad.native.indices import Index
from handgrad.native.layout import layout_of
from handgrad.native.llvm.objects import vector_bytes
from handgrad.native.nests import nests_of
from handgrad.native.panels import Group, groups_of
from handgrad.native.scalars import op
from native_code import case, natively
from test_native_products import Sheet

Numbers = np.ndarray[Any, Any]
LANES, REGISTERS = 16, 32  # of the processor that these groups are for
N, W = 40, 200  # rows and columns: a few panels, and a rest


class Chain(Sheet):
    """Statements, each of what the ones before it made; ``known`` holds what NumPy makes of them."""

    def __init__(self, width: int = W, item: int = 8) -> None:
        super().__init__(item)
        self.width = width
        self.known = [self.array(N, width), self.array(N, width)]

    def add(self, kind: str, first: int = -1, second: int = -2) -> None:
        (a, A), (b, B) = self.known[first], self.known[second]
        self.known.append(STATEMENTS[kind](self, a, A, b, B))

    def keep_numbers(self, *which: int) -> list[Numbers]:
        for k in which:
            self.keep(self.known[k][0])
        return [self.known[k][1] for k in which]

    def groups(self) -> list[Group]:
        arrays = [r.array for r in self.results if r.array is not None]
        return groups_of(nests_of(self.program, arrays), self.program.given, LANES, REGISTERS)


def _map(s: Chain, a: Tensor, A: Numbers, b: Tensor, B: Numbers) -> tuple[Tensor, Numbers]:
    both = Tensor(a.shape, lambda p: op("sub", op("mul", a.at(p), op("sin", b.at(p))), op("sin", a.at(p))))
    return s.program.realise(both), A * np.sin(B) - np.sin(A)


def _backwards(s: Chain, a: Tensor, A: Numbers, b: Tensor, B: Numbers) -> tuple[Tensor, Numbers]:
    turned = Tensor(a.shape, lambda p: op("sin", op("add", a.at((p[0], Index.of(s.width - 1) - p[1])), b.at(p))))
    return s.program.realise(turned), np.sin(A[:, ::-1] + B)


def _centred(s: Chain, a: Tensor, A: Numbers, b: Tensor, B: Numbers) -> tuple[Tensor, Numbers]:
    total = s.program.reduce("sum", a, [0], keepdim=True)
    made = Tensor(
        a.shape, lambda p: op("sin", op("sub", b.at(p), op("mul", total.at((Index(), p[1])), op("sin", b.at(p)))))
    )
    return s.program.realise(made), np.sin(B - A.sum(0, keepdims=True) * np.sin(B))


def _scaled(s: Chain, a: Tensor, A: Numbers, b: Tensor, B: Numbers) -> tuple[Tensor, Numbers]:
    most = s.program.reduce("max", a, [1], keepdim=True)
    made = Tensor(a.shape, lambda p: op("sin", op("sub", b.at(p), most.at((p[0], Index())))))
    return s.program.realise(made), np.sin(B - A.max(1, keepdims=True))


def _product(s: Chain, a: Tensor, A: Numbers, b: Tensor, B: Numbers) -> tuple[Tensor, Numbers]:
    left = Tensor((N, N), lambda p: a.at(p))
    found = s.program.multiply(left, b)
    return s.program.realise(Tensor(b.shape, lambda p: op("sin", found.at(p)))), np.sin(A[:, :N] @ B)


def _through(s: Chain, a: Tensor, A: Numbers, b: Tensor, B: Numbers) -> tuple[Tensor, Numbers]:
    narrow = s.program.multiply(a, Tensor((s.width, N), lambda p: b.at((p[1], p[0]))))
    found = s.program.multiply(Tensor((N, N), lambda p: op("sin", narrow.at(p))), a)
    return s.program.realise(Tensor(a.shape, lambda p: op("sin", found.at(p)))), np.sin(np.sin(A @ B.T) @ A)


Statement = Callable[..., tuple[Tensor, Numbers]]
STATEMENTS: dict[str, Statement] = {
    "map": _map, "backwards": _backwards, "centred": _centred, "scaled": _scaled, "product": _product,
    "through": _through,
}  # fmt: skip
LINE = st.tuples(st.sampled_from(sorted(STATEMENTS)), st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=25, deadline=None)
@given(st.lists(LINE, min_size=2, max_size=9), st.sampled_from([64, 129, 200, 333]), st.data())
def test_any_chain_of_statements_gives_what_numpy_gives(lines: list[Any], width: int, data: st.DataObject) -> None:
    chain = Chain(width)
    for kind, first, second in lines:
        chain.add(kind, -min(first, len(chain.known)), -min(second, len(chain.known)))
    last = len(chain.known) - 1
    wanted = chain.keep_numbers(*data.draw(st.sets(st.integers(2, last), max_size=2)) | {last})

    one, two = chain.run(), chain.run(threads=2)

    for found, again, right in zip(one, two, wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-7, atol=1e-7)
        assert found.tobytes() == again.tobytes()


def together(chain: Chain) -> list[int]:
    """Return how many nests each group has."""
    return [len(group.nests) for group in chain.groups()]


def test_a_product_the_sums_of_its_columns_and_what_reads_them_run_together() -> None:
    chain = Chain()
    for kind in ("product", "centred", "map"):
        chain.add(kind)
    chain.keep_numbers(-1)

    (group,) = (g for g in chain.groups() if len(g.nests) > 1)

    assert [n.product is not None for n in group.nests] == [True, *[False] * (len(group.nests) - 1)]
    assert group.grain == 64
    assert group.panels.parts == 4


@pytest.mark.parametrize("kind", ["backwards", "scaled", "through"])
def test_what_reads_other_columns_than_its_own_waits_for_all_of_them(kind: str) -> None:
    chain = Chain()
    for name in ("centred", kind, "centred"):
        chain.add(name)
    chain.keep_numbers(-1)
    made = chain.known[-2][0].array

    groups = chain.groups()

    (number,) = (k for k, g in enumerate(groups) if made in g.writes)
    before = {a for g in groups[:number] for a in g.writes}
    assert chain.known[-3][0].array in before


def test_a_narrow_model_has_no_panels() -> None:
    chain = Chain(width=64)
    for kind in ("product", "centred", "map"):
        chain.add(kind)
    chain.keep_numbers(-1)

    assert set(together(chain)) == {1}


def lie_together(chain: Chain, first: int, second: int) -> bool:
    results = [r.array for r in chain.results if r.array is not None]
    slots = layout_of(chain.groups(), chain.program.given, results, item=8, lanes=8).slots
    a, b = (chain.known[k][0].array for k in (first, second))
    assert a is not None
    assert b is not None
    return slots[a].offset == slots[b].offset


def test_what_is_read_for_the_last_time_is_overwritten_in_place() -> None:
    chain = Chain()
    chain.add("product")
    chain.add("centred", -1, -1)
    chain.add("scaled", -1, -1)
    (wanted,) = chain.keep_numbers(-1)

    assert lie_together(chain, 2, 3)
    np.testing.assert_allclose(chain.run()[0], wanted, rtol=1e-9)


def test_what_is_read_again_keeps_its_memory() -> None:
    chain = Chain()
    chain.add("product")
    chain.add("centred", -1, -1)
    chain.add("backwards", -1, -2)
    (wanted,) = chain.keep_numbers(-1)

    assert not lie_together(chain, 2, 3)
    np.testing.assert_allclose(chain.run()[0], wanted, rtol=1e-9)


def test_one_memory_has_one_heir() -> None:
    chain = Chain()
    chain.add("product")
    a, A = chain.known[-1]
    total = chain.program.reduce("sum", a, [0], keepdim=True)
    T = A - A.sum(0, keepdims=True)
    for name, made in (("sin", np.sin(T)), ("cos", np.cos(T))):
        centred = Tensor(a.shape, lambda p, name=name: op(name, op("sub", a.at(p), total.at((Index(), p[1])))))
        chain.known.append((chain.program.realise(centred), made))
    chain.add("backwards", -1, -2)
    (wanted,) = chain.keep_numbers(-1)

    assert lie_together(chain, 2, 3)
    assert not lie_together(chain, 3, 4)
    np.testing.assert_allclose(chain.run()[0], wanted, rtol=1e-9, atol=1e-9)


def test_what_a_later_panel_reads_elsewhere_is_not_overwritten() -> None:
    chain = Chain()
    chain.add("product")
    chain.add("backwards", 2, 1)
    chain.add("centred", 3, 2)
    chain.add("backwards", -1, -1)
    (wanted,) = chain.keep_numbers(-1)

    assert not lie_together(chain, 2, 4)
    np.testing.assert_allclose(chain.run()[0], wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("width", [150, 333])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_wide_model_has_the_gradients_of_its_pair(width: int, threads: int) -> None:
    c = case("mlp", rows=64)
    generator = torch.Generator().manual_seed(5)
    parameters = c.model.initialise(11, n_embd=5, n_hidden=width, block_size=3, generator=generator)
    step = handgrad.compile(c.model.forward, c.model.backward, params=parameters, batch=(c.X, c.Y), threads=threads)

    found = step.gradients(c.X, c.Y)

    truth = type(parameters)(*(p.double() for p in parameters))
    right = c.model.backward(truth, c.model.forward(truth, c.X, c.Y), c.X, c.Y)
    single = c.model.backward(parameters, c.model.forward(parameters, c.X, c.Y), c.X, c.Y)
    for name, its in found.items():
        error = np.abs(its - getattr(right, name).numpy()).max()
        of_torch = (getattr(single, name) - getattr(right, name)).abs().max()
        assert error <= 2 * float(of_torch) + 1e-7, name


def test_results_that_columns_share_are_right_at_the_widest_vector_of_this_machine() -> None:
    width = 4 * vector_bytes()[0] // 4 * 3 + 1
    x = torch.linspace(-1, 1, 7 * width).view(7, width)

    (found,) = natively(lambda v: [torch.tanh((v - v.mean(0)) / (1 + v.var(0)))], x)

    right = torch.tanh((x.double() - x.double().mean(0)) / (1 + x.double().var(0)))
    np.testing.assert_allclose(found, right.numpy(), atol=1e-6)
