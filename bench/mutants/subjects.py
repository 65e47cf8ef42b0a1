"""The functions under test, their variants, and what they are called with."""

from __future__ import annotations

import ast
import inspect
import random
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from handgrad import source as sources
from passes import PASSES, Pass

ANNOTATIONS = __import__("__future__").annotations.compiler_flag


@dataclass(frozen=True)
class Subject:
    """One function of a pass that is mutated."""

    of: Pass
    path: str  # "backward", or "batch_norm.backward" where it is called through another module
    source: str
    first_line: int  # of its source in the text that handgrad sees; no two functions of a pass share a line

    @property
    def function(self) -> Callable[..., Any]:
        """The function itself."""
        found = SimpleNamespace(**self.of.backward.__globals__)
        for name in self.path.split("."):
            found = getattr(found, name)
        return found

    def variant(self, source: str, label: str) -> Callable[..., Any]:
        """Return the backward of the pass with this function written as ``source``."""
        text = "\n" * (self.first_line - 1) + source
        filename = f"<{self.of.name} {self.path}, {label}>"
        sources.register(filename, text)
        module = dict(self.function.__globals__)
        exec(compile(text, filename, "exec", flags=ANNOTATIONS, dont_inherit=True), module)  # noqa: S102
        changed = module[self.function.__name__]
        *owner, name = self.path.split(".")
        if not owner:
            return changed
        main = self.of.backward
        around = dict(main.__globals__)
        around[owner[0]] = SimpleNamespace(**{**vars(around[owner[0]]), name: changed})
        exec(compile(written_as(main), main.__code__.co_filename, "exec", flags=ANNOTATIONS), around)  # noqa: S102
        return around[main.__name__]


def written_as(function: Callable[..., Any]) -> str:
    """Return the text of a function, at its own lines."""
    rows, first = inspect.getsourcelines(function)
    return "\n" * (first - 1) + textwrap.dedent("".join(rows))


@cache
def subjects(name: str) -> tuple[Subject, ...]:
    """Return the functions of the pass called ``name``."""
    found = []
    of = PASSES[name]
    for number, path in enumerate(of.mutated):
        bare = Subject(of, path, "", 0)
        rows, first = inspect.getsourcelines(bare.function)
        offset = 0 if path == "backward" else 1000 * (number + 1)
        found.append(Subject(of, path, textwrap.dedent("".join(rows)).rstrip("\n"), first + offset))
    return tuple(found)


def bound(of: Pass, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """Return the arguments of the backward: inputs by name, and what the forward returned for what is left."""
    given = inspect.signature(of.forward).bind(*inputs).arguments
    values = of.forward(*inputs)
    wanted = inspect.signature(of.backward).parameters.values()
    return {p.name: given.get(p.name, values) for p in wanted if p.default is p.empty}


def arguments_of(subject: Subject, seed: int) -> dict[str, Any]:
    """Return what the function is called with, in float64; a gradient among it is noise."""
    of = subject.of
    arguments = bound(of, tuple(map(_doubled, of.inputs(seed))))
    if subject.path == "backward":
        return arguments
    calls: list[dict[str, Any]] = []
    function = subject.function

    def spy(*args: Any, **kwargs: Any) -> Any:
        calls.append(inspect.signature(function).bind(*args, **kwargs).arguments)
        return function(*args, **kwargs)

    *owner, name = subject.path.split(".")
    around = dict(of.backward.__globals__)
    around[owner[0]] = SimpleNamespace(**{**vars(around[owner[0]]), name: spy})
    exec(compile(written_as(of.backward), "<spied>", "exec", flags=ANNOTATIONS), around)  # noqa: S102
    around[of.backward.__name__](**arguments)
    names = gradients_of(subject)
    return {k: noise(k, v, seed) if k in names else v for k, v in calls[0].items()}


def _doubled(item: Any) -> Any:
    if isinstance(item, Tensor):
        return item.double() if item.is_floating_point() else item
    return type(item)(*map(_doubled, item)) if isinstance(item, tuple) else item


def noise(name: str, like: Tensor, seed: int) -> Tensor:
    """Return random numbers in the shape of ``like``, the same for the same name and seed."""
    g = torch.Generator().manual_seed(random.Random(f"{name} {seed}").getrandbits(48))  # noqa: S311
    return torch.randn(like.shape, generator=g, dtype=torch.float64)


@cache
def gradients_of(subject: Subject) -> frozenset[str]:
    """Return the names that are gradients in the function: d and the name of a value of the forward."""
    inputs = subject.of.inputs(1)
    given = inspect.signature(subject.of.forward).bind(*inputs).arguments
    values = subject.of.forward(*inputs)
    known = {*given, *values._fields, *(name for item in inputs for name in getattr(item, "_fields", ()))}
    names = {node.id for node in ast.walk(ast.parse(subject.source)) if isinstance(node, ast.Name)}
    return frozenset(f"d{name}" for name in known) & names
