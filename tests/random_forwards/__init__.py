"""Random forwards as people write them: source text over the whole rule table, made from hypothesis' choices.

A `Writer` runs each statement as it is written, so that it knows every shape and keeps numbers where functions are
smooth. What there is to write stands in `texts.py`, `operations.py` and `statements.py`.
"""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from random_forwards.operations import FAMILIES, attempt, expression
from random_forwards.statements import STATEMENTS
from random_forwards.writer import HELPERS, Draw, Writer, Written

THEMES = ["everything", *FAMILIES, "loops", "in place"]


@st.composite
def forwards(draw: Draw, theme: str = "everything") -> Written:
    """Return a random forward; half of its operations are those of its theme."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # what PyTorch warns of is not written: the second time too
    try:
        return written(draw, theme)
    finally:
        torch.set_warn_always(before)


def written(draw: Draw, theme: str) -> Written:
    """Write a forward."""
    w = Writer(draw, expression)
    for _ in range(w.integer(1, 2)):
        sizes = [w.integer(1, 5) for _ in range(w.integer(1, 3))]
        w.tensors.append(w.new_input(*sizes, wish="x"))
    first = w.tensors[0]
    w.statement(f"n = {first}.shape[0]")
    w.statement("scale = 0.7")
    if len(w.shape(first)) == 2 and w.chance(50):
        w.statement(f"B, C = {first}.shape")
    for _ in range(w.integer(3, 12)):
        if theme in STATEMENTS and w.chance(40):
            STATEMENTS[theme](w)
        elif w.chance(10):
            STATEMENTS[w.choose(STATEMENTS)](w)
        elif theme in FAMILIES and w.chance(50):
            text = attempt(w, theme)
            if text is not None:
                w.assign(text)
        else:
            w.assign(expression(w))
    finish(w)
    helpers = [name for name in HELPERS if any(f"{name}(" in row for row in w.body)]
    return Written(w.inputs, w.body, helpers)


def finish(w: Writer) -> None:
    """Write the loss: a number of the last values, and of those that nothing has read."""
    read = [name for name in w.tensors if name in w.unread][-3:] or w.tensors[-1:]
    terms = []
    for name in read:
        target = w.new_input(*w.shape(name), wish="target")
        terms.append(str(w.choose([
            "({x} * {t}).sum()", "(({x} - {t}) ** 2).mean()", "{x}.tanh().sum()", "F.mse_loss({x}, {t})", "{x}.mean()",
            "({x} - {t}).abs().mean()", "{x}.square().sum()",
        ])).format(x=name, t=target))  # fmt: skip
    sign = w.choose([" + ", " - "])
    w.statement(f"loss = {sign.join(terms)}")
