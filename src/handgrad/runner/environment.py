"""What a file finds around it: its folder, no terminal, plots to nowhere, stand-ins for what is missing."""

from __future__ import annotations

import builtins
import contextlib
import importlib.abc
import importlib.machinery
import io
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NoReturn

from handgrad.runner.names import Names
from handgrad.runner.standins import StandIn, StandIns, importer_of

KEPT_OUTPUT = 2**16  # characters


class Output(io.TextIOBase):
    """Where `print` goes: nowhere, but for the last characters."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self) -> None:
        self._parts: deque[str] = deque()
        self._size = 0
        self.buffer = _Bytes(self)

    def write(self, text: str) -> int:
        """Keep the end of ``text``."""
        part = str(text)[-KEPT_OUTPUT:]
        self._parts.append(part)
        self._size += len(part)
        while self._size - len(self._parts[0]) >= KEPT_OUTPUT:
            self._size -= len(self._parts.popleft())
        return len(text)

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return a file that swallows everything."""
        return 1

    def reconfigure(self, **_: Any) -> None:
        """Stay as it is."""

    def close(self) -> None:
        """Stay open: the file's code may close what it prints to, and go on."""

    def text(self) -> str:
        """Return the last characters that were written."""
        return "".join(self._parts)[-KEPT_OUTPUT:]


class _Bytes(io.RawIOBase):
    def __init__(self, output: Output) -> None:
        self.output = output

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self.output.write(bytes(data[-KEPT_OUTPUT:]).decode(errors="replace")) and len(data)


class NoTerminal(io.TextIOBase):
    """A `sys.stdin` that says that nobody is there."""

    def _refuse(self, *_: Any) -> NoReturn:
        raise EOFError("handgrad runs files without a terminal: there is nobody to answer; put the value into the code")

    read = readline = readlines = __next__ = _refuse

    def fileno(self) -> int:
        """Return a file that is empty."""
        return 0

    def readable(self) -> bool:
        """Return True."""
        return True


class Environment:
    """A context manager: everything that a file finds, and gives back at the end."""

    def __init__(self, folder: Path, *, words: str | None, is_notebook: bool, note: Callable[[str], None]) -> None:
        self.folder, self.is_notebook, self.note = folder, is_notebook, note
        self.names = Names(folder, words, note)
        self.output = Output()
        self._input = builtins.input
        self._finders: list[Any] = []

    def __enter__(self) -> Environment:
        os.environ["MPLBACKEND"] = "Agg"
        sys.dont_write_bytecode = True
        sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = self.output  # type: ignore[misc, assignment]
        sys.stdin = sys.__stdin__ = NoTerminal()  # type: ignore[assignment, misc]
        builtins.input = _no_input
        self.names.install()
        for name in [name for name in sys.modules if name.partition(".")[0] == "IPython"]:
            del sys.modules[name]  # a library took it, and found no notebook
        self._finders = [
            _IPythonFinder(),
            _Adapting(
                {
                    "matplotlib": _no_other_backend,
                    "matplotlib.pyplot": _no_windows,
                    "requests": self.names.adapt_requests,
                    "urllib.request": self.names.adapt_urllib,
                }
            ),
            StandIns(self.note),
        ]
        sys.meta_path[:] = [*self._finders[:2], *sys.meta_path, self._finders[2]]
        if self.is_notebook:
            vars(builtins).update(display=StandIn("display", "IPython"), get_ipython=_get_ipython)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.names.remove()
        builtins.input = self._input
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder not in self._finders]
        for name in ("display", "get_ipython"):
            vars(builtins).pop(name, None)


def _no_input(prompt: object = "") -> NoReturn:
    raise EOFError(
        f"handgrad runs files without a terminal: input({str(prompt)[:60]!r}) has no answer; "
        "put the value into the code"
    )


def _get_ipython() -> StandIn:
    return StandIn("get_ipython()", "IPython")


def _no_other_backend(matplotlib: Any) -> None:
    matplotlib.use = lambda *_, **__: None


def _no_windows(pyplot: Any) -> None:
    switch = pyplot.switch_backend
    pyplot.show = pyplot.pause = lambda *_, **__: None
    pyplot.switch_backend = lambda _: switch("agg")


class _Adapting(importlib.abc.MetaPathFinder):
    """Changes a module when it is imported, and at once if it already is."""

    def __init__(self, changes: dict[str, Callable[[Any], None]]) -> None:
        self.changes = changes
        for name in [name for name in changes if name in sys.modules]:
            changes.pop(name)(sys.modules[name])

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self.changes:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        change, execute = self.changes.pop(name), spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            with contextlib.suppress(AttributeError):  # the author's own module may have that name
                change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


class _IPythonFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """IPython, as a notebook's code sees it; libraries learn from it that no notebook is there."""

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the signature that importlib asks for
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] != "IPython":
            return None
        if "IPython" not in sys.modules and importer_of(sys._getframe(1)) is None:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        if name == "IPython":
            module.__version__, module.version_info = "8.0.0", (8, 0, 0, "")  # type: ignore[attr-defined]
            module.get_ipython = _ipython_of_caller  # type: ignore[attr-defined]
        module.__getattr__ = lambda attribute: _below(name, attribute)  # type: ignore[method-assign]


def _below(name: str, attribute: str) -> StandIn:
    if attribute.startswith("__"):
        raise AttributeError(attribute)
    return StandIn(f"{name}.{attribute}", "IPython")


def _ipython_of_caller() -> StandIn | None:
    return None if importer_of(sys._getframe(1)) is None else _get_ipython()
