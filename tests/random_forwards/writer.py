"""A random forward while it is written: every statement is run at once, so that every shape is known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from handgrad import source

Draw = Callable[[st.SearchStrategy[Any]], Any]
NAMES = ["h", "z", "q", "act", "mixed", "scores", "pre", "gate_in", "feat", "out", "tmp", "y1"]
LARGEST = 60  # elements of a value
LARGE = 30.0  # a number that is made smaller before it is used
UNSOUND = (RuntimeError, IndexError, ValueError, TypeError, UserWarning)  # such as no degrees of freedom
HELPERS = {
    "gated": "def gated(a, b):\n    s = torch.sigmoid(a)\n    return s * b\n",
    "normalise": "def normalise(v):\n    centred = v - v.mean(-1, keepdim=True)\n"
    "    return centred / (centred.square().mean(-1, keepdim=True) + 1e-3).sqrt()\n",
    "residual": "def residual(v, f=torch.tanh):\n    return v + 0.5 * f(v)\n",
}

MODULES = {"torch": torch, "F": F, "math": math}
_count = itertools.count()


@dataclass
class Written:
    """A forward: its source, and the inputs that it is run with, in float64."""

    inputs: dict[str, Tensor]
    body: list[str]
    helpers: list[str]

    @property
    def helper_sources(self) -> list[str]:
        """The functions that it calls."""
        return [HELPERS[name] for name in self.helpers]

    @property
    def code(self) -> str:
        """The module that holds the forward."""
        rows = [f"def forward({', '.join(self.inputs)}):", *(f"    {row}" for row in self.body), "    return loss"]
        return "\n\n".join([*self.helper_sources, "\n".join(rows) + "\n"])

    def function(self) -> Callable[..., Any]:
        """Return the forward, as if it stood in a file."""
        filename = f"<random forward {next(_count)}>"
        source.register(filename, self.code)
        space: dict[str, Any] = dict(MODULES)
        exec(compile(self.code, filename, "exec"), space)  # noqa: S102 written here
        return space["forward"]  # type: ignore[no-any-return]

    def run_here(self) -> dict[str, Any]:
        """Run the statements of the forward one by one, as a notebook does, and return all names."""
        space: dict[str, Any] = {**MODULES, **self.inputs}
        exec("\n".join([*self.helper_sources, *self.body]), space)  # noqa: S102 written here
        return space

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {tuple(x.shape)} {x.dtype}" for name, x in self.inputs.items())
        return f"\n# {shapes}\n{self.code}"


@dataclass
class Writer:
    """Writes one forward; ``expression`` writes the text of one random operation."""

    draw: Draw
    expression: Callable[[Writer], str]
    inputs: dict[str, Tensor] = field(default_factory=dict)
    body: list[str] = field(default_factory=list)
    space: dict[str, Any] = field(default_factory=dict)
    tensors: list[str] = field(default_factory=list)  # names of floating tensors, oldest first
    unread: set[str] = field(default_factory=set)
    depth: int = 0

    def __post_init__(self) -> None:
        self.space |= MODULES
        for text in HELPERS.values():
            exec(text, self.space)  # noqa: S102 written above
        self.generator = torch.Generator().manual_seed(self.integer(0, 99))

    # -- choices

    def integer(self, low: int, high: int) -> int:
        """Return a number of a range, its ends included."""
        return int(self.draw(st.integers(low, high)))

    def choose(self, items: Any) -> Any:
        """Return one of ``items``."""
        return self.draw(st.sampled_from(list(items)))

    def chance(self, percent: int) -> bool:
        """Whether something happens that happens so often."""
        return self.integer(0, 99) >= 100 - percent

    # -- values

    def value(self, text: str) -> Any:
        """Return what a text stands for."""
        return eval(text, self.space)  # noqa: S307 written here

    def shape(self, text: str) -> tuple[int, ...]:
        """Return the shape of what a text stands for."""
        return tuple(self.value(text).shape)

    def new_input(self, *shape: int, wish: str = "w") -> str:
        """Add an input of random numbers."""
        name = next(n for n in (wish, *(f"{wish}{k}" for k in range(1, 99))) if n not in self.space)
        given = torch.randn(shape, generator=self.generator, dtype=torch.float64).requires_grad_()
        self.inputs[name] = self.space[name] = given
        return name

    def indices(self, count: int, size: int) -> str:
        """Add an input of ``count`` indices below ``size``, which repeat."""
        name = next(n for n in (f"ix{k}" for k in itertools.count()) if n not in self.space)
        self.inputs[name] = self.space[name] = torch.randint(0, size, (count,), generator=self.generator)
        return name

    def operand(self, least: int = 0, most: int = 4) -> str:
        """Return a tensor of so many dimensions: a name, or an expression inside the larger one."""
        if self.depth < 2 and self.chance(25):
            self.depth += 1
            text = self.expression(self)
            self.depth -= 1
            if least <= len(self.shape(text)) <= most:
                return f"({text})" if not text.isidentifier() else text
        fitting = [name for name in self.tensors if least <= len(self.shape(name)) <= most]
        if not fitting:
            sizes = [self.integer(1, 5) for _ in range(self.integer(max(least, 1), max(least, min(most, 3))))]
            fitting = [self.new_input(*sizes, wish="p")]
            self.tensors.append(fitting[0])
        name = str(fitting[-1 - min(self.integer(0, 3), len(fitting) - 1)])
        self.unread.discard(name)
        return name

    def partner(self, text: str) -> str:
        """Return a tensor that broadcasts with another one."""
        shape = self.shape(text)
        fitting = [n for n in self.tensors if _broadcasts(self.shape(n), shape)]
        if fitting and self.chance(60):
            name = str(self.choose(fitting))
            self.unread.discard(name)
            return name
        kind = self.integer(0, 4)
        own: list[int] = list(shape)
        if kind == 0:
            own = own[self.integer(0, len(own)) :]
        elif kind == 1 and own:
            own[self.integer(0, len(own) - 1)] = 1
        elif kind == 2 and math.prod(own) <= LARGEST // 3 and len(own) < 4:
            own = [self.integer(2, 3), *own]
        elif kind == 3:
            own = [self.integer(2, 3) if s == 1 and math.prod(own) <= LARGEST // 3 else s for s in own]
        return self.new_input(*own, wish=self.choose(["w", "bias", "g"]))

    def dim(self, shape: tuple[int, ...]) -> int:
        """Return a dimension, counted from either end."""
        return self.integer(-len(shape), len(shape) - 1)

    # -- statements

    def statement(self, text: str) -> bool:
        """Write a statement if what it makes is a sound tensor."""
        before = dict(self.space)
        try:
            exec(text, self.space)  # noqa: S102 written here
        except UNSOUND:
            self.space.clear()
            self.space |= before
            return False
        self.body += text.split("\n")
        return True

    def assign(self, text: str) -> None:
        """Give the value of an expression a name: a new one, or one that means something else already."""
        made = self.value(text)
        if not isinstance(made, Tensor) or made.numel() == 0 or made.numel() > LARGEST or not made.is_floating_point():
            return
        if not bool(made.isfinite().all()):
            return
        if float(made.detach().abs().max()) > LARGE:
            text = f"torch.tanh({text})"
        free = [name for name in NAMES if name not in self.space]
        name = str(free[0] if free else f"v{len(self.body)}")
        made_here = [name for name in self.tensors if name not in self.inputs or self.integer(0, 99) == 99]
        if made_here and self.chance(15):
            name = str(self.choose(made_here))
            self.tensors.remove(name)
        if self.statement(f"{name} = {text}"):
            self.tensors.append(name)
            self.unread.add(name)


def _broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    try:
        return math.prod(torch.broadcast_shapes(a, b)) <= LARGEST
    except RuntimeError:
        return False
