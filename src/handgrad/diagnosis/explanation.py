"""Why a gradient is wrong: the reasons, each at its line."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from handgrad.claims import Event
from handgrad.diagnosis import Mistake
from handgrad.diagnosis.calls import cure_of_call, cure_of_function, has_other_arguments
from handgrad.diagnosis.parts import wrong_part
from handgrad.diagnosis.problem import Problem, WrongBlock
from handgrad.diagnosis.repair import Cure, find_cure, repeated
from handgrad.diagnosis.value import hypotheses
from handgrad.graph import Value
from handgrad.precision import close, largest, vanishes
from handgrad.source import Statement

SURE = frozenset(
    [
        "missing-sum",
        "sign",
        "scale",
        "transposed",
        "over-summed",
        "lost-accumulation",
        "counted-twice",
        "missing-branch",
    ]
)
"""What the value alone proves; the other hypotheses yield to a verified cure."""


def explain(problem: Problem) -> list[tuple[Mistake, Statement]]:
    """Return the mistakes of a wrong gradient, each with its statement; at least one."""
    judged = problem.judged
    first: dict[Statement, WrongBlock] = {}  # of each line; a loop runs it many times
    for block in judged.wrong_blocks:
        first.setdefault(block.events[-1].last.statement, WrongBlock(block.events, block.deltas, block.reads))
    found = [_explain_block(problem, block) for block in first.values()]
    if not found:
        found += _coverage(problem)
    if not found:
        found.append((Mistake("unknown", _where(problem, judged.totals)), problem.statement))
    return found


def _explain_block(problem: Problem, block: WrongBlock) -> tuple[Mistake, Statement]:
    last = block.events[-1].last.statement
    if block.deltas is None:
        return _fails(problem, block)
    if again := repeated(problem, block):
        return Mistake("counted-twice", f"the line runs `{again.text}` twice", again.text), again
    if part := wrong_part(problem, block):
        return _explain_block(part.problem, part.block)
    other = cure_of_call(problem, block) if has_other_arguments(problem, block) else None
    if other is not None:
        return _from_cure(other, None), other.statement
    by_value = next(hypotheses(problem, block), None)
    cure = find_cure(problem, block)
    sure = by_value is not None and by_value.kind in SURE
    if cure is None and not sure:
        cure = cure_of_function(problem, block) or cure_of_call(problem, block)
    if by_value is not None and sure:
        if cure is None:
            return by_value, last
        return by_value._replace(fix=cure.text), cure.statement
    if cure is not None:
        stale = _stale(problem, block) if cure.kind == "wrong-operand" else None
        mistake = _from_cure(cure, by_value) if stale is None else stale[0]._replace(fix=cure.text)
        return mistake, cure.statement
    if by_value is not None:
        return by_value, last
    if stale := _stale(problem, block):
        return stale
    if number := _number(problem, block):
        return number, last
    if missing := _missing_read(problem, block):
        return missing, last
    return _unknown(problem, block.deltas), last


def _stale(problem: Problem, block: WrongBlock) -> tuple[Mistake, Statement] | None:
    """Find a value of an earlier cell or iteration, where the forward has a newer one of that name."""
    after = block.events[-1].after
    if after is None:
        return None
    point = problem.check.points[0]
    forward = _made_from(point.loss, point.stop)
    current = {v.base_name: v for v in forward if v.base_name}
    gradients = {name.rpartition(".")[2]: v for v, name in problem.gradient_names.items()}
    given = problem.check.given
    read = _made_from(after, lambda v: v in forward or given.get(v, problem.of) is not problem.of)
    for binding in reversed(problem.graph.bindings):
        value = binding.value
        if value is None or value is after or value not in read or value in forward or value in given:
            continue
        newer = current.get(value.base_name or "")
        statement = _reader(block, value)
        where = _place(binding.statement, statement)
        if newer is not None and newer.shape == value.shape and value.is_floating:
            what = f"it reads `{value.base_name}` as {where} computed it, and the loss was made from another"
            return Mistake("stale", what), statement
        if binding.name in gradients and value.time < point.loss.time:
            return Mistake("stale", f"it reads `{binding.name}` of an earlier pass, as {where} computed it"), statement
    return None


def _made_from(value: Value, stop: Callable[[Value], bool]) -> set[Value]:
    """Return what ``value`` was computed from, not looking behind those at which to ``stop``."""
    seen: set[Value] = set()
    stack = [value]
    while stack:
        current = stack.pop()
        if current not in seen:
            seen.add(current)
            if current.step is not None and (current is value or not stop(current)):
                stack.extend(current.step.inputs)
    return seen


def _reader(block: WrongBlock, value: Value) -> Statement:
    """Return the first statement of ``block`` that depends on ``value``."""
    for event in block.events:
        if event.after is not None and value in _made_from(event.after, lambda _: False):
            return event.last.statement
    return block.events[-1].last.statement


def _unknown(problem: Problem, deltas: list[Tensor]) -> Mistake:
    shape, expected = tuple(deltas[0].shape), problem.of.shape
    if shape != expected and problem.claim.events[0].after is not None:
        sizes = f"it has shape {shape}, and `{problem.name(problem.of)}` has shape {expected}"
        return Mistake("shape", f"{sizes}, and no sum or view of it is the gradient")
    return Mistake("unknown", _where(problem, deltas))


_SENTENCES = {
    "wrong-axis": "the sum goes over the wrong dim",
    "over-summed": "it is summed where it should not be",
    "shape": "`keepdim` is not as the shape needs it",
    "sign": "a sign is wrong",
    "scale": "a factor of the size is wrong",
    "transposed": "something is transposed that should not be, or the other way round",
    "missing-factor": "a factor is missing",
    "extra-factor": "there is a factor too many",
    "wrong-operand": "it uses the wrong tensor",
    "operator": "an operator or function is the wrong one",
    "constant": "a constant is wrong",
    "precedence": "the parentheses are in the wrong place",
    "wrong-index": "an index is wrong",
    "overwritten": "it should add to what is there, not replace it",
    "lost-accumulation": "repeated indices overwrite each other instead of adding up",
    "missing-sum": "a sum is missing",
}


def _from_cure(cure: Cure, by_value: Mistake | None) -> Mistake:
    kind = cure.kind
    message = f"{_SENTENCES[kind]}: {cure.what} makes it right"
    if (
        by_value is not None
        and by_value.kind in ("missing-factor", "extra-factor")
        and kind
        in (
            "missing-factor",
            "extra-factor",
            "wrong-operand",
            "operator",
            "constant",
        )
    ):
        message = by_value.message if kind == by_value.kind else message
    return Mistake(kind, message, cure.text)


def _fails(problem: Problem, block: WrongBlock) -> tuple[Mistake, Statement]:
    cure = find_cure(problem, block)
    last = block.events[-1].last.statement
    message = "the line cannot be computed again with other numbers: it fails on the shapes of what it reads"
    if cure is not None:
        return Mistake("fails", message, cure.text), cure.statement
    return Mistake("fails", message), last


def _number(problem: Problem, block: WrongBlock) -> Mistake | None:
    """Tell of a number, where a tensor is needed."""
    after = block.events[-1].after
    if after is None or after.step is not None or after.shape or not problem.of.shape:
        return None
    value = problem.name(problem.of)
    what = f"it is one number, and `{value}` has shape {problem.of.shape}: a factor that has this shape is missing"
    return Mistake("shape", what)


def _missing_read(problem: Problem, block: WrongBlock) -> Mistake | None:
    needed = frozenset(problem.check.points[0].branches(problem.of))
    unread = needed - block.reads - {problem.check.points[0].loss}
    if block.reads & needed or not unread:
        return None
    read = ", ".join(f"`{problem.gradient_names.get(v, '?')}`" for v in sorted(block.reads, key=lambda v: v.id))
    wanted = ", ".join(
        f"`{problem.gradient_names.get(v, problem.name(v))}`" for v in sorted(unread, key=lambda v: v.id)
    )
    what = f"it reads {read}" if read else "it reads no gradient"
    message = (
        f"{what}, and `{problem.name(problem.of)}` is used by {problem.listing(unread)}: its gradient needs {wanted}"
    )
    return Mistake("wrong-operand", message)


def _coverage(problem: Problem) -> list[tuple[Mistake, Statement]]:
    """Tell what is missing, thrown away or there twice, where every contribution is right by itself."""
    judged = problem.judged
    found: list[tuple[Mistake, Statement]] = []
    missing = set(judged.missing)
    for block, event in judged.thrown_away:
        problem.check.match(block, problem.of)
        lost = block.covers & missing
        if lost:
            missing -= lost
            first, then = block.events[-1].last.statement, event.last.statement
            message = (
                f"`=` throws away what {_place(first, then)} computed: the branch through {problem.listing(lost)}; "
                "use `+=`"
            )
            fix = _plus_equals(event)
            found.append((Mistake("overwritten", message, fix), then))
    if judged.twice:
        again = [b for b in judged.blocks if b.covers & judged.twice][-1]
        message = f"the branch through {problem.listing(judged.twice)} is counted twice"
        found.append((Mistake("counted-twice", message), again.events[-1].last.statement))
    if missing:
        zero = not judged.needed and all(
            vanishes(p.true_contribution(problem.of, user)) for p in problem.check.points for user in missing
        )
        uses = judged.needed or problem.check.points[0].branches(problem.of)
        message = (
            f"`{problem.name(problem.of)}` is used {len(uses)} times, and the branch through "
            f"{problem.listing(missing)} is missing"
        )
        if zero:
            message += " (it happens to be zero for this loss, so the numbers agree)"
        found.append((Mistake("missing-branch", message), problem.statement))
    return found


def _place(statement: Statement, beside: Statement) -> str:
    cell = "" if statement.source is beside.source else f"cell {statement.source.cell}, "
    return f"{cell}line {statement.line}"


def _plus_equals(event: Event) -> str | None:
    text = event.last.statement.text
    name, equals, rest = text.partition(" = ")
    return f"{name} += {rest}" if equals and "(" not in name else None


def _where(problem: Problem, deltas: list[Tensor]) -> str:
    """Say where it differs, when nothing says why."""
    found = deltas[0]
    truths = problem.truths(problem.judged.reads)
    if not truths:
        return "it is not the gradient, whatever the gradients that it reads are"
    right = truths[0][1][0]
    if found.shape != right.shape:
        return f"it has shape {tuple(found.shape)}, and the gradient has shape {tuple(right.shape)}"
    differs = (found - right).abs() > 1e-9 * max(largest(right), 1e-300)
    parts = [f"{int(differs.sum())} of {differs.numel()} entries differ"]
    if found.dim() == 2:
        rows, columns = differs.any(1), differs.any(0)
        if 0 < int(rows.sum()) < len(rows):
            parts.append(f"only in {int(rows.sum())} of {len(rows)} rows")
        if 0 < int(columns.sum()) < len(columns):
            parts.append(f"only in {int(columns.sum())} of {len(columns)} columns")
        rest = right - found
        parts += [
            f"by the same along dim {dim}: a term that is summed over dim {dim} is missing or wrong"
            for dim in (0, 1)
            if rest.shape[dim] > 1 and close(rest, rest.mean(dim, keepdim=True).expand_as(rest), 1e-7)
        ]
    if close(found.flatten().sort().values, right.flatten().sort().values):
        parts.append("the right numbers stand in the wrong places: a view or transpose moves them")
    return "; ".join(parts)
