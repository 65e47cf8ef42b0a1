"""Other shapes of the same numbers: views, transposes, repetitions, joins and splits."""

from __future__ import annotations

from handgrad.expr import Expr, reshape
from handgrad.rules.table import Terms, rule, sample, to


@rule(
    "view",
    "reshape",
    "flatten",
    "unflatten",
    "ravel",
    "view_as",
    "reshape_as",
    samples=[
        sample("x.view(5, 3) * 2", x=(3, 5)),
        sample("x.reshape(-1) * 2", x=(3, 5)),
        sample("torch.flatten(x, 1) * 2", x=(3, 5, 2)),
        sample("x.unflatten(1, (3, 2)) * 2", x=(2, 6)),
    ],
)
def view(g: Expr, y: Expr, x: Expr, *_: object, sizes: object = None, shape: object = None) -> Terms:
    yield to(x, reshape(g, x.shape), "another shape of the same numbers: back to the shape it had")


@rule("T", "mT", "H", "mH", "t", "adjoint", samples=[sample("x.T * 2", x=(3, 5)), sample("x.mT * 2", x=(4, 3, 5))])
def T(g: Expr, y: Expr, x: Expr) -> Terms:
    yield to(x, g.T if len(x.shape) > 1 else g, "a transpose is undone by a transpose")


@rule("transpose", samples=[sample("x.transpose(0, 2) * 2", x=(3, 5, 2)), sample("x.transpose(-2, -1) * 2", x=(3, 5))])
def transpose(g: Expr, y: Expr, x: Expr, a: int, b: int) -> Terms:
    back = (
        g.T
        if {a % len(x.shape), b % len(x.shape)} == {len(x.shape) - 2, len(x.shape) - 1}
        else g.method("transpose", a, b, shape=x.shape)
    )
    yield to(x, back, "a transpose is undone by a transpose")
