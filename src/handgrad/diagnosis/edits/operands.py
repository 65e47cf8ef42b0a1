"""Other constants, other names, other slices."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator

from handgrad.diagnosis.edits.edit import Change, Names, code
from handgrad.diagnosis.rewriting import OWN, copied


def constant_changes(node: ast.Constant, names: Names, in_index: bool) -> Iterator[Change]:
    """Yield other numbers."""
    value = node.value
    if isinstance(value, bool):
        yield 1.1, "shape", f"{not value} for {value}", ast.Constant(not value)
        return
    if not isinstance(value, int | float):
        return
    others = {-value, value + 1, value - 1, 2 * value, value / 2, value + 0.5, value - 0.5, value + 2, value - 2}
    if isinstance(value, float) and value > 0:
        power = math.log10(value)
        if abs(power - round(power)) < 1e-9:
            others |= {10.0 ** -round(power), value * 10, value / 10}
        others |= {1 / value, value**2, math.sqrt(value)}
    kind = "wrong-index" if in_index else "constant"
    for other in sorted(others - {value}, key=lambda o: (abs(o - value), o)):
        new = int(other) if isinstance(value, int) and other == int(other) else other
        if in_index and not isinstance(new, int):
            continue
        yield 1.0, kind, f"{new} for {value}", ast.Constant(new) if new >= 0 else code(repr(new))
    for text in names.small:
        yield 1.1, kind, f"{text} for {value}", code(text)
    if not in_index and isinstance(value, float) and 0 < abs(value) < 1e-2:
        for name in names.shapes:
            yield 2.2, kind, f"`{name} + {value}` for {value}", ast.BinOp(code(name), ast.Add(), node)
    for name in names.integers:
        yield 1.6, kind, f"{name} for {value}", code(name)


def name_changes(node: ast.Name, names: Names, in_index: bool) -> Iterator[Change]:
    """Yield other names, and the same name in another form."""
    name = node.id
    if name in names.integers:
        for text in (f"({name} - 1)", f"({name} + 1)"):
            yield 1.0, "wrong-index" if in_index else "scale", f"{text} for {name}", code(text)
        for other in names.integers:
            if other != name:
                yield 1.7, "wrong-index" if in_index else "scale", f"{other} for {name}", code(other)
    if name not in names.shapes and name != OWN:
        return
    shape = names.shapes.get(name, names.own)
    for other, its in names.shapes.items():
        if other == name:
            continue
        kin = (other in names.gradients) == (name in names.gradients)
        kind = "wrong-index" if in_index else "wrong-operand"
        if its == shape:
            yield 1.3 if kin else 2.0, kind, f"`{other}` for `{name}`", code(other)
        elif len(its) == len(shape) or kin:
            yield 1.9 if kin else 2.3, kind, f"`{other}` for `{name}`", code(other)
    if in_index:
        return
    if len(shape) == 2:
        yield 1.1, "transposed", f"`{name}.T` for `{name}`", code(f"{name}.T")
    elif len(shape) > 2:
        yield 1.4, "transposed", f"`{name}` transposed", code(f"{name}.transpose(-2, -1)")
    for text in names.small:
        yield 1.5, "constant", f"`{name} + {text}`", code(f"({name} + {text})")
    for power in ("2", "-1", "-2", "3", "0.5"):
        yield 1.8, "constant", f"`{name}**{power}`", code(f"{name}**{power}")


def slice_changes(node: ast.Slice) -> Iterator[Change]:
    """Yield other bounds."""
    for field in ("lower", "upper"):
        bound = getattr(node, field)
        if bound is None:
            continue
        for text in (f"({ast.unparse(bound)}) + 1", f"({ast.unparse(bound)}) - 1"):
            new = copied(node)
            setattr(new, field, code(text))
            yield 1.4, "wrong-index", f"{text} for {ast.unparse(bound)}", new
        new = copied(node)
        setattr(new, field, None)
        yield 1.4, "wrong-index", f"no {field} bound", new
