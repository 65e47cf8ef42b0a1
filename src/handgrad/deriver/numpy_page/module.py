"""The page as a module: imports, the functions that NumPy lacks, and the forward and backward as one function."""

from __future__ import annotations

import re
from collections.abc import Iterator

from handgrad.deriver.derivation import Backward
from handgrad.deriver.loops import Loop
from handgrad.deriver.numpy_page.backward_lines import BackwardLines
from handgrad.deriver.numpy_page.forward_lines import ForwardLines, Row
from handgrad.deriver.numpy_page.functions import needed_functions
from handgrad.deriver.numpy_page.names import Names
from handgrad.deriver.numpy_page.writer import Dialect
from handgrad.deriver.shares import LoopShares
from handgrad.graph import Value

TITLE = '"""The forward and its derived backward, in NumPy."""'
MOST = 5  # passes over the forward, until it names all that it reads


class Module:
    """The text of a page, and what its arguments and results are."""

    def __init__(self, backward: Backward, name: str) -> None:
        self.backward, self.name = backward, name
        self.names = Names(backward)
        self.stored: dict[Loop, dict[str, Value]] = {
            share.loop: {} for share in backward.shares if isinstance(share, LoopShares)
        }
        for output in backward.outputs:
            if not self.names.has_line(output):
                self.names.give_line(output)
            self.names.of(output)
        dialect = Dialect(self.names)
        self.back = BackwardLines(self.names, dialect, self.stored).rows()
        self.read_back = set(self.names.read) - set(backward.outputs)
        self.rows = self._forward(dialect)
        self.folded = ForwardLines(self.names, dialect, self.stored, self.read_back).folded

    def _forward(self, dialect: Dialect) -> list[str]:
        """Return the lines of the forward; the last of a few passes, as one may find what needs a line above it."""
        rows: list[Row] = []
        for _ in range(MOST):
            before = len(self.names.read), len(self.names.lined), len(self.names.numbers)
            rows = ForwardLines(self.names, dialect, self.stored, self.read_back).rows()
            if (len(self.names.read), len(self.names.lined), len(self.names.numbers)) == before:
                break
        return self.names.with_numbers(rows)

    # -- what goes in and comes out

    @property
    def arguments(self) -> list[Value]:
        """The tensors that the function takes, in the order of the forward."""
        return [
            value for value in self.backward.graph.values if value in self.names.read and self.names.is_argument(value)
        ]

    @property
    def upstream(self) -> list[Value]:
        """The results whose gradients the function takes, after the tensors."""
        return [output for output, seed in self.backward.walk.seeds.items() if seed.op == "gradient"]

    @property
    def signature(self) -> list[str]:
        """The names of all that the function takes."""
        return [*map(self.names.of, self.arguments), *(f"d{self.names.of(output)}" for output in self.upstream)]

    @property
    def with_gradient(self) -> list[Value]:
        """The arguments whose gradients the function returns."""
        given: set[Value] = set()
        for share in self.backward.shares:
            if isinstance(share, LoopShares):
                given.update(share.starts, (one.value for one in share.body))
            else:
                given.add(share.value)
        return [value for value in self.arguments if value in given]

    # -- text

    def source(self, ending: str | None = None) -> str:
        """Return the module; with ``ending`` in place of the function's last line."""
        outputs = [self.names.of(output) for output in self.backward.outputs]
        results = outputs[0] if len(outputs) == 1 else f"({', '.join(outputs)})"
        body, back = list(self.rows), list(self.back)
        if any(output in loop.home for output in self.backward.outputs for loop in self.stored):
            body.append(f"result = {results}")  # the loop of the backward goes back to its beginning
            results = "result"
        gradients = ", ".join(f'"{self.names.of(value)}": d{self.names.of(value)}' for value in self.with_gradient)
        rows = [f"def {self.name}({', '.join(self.signature)}):", f'    """{self._summary}"""', *self._decided]
        rows += [f"    {row}" for row in body]
        rows += ["", "    # backward", *(f"    {row}" for row in back), ""]
        rows.append(f"    {ending}" if ending else f"    return {results}, {{{gradients}}}")
        text = "\n".join(rows) + "\n"
        whole = "\n\n\n".join([*needed_functions(text), text])
        for name in set(re.findall(r"^def (\w+)", whole, re.MULTILINE)) & self._identifiers:
            whole = re.sub(rf"(?<![\w.]){name}\(", f"{name}_of(", whole)  # a variable of the user's has its name
        imports = ["import math"] * bool(re.search(r"(?<![\w.])math\.", whole)) + ["import numpy as np"]
        return "\n\n".join([TITLE, *imports]) + f"\n\n\n{whole}"

    @property
    def _identifiers(self) -> set[str]:
        return {self.names.of(value) for value in set(self.names.read)} | set(self.names.numbers)

    @property
    def _decided(self) -> Iterator[str]:
        """Yield what left the tensors as a number, and is written here as it was then."""
        outputs = self.backward.outputs
        known, end = self.names.ancestors(*outputs), max(output.time for output in outputs)
        for escape in self.backward.graph.escapes:
            if escape.time < end and known & self.names.ancestors(escape.value):
                yield f"    # as it was recorded ({escape.site}): {escape.site.text}".split("\n")[0]

    @property
    def _summary(self) -> str:
        count = len(self.backward.outputs)
        given = f", for the gradient{'s' * (len(self.upstream) > 1)} given" if self.upstream else ""
        return f"Return the result{'s' * (count > 1)}, and the gradient of each argument by its name{given}."
