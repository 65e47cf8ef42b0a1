"""Whether a mutant is wrong at all, found without handgrad."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mutants.mutant import loaded, stored
from mutants.subjects import Subject, arguments_of, gradients_of, noise

POINTS = (11, 12)  # seeds of the inputs at which a mutant is compared with the original


class Run:
    """One run of a function's source, statement by statement, with noise put in place of some gradients."""

    def __init__(self, subject: Subject, source: str, seed: int, given: frozenset[str] = frozenset()) -> None:
        (function,) = ast.parse(source).body
        self.gradients, self.given, self.seed = gradients_of(subject), given, seed
        self.states: dict[int, dict[str, Any]] = {}
        self.finished: dict[str, Tensor] = {}  # each gradient as its last line left it
        defaults = {p.name: p.default for p in inspect.signature(subject.function).parameters.values()}
        self.names = {**subject.function.__globals__, **defaults, **arguments_of(subject, seed)}
        self.local = set(defaults)
        self.last: dict[str, int] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign | ast.AugAssign):
                for name in stored(node):
                    self.last[name] = max(self.last.get(name, 0), node.lineno)
        numbers = loaded(function) - self.local
        self.local |= {k for k in numbers if isinstance(self.names.get(k), int | float)}
        returned = frozenset().union(*(loaded(node) for node in ast.walk(function) if isinstance(node, ast.Return)))
        with torch.no_grad():
            self._block(function.body)
        self.left = {name: self.names[name] for name in self.finished.keys() & returned}  # as it is returned

    def _block(self, block: list[ast.stmt]) -> None:
        for node in block:
            if isinstance(node, ast.Return):
                return
            if isinstance(node, ast.If):
                chosen = eval(ast.unparse(node.test), self.names)  # noqa: S307
                self._block(node.body if chosen else node.orelse)
                continue
            self.states[node.lineno] = {k: self.names[k] for k in self.local}
            exec(compile(ast.Module([node], []), "<run>", "exec"), self.names)  # noqa: S102
            if isinstance(node, ast.Assign | ast.AugAssign):
                self._assigned(node)

    def _assigned(self, node: ast.Assign | ast.AugAssign) -> None:
        names = stored(node)
        for name in sorted(names):
            self.local.add(name)
            if name in self.gradients and self.last[name] == node.lineno:
                self.finished[name] = torch.as_tensor(self.names[name]).clone()
                if name in self.given:
                    self.names[name] = noise(name, self.finished[name], self.seed)


def same(a: Run, b: Run) -> bool:
    """Whether two runs gave every gradient the same shape and value, and left it so."""
    if a.finished.keys() != b.finished.keys():
        return False
    scale = max((float(t.abs().max()) for t in a.finished.values() if t.numel()), default=0.0)
    for one, other in ((a.finished, b.finished), (a.left, b.left)):
        for name, tensor in one.items():
            x, y = torch.as_tensor(tensor), torch.as_tensor(other[name])
            if x.shape != y.shape or x.is_floating_point() != y.is_floating_point():
                return False
            allowed = 1e-9 * float(x.abs().max()) + 1e-13 * scale if x.numel() else 0.0
            if not bool(((x - y).abs() <= allowed).all()):
                return False
    return True


@dataclass(frozen=True)
class Truth:
    """What a mutant is, as found without handgrad."""

    equivalent: bool
    raises: bool = False
    shape_changes: bool = False


@cache
def _original(subject: Subject, seed: int, given: frozenset[str]) -> Run:
    return Run(subject, subject.source, seed, given)


def truth(subject: Subject, source: str, targets: frozenset[str], local: bool = True) -> Truth:
    """Compare ``source`` with the original, with what sets ``targets`` there given noise to read.

    If the mutant is not ``local``, everything that is read is noise.
    """
    gradients = gradients_of(subject)
    given = gradients
    if local:
        setters = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Assign | ast.AugAssign)]
        reads = [loaded(node.value) for node in setters if stored(node) & targets]
        given = frozenset().union(*reads) & gradients - targets
    equivalent = True
    for seed in POINTS:
        try:
            plain = Run(subject, source, seed)
        except Exception:
            return Truth(equivalent=False, raises=True)
        right = _original(subject, seed, frozenset())
        if any(plain.finished[t].shape != right.finished[t].shape for t in targets if t in plain.finished):
            return Truth(equivalent=False, shape_changes=True)
        try:
            noisy = Run(subject, source, seed, given)
        except Exception:
            return Truth(equivalent=False)
        equivalent = equivalent and same(right, plain) and same(_original(subject, seed, given), noisy)
    return Truth(equivalent)
