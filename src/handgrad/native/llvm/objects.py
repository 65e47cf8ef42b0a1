"""From LLVM IR to object code, and from there to machine code in memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite
import llvmlite.binding as llvm

LEVEL = 2  # of optimisation: LLVM's -O2


@cache
def _target() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple()


@cache
def processor() -> str:
    """Return what object code depends on beside the IR: processor, its features, LLVM and llvmlite."""
    name, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    return f"{name} {features} llvm {llvm.llvm_version_info} llvmlite {llvmlite.__version__} O{LEVEL}"


def vector_bytes() -> tuple[int, int]:
    """Return how long the vectors of this processor are, in bytes, and how many it has."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64, 32
    if features.get("avx2") or features.get("avx"):
        return 32, 16
    return 16, 16


def _machine() -> Any:
    features = llvm.get_host_cpu_features().flatten()
    return _target().create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=LEVEL)


def object_of(text: str) -> bytes:
    """Return the object code of LLVM IR."""
    machine = _machine()
    module = llvm.parse_assembly(text)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=LEVEL)
    options.loop_unrolling = options.slp_vectorization = options.loop_vectorization = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    found: bytes = machine.emit_object(module)
    return found


@dataclass
class Code:
    """Machine code, and the engine that keeps it in memory."""

    engine: Any
    address: int  # of the function ``run``

    @staticmethod
    def of(content: bytes) -> Code:
        """Load object code."""
        engine = llvm.create_mcjit_compiler(_empty(), _machine())
        engine.add_object_file(llvm.ObjectFileRef.from_data(content))
        engine.finalize_object()
        return Code(engine, engine.get_function_address("run"))


def _empty() -> Any:
    _target()
    return llvm.parse_assembly(f'target triple = "{llvm.get_default_triple()}"')
