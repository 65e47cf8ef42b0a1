"""Stand-ins for modules that are not installed: harmless until a number or a tensor is needed of them."""

from __future__ import annotations

import ast
import dis
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, NoReturn

from handgrad import source

NEVER = frozenset({"torch", "handgrad", "__main__"})
_SEARCHING = (f"{Path(importlib.__file__ or '').parent}/", "<frozen importlib", f"{source.PACKAGE}/runner/")
_CATCHING = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


class StandIn:
    """Whatever a missing module would have given: any attribute, any call, any item."""

    def __init__(self, text: str, module: str) -> None:
        vars(self).update(_handgrad_text=text, _handgrad_module=module)

    def _needed(self) -> ModuleNotFoundError:
        text, module = vars(self)["_handgrad_text"], vars(self)["_handgrad_module"]
        return ModuleNotFoundError(
            f"`{module}` is not installed, and the value of `{text}` is needed here", name=module
        )

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise StandIn._needed(self)

    def _derived(self, suffix: str) -> StandIn:
        text = vars(self)["_handgrad_text"]
        return StandIn(text if len(text) > 60 else text + suffix, vars(self)["_handgrad_module"])

    def __getattr__(self, name: str) -> StandIn:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return StandIn._derived(self, f".{name}")

    def __setattr__(self, name: str, value: object) -> None:
        vars(self)[name] = value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return another stand-in; used as a decorator, what was decorated."""
        if len(args) == 1 and not kwargs and isinstance(args[0], FunctionType | type):
            return args[0]
        return StandIn._derived(self, "(...)")

    def __getitem__(self, key: object) -> StandIn:
        return StandIn._derived(self, "[...]")

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def __delitem__(self, key: object) -> None:
        pass

    def __contains__(self, item: object) -> bool:
        return False

    def __iter__(self) -> Iterator[StandIn]:
        item = StandIn._derived(self, "[...]")
        return iter([item] * _unpacked(sys._getframe(1)))

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __or__(self, other: object) -> StandIn:  # in an annotation
        return self

    __ror__ = __or__

    def __instancecheck__(self, instance: object) -> bool:
        return False

    def __repr__(self) -> str:
        return f"<stand-in for {vars(self)['_handgrad_text']}>"

    def __format__(self, spec: str) -> str:
        return repr(self)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        raise (_first(args, kwargs or {}) or StandIn("a stand-in", "a module"))._needed()

    __bool__ = __len__ = __float__ = __int__ = __index__ = __complex__ = __array__ = __mro_entries__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __matmul__ = __rmatmul__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = _refuse
    __neg__ = __pos__ = __abs__ = __lt__ = __le__ = __gt__ = __ge__ = __round__ = _refuse


class StandInModule(ModuleType):
    """A module that is not installed."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return StandIn(f"{self.__name__}.{name}", self.__name__.partition(".")[0])


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what nobody else finds, if the author's own code asks for it outside a `try`."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the signature that importlib asks for
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a stand-in's spec, or None."""
        root, _, rest = name.partition(".")
        if root in NEVER or (rest and not _may_stand_in_below(sys.modules.get(name.rpartition(".")[0]))):
            return None
        frame = importer_of(sys._getframe(1))
        if frame is None or is_guarded(frame.f_code, frame.f_lineno):
            return None
        if not isinstance(sys.modules.get(root), StandInModule):
            self.note(f"`{name}` is not installed: a stand-in takes its place")
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the stand-in."""
        return StandInModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: there is no code."""


def _may_stand_in_below(parent: ModuleType | None) -> bool:
    """Tell whether a part of ``parent`` may be missing: of a stand-in, or of a folder that several packages share."""
    return isinstance(parent, StandInModule) or (parent is not None and getattr(parent, "__file__", None) is None)


def importer_of(frame: FrameType | None) -> FrameType | None:
    """Return the author's frame that imports; None where a library does."""
    while frame is not None and frame.f_code.co_filename.startswith(_SEARCHING):
        if frame.f_code.co_name == "find_spec" and frame.f_code.co_filename.endswith(("util.py", "util>")):
            return None  # the author asks whether it is installed
        frame = frame.f_back
    return frame if frame is not None and source.of_code(frame.f_code) is not None else None


def is_guarded(code: CodeType, line: int) -> bool:
    """Tell whether the author takes care of a missing module: `try: import x` with `except ImportError`."""
    found = source.of_code(code)
    for statement in found.by_line.get(line, ()) if found else ():
        child: ast.AST = statement.node
        for node in source.enclosing(statement.node):
            if isinstance(node, ast.Try) and child in node.body and any(map(_catches, node.handlers)):
                return True
            if isinstance(node, ast.With) and any("suppress" in ast.unparse(item) for item in node.items):
                return True
            child = node
    return False


def _catches(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    return any(isinstance(node, ast.Name) and node.id in _CATCHING for node in ast.walk(handler.type))


def _unpacked(frame: FrameType) -> int:
    """Return how many items ``frame`` unpacks from an iterable just now; one, if it does something else with it."""
    code, at = frame.f_code.co_code, frame.f_lasti
    operation = dis.opname[code[at]]
    if operation == "UNPACK_SEQUENCE":
        return code[at + 1]
    return code[at + 1] & 0xFF if operation == "UNPACK_EX" else 1


def _first(args: Any, kwargs: dict[str, Any]) -> StandIn | None:
    waiting = [*args, *kwargs.values()]
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, StandIn):
            return item
        if isinstance(item, list | tuple):
            waiting += item
    return None
