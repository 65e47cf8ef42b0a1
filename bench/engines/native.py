"""`handgrad.compile`, on one thread and on two; and how many products a core can do at all."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import llvmlite.binding as llvm
import torch

import handgrad
from engines.cases import LR, Case, Numbers
from handgrad.models import MODELS
from handgrad.native.llvm.objects import Code, object_of, vector_bytes

Take = Callable[[Numbers], float]


def _compiled(case: Case, threads: int) -> Take:
    model = MODELS[case.model]
    X, Y = map(torch.from_numpy, case.data())
    drawn = model.initialise(27, **case.sizes, block_size=case.block_size, generator=torch.Generator().manual_seed(0))
    parameters = type(drawn)(**{name: torch.from_numpy(x) for name, x in case.start().items()})
    batch = (X[: case.batch_size], Y[: case.batch_size])
    step = handgrad.compile(model.forward, model.backward, params=parameters, batch=batch,
                            update=handgrad.SGD(lr=LR), threads=threads, fallback=False)  # fmt: skip

    def take(rows: Numbers) -> float:
        return float(step.run(len(rows), X, Y, rows=rows)[-1])

    return take


def handgrad_one(case: Case) -> Take:
    """Return `handgrad.compile` on one thread."""
    return _compiled(case, 1)


def handgrad_two(case: Case) -> Take:
    """Return `handgrad.compile` on two threads."""
    return _compiled(case, 2)


PEAK = """
define double @peak(i64 %count) {{
entry:
  br label %loop
loop:
  %k = phi i64 [ 0, %entry ], [ %next, %loop ]
{phis}
{work}
  %next = add i64 %k, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %done
done:
{sums}
  %first = extractelement {vector} %s{last}, i32 0
  %wide = fpext float %first to double
  ret double %wide
}}
declare {vector} @llvm.fma.{suffix}({vector}, {vector}, {vector})
"""
CHAINS = 12  # independent sums: more than what is in flight at once


def peak(_: Case) -> Take:
    """Return multiply-adds on numbers in registers. A step is 2**20 of them; the case does not matter."""
    lanes = vector_bytes()[0] // 4
    vector, suffix = f"<{lanes} x float>", f"v{lanes}f32"

    def full(number: str) -> str:
        return "<" + ", ".join([f"float {number}"] * lanes) + ">"

    phis = "\n".join(f"  %a{c} = phi {vector} [ {full('1.0')}, %entry ], [ %b{c}, %loop ]" for c in range(CHAINS))
    work = "\n".join(f"  %b{c} = call {vector} @llvm.fma.{suffix}({vector} %a{c}, {vector} {full('0.5')}, "
                     f"{vector} {full(f'{c + 1}.0')})" for c in range(CHAINS))  # fmt: skip
    sums = "\n".join([f"  %s1 = fadd {vector} %b0, %b1"]
                     + [f"  %s{c} = fadd {vector} %s{c - 1}, %b{c}" for c in range(2, CHAINS)])  # fmt: skip
    text = PEAK.format(phis=phis, work=work, sums=sums, vector=vector, suffix=suffix, last=CHAINS - 1)
    text = f'target triple = "{llvm.get_default_triple()}"\n' + text.replace("@peak", "@run")
    code = Code.of(object_of(text))
    run = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int64)(code.address)
    each = (1 << 20) // (CHAINS * lanes)

    def take(rows: Numbers, _kept: Code = code) -> float:
        return float(run(len(rows) * each))

    return take


__all__ = ["handgrad_one", "handgrad_two", "peak"]
