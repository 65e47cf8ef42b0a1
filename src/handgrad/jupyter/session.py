"""A session of IPython, cell by cell: what is traced, what is judged and shown."""

from __future__ import annotations

import ast
import contextlib
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from handgrad import source
from handgrad.checker.judging import judge
from handgrad.claims import LOSS_NAMES, assigned, names_of_gradient
from handgrad.errors import HandgradError, NothingToJudgeError
from handgrad.graph import Binding, Graph
from handgrad.jupyter.cells import BACKWARD, MEASURED, TIMED, TIMED_CELL, Asked, Cell, Part, without_backward
from handgrad.jupyter.recorder import MOST_BYTES, Recorder
from handgrad.jupyter.shown import part_of, say, show
from handgrad.report import Report
from handgrad.reports.wording import folded


class Session:
    """What `load_ipython_extension` adds to a shell."""

    def __init__(self, shell: Any, first_seed: int | None = None) -> None:
        self.shell = shell
        self.is_on = True
        self.recorder = Recorder(first_seed)
        self.cell: Cell | None = None
        self.thread = threading.get_ident()
        self.said: set[str] = set()

    def load(self) -> None:
        """Add the hooks; the rest of the running cell is watched too."""
        self.shell.events.register("pre_run_cell", self.before_cell)
        self.shell.events.register("post_run_cell", self.after_cell)
        self.shell.input_transformers_cleanup.append(without_backward)
        self.shell.ast_transformers.append(self)
        self.shell.register_magic_function(self.handgrad, "line", "handgrad")
        self.shell.register_magic_function(self.backward, "cell", "backward")
        self._begin_within()

    def unload(self) -> None:
        """Undo `load`."""
        self.recorder.stop()
        self.cell = None
        self.shell.events.unregister("pre_run_cell", self.before_cell)
        self.shell.events.unregister("post_run_cell", self.after_cell)
        self.shell.input_transformers_cleanup.remove(without_backward)
        self.shell.ast_transformers.remove(self)
        self.shell.magics_manager.magics["line"].pop("handgrad", None)
        self.shell.magics_manager.magics["cell"].pop("backward", None)

    # -- the magics

    def handgrad(self, line: str) -> None:
        """Watch the cells, or do not.

        %handgrad          say whether cells are watched
        %handgrad report   judge all gradients that the session has now
        %handgrad off      watch no more
        %handgrad on       watch again, from the next cell on
        %handgrad reset    forget everything that was seen
        """
        command = line.strip()
        if command == "report":
            with self.recorder.paused(), self._one_line():
                self._report()
        elif command == "off":
            self.recorder.stop()
            self.is_on = False
        elif command == "on":
            self.is_on = True
            self._begin_within()
        elif command == "reset":
            self.recorder.stop()
            self.recorder = Recorder(self.recorder.first_seed)
            self.said.clear()
        elif command == "":
            state = "on: the gradients that a cell computes are judged below it" if self.is_on else "off"
            size = self.recorder.size / 2**20
            say(f"{state}; {len(self.recorder.graph.steps):,} operations are remembered ({size:.0f} MiB)")
        else:
            say(f"%handgrad {command}: there are %handgrad report, on, off and reset")

    def backward(self, _line: str, cell: str) -> None:
        """Judge the gradients that this cell computes, and always say what was found.

        %%backward [--loss NAME] [--gradient dX=X ...]

        --loss      the name of the loss, where it is not found
        --gradient  of which value a name is the gradient, where the names do not tell
        """
        # Reached only inside of another magic: on top of a cell the line is taken out before the cell runs.
        self.shell.run_cell(cell, store_history=False)

    # -- before and after a cell

    def before_cell(self, info: Any) -> None:
        """Begin to trace; called by IPython."""
        if threading.get_ident() != self.thread:
            return
        if self._is_nested():
            if self.cell is not None and self.cell.is_traced:
                self._register(self.cell, info.raw_cell, getattr(info, "transformed_cell", None))
            return
        with self._one_line():
            self._begin(info.raw_cell, getattr(info, "transformed_cell", None))

    def after_cell(self, result: Any = None) -> None:
        """Judge what the cell computed; called by IPython."""
        if threading.get_ident() != self.thread or self._is_nested():
            return
        self.recorder.stop()
        cell, self.cell = self.cell, None
        if cell is None or not cell.is_traced:
            return
        number = getattr(result, "execution_count", None)
        for one in cell.sources:
            one.cell = number
        if self.recorder.has_failed:
            self._say_once(f"{self.recorder.why_suspended}; the rest of this cell was not watched")
        with self._one_line():
            self.recorder.forget()
            self._judge(cell, number, getattr(result, "error_in_exec", None))
        if self.recorder.size > MOST_BYTES:
            self.recorder = Recorder(self.recorder.first_seed)
            say("the session grew too large to remember and was forgotten; run the forward again before its backward")

    def _begin(self, raw: str, transformed: str | None) -> None:
        cell = self.cell = Cell(raw)
        if magic := BACKWARD.match(raw):
            cell.asked = Asked.parsed(magic["options"])
        if not (self.is_on or cell.asked) or MEASURED.search(raw):
            return
        if sys.gettrace() is not None:
            self._say_once("a debugger is attached: cells are not watched as long as it is")
            return
        self._register(cell, raw, transformed)
        if body := TIMED_CELL.match(raw):
            cell.parts.append(self._part(cell, body["body"]))
        cell.parts += [Part(line["statement"], raw[: line.start()].count("\n")) for line in TIMED.finditer(raw)]
        cell.is_traced = True
        self.recorder.start()

    def _begin_within(self) -> None:
        """Begin in the middle of a cell: IPython runs its statements one by one."""
        history = self.shell.history_manager
        if self.cell is None and self._is_nested() and history is not None and len(history.input_hist_raw) > 1:
            self._begin(history.input_hist_raw[-1], history.input_hist_parsed[-1])
            self.cell.asked = None  # type: ignore[attr-defined]

    def _is_nested(self) -> bool:
        """Whether a cell is running: what runs now was called by it, as `%%capture` does."""
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_name == "run_code" and "code_obj" in frame.f_locals:
                return True
            frame = frame.f_back  # type: ignore[assignment]
        return False

    # -- texts

    def _register(self, cell: Cell, raw: str, transformed: str | None) -> None:
        """Make the text known under the name that IPython is going to compile it with."""
        if transformed is None:
            try:
                transformed = self.shell.transform_cell(raw)
            except SyntaxError:
                return
        count = self.shell.execution_count  # of this cell or the next one, by the version of IPython
        names = tuple({self.shell.compile.get_code_name(raw, transformed, number) for number in (count - 1, count)})
        cell.parts.append(self._part(cell, raw, names))
        for name in names:
            cell.sources.append(source.register(name, transformed))

    @staticmethod
    def _part(cell: Cell, text: str, names: tuple[str, ...] = Part._field_defaults["names"]) -> Part:
        """Return the end of the cell as a part; IPython takes empty lines off its beginning."""
        blank = len(text) - len(text.lstrip())
        body, raw = text.rstrip(), cell.raw.rstrip()
        before = raw.removesuffix(body) if raw.endswith(body) else ""
        return Part(text, (before + text[:blank]).count("\n"), names)

    def visit(self, tree: Any) -> Any:
        """Let every line of what IPython is about to compile have its number in the cell; IPython calls this."""
        if self.cell is None or not any(part.above for part in self.cell.parts):
            return tree
        dump = ast.dump(tree)
        for text, above, names in self.cell.parts:
            transformed = self.shell.transform_cell(text)
            with contextlib.suppress(SyntaxError):
                if above and ast.dump(ast.parse(transformed)) == dump:
                    for name in names:
                        self.cell.sources.append(source.register(name, "\n" * above + transformed))
                    return ast.increment_lineno(tree, above)
        return tree

    # -- judging

    def _judge(self, cell: Cell, number: int | None, error: BaseException | None) -> None:
        new = self.recorder.new
        gradients = self.recorder.gradients(new, self._tensor_names())
        if not gradients and not cell.asked and not self.recorder.has_compared:
            return
        asked = cell.asked or Asked()
        names = {str(binding.access) for binding in new if binding.value is None or binding.value.step is not None}
        names |= {str(access) for failure in self.recorder.graph.failures for access in assigned(failure.statement)}
        notes = self._notes(error)
        try:
            report = self._judged(self.recorder.seen_by_cell(self.shell.user_ns), asked, explained=False)
            shown = part_of(report, names)
            if any(gradient.verdict == "wrong" for gradient in shown.gradients):
                shown = self._explained(shown, asked, names)
        except NothingToJudgeError as nothing:
            if gradients or cell.asked:
                say("; ".join([self._advice(gradients) or str(nothing), *notes]))
            return
        if not shown.gradients and not cell.asked:
            return
        todo = self._not_written(report)
        show(
            replace(
                shown,
                file=None if number is None else f"In [{number}]",
                warnings=tuple(w for w in report.warnings if cell.asked or self._is_new(f"{w.code} {w.message}")),
                notes=(*notes, *shown.notes, *todo),
            )
        )

    def _explained(self, found: Report, asked: Asked, names: set[str]) -> Report:
        """Return ``found`` with reasons; the gradients of other cells help to find them."""
        alike = [(gradient.name, gradient.code) for gradient in found.gradients]
        for others in (True, False):
            graph = self.recorder.seen_by_cell(self.shell.user_ns, others=others)
            explained = part_of(self._judged(graph, asked, explained=True), names)
            if [(gradient.name, gradient.code) for gradient in explained.gradients] == alike:
                break
        return explained

    def _judged(self, graph: Graph, asked: Asked, *, explained: bool) -> Report:
        with _calm():
            return judge(
                graph,
                self.recorder.backward_calls,
                gradient=asked.gradient,
                loss=asked.loss,
                explained=explained,
            )

    def _report(self) -> None:
        graph = self.recorder.named(list(self.recorder.graph.bindings), self.shell.user_ns)
        try:
            report = self._judged(graph, Asked(), explained=True)
        except NothingToJudgeError as nothing:
            say(self._advice([]) or str(nothing))
            return
        show(replace(report, file="session"))

    def _notes(self, error: BaseException | None) -> list[str]:
        notes = []
        if error is not None:
            words = str(error).split("\n")[0]
            notes.append(
                f"the cell ended with {type(error).__name__}{words and ': '}{words}; what it did before is judged"
            )
        if self.recorder.why_suspended:
            notes.append(f"{self.recorder.why_suspended}; what follows in the cell is not judged")
        return notes

    def _advice(self, gradients: list[Binding]) -> str | None:
        """Say what to do if the loss was computed where nobody watched."""
        for name in LOSS_NAMES:
            tensor = self.shell.user_ns.get(name)
            if isinstance(tensor, torch.Tensor) and tensor.numel() == 1 and tensor.is_floating_point():
                if self.recorder.has_seen(tensor):
                    return None
                subject = ", ".join(dict.fromkeys(binding.name for binding in gradients)) or "nothing"
                return (
                    f"{subject} could not be judged: {name} was computed while handgrad did not watch; "
                    "run the cells of the forward again, then this one"
                )
        return None

    def _not_written(self, report: Report) -> list[str]:
        """Say which gradients no cell computes yet."""
        written = {
            name
            for binding in self.recorder.gradients(self.recorder.graph.bindings)
            for name in names_of_gradient(binding)
        }
        missing = [g for g in report.gradients if g.verdict == "missing" and g.line is None and g.of not in written]
        return [folded(missing, "is not written yet", "are not written yet")] if missing else []

    def _tensor_names(self) -> list[str]:
        return [name for name, item in self.shell.user_ns.items() if isinstance(item, torch.Tensor)]

    # -- what is said

    def _is_new(self, text: str) -> bool:
        if text in self.said:
            return False
        self.said.add(text)
        return True

    def _say_once(self, text: str) -> None:
        if self._is_new(text):
            say(text)

    @contextlib.contextmanager
    def _one_line(self) -> Iterator[None]:
        """Let whatever goes wrong in here be one line below the cell."""
        try:
            yield
        except KeyboardInterrupt:
            say("the judging was interrupted")
        except HandgradError as error:
            say(str(error))
        except Exception as error:  # the cell is the user's, and this is not about it
            words = " ".join(str(error).split())[:200]
            say(f"the gradients could not be judged ({type(error).__name__}: {words}); this is a mistake of handgrad's")


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Judge without the user's settings, and leave them and the random numbers as they are."""
    dtype = torch.get_default_dtype()
    with (
        warnings.catch_warnings(),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.random.fork_rng(devices=[]),
    ):
        warnings.simplefilter("ignore")
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
