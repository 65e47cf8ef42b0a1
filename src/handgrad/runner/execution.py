"""A program runs: piece by piece in one namespace, under a tracer; a piece that fails does not end the rest."""

from __future__ import annotations
import __future__

import ast
import os
import sys
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from handgrad import source
from handgrad.report import Place
from handgrad.runner.environment import Environment
from handgrad.runner.loops import Loops
from handgrad.runner.modules import LocalModules
from handgrad.runner.options import Options
from handgrad.runner.program import Cell, Program

if TYPE_CHECKING:
    from handgrad.tracer import Tracer

LONGEST = 300  # characters of an error's own words
_FUTURE = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


@dataclass(frozen=True)
class Failure:
    """A piece of the program ended with an exception."""

    place: Place
    error: str  # the name of its class
    message: str
    text: str  # the whole sentence


@dataclass
class Execution:
    """What running a program left behind."""

    program: Program
    tracer: Tracer
    namespace: dict[str, Any]
    notes: list[str] = field(default_factory=list)  # in the order of events; failures are among them
    failures: list[Failure] = field(default_factory=list)
    output: str = ""  # the end of what it printed

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)


def execute(program: Program, options: Options) -> Execution:
    """Run ``program`` in this process, which afterwards is good for judging it and nothing else.

    The working directory, `sys.modules` and what the program itself changed stay as they are at its end.
    """
    import torch

    from handgrad.tracer import GIVEN_BYTES, KEPT_BYTES, Tracer

    module = ModuleType("__main__")
    module.__file__ = str(program.path)
    sys.modules["__main__"] = module
    sys.argv = [str(program.path)]
    tracer = Tracer(kept_bytes=KEPT_BYTES, given_bytes=GIVEN_BYTES)
    execution = Execution(program, tracer, vars(module), list(program.notes))
    folder, is_notebook = program.path.parent, program.kind in ("notebook", "marimo")
    environment = Environment(folder, words=options.words, is_notebook=is_notebook, note=execution.note)
    loops = Loops(tracer, options.iterations, execution.note)
    for filename, text, index in program.sources:
        source.register(filename, text, index)

    owner, dtype = os.getpid(), torch.get_default_dtype()
    with environment, loops, LocalModules(folder, loops), warnings.catch_warnings(), tracer:
        _run(execution, loops)
    if os.getpid() != owner:
        os._exit(0)  # a copy of this process, which the program made and left to run to the end
    execution.output = environment.output.text()
    torch.set_default_dtype(dtype)  # what the program set for all, the judge does not want
    torch.set_default_device(None)
    torch.set_grad_enabled(True)
    torch.autograd.set_detect_anomaly(False)
    torch.set_num_threads(1)
    return execution


def _run(execution: Execution, loops: Loops) -> None:
    flags = 0
    for cell in execution.program.cells:
        try:
            tree = ast.fix_missing_locations(loops.watched(cell.tree, "", cell.index))
            code = compile(tree, cell.filename, "exec", flags=flags, dont_inherit=True)
            flags |= code.co_flags & _FUTURE
            exec(code, execution.namespace)  # noqa: S102 - to run it is the purpose
        except SystemExit as error:
            line, _ = _lines(error, cell)
            execution.note(f"{cell.place(line)}: {_described(error)} ended the program; what ran until then is judged")
            return
        except BaseException as error:  # whatever a file raises is a finding about it
            _fail(execution, cell, error)
            del error


def _fail(execution: Execution, cell: Cell, error: BaseException) -> None:
    line, inner = _lines(error, cell)
    place, kind, message = cell.place(line), type(error).__name__, _described(error)
    rest = "cell" if execution.program.kind != "script" else "file"
    by_way = f" (from {inner})" if inner else ""
    text = f"{place}: {message}{by_way}; the rest of the {rest} was not run"
    execution.failures.append(Failure(place, kind, message, text))
    execution.note(text)


def _lines(error: BaseException, cell: Cell) -> tuple[int | None, str]:
    """Return the line of ``cell`` that failed, and the place in another cell or file where the error was raised."""
    line, inner = None, ""
    for frame, at in traceback.walk_tb(error.__traceback__):
        found = source.of_code(frame.f_code)
        if found is None:
            continue
        if frame.f_code.co_filename == cell.filename and frame.f_code.co_name == "<module>" and line is None:
            line = at
        elif found.filename == cell.filename:
            inner = str(cell.place(at))
        else:
            name = Path(found.filename).name
            inner = f"cell {found.cell}, line {at}" if found.cell is not None else f"{name}:{at}"
    return line, inner


def _described(error: BaseException) -> str:
    """Return the error as Python's last line of a traceback has it, on one line and not too long."""
    try:
        text = " ".join(str(error).split())
    except BaseException:  # an error may fail even to say what it is
        text = "<an error without words>"
    if isinstance(error, SystemExit):
        return f"SystemExit({text})"
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
