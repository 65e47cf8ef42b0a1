"""handgrad: for people who write backward passes by hand.

Importing the package loads neither torch nor anything else that is slow; each name below loads its module on first
use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handgrad.checker import Comparison, cmp, compare, compare_pass
    from handgrad.errors import HandgradError

    __version__: str

__all__ = ["Comparison", "HandgradError", "__version__", "cmp", "compare", "compare_pass"]

_MODULE_OF = {
    "cmp": "handgrad.checker",
    "compare": "handgrad.checker",
    "compare_pass": "handgrad.checker",
    "Comparison": "handgrad.checker",
    "HandgradError": "handgrad.errors",
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
