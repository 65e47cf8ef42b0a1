"""handgrad: for people who write backward passes by hand.

Importing the package loads neither torch nor anything else that is slow; each name below loads its module on first
use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handgrad.assertions import assert_backward, assert_function
    from handgrad.checker import Comparison, check, cmp, compare, compare_pass
    from handgrad.deriver import Backward, derive
    from handgrad.deriver.functions import as_function
    from handgrad.deriver.proving import check_rule
    from handgrad.errors import HandgradError
    from handgrad.function_check import check_function
    from handgrad.graph import Graph
    from handgrad.native.engine import CompiledStep, compile  # noqa: A004 as the field calls it
    from handgrad.native.updates import SGD, AdamW
    from handgrad.rules import rule
    from handgrad.simplifier import Simplification, simplify
    from handgrad.tracer import trace

    __version__: str

__all__ = [
    "SGD",
    "AdamW",
    "Backward",
    "Comparison",
    "CompiledStep",
    "Graph",
    "HandgradError",
    "Simplification",
    "__version__",
    "as_function",
    "assert_backward",
    "assert_function",
    "check",
    "check_function",
    "check_rule",
    "cmp",
    "compare",
    "compare_pass",
    "compile",
    "derive",
    "rule",
    "simplify",
    "trace",
]

_MODULE_OF = {
    "assert_backward": "handgrad.assertions",
    "assert_function": "handgrad.assertions",
    "check": "handgrad.checker",
    "cmp": "handgrad.checker",
    "compare": "handgrad.checker",
    "compare_pass": "handgrad.checker",
    "Comparison": "handgrad.checker",
    "Backward": "handgrad.deriver",
    "derive": "handgrad.deriver",
    "as_function": "handgrad.deriver.functions",
    "check_rule": "handgrad.deriver.proving",
    "HandgradError": "handgrad.errors",
    "check_function": "handgrad.function_check",
    "Graph": "handgrad.graph",
    "load_ipython_extension": "handgrad.jupyter",  # `%load_ext handgrad` asks for these two
    "unload_ipython_extension": "handgrad.jupyter",
    "compile": "handgrad.native.engine",
    "CompiledStep": "handgrad.native.engine",
    "AdamW": "handgrad.native.updates",
    "SGD": "handgrad.native.updates",
    "rule": "handgrad.rules",
    "simplify": "handgrad.simplifier",
    "Simplification": "handgrad.simplifier",
    "trace": "handgrad.tracer",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("handgrad")
    if name in _MODULE_OF:
        return getattr(importlib.import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'handgrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
