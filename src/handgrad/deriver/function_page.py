"""A derived backward as a `torch.autograd.Function`, or as an operator of `torch.library`, in source."""

from __future__ import annotations

import ast
import builtins
import textwrap
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from handgrad.deriver.derivation import Backward
from handgrad.errors import DeriveError, NotVerifiedError
from handgrad.graph import Value
from handgrad.source import Statement, enclosing

LONGEST = 100  # columns
Form = Literal["function", "custom-op"]


@dataclass
class FunctionPage:
    """The parts of a forward and its backward as one function: inputs, body, what is kept, and the lines."""

    backward: Backward
    name: str = ""
    inputs: list[str] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)  # statements such as `n = x.shape[0]`, for the backward, too

    def __post_init__(self) -> None:
        if not self.backward.upstream:
            raise DeriveError("derive with `upstream=True` to make a function of it")
        if len(self.backward.outputs) != 1:
            raise DeriveError(f"the forward returns {len(self.backward.outputs)} floating tensors: return one")
        self.scope = self.backward.scope
        self.result = str(self.scope.identifier(self.backward.outputs[0]))
        self._read_forward()
        self._read_backward()

    # -- the forward

    def _read_forward(self) -> None:
        function = self._function()
        if function is not None:
            self.name = self.name or function.name
            self._from_function(function)
        else:
            self.name = self.name or "forward"
            self._from_statements()

    def _function(self) -> ast.FunctionDef | None:
        statement = self._statement()
        for node in enclosing(statement.node):
            if isinstance(node, ast.FunctionDef):
                return node
        return None

    def _statement(self) -> Statement:
        """Return the statement of the forward's own frame that computes the result."""
        output = self.backward.outputs[0]
        assert output.step is not None
        frame, statement = output.step.frame, output.step.statement
        frames = self.backward.graph.frames
        while frame not in self.scope.frames:
            info = frames[frame]
            if info.caller is None:
                break
            frame, statement = info.caller, info.call_site
        if statement is None:
            raise DeriveError("where the result is computed cannot be told: give it a line of its own")
        return statement

    def _from_function(self, function: ast.FunctionDef) -> None:
        arguments = function.args
        if arguments.vararg or arguments.kwarg:
            raise DeriveError(f"{function.name}: give each input a name, not *args")
        named = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        if named and named[0] == "self":
            raise DeriveError(f"{function.name} is a method: write the forward as a function of tensors")
        source = self._statement().source
        statements = [s for s in function.body if not _is_docstring(s)]
        returns = [node for s in statements for node in ast.walk(s) if isinstance(node, ast.Return)]
        last = statements[-1]
        if len(returns) != 1 or returns[0] is not last or not isinstance(last, ast.Return) or last.value is None:
            raise DeriveError(f"{function.name} returns in {len(returns)} places: return once, at its end")
        for statement in statements[:-1]:
            self.body += source.text_of(statement).split("\n")
        result = source.text_of(last.value)
        if result != self.result:
            self.body.append(f"{self.result} = {result}")
        free = [name for name in _free(self.body) if name not in named and self._is_tensor(name)]
        self.inputs = [*named, *free]
        for name in named:
            if name in self.scope.names and not isinstance(self.scope.names[name], Value | int | float | bool | None):
                raise DeriveError(f"{function.name}: {name} is neither a tensor nor a number")

    def _from_statements(self) -> None:
        """Take the statements at top level that carry a gradient; what they read is an input."""
        graph, walk = self.backward.graph, self.backward.walk
        chosen: dict[ast.AST, Statement] = {}
        for step in graph.steps:
            statement = graph.outermost(step)
            if statement is not None and any(v in walk.needed and v not in walk.wrt for v in step.made):
                chosen.setdefault(_top(statement.node), statement)
        for node, statement in chosen.items():
            self.body += statement.source.text_of(node).split("\n")
        self.inputs = [name for name in _free(self.body) if self._is_tensor(name) or self._is_number(name)]

    def _is_tensor(self, name: str) -> bool:
        return isinstance(self.scope.names.get(name), Value | Tensor)

    def _is_number(self, name: str) -> bool:
        return isinstance(self.scope.names.get(name), int | float)

    # -- the backward

    def _read_backward(self) -> None:
        self.lines = self.backward.source().rstrip().split("\n")
        stored = _stored(self.body)
        for name in _free(self.lines):
            if name not in stored and name not in self.inputs and (self._is_number(name) or self._is_tensor(name)):
                self.inputs.append(name)
        wanted = [name for name in _free(self.lines) if name in stored or name in self.inputs]
        assigned = {name: s for s in ast.parse("\n".join(self.body)).body for name in _targets(s)}
        numbers: list[ast.stmt] = []
        kept: list[str] = []
        while wanted:
            name = wanted.pop(0)
            if name in self.inputs or name in kept:
                continue
            if self._is_tensor(name):
                kept.append(name)
            elif name in assigned and assigned[name] not in numbers:
                numbers.append(assigned[name])
                wanted += [n for n in _free(ast.unparse(assigned[name]).split("\n")) if n in stored]
        order = list(ast.parse("\n".join(self.body)).body)
        places = {ast.unparse(s): i for i, s in enumerate(order)}
        self.numbers = sorted({ast.unparse(s) for s in numbers}, key=lambda text: places[text])
        self.kept = [name for name in kept if name != self.result]
        self.reads_result = self.result in kept
        used = set(_free([*self.numbers, *self.lines]))
        self.saved = [name for name in self.inputs if name in used]

    def gradient_of(self, name: str) -> str:
        """Return the gradient of an input, "None" if it has none."""
        for target, value in self.backward.gradients.items():
            if self.scope.text(value) == name:
                return target
        return "None"

    # -- source

    def source(self, form: Form) -> str:
        """Return the source of a class, or of an operator, and of the function that calls it."""
        return self._as_class() if form == "function" else self._as_operator()

    def _as_class(self) -> str:
        title = "".join(part.capitalize() for part in self.name.split("_"))
        saved = [*self.saved, *([self.result] if self.reads_result else []), *self.kept]
        tensors = [name for name in saved if self._is_tensor(name) or name in (*self.kept, self.result)]
        others = [name for name in saved if name not in tensors]
        outputs = [self.result, *self.kept]
        rows = [
            "import math", "", "import torch", "import torch.nn.functional as F", "", "",
            f"class {title}(torch.autograd.Function):",
            f'    """`{self.name}`, with the backward that handgrad derived from it."""',
            "",
            "    @staticmethod",
            *_row(4, "def forward(", self.inputs, "):"),
            *_indented(self.body, 8),
            *_row(8, "return ", outputs, ""),
            "",
            "    @staticmethod",
            "    def setup_context(ctx, inputs, output):",
            *_row(8, "", self.inputs, " = inputs", alone=True),
            *_row(8, "", outputs, " = output"),
        ]  # fmt: skip
        if self.kept:
            rows += _row(8, "ctx.mark_non_differentiable(", self.kept, ")")
        rows += _row(8, "ctx.save_for_backward(", tensors, ")")
        rows += [f"        ctx.{name} = {name}" for name in others]
        rows += ["", "    @staticmethod", "    @torch.autograd.function.once_differentiable",
                 f"    def backward(ctx, d{self.result}{', *_' * bool(self.kept)}):"]  # fmt: skip
        if tensors:
            rows += _row(8, "", tensors, " = ctx.saved_tensors", alone=True)
        rows += [f"        {name} = ctx.{name}" for name in others]
        rows += _indented([*self.numbers, *self.lines], 8)
        rows += [
            *_row(8, "return ", list(map(self.gradient_of, self.inputs)), ""),
            "", "",
            *_row(0, f"def {self.name}(", self.inputs, "):"),
            *_row(4, f"return {title}.apply(", self.inputs, f"){'[0]' * bool(self.kept)}"),
            "",
        ]  # fmt: skip
        return "\n".join(rows)

    def _as_operator(self) -> str:
        title = self.name
        typed = [f"{name}: {self._type(name)}" for name in self.inputs]
        returned = [f"{name}.clone()" if self._shares_memory(name) else name for name in (self.result, *self.kept)]
        kind = "Tensor" if not self.kept else f"tuple[{', '.join(['Tensor'] * (1 + len(self.kept)))}]"
        saved = [*self.saved, *([self.result] if self.reads_result else []), *self.kept]
        tensors = [name for name in saved if self._is_tensor(name) or name in (*self.kept, self.result)]
        others = [name for name in saved if name not in tensors]
        upstream = [f"d{self.result}", *(["*_"] if self.kept else [])]
        rows = [
            "import math", "", "import torch", "import torch.nn.functional as F", "from torch import Tensor", "", "",
            f'@torch.library.custom_op("handgrad::{title}", mutates_args=())',
            *_row(0, f"def {title}_op(", typed, f") -> {kind}:"),
            *_indented(self.body, 4),
            *_row(4, "return ", returned, ""),
            "", "",
            f"@{title}_op.register_fake",
            *_row(0, "def _(", self.inputs, "):"),
            *_indented(self.body, 4),
            *_row(4, "return ", [f"torch.empty_like({name})" for name in (self.result, *self.kept)], ""),
            "", "",
            f"def {title}_setup(ctx, inputs, output):",
            *_row(4, "", self.inputs, " = inputs", alone=True),
            *_row(4, "", [self.result, *self.kept], " = output"),
            *_row(4, "ctx.save_for_backward(", tensors, ")"),
            *(f"    ctx.{name} = {name}" for name in others),
            "", "",
            f"def {title}_backward(ctx, {', '.join(upstream)}):",
            *(_row(4, "", tensors, " = ctx.saved_tensors", alone=True) if tensors else []),
            *(f"    {name} = ctx.{name}" for name in others),
            *_indented([*self.numbers, *self.lines], 4),
            *_row(4, "return ", list(map(self.gradient_of, self.inputs)), ""),
            "", "",
            f"{title}_op.register_autograd({title}_backward, setup_context={title}_setup)",
            "", "",
            *_row(0, f"def {title}(", self.inputs, "):"),
            *_row(4, f"return {title}_op(", self.inputs, f"){'[0]' * bool(self.kept)}"),
            "",
        ]  # fmt: skip
        return "\n".join(rows)

    def _type(self, name: str) -> str:
        found = self.scope.names.get(name)
        if isinstance(found, bool | int | float) and not self._is_tensor(name):
            return type(found).__name__
        return "Tensor"

    def _shares_memory(self, name: str) -> bool:
        """Whether a result is a view of an input or of another result, which an operator may not return."""
        value = self.scope.names.get(name)
        if not isinstance(value, Value) or value.step is None:
            return isinstance(value, Value)
        memory = value.tensor.untyped_storage().data_ptr()
        others = [self.scope.names.get(other) for other in (*self.inputs, self.result, *self.kept) if other != name]
        return any(isinstance(o, Value) and o.tensor.untyped_storage().data_ptr() == memory for o in others)

    def test(self, form: Form) -> str:
        """Return a test of the source, on random inputs of the shapes that the forward was derived with."""
        names = ", ".join(self.inputs)
        given = "\n".join(f"        {self._random(name)},  # {name}" for name in self.inputs)
        check = f"    torch.library.opcheck({self.name}_op, inputs)\n" if form == "custom-op" else ""
        return (
            textwrap.dedent(f"""\
            def plain({names}):
            {{body}}
                return {self.result}


            def test_{self.name}():
                torch.manual_seed(0)
                inputs = [
            {{given}}
                ]
                wanted = [x for x in inputs if isinstance(x, torch.Tensor) and x.requires_grad]
                out, expected = {self.name}(*inputs), plain(*inputs)
                noise = torch.randn_like(expected)
                found = torch.autograd.grad(out, wanted, noise, allow_unused=True)
                truth = torch.autograd.grad(expected, wanted, noise, allow_unused=True)
                for a, b in zip(found, truth):
                    torch.testing.assert_close(a, b)
            """)
            .replace("{body}", "\n".join(_indented(self.body, 4)))
            .replace("{given}", given)
            + check
        )

    def _random(self, name: str) -> str:
        """Return an expression for an input like the one that was given: its shape, its range, its dtype."""
        value = self.scope.names.get(name)
        if not isinstance(value, Value):
            return repr(value)
        known, shape = value.value, tuple(map(int, value.shape))
        if value.is_floating:
            low, high = (float(known.min()), float(known.max())) if known.numel() else (0.0, 1.0)
            made = f"(torch.rand({shape}, dtype={value.dtype}) * {high - low or 1.0:.4g} + {low:.4g})"
            return made + ".requires_grad_()" * (value in self.backward.walk.wrt)
        if value.dtype is torch.bool:
            return f"torch.rand({shape}) > 0.5"
        low, high = (int(known.min()), int(known.max())) if known.numel() else (0, 0)
        return f"torch.randint({low}, {high + 1}, {shape}, dtype={value.dtype})"

    def prove(self, form: Form) -> None:
        """Run the generated test on the generated source.

        Raises:
            NotVerifiedError: it does not pass.
        """
        space: dict[str, Any] = {"torch": torch, **_modules(self.scope.names)}
        try:
            exec(compile(self.source(form), "<derived>", "exec"), space)  # noqa: S102 our own text, made from rules
            exec(compile(self.test(form), "<derived test>", "exec"), space)  # noqa: S102
            space[f"test_{self.name}"]()
        except Exception as error:  # whatever goes wrong there is ours
            raise NotVerifiedError(f"the generated test does not pass: {type(error).__name__}: {error}") from error


def _modules(names: dict[str, Any]) -> dict[str, Any]:
    """Return what the forward may call: modules and functions."""
    return {name: item for name, item in names.items() if callable(item) or isinstance(item, ModuleType)}


def _top(node: ast.AST) -> ast.AST:
    top = node
    for outer in enclosing(node):
        if isinstance(outer, ast.Module | ast.FunctionDef):
            break
        if isinstance(outer, ast.stmt):
            top = outer
    return top


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _targets(statement: ast.stmt) -> list[str]:
    return [n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


def _stored(rows: list[str]) -> set[str]:
    return {name for statement in ast.parse("\n".join(rows)).body for name in _targets(statement)}


def _free(rows: list[str]) -> list[str]:
    """Return the names that code reads before it sets them, in order."""
    known, found = set(dir(builtins)) | {"torch", "F", "math", "nn"}, dict[str, None]()
    for statement in ast.parse("\n".join(rows)).body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in known:
                found[node.id] = None
            elif isinstance(node, ast.For) and isinstance(node.target, ast.Name):
                known.add(node.target.id)
            elif isinstance(node, ast.comprehension):
                known.update(n.id for n in ast.walk(node.target) if isinstance(n, ast.Name))
        known.update(_targets(statement))
    return list(found)


def _row(columns: int, head: str, names: list[str], tail: str, *, alone: bool = False) -> list[str]:
    """Return ``head a, b, c tail``, over several rows if it is long; ``alone`` marks a tuple of one with a comma."""
    space, inside = " " * columns, ", ".join(names)
    row = f"{space}{head}{inside}{',' * (alone and len(names) == 1)}{tail}"
    if len(row) <= LONGEST:
        return [row]
    is_call = head.endswith("(")
    opening, closing = (head, tail) if is_call else (f"{head}(", f"){tail}")
    glued = ", ".join(name.replace(" ", "\0") for name in names) + ","  # `x: int` stays on one row
    inner = textwrap.wrap(glued, LONGEST - columns, initial_indent=f"{space}    ", subsequent_indent=f"{space}    ")
    return [space + opening, *(row.replace("\0", " ") for row in inner), space + closing]


def _indented(rows: list[str], columns: int) -> list[str]:
    return [f"{' ' * columns}{row}" if row else "" for row in rows]
