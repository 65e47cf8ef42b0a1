"""The file's own modules, beside it: their code is the author's too, with the same watch on loops."""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import sys
import sysconfig
from collections.abc import Sequence
from importlib.util import decode_source
from pathlib import Path
from types import CodeType, ModuleType, TracebackType

from handgrad import source
from handgrad.runner.loops import Loops

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class LocalModules(importlib.abc.MetaPathFinder):
    """Finds modules in the file's folder, and in those it adds to `sys.path`; a context manager."""

    def __init__(self, folder: Path, loops: Loops) -> None:
        self.folder, self.loops = folder, loops
        self._known = frozenset(sys.path)
        self._roots: set[str] = set()

    def __enter__(self) -> LocalModules:
        sys.path.insert(0, str(self.folder))
        at = next((i for i, f in enumerate(sys.meta_path) if f is importlib.machinery.PathFinder), 0)
        sys.meta_path.insert(at, self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module of the author's, None for all others."""
        if path is None:
            path = [entry for entry in sys.path if entry not in self._known]
        elif name.partition(".")[0] not in self._roots:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            self._roots.add(name.partition(".")[0])
        if spec is None or spec.origin is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            return None
        if spec.origin.startswith(_LIBRARIES) or "site-packages" in Path(spec.origin).parts:
            return None
        spec.loader = _Loader(name, spec.origin, self)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, modules: LocalModules) -> None:
        super().__init__(name, path)
        self.modules = modules

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the signature that importlib asks for
        path, text = self.path, decode_source(self.get_data(self.path))
        loops, shown = self.modules.loops, Path(path)
        if shown.is_relative_to(self.modules.folder):
            shown = shown.relative_to(self.modules.folder)
        tree = ast.parse(text, path)
        source.register(path, text)
        return compile(loops.watched(tree, str(shown)), path, "exec", dont_inherit=True)
