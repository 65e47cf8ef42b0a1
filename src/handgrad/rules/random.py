"""Dropout: what was dropped is read off the result."""

from __future__ import annotations

from handgrad.expr import Expr, number
from handgrad.rules.makers import away
from handgrad.rules.table import Terms, rule, sample, to

HALF = number(0.5)


@rule(
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    samples=[
        sample("F.dropout(x)", x=away(4, 5)),
        sample("F.dropout(x, 0.3)", x=away(4, 5)),
        sample("F.dropout(x, 0.3, training=False) * 2", x=away(4, 5)),
        sample("F.dropout(x, p=0.0) * 2", x=away(4, 5)),
        sample("F.dropout(x, 1.0) * 2", x=away(4, 5)),
        sample("F.dropout(x.relu(), 0.3)", x=away(4, 5)),
        sample("F.dropout2d(x, 0.3)", x=away(4, 3, 2, 2)),
        sample("F.dropout1d(x)", x=away(4, 3, 2)),
    ],
)
def dropout(g: Expr, y: Expr, x: Expr, p: Expr = HALF, training: bool = True) -> Terms:
    chance = p.data[0]
    if not training or chance == 0:
        yield to(x, g, "nothing is dropped: the same numbers, the same gradient")
    elif chance == 1:
        yield to(x, number(0.0) * g, "everything is dropped")
    else:
        why = "what is not 0 was kept, and divided by 1 - p (where the input is 0 nothing tells, nor may it matter)"
        yield to(x, y.differs(0) * g / (1 - p), why, unknown_at_zero=True)
