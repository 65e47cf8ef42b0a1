"""The families of operations: each returns the text of one expression, made of what the forward has already."""

from __future__ import annotations

from hypothesis import strategies as st
from torch import Tensor

from random_forwards.texts import (
    ALONG,
    CONSTANTS,
    JOINED,
    LOSSES,
    NUMBERS,
    PAIRS,
    PICKED,
    PRODUCTS,
    REDUCED,
    SMOOTH,
    VIEWED,
)
from random_forwards.writer import LARGEST, UNSOUND, Writer


def elementwise(w: Writer) -> str:
    """Return a function of each element."""
    if w.chance(25):
        return str(w.choose(NUMBERS)).format(x=w.operand(), c=w.choose(CONSTANTS))
    return str(w.choose(SMOOTH)).format(x=w.operand(1))


def pair(w: Writer) -> str:
    """Return a function of two tensors that broadcast."""
    x = w.operand()
    return str(w.choose(PAIRS)).format(x=x, y=w.partner(x))


def reduced(w: Writer) -> str:
    """Return a reduction."""
    x = w.operand(1)
    dims = w.dim(w.shape(x))
    if w.chance(15):
        return f"{x}.{w.choose(['sum', 'mean', 'amax', 'max', 'min', 'logsumexp', 'norm', 'var', 'std', 'prod', 'median'])}()".replace(
            "logsumexp()", "flatten().logsumexp(0)"
        )
    text = str(w.choose(REDUCED))
    several = "dim={d}" not in text and any(part in text for part in (".sum(", ".mean(", "amax", "amin", ".var("))
    shown = f"(0, {len(w.shape(x)) - 1})" if several and len(w.shape(x)) > 1 and w.chance(30) else str(dims)
    return text.format(x=x, d=shown, k=w.choose(["", ", keepdim=True"]))


def along(w: Writer) -> str:
    """Return what keeps its shape along a dimension."""
    x = w.operand(1)
    return str(w.choose(ALONG)).format(x=x, d=w.dim(w.shape(x)))


def viewed(w: Writer) -> str:
    """Return the same numbers in another shape or order."""
    x = w.operand(1)
    shape = w.shape(x)
    order = w.draw(st.permutations(range(len(shape))))
    return str(w.choose(VIEWED)).format(
        x=x, e=w.integer(-len(shape) - 1, len(shape)), p=", ".join(map(str, order)), minus=", ".join(["-1"] * len(shape)),
        ones=", ".join(["1"] * len(shape)), sizes=", ".join(map(str, shape)),
    )  # fmt: skip


def picked(w: Writer) -> str:
    """Return some of the numbers, some of them twice."""
    x, text = w.operand(1), str(w.choose(PICKED))
    shape = w.shape(x)
    given: dict[str, str] = {"x": x}
    count = w.integer(2, 4)
    if "{i}" in text:
        given["i"] = w.indices(count, shape[0])
    second = shape[-1 if "..." in text else min(1, len(shape) - 1)]
    for key, many in (("j", w.integer(2, 4)), ("j0", shape[0]), ("j1", count)):
        if f"{{{key}}}" in text:
            given[key] = w.indices(many, second)
    return text.format(**given)


def joined(w: Writer) -> str:
    """Return tensors put together."""
    x = w.operand(1)
    shape = w.shape(x)
    alike = [name for name in w.tensors if w.shape(name) == shape and name != x]
    y = str(w.choose(alike)) if alike else w.new_input(*shape, wish="other")
    return str(w.choose(JOINED)).format(x=x, y=y, d=w.dim(shape))


def product(w: Writer) -> str:
    """Return a product of matrices."""
    x, text = w.operand(1), str(w.choose(PRODUCTS))
    size, width = w.shape(x)[-1], w.integer(1, 4)
    given = {"x": x}
    for key, shape, wish in (("r", (size, width), "W"), ("b", (width,), "b"), ("v", (size,), "v")):
        if f"{{{key}}}" in text:
            given[key] = w.new_input(*shape, wish=wish)
    return text.format(**given)


def loss_of(w: Writer) -> str:
    """Return a loss of a library."""
    text = str(w.choose(LOSSES))
    x = w.operand(2, 2) if "{t}" in text else w.operand(1)
    shape = w.shape(x)
    given = {"x": x}
    if "{y}" in text:
        given["y"] = w.new_input(*shape, wish="other")
    if "{same}" in text:
        given["same"] = w.new_input(*shape, wish="other")
    if "{t}" in text:
        given["t"] = w.indices(shape[0], shape[1])
    return text.format(**given)


FAMILIES = {
    "elementwise": elementwise, "pairs": pair, "reductions": reduced, "along": along, "views": viewed,
    "indexing": picked, "joins": joined, "products": product, "losses": loss_of,
}  # fmt: skip


def expression(w: Writer) -> str:
    """Return one operation of any family that runs; a plain product if none does."""
    for _ in range(4):
        text = attempt(w, w.choose(FAMILIES))
        if text is not None:
            return text
    x = w.operand()
    return f"0.5 * {x}"


def attempt(w: Writer, family: str) -> str | None:
    """Return an operation of a family, None if it does not run."""
    before = dict(w.space), dict(w.inputs), list(w.tensors), set(w.unread)
    text = FAMILIES[family](w)
    if runs(w, text):
        return text
    w.space, w.inputs, w.tensors, w.unread = before
    return None


def runs(w: Writer, text: str) -> bool:
    """Whether an expression makes a floating tensor of a handy size."""
    try:
        made = w.value(text)
    except UNSOUND:
        return False
    sound = isinstance(made, Tensor) and made.is_floating_point() and 0 < made.numel() <= LARGEST and made.ndim <= 4
    return sound and bool(made.isfinite().all())
