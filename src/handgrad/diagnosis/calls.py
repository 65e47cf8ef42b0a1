"""Mistakes on the other side of a call: a wrong argument of a helper, or a wrong line in a helper of one expression."""

from __future__ import annotations

import ast
from typing import Any

from handgrad.claims import Claim, Event, assigned, names_of_gradient, same_names
from handgrad.diagnosis.problem import Problem, WrongBlock
from handgrad.diagnosis.repair import Cure, find_cure
from handgrad.diagnosis.rewriting import copied
from handgrad.graph import Binding
from handgrad.source import Access, Statement, enclosing


def cure_of_call(problem: Problem, block: WrongBlock) -> Cure | None:
    """Return a change of the call, where the lines of ``block`` stand in a function that is called with it."""
    event = _call(problem, block)
    if event is None:
        return None
    claim = Claim(str(event.last.access), problem.claim.candidates, [event])
    return find_cure(problem.about(claim), WrongBlock([event], block.deltas, block.reads))


def has_other_arguments(problem: Problem, block: WrongBlock) -> bool:
    """Whether a parameter of the function in which ``block`` stands is named like a value, and is not that value."""
    last = block.events[-1].last
    point = problem.check.points[0]
    named = {value.base_name: value for value in point.forward_values if value.base_name}
    for binding in problem.graph.bindings:
        value = binding.value
        if binding.frame != last.frame or value is None or not isinstance(binding.statement.node, ast.FunctionDef):
            continue
        own = named.get(binding.name)
        if own is not None and own is not value and value in point.forward_values:
            return True
        meant = [named[name] for name in names_of_gradient(binding) if name in named]
        if own is None and meant and problem.check.given.get(value) not in meant:
            return True
    return False


def _call(problem: Problem, block: WrongBlock) -> Event | None:
    """Return the call of the function in which ``block`` stands, as something that sets the gradient."""
    last = block.events[-1].last
    frames = problem.graph.frames
    info = frames.get(last.frame)
    if info is None or info.caller is None or info.call_site is None or not isinstance(info.call_site.node, ast.Assign):
        return None
    statement = info.call_site
    seen: dict[str, Any] = {}
    for binding in problem.graph.bindings:
        if not same_names(problem.graph, binding.frame, info.caller) or not binding.visible:
            continue
        if binding.statement is statement and binding.time > last.time:
            if binding.value is problem.claim.final:
                return Event(statement, [binding], None, binding.value)
            seen = seen or binding.visible
        elif binding.time < last.time:
            seen = binding.visible
    target = _target(problem, statement)
    if target is None or not seen:
        return None
    scope = frames[info.caller].scope
    binding = Binding(last.time, scope, str(target), target, problem.claim.final, statement, info.caller, seen)
    return Event(statement, [binding], None, binding.value)


def _target(problem: Problem, statement: Statement) -> Access | None:
    """Return which of the names that ``statement`` sets is the gradient."""
    targets = assigned(statement)
    named = [target for target in targets if str(target) == problem.claim.name]
    return named[0] if named else targets[0] if len(targets) == 1 else None


def cure_of_function(problem: Problem, block: WrongBlock) -> Cure | None:
    """Return a change of a function of one expression that the last line of ``block`` calls."""
    event = block.events[-1]
    for call in (node for node in ast.walk(event.last.statement.node) if isinstance(node, ast.Call)):
        function = _function(event, call)
        if function is None:
            continue
        statement, body, parameters = function
        arguments = dict(zip(parameters, call.args, strict=True))
        if not all(isinstance(argument, ast.Name) for argument in arguments.values()):
            continue
        names = {name: ast.unparse(argument) for name, argument in arguments.items()}
        whole = event.last.statement.node
        inlined = ast.fix_missing_locations(_swapped(whole, call, _Renamed(names).visit(copied(body))))
        cure = find_cure(problem, WrongBlock(block.events, block.deltas, block.reads), inlined)
        if cure is None:
            continue
        there = _at_path(cure.node, _path(whole, call))
        if isinstance(there, ast.expr):
            changed = _Renamed({text: name for name, text in names.items()}).visit(copied(there))
            text = ast.unparse(_swapped(statement.node, body, changed))
            return cure._replace(text=text, statement=statement)
    return None


Function = tuple[Statement, ast.expr, list[str]]


def _function(event: Event, call: ast.Call) -> Function | None:
    """Return the statement that defines what ``call`` calls, its expression and its parameters."""
    if not isinstance(call.func, ast.Name) or call.keywords:
        return None
    called = event.last.visible.get(call.func.id)
    code = getattr(called, "__code__", None)
    source = event.last.statement.source
    if code is None or code.co_filename != source.filename:
        return None
    for statement in source.by_line.get(code.co_firstlineno, ()):
        node = statement.node
        if isinstance(node, ast.FunctionDef) and isinstance(node.body[-1], ast.Return) and len(node.body) == 1:
            body, arguments = node.body[-1].value, node.args
            statement = source.statement_at[node.body[-1]]
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            body, arguments = node.value.body, node.value.args
        else:
            continue
        names = [argument.arg for argument in arguments.args]
        if body is not None and len(names) == len(call.args) and not (arguments.vararg or arguments.kwonlyargs):
            return statement, body, names
    return None


class _Renamed(ast.NodeTransformer):
    """Gives names other names."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """Return the name that is meant."""
        return ast.Name(self.names.get(node.id, node.id), node.ctx)


def _swapped(tree: Any, old: ast.AST, new: ast.AST) -> Any:
    """Return a copy of ``tree`` with ``new`` in place of ``old``."""
    if tree is old:
        return new
    if isinstance(tree, list):
        return [_swapped(item, old, new) for item in tree]
    if not isinstance(tree, ast.AST):
        return tree
    made = type(tree)(**{name: _swapped(value, old, new) for name, value in ast.iter_fields(tree)})
    return ast.copy_location(made, tree) if hasattr(tree, "lineno") else made


def _path(tree: ast.AST, node: ast.AST) -> list[tuple[str, int | None]]:
    """Return the way from ``tree`` to ``node`` below it."""
    path: list[tuple[str, int | None]] = []
    inner = node
    for outer in enclosing(node):
        if outer is node:
            continue
        for name, value in ast.iter_fields(outer):
            if value is inner:
                path.append((name, None))
            elif isinstance(value, list) and any(item is inner for item in value):
                path.append((name, next(i for i, item in enumerate(value) if item is inner)))
        inner = outer
        if outer is tree:
            break
    return path[::-1]


def _at_path(tree: ast.AST, path: list[tuple[str, int | None]]) -> Any:
    current: Any = tree
    for name, i in path:
        current = getattr(current, name, None)
        if i is not None and isinstance(current, list):
            current = current[i] if i < len(current) else None
    return current
