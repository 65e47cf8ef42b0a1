"""torch.einsum: the gradient of one operand is an einsum of the output's gradient and the other operands."""

from __future__ import annotations

import string
from typing import Any

from handgrad.expr import Expr, call, expand, hole, is_repeated_number, overwritten, rearranged, strip, total, unsqueeze
from handgrad.rules.table import Exprs, Terms, rule, sample, to

WHY = "a sum of products: the gradient times the other factors, summed over what this one has not"


@rule(
    "einsum",
    samples=[
        sample("torch.einsum('ij,jk->ik', a, b)", a=(3, 5), b=(5, 2)),
        sample("torch.einsum('bij,bjk->bik', a, b)", a=(4, 3, 5), b=(4, 5, 2)),
        sample("torch.einsum('bhqd,bhkd->bhqk', a, b) * 2", a=(2, 3, 4, 5), b=(2, 3, 7, 5)),
        sample("torch.einsum('ij, jk', a, b)", a=(3, 5), b=(5, 2)),
        sample("torch.einsum('ba', a)", a=(3, 5)),
        sample("torch.einsum('i,i', a, b)", a=(5,), b=(5,)),
        sample("torch.einsum('i,j->ij', a, b)", a=(3,), b=(5,)),
        sample("torch.einsum('ij->ji', a) * w", a=(3, 5), w=(5, 3)),
        sample("torch.einsum('ij->i', a) * w", a=(3, 5), w=(3,)),
        sample("torch.einsum('ij->', a)", a=(3, 5)),
        sample("torch.einsum('ii->i', a) * w", a=(4, 4), w=(4,)),
        sample("torch.einsum('ii', a) * 2", a=(4, 4)),
        sample("torch.einsum('iij,j->i', a, b)", a=(3, 3, 5), b=(5,)),
        sample("torch.einsum('i,ij,j->', a, b, c)", a=(3,), b=(3, 5), c=(5,)),
        sample("torch.einsum('ij,ik->jk', a, a)", a=(3, 5)),
        sample("torch.einsum('ij,kl->il', a, b)", a=(3, 5), b=(2, 4)),
        sample("torch.einsum('ij,kl->il', a, b).sum()", a=(3, 5), b=(2, 4)),
        sample("torch.einsum('ij,jk->ik', a, b).sum()", a=(3, 5), b=(5, 2)),
        sample("torch.einsum('...ij,...jk->...ik', a, b)", a=(2, 4, 3, 5), b=(2, 4, 5, 2)),
        sample("torch.einsum('...ij,jk->...ik', a, b)", a=(2, 4, 3, 5), b=(5, 2)),
        sample("torch.einsum('...i,...i', a, b)", a=(4, 3, 5), b=(3, 5)),
        sample("torch.einsum('...i,...i->...', a, b)", a=(4, 1, 5), b=(1, 3, 5)),
        sample("torch.einsum('i...->...i', a) * w", a=(3, 4, 5), w=(4, 5, 3)),
        sample("torch.einsum('...i->i', a) * w", a=(3, 4, 5), w=(5,)),
        sample("torch.einsum('ij,j->ij', a, b)", a=(3, 5), b=(1,)),
        sample("torch.einsum('Ab,Ab->A', [a, b])", a=(3, 5), b=(3, 5)),
        sample("torch.einsum('i,->i', a, b)", a=(3,), b=()),
    ],
)
def einsum(g: Expr, y: Expr, equation: str, *operands: Any) -> Terms:
    if not isinstance(equation, str):
        raise NotImplementedError("torch.einsum with lists of numbers: write its equation as text")
    given: Exprs = list(operands[0]) if isinstance(operands[0], list | tuple) else list(operands)
    inputs, result, dots = subscripts(equation, [len(x.shape) for x in given])
    for i, x in enumerate(given):
        others = [(inputs[k], other) for k, other in enumerate(given) if k != i]
        yield to(x, _share(g, result, x, inputs[i], others, dots), WHY)


def subscripts(equation: str, dims: list[int]) -> tuple[list[str], str, str]:
    """Return a letter for each dimension of each operand, and of the result; and those that stand for ``...``."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    free = [letter for letter in string.ascii_letters[::-1] if letter not in equation]
    extra = [n - len(part.replace("...", "")) if "..." in part else 0 for part, n in zip(inputs, dims, strict=True)]
    dots = "".join(free[: max(extra, default=0)][::-1])
    named = [part.replace("...", dots[len(dots) - n :]) for part, n in zip(inputs, extra, strict=True)]
    if not arrow:
        letters = "".join(part.replace("...", "") for part in inputs)
        right = "..." + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    return named, right.replace("...", dots), dots


def _share(g: Expr, result: str, x: Expr, own: str, others: list[tuple[str, Expr]], dots: str) -> Expr:
    """Return the gradient of ``x``, whose dimensions are called ``own``."""
    letters = "".join(dict.fromkeys(own))
    constant = is_repeated_number(g)
    factors = others if constant else [(result, g), *others]
    known = {letter for name, _ in factors for letter in name}
    kept = "".join(letter for letter in letters if letter in known)
    sizes: dict[str, int] = {}
    for name, one in [(own, x), *factors]:
        for letter, size in zip(name, one.shape, strict=True):
            if sizes.get(letter, 1) == 1:
                sizes[letter] = size
    share = _product(factors, kept, tuple(sizes[letter] for letter in kept), dots)
    if constant:
        share = strip(g) * share if share is not None else strip(g)
    assert share is not None
    first = next((d for d, letter in enumerate(letters) if letter in known), len(letters))
    for d in range(first, len(letters)):  # summed over dims that only this operand has: all get the same
        if letters[d] not in known:
            share = unsqueeze(share, d - first)
    share = expand(share, tuple(sizes[letter] for letter in letters))
    if letters != own:  # the diagonal
        zeros = call("torch.zeros_like", x, shape=x.shape)
        place = call("torch.einsum", f"{own}->{letters}", hole(x.shape), shape=share.shape)
        return overwritten(zeros, place, share)
    return share


def _product(factors: list[tuple[str, Expr]], kept: str, shape: tuple[int, ...], dots: str) -> Expr | None:
    """Return the sum of products of ``factors`` with the dimensions ``kept``; of one factor, as it is written."""
    if not factors:
        return None
    name, one = factors[0]
    if len(factors) == 1 and len(set(name)) == len(name):
        rest = "".join(letter for letter in name if letter in kept)
        if rest != name:
            one = total(one, [d for d, letter in enumerate(name) if letter not in kept] if rest else None)
        order = [rest.index(letter) for letter in kept]
        if order == sorted(order):
            return one
        return one.T if order == [1, 0] else rearranged(one, "permute", *order, shape=shape)
    names = [name for name, _ in factors]
    if dots and all(dots in name or not set(dots) & set(name) for name in [*names, kept]):
        names, kept = [name.replace(dots, "...") for name in names], kept.replace(dots, "...")
    return call("torch.einsum", f"{','.join(names)}->{kept}", *(one for _, one in factors), shape=shape)
