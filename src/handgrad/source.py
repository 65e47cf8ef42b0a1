"""From running code to what its author wrote: files, statements, names, and the text of an expression.

`register` tells of code that comes from no file, such as a cell of a notebook. Everything else is found by its file
name. Code of libraries, of the standard library and of handgrad itself is nobody's source here.
"""

from __future__ import annotations

import ast
import linecache
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

PACKAGE = str(Path(__file__).parent)
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class Access(NamedTuple):
    """A way to reach an object: a name, then attributes and constant keys, such as ``self.layers[0].weight``."""

    root: str
    parts: tuple[tuple[str, Any], ...] = ()  # ("attribute", "weight") or ("item", 0)

    def __str__(self) -> str:
        return self.root + "".join(f".{key}" if kind == "attribute" else f"[{key!r}]" for kind, key in self.parts)


@dataclass(eq=False)
class Statement:
    """A simple statement, or the head of a compound one, of one source."""

    source: Source
    node: ast.stmt

    @property
    def line(self) -> int:
        """Its first line, counted from 1 in its file or cell."""
        return self.node.lineno

    @property
    def text(self) -> str:
        """Its text, without the indentation."""
        return self.source.text_of(self.node)

    @cached_property
    def head(self) -> list[ast.AST]:
        """The parts that run when the statement does: all of a simple statement, what stands before the colon else."""
        node = self.node
        if isinstance(node, ast.For | ast.AsyncFor):
            return [node.target, node.iter]
        if isinstance(node, ast.With | ast.AsyncWith):
            return list(node.items)
        if isinstance(node, ast.If | ast.While):
            return [node.test]
        if isinstance(node, ast.Try | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Match):
            return []
        return [node]

    @cached_property
    def mentions(self) -> tuple[Access, ...]:
        """Every name, attribute path and constant item that it reads or writes, longest first for each root."""
        found: dict[Access, None] = {}
        for part in self.head:
            _collect(part, found)
        return tuple(found)

    @cached_property
    def names(self) -> frozenset[str]:
        """The text of everything that it mentions, and of what that is part of: ``x`` and ``x.grad``."""
        accesses = [
            access._replace(parts=access.parts[:n]) for access in self.mentions for n in range(len(access.parts) + 1)
        ]
        return frozenset(map(str, accesses))

    @cached_property
    def may_alias(self) -> bool:
        """Whether it can give a name to a tensor without any operation, as `a = b` and `a = f(x)` do.

        So can `dh = 2.0 / n` to a number that is meant as one.
        """
        node = self.node
        if isinstance(node, ast.For):
            return True
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            return isinstance(node, ast.With)
        passive = (ast.BinOp, ast.Compare, ast.JoinedStr, ast.UnaryOp)
        if not isinstance(node.value, passive):
            return True
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(isinstance(t, ast.Name) and t.id.startswith(("d", "grad")) for t in targets)


class Source:
    """The text of one file or cell, parsed."""

    def __init__(self, filename: str, text: str, cell: int | None = None, first_line: int = 1) -> None:
        self.filename, self.text, self.cell, self.first_line = filename, text, cell, first_line
        self.lines = text.split("\n")
        try:
            self.tree = ast.parse(text)
        except (SyntaxError, ValueError):
            self.tree = ast.Module([], [])
        self._by_span: dict[tuple[int, int, int, int], ast.AST] = {}
        self.by_line: dict[int, list[Statement]] = {}
        self.statement_at: dict[ast.AST, Statement] = {}
        self._index()

    def _index(self) -> None:
        for parent in ast.walk(self.tree):
            for child in ast.iter_child_nodes(parent):
                child.parent = parent  # type: ignore[attr-defined]
            if isinstance(parent, ast.expr | ast.stmt) and parent.end_lineno is not None:
                span = (parent.lineno, parent.end_lineno, parent.col_offset, parent.end_col_offset or 0)
                self._by_span.setdefault(span, parent)
            if isinstance(parent, ast.stmt):
                statement = self.statement_at[parent] = Statement(self, parent)
                last = parent.end_lineno or parent.lineno
                if body := getattr(parent, "body", None):
                    last = max(parent.lineno, body[0].lineno - 1) if isinstance(body, list) else last
                for line in range(parent.lineno, last + 1):
                    self.by_line.setdefault(line, []).append(statement)

    def node_at(self, span: tuple[int | None, ...]) -> ast.AST | None:
        """Return the node with exactly this span: line, end line, column, end column."""
        return self._by_span.get(span)  # type: ignore[arg-type]

    def statement_of(self, node: ast.AST | None) -> Statement | None:
        """Return the innermost statement that holds ``node``."""
        while node is not None and not isinstance(node, ast.stmt):
            node = getattr(node, "parent", None)
        return self.statement_at.get(node) if node is not None else None

    def place(self, line: int) -> str:
        """Return what a message calls a line: ``file.py:7``, or ``cell 2, line 7``."""
        return f"{Path(self.filename).name}:{line}" if self.cell is None else f"cell {self.cell}, line {line}"

    def text_of(self, node: ast.AST) -> str:
        """Return the text of ``node`` as written, its own comments included, dedented."""
        first, last = getattr(node, "lineno", None), getattr(node, "end_lineno", None)
        if first is None or last is None:
            return ""
        start: int = node.col_offset  # type: ignore[attr-defined]
        end: int = node.end_col_offset  # type: ignore[attr-defined]
        if first == last:
            only: str = self.lines[first - 1].encode()[start:end].decode(errors="replace")
            return only
        rows = self.lines[first - 1 : last]
        rows[-1] = rows[-1].encode()[:end].decode(errors="replace")
        head = rows[0].encode()[start:].decode(errors="replace")
        indent = " " * start
        return "\n".join([head, *(row.removeprefix(indent) for row in rows[1:])])

    def __repr__(self) -> str:
        return f"<Source {self.filename}>"


def _collect(node: ast.AST, found: dict[Access, None]) -> None:
    if isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        return
    access = access_of(node)
    if access is not None:
        found[access] = None
    else:
        for child in ast.iter_child_nodes(node):
            _collect(child, found)
        return
    inner = node
    while isinstance(inner, ast.Attribute | ast.Subscript):
        if isinstance(inner, ast.Subscript):
            _collect(inner.slice, found)
        inner = inner.value


def access_of(node: ast.AST) -> Access | None:
    """Return the longest access that ``node`` begins with: of ``x.grad[ix, 0]`` it is ``x.grad``."""
    if isinstance(node, ast.Name):
        return Access(node.id)
    if isinstance(node, ast.Attribute):
        owner = access_of(node.value)
        return owner and (owner._replace(parts=(*owner.parts, ("attribute", node.attr))))
    if isinstance(node, ast.Subscript):
        owner = access_of(node.value)
        if owner and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str | int):
            return owner._replace(parts=(*owner.parts, ("item", node.slice.value)))
        return owner
    return None


_registered: dict[str, Source] = {}


def register(filename: str, text: str, cell: int | None = None, first_line: int = 1) -> Source:
    """Make code that is compiled with ``filename`` known as a user's, with its text.

    ``cell`` is the index of a notebook's cell, None for a script. Tracebacks show the text too.
    """
    source = _registered[filename] = Source(filename, text, cell, first_line)
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    of_file.cache_clear()
    _of_code.clear()
    return source


@cache
def of_file(filename: str) -> Source | None:
    """Return the source of ``filename``, or None for the code of libraries and for code without a text."""
    if filename in _registered:
        return _registered[filename]
    if filename.startswith("<frozen") or _is_library(filename):
        return None
    text = "".join(linecache.getlines(filename))
    return Source(filename, text) if text else None


def _is_library(filename: str) -> bool:
    if filename.startswith(PACKAGE):
        return not filename.startswith(f"{PACKAGE}/models")  # the pages by hand are read as a user's are
    return filename.startswith(LIBRARIES) or "/site-packages/" in filename or "/dist-packages/" in filename


_of_code: dict[int, tuple[CodeType, Source | None]] = {}  # by identity: equal cells have equal code


def of_code(code: CodeType) -> Source | None:
    """Return the source that ``code`` was compiled from, None for code of libraries."""
    try:
        return _of_code[id(code)][1]
    except KeyError:
        found = of_file(code.co_filename)
        _of_code[id(code)] = code, found
        return found


@cache
def positions(code: CodeType) -> list[tuple[int | None, int | None, int | None, int | None]]:
    """Return the span of every instruction of ``code``: line, end line, column, end column."""
    return list(code.co_positions())


def node_of(code: CodeType, instruction: int) -> ast.AST | None:
    """Return the node that runs at byte offset ``instruction`` of ``code``."""
    source = of_code(code)
    if source is None or instruction < 0:
        return None
    spans = positions(code)
    return source.node_at(spans[instruction // 2]) if instruction // 2 < len(spans) else None


class Site(NamedTuple):
    """Where an operation is written: the code and the instruction that ran it."""

    code: CodeType
    instruction: int
    line: int
    source: Source

    @property
    def node(self) -> ast.AST | None:
        """The expression that ran."""
        return node_of(self.code, self.instruction)

    @property
    def statement(self) -> Statement | None:
        """The statement that it stands in."""
        found = self.source.statement_of(self.node)
        if found is None:
            found = next(iter(self.source.by_line.get(self.line, ())), None)
        return found

    @property
    def text(self) -> str:
        """The text of the expression, or of its line where Python does not tell."""
        node = self.node
        if node is not None:
            return self.source.text_of(node)
        return self.source.lines[self.line - 1].strip() if self.line <= len(self.source.lines) else ""

    def __str__(self) -> str:
        return self.source.place(self.line)


def enclosing(node: ast.AST) -> Iterator[ast.AST]:
    """Yield ``node`` and every node around it, innermost first."""
    current: ast.AST | None = node
    while current is not None:
        yield current
        current = getattr(current, "parent", None)
