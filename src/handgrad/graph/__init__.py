"""The intermediate representation: named values, and the steps that made them; and how to run them again.

A `Graph` is what happened, in order. It knows no derivative. `Replay` runs steps again: in another precision, at other
values of the leaves, or with some values replaced, bit for bit where nothing was changed.
"""

from handgrad.graph.recording import Binding, Escape, Failure, FrameInfo, Graph, Scope
from handgrad.graph.replay import NARROW, Replay
from handgrad.graph.steps import Const, Step, Value, Weak, version_of

__all__ = [
    "NARROW",
    "Binding",
    "Const",
    "Escape",
    "Failure",
    "FrameInfo",
    "Graph",
    "Replay",
    "Scope",
    "Step",
    "Value",
    "Weak",
    "version_of",
]
