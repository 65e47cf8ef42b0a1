"""The test of a page: the forward again in PyTorch, line by line, and its autograd to compare with."""

from __future__ import annotations

import re

from handgrad.deriver.loops import Loop
from handgrad.deriver.numpy_page.forward_lines import ForwardLines, Row
from handgrad.deriver.numpy_page.module import MOST, Module
from handgrad.deriver.numpy_page.writer import Dialect
from handgrad.errors import NotVerifiedError
from handgrad.graph import Value

FEW = 64  # so many whole numbers are written out
_COMPARE = '''def assert_same(found, expected):
    """Raise unless the array has the shape of the tensor, and its numbers up to rounding."""
    right = expected.detach().numpy()
    assert np.shape(found) == right.shape
    np.testing.assert_allclose(found, right, rtol=1e-6, atol=1e-12 + 1e-7 * np.abs(right).max(initial=0.0))
'''


class GeneratedTest:
    """The text of the test of a module."""

    def __init__(self, module: Module) -> None:
        self.module, self.names, self.backward = module, module.names, module.backward

    def text(self, imported_from: str | None) -> str:
        """Return the test, to stand below the module, or in a file of its own that imports from it."""
        name, twin = self.module.name, f"{self.module.name}_in_torch"
        arguments = [self.names.of(value) for value in self.module.arguments]
        outputs = [self.names.of(output) for output in self.backward.outputs]
        twin_rows = [f"def {twin}({', '.join(arguments)}):", '    """Return the result in PyTorch."""']
        twin_rows += [f"    {row}" for row in self._forward()]
        twin_rows.append(f"    return [{', '.join(outputs)}]")
        rows = [f"def test_{name}_agrees_with_autograd():"]
        rows += ["    before = torch.get_default_dtype()", "    torch.set_default_dtype(torch.float64)", "    try:"]
        rows += [f"        {row}" for row in self._comparison(twin)]
        rows += ["    finally:", "        torch.set_default_dtype(before)"]
        parts = ["\n".join(twin_rows) + "\n", _COMPARE, "\n".join(rows) + "\n"]
        body = "\n\n".join(parts)
        modules = {"math": "import math", "np": "import numpy as np", "torch": "import torch"}
        imports = [line for word, line in modules.items() if re.search(rf"(?<![\w.]){word}\.", body)]
        if re.search(r"(?<![\w.])F\.", body):
            imports.append("import torch.nn.functional as F")
        if imported_from is not None:
            imports += ["", f"from {imported_from} import {name}"]
        return "\n".join(imports) + "\n\n\n" + body

    def _forward(self) -> list[str]:
        stored: dict[Loop, dict[str, Value]] = {loop: {} for loop in self.module.stored}
        dialect = Dialect(self.names, torch=True)
        rows: list[Row] = []
        for _ in range(MOST):
            before = [len(kept) for kept in stored.values()], len(self.names.numbers)
            rows = ForwardLines(self.names, dialect, stored, self.module.read_back).rows()
            if ([len(kept) for kept in stored.values()], len(self.names.numbers)) == before:
                break
        return self.names.with_numbers(rows)

    def _comparison(self, twin: str) -> list[str]:
        arguments, wanted = self.module.arguments, self.module.with_gradient
        rows = ["generator = torch.Generator().manual_seed(0)"]
        rows += [f"{self.names.of(value)} = {_drawn(value)}" for value in arguments]
        given = ", ".join(map(self.names.of, arguments))
        leaves = ", ".join(map(self.names.of, wanted))
        rows.append(f"leaves = [{leaves}]")
        rows.append("for leaf in leaves:")
        rows.append("    leaf.requires_grad_()")
        rows.append(f"results = {twin}({given})")
        seeds = []
        for place, output in enumerate(self.backward.outputs):
            if output in self.module.upstream:
                seeds.append(f"d{self.names.of(output)}")
                rows.append(f"{seeds[-1]} = torch.randn({_shape(output)}, generator=generator)")
            else:
                seeds.append(f"torch.ones_like(results[{place}])")
        with_graph = [place for place, output in enumerate(self.backward.outputs) if output in self.backward.walk.seeds]
        used = "results" if len(with_graph) == len(seeds) else f"[{', '.join(f'results[{p}]' for p in with_graph)}]"
        chosen = ", ".join(seeds[place] for place in with_graph)
        rows.append(f"expected = torch.autograd.grad({used}, leaves, [{chosen}], allow_unused=True)")
        upstream = [f"d{self.names.of(output)}" for output in self.module.upstream]
        passed = ", ".join([*map(self.names.of, arguments), *upstream])
        found = "found" if len(seeds) > 1 else "*found"
        rows.append(f"{found}, gradients = {self.module.name}(*(x.detach().numpy() for x in [{passed}]))")
        rows.append("for one, result in zip(found, results, strict=True):")
        rows.append("    assert_same(one, result)")
        names = ", ".join(f'"{self.names.of(value)}"' for value in wanted)
        rows.append(f"for name, leaf, gradient in zip([{names}], leaves, expected, strict=True):")
        rows.append("    assert_same(gradients[name], torch.zeros_like(leaf) if gradient is None else gradient)")
        return rows


def _shape(value: Value) -> str:
    return f"({', '.join(map(str, value.shape))}{',' * (len(value.shape) == 1)})"


def _drawn(value: Value) -> str:
    """Return what draws numbers like those that were recorded; a few whole numbers are written out."""
    numbers, shape = value.value, _shape(value)
    few = numbers.numel() <= FEW
    if str(numbers.dtype) == "torch.bool":
        return f"torch.tensor({numbers.tolist()})" if few else f"torch.rand({shape}, generator=generator) < 0.5"
    if not value.is_floating:
        if few:
            return f"torch.tensor({numbers.tolist()}{', dtype=torch.int64' * (not numbers.numel())})"
        return f"torch.randint({int(numbers.min())}, {int(numbers.max()) + 1}, {shape}, generator=generator)"
    exact = numbers.double()
    if not bool(exact.isfinite().all()):
        return f"torch.tensor({exact.tolist()})".replace("inf", "math.inf").replace("nan", "math.nan")
    if few and not value.requires_grad and bool((exact == exact.round()).all()):
        return f"torch.tensor({exact.tolist()})"
    low, high = (float(exact.min()), float(exact.max())) if exact.numel() else (0.0, 1.0)
    return f"torch.empty({shape}).uniform_({low:.6g}, {high:.6g}, generator=generator)"


def prove_test(module: Module, text: str) -> None:
    """Run the test below its module.

    Raises:
        NotVerifiedError: it does not pass.
    """
    space: dict[str, object] = {}
    try:
        exec(compile(f"{module.source()}\n\n{text}", "<numpy test>", "exec"), space)  # noqa: S102 our own text
        space[f"test_{module.name}_agrees_with_autograd"]()  # type: ignore[operator]
    except Exception as error:  # whatever the test finds
        raise NotVerifiedError(f"the generated test does not pass: {type(error).__name__}: {error}") from error
