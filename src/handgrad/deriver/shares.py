"""What the walk finds: the shares of each gradient, one for every use of a value."""

from __future__ import annotations

from dataclasses import dataclass, field

from handgrad.deriver.loops import Loop, Position
from handgrad.expr import Expr
from handgrad.graph import Step, Value


@dataclass
class Share:
    """One contribution to the gradient of a value: what a line will say."""

    value: Value
    gradient: Expr
    why: str
    step: Step | None  # the step that is reversed
    first: bool = True
    more: bool = False  # others are added to it


@dataclass
class LoopShares:
    """The shares of a loop's body, and how the gradients pass from one iteration to the one before."""

    loop: Loop
    body: list[Share] = field(default_factory=list)
    starts: list[Value] = field(default_factory=list)  # whose gradients begin at zero before the loop
    carried: list[Position] = field(default_factory=list)  # whose gradients each iteration hands on
