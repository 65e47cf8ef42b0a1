"""What is wrong, read off the numbers: a sign, a named factor, a sum that is missing, a transpose."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import torch
from torch import Tensor

from handgrad.diagnosis import Mistake
from handgrad.diagnosis.problem import Problem, Truth, WrongBlock
from handgrad.diagnosis.shape import broadcast_dims, sum_back
from handgrad.graph import Value
from handgrad.precision import close, fitted, largest


def hypotheses(problem: Problem, block: WrongBlock) -> Iterator[Mistake]:
    """Yield every explanation of the value that ``block`` computes, surest first."""
    deltas = block.deltas
    if deltas is None:
        return
    truths = problem.truths(block.reads)
    for test in (
        _missing_sum,
        _factor,
        _transposed,
        _over_summed,
        _wrong_axis,
        _shares,
        _lost_accumulation,
        _tensor_factor,
    ):
        for truth in truths:
            mistake = test(problem, block, deltas, truth)
            if mistake is not None:
                yield mistake
                break


def _branch(problem: Problem, truth: Truth) -> str:
    """Say which branch is meant, where there are several."""
    every = problem.check.points[0].branches(problem.of)
    if len(truth[0]) in (0, len(every)):
        return ""
    return f" (the branch through {problem.listing(truth[0])})"


def _missing_sum(problem: Problem, block: WrongBlock, deltas: list[Tensor], truth: Truth) -> Mistake | None:
    expected, shape = problem.of.shape, tuple(deltas[0].shape)
    dims = broadcast_dims(expected, shape)
    if not dims or shape == expected:
        return None
    reduced = [d.sum(dims).reshape(expected) for d in deltas]
    if not all(close(a, b) for a, b in zip(reduced, truth[1], strict=True)):
        return None
    over = f"dim{'s' if len(dims) > 1 else ''} {', '.join(map(str, dims))}"
    message = (
        f"`{problem.name(problem.of)}` {expected} was broadcast over {over}, "
        f"so its gradient needs `{sum_back(expected, shape)}`"
    )
    return Mistake("missing-sum", message + _branch(problem, truth))


def _factor(problem: Problem, block: WrongBlock, deltas: list[Tensor], truth: Truth) -> Mistake | None:
    users = problem.check.points[0].branches(problem.of)
    if not block.reads and problem.check.points[0].loss not in users:
        return None  # it reads no upstream gradient: that the rest is a constant here is chance
    factors = []
    for found, right in zip(deltas, truth[1], strict=True):
        shaped = fitted(found, tuple(right.shape))
        if shaped is None or not largest(right):
            return None
        factor = ((shaped * right).sum() / (right * right).sum()).item()
        if abs(factor) < 1e-9 or not close(shaped, factor * right):
            return None
        factors.append(factor)
    first = factors[0]
    if any(abs(f - first) > 1e-8 * abs(first) for f in factors) or abs(first - 1) < 1e-9:
        return None
    where = _branch(problem, truth)
    if abs(first + 1) < 1e-9:
        return Mistake("sign", f"`{problem.claim.name}` has the wrong sign{where}")
    sign = "the wrong sign and " if first < 0 else ""
    too = named_factor(abs(first), problem.integers)
    cure = named_factor(1 / first, problem.integers)
    return Mistake("scale", f"`{problem.claim.name}` has {sign}{too} times the right size{where}: multiply by {cure}")


def named_factor(number: float, integers: dict[str, int]) -> str:
    """Return a factor in the user's own names.

    >>> named_factor(1 / 32, {"n": 32}), named_factor(32 / 31, {"n": 32}), named_factor(0.5, {})
    ('1/n', 'n/(n-1)', '1/2')
    """
    known: dict[str, float] = {"2": 2, "1/2": 0.5, "3": 3, "4": 4, "1/3": 1 / 3, "1/4": 0.25}
    for name, n in integers.items():
        if n < 3:
            continue
        known |= {
            name: n,
            f"1/{name}": 1 / n,
            f"({name}-1)": n - 1,
            f"1/({name}-1)": 1 / (n - 1),
            f"{name}/({name}-1)": n / (n - 1),
            f"({name}-1)/{name}": (n - 1) / n,
            f"{name}**2": n * n,
            f"1/{name}**2": 1 / n / n,
            f"2/{name}": 2 / n,
            f"{name}/2": n / 2,
        }
    for text, value in known.items():
        for sign in (1, -1):
            if abs(number - sign * value) < 1e-8 * abs(value):
                return text if sign > 0 else f"-{text}"
    fraction = Fraction(number).limit_denominator(1000)
    return str(fraction) if abs(float(fraction) - number) < 1e-9 * abs(number) else f"{number:.6g}"


def _transposed(problem: Problem, block: WrongBlock, deltas: list[Tensor], truth: Truth) -> Mistake | None:
    if deltas[0].dim() < 2:
        return None
    turned = [d.transpose(-2, -1) for d in deltas]
    if turned[0].shape == truth[1][0].shape and all(close(a, b) for a, b in zip(turned, truth[1], strict=True)):
        name = problem.claim.name
        return Mistake("transposed", f"`{name}` is the transpose of the right gradient{_branch(problem, truth)}")
    return None


def _over_summed(problem: Problem, block: WrongBlock, deltas: list[Tensor], truth: Truth) -> Mistake | None:
    expected, shape = tuple(truth[1][0].shape), tuple(deltas[0].shape)
    if deltas[0].numel() >= truth[1][0].numel():
        return None
    dims = broadcast_dims(shape, expected)
    if not dims:
        return None
    summed = [t.sum(dims).reshape(shape) for t in truth[1]]
    if all(close(a, b) for a, b in zip(deltas, summed, strict=True)):
        over = f"dim{'s' if len(dims) > 1 else ''} {', '.join(map(str, dims))}"
        message = f"summed over {over}, where `{problem.name(problem.of)}` {expected} has entries of its own"
        return Mistake("over-summed", message)
    return None


def _wrong_axis(problem: Problem, block: WrongBlock, deltas: list[Tensor], truth: Truth) -> Mistake | None:
    """Find the right total, spread over another dim than the right one."""
    found, right = deltas[0], truth[1][0]
    if found.shape == right.shape or found.numel() < 2 or right.numel() < 2:
        return None
    a, b = [n for n in found.shape if n > 1], [n for n in right.shape if n > 1]
    if a == b or len(a) != len(b):
        return None
    sums = [(d.sum(), t.sum()) for d, t in zip(deltas, truth[1], strict=True)]
    if all(close(x, y) for x, y in sums):
        message = (
            f"summed over the wrong dim: it has shape {tuple(found.shape)}, "
            f"and `{problem.name(problem.of)}` has {problem.of.shape}"
        )
        return Mistake("wrong-axis", message)
    return None


def _shares(problem: Problem, block: WrongBlock, deltas: list[Tensor], truth: Truth) -> Mistake | None:
    """Find a sum of the right contributions, each with a wrong factor."""
    tables = [point.branches(problem.of) for point in problem.check.points]
    users = [u for u in tables[0] if u in block.reads]
    if len(users) < 2 or any(d.shape != problem.of.shape for d in deltas):
        return None
    shares = []
    for delta, table in zip(deltas, tables, strict=True):
        matrix = torch.stack([table[u].flatten() for u in users], 1)
        solution = torch.linalg.lstsq(matrix, delta.flatten()[:, None]).solution[:, 0]
        if not close((matrix @ solution).reshape(delta.shape), delta):
            return None
        shares.append(solution)
    if not all(close(shares[0], other, 1e-7) for other in shares[1:]):
        return None
    wrong = [(u, k.item()) for u, k in zip(users, shares[0], strict=True) if abs(k - 1) > 1e-7]
    if not wrong:
        return None
    if all(abs(k + 1) < 1e-7 for _, k in wrong):
        return Mistake("sign", f"the branch through {problem.listing(u for u, _ in wrong)} has the wrong sign")
    if len(wrong) == 1 and abs(wrong[0][1]) < 1e-7:
        return Mistake("missing-branch", f"the branch through {problem.listing([wrong[0][0]])} is missing")
    if len(wrong) == 1 and abs(wrong[0][1] - 2) < 1e-7:
        return Mistake("counted-twice", f"the branch through {problem.listing([wrong[0][0]])} is counted twice")
    text = "; ".join(
        f"the branch through `{problem.name(u)}` is there {named_factor(k, problem.integers)} times" for u, k in wrong
    )
    return Mistake("scale", text)


def _lost_accumulation(problem: Problem, block: WrongBlock, deltas: list[Tensor], truth: Truth) -> Mistake | None:
    found, right = deltas[0], truth[1][0]
    if found.shape != right.shape or not found.dim():
        return None
    for index in _row_indices(problem):
        counts = torch.bincount(index.flatten().clamp(min=0), minlength=right.shape[0])[: right.shape[0]]
        once, several = counts == 1, counts > 1
        if not several.any():
            continue
        wrong = (found - right).abs().flatten(1).amax(1) if found.dim() > 1 else (found - right).abs()
        differs = wrong > 1e-9 * largest(right)
        rows = several.nonzero().flatten()
        if not differs[once].any() and differs[rows].any() and not differs[counts == 0].any():
            message = (
                f"rows that are used once are right, the {len(rows)} rows that are used several times are not: "
                "repeated indices overwrite each other instead of adding up; "
                "use `index_add_` or `index_put_(..., accumulate=True)`"
            )
            return Mistake("lost-accumulation", message)
    return None


def _row_indices(problem: Problem) -> Iterator[Tensor]:
    for step in problem.graph.steps:
        inputs = list(step.inputs)
        if problem.of in inputs and step.op in ("__getitem__", "embedding", "index_select", "gather"):
            for value in inputs:
                if value is not problem.of and value.dtype in (torch.int64, torch.int32):
                    yield value.value.long()


def _tensor_factor(problem: Problem, block: WrongBlock, deltas: list[Tensor], truth: Truth) -> Mistake | None:
    """One named value too many or too few among the factors."""
    shaped = [fitted(d, tuple(t.shape)) for d, t in zip(deltas, truth[1], strict=True)]
    if any(s is None or not largest(s) for s in shaped):
        return None
    ratios = [t / s for s, t in zip(shaped, truth[1], strict=True) if s is not None]
    if not all(bool(torch.isfinite(r).all()) for r in ratios):
        return None
    forward = problem.check.points[0].forward_values
    for value in sorted((v for v in forward if v.name and v.is_floating), key=lambda v: v.id):
        for power, text in ((1, "{}"), (-1, "{}"), (2, "{}**2"), (-2, "{}**2"), (0.5, "{}**0.5"), (-0.5, "{}**0.5")):
            if _equals_power(problem, ratios, value, power):
                name = text.format(problem.name(value))
                if power > 0:
                    return Mistake("missing-factor", f"a factor is missing: `{name}`{_branch(problem, truth)}")
                return Mistake("extra-factor", f"there is one factor too many: `{name}`{_branch(problem, truth)}")
    for value, name in problem.gradient_names.items():
        if _equals_power(problem, ratios, value, 1, noise=True):
            return Mistake("missing-factor", f"the upstream gradient `{name}` is missing as a factor")
        if _equals_power(problem, ratios, value, -1, noise=True):
            return Mistake("extra-factor", f"the upstream gradient `{name}` is a factor too many")
    return None


def _equals_power(problem: Problem, ratios: list[Tensor], value: Value, power: float, *, noise: bool = False) -> bool:
    for ratio, point in zip(ratios, problem.check.points, strict=True):
        tensor = point.noise(value) if noise else point.forward[value]
        try:
            factor = (tensor**power).expand(ratio.shape)
        except RuntimeError:
            return False
        if not close(ratio, factor, 1e-8):
            return False
    return True
