"""Run the passes of this folder and compare what they compute by hand with autograd, in float64.

    python tests/passes/verify.py [PART OF A PATH ...]

It shares no code with handgrad. Every file runs in a process of its own with float64 as the default type. A tracer
looks at the names of every frame after each line; where a file does not use autograd, it switches ``requires_grad`` on
for the tensors that the forward starts from and makes ``torch.no_grad`` do nothing. When ``loss`` is bound, autograd
gives the gradient of every tensor seen; a name such as ``dW1`` is compared with that of ``W1``: shape, then value.

``right/``       every gradient found is autograd's, and at least one is found
``wrong/``       the gradient set on a line marked ``# HG2..`` is not autograd's; a line marked ``# HG226`` raises.
                 Where no number of the first pass shows it, the file stands in `SHOWS_ELSEWHERE`
``unfinished/``  the gradients named in ``# missing: ...`` do not exist, all others are right
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import re
import runpy
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

HERE = Path(__file__).parent
SPELLINGS = [r"dl_d_(.+)", r"dLd_?(.+)", r"grad_(.+)", r"(.+)_grad", r"d_?(.+)"]
GRADIENT_DICTS = {"grads", "grad", "gradients"}
PASSES = 3
"""After so many passes a file is left, without autograd after one: the rest of a training loop is the same again."""

SECONDS = 20
"""A file that runs longer is ended, and that is a complaint."""

LOSS_NAMES = {"right/neuron.py": "o"}

NOT_A_CLAIM = {
    "right/mlp_helpers.py": {"dx", "dout"},  # one block's
    "right/mlp_layer_list.py": {"dx", "dout"},  # one layer's
    "right/rnn_char.py": {"dh", "dy"},  # one time step's
    "right/polynomial_horner.py": {"dcoef"},  # compared below, by the file itself
    "right/mlp_microbatches.py": {"dC", "dW1", "db1", "dW2", "db2"},  # sums over several losses
}
"""Names that look like the gradient of something else than they are."""

NOT_IN_FLOAT64 = {"HG203", "HG224", "HG225"}
"""A wrong type, a gradient copied from autograd, a wrong comparison: the value is right."""

SHOWS_ELSEWHERE = {
    "wrong/alias_norm_logits.py": "what is added to the other name is zero",
    "wrong/missing_branch_zero_in_truth.py": "the branch through logit_maxes is zero",
    "wrong/scale_b1_zero_in_truth.py": "the gradient of a bias before batch norm is zero",
    "wrong/sign_logit_maxes_zero_in_truth.py": "the gradient of logit_maxes is zero",
    "wrong/stale_activation_of_first_iteration.py": "from the second iteration on",
    "wrong/wrong_index_max_zero_in_truth.py": "the gradient of logit_maxes is zero",
}
"""Lines that are wrong though the numbers of the first pass are right."""


class EnoughError(Exception):
    """Raised out of a training loop."""


class Watch:
    """What a file computes, forward and by hand."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        text = path.read_text()
        self.manual = "requires_grad" not in text or (".backward()" not in text and "autograd.grad" not in text)
        self.ignored = NOT_A_CLAIM.get(f"{path.parent.name}/{path.name}", set())
        self.loss_name = LOSS_NAMES.get(f"{path.parent.name}/{path.name}", "loss")
        self.seen: dict[int, Tensor] = {}
        self.latest: dict[str, Tensor] = {}
        self.switched_on: list[Tensor] = []
        self.truth: dict[int, Tensor] = {}
        self.loss: tuple[int, int] | None = None
        self.found: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}
        self.claimed: set[tuple[int, str]] = set()
        self.passes = self.losses = 0
        self.past: dict[tuple[int, int], Tensor] = {}
        self.right: list[str] = []
        self.wrong: list[str] = []

    def trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        if frame.f_code.co_filename != self.path:
            return None
        if event in ("line", "return"):
            self.look(frame)
        return self.trace

    def look(self, frame: FrameType) -> None:
        here = list(named(frame.f_locals))
        for holder, name, tensor in here:
            if self.value_of(frame, holder, name) is not None and self.truth:
                continue
            self.latest[name] = tensor
            if not tensor.is_leaf and (id(tensor), tensor._version) in self.past:
                continue
            self.seen[id(tensor)] = tensor
            if self.manual and not self.truth and tensor.is_leaf and not tensor.requires_grad:
                tensor.requires_grad_()
                self.switched_on.append(tensor)
        loss = next((t for _, name, t in here if name == self.loss_name), None)
        if loss is not None and (id(loss), loss._version) != self.loss:
            self.judge()
            if loss.grad_fn is not None:
                self.differentiate(loss)
        if self.truth:
            for holder, name, tensor in here:
                self.claim(frame, holder, name, tensor)

    def differentiate(self, loss: Tensor) -> None:
        self.loss = (id(loss), loss._version)
        self.losses += 1
        if self.losses > 20 * PASSES:
            raise EnoughError
        self.seen[id(loss)] = loss
        tensors = [t for t in self.seen.values() if t.requires_grad]
        gradients = torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
        self.truth = {id(t): g for t, g in zip(tensors, gradients, strict=True) if g is not None}

    def claim(self, frame: FrameType, holder: tuple[str, ...], name: str, tensor: Tensor) -> None:
        if (id(tensor), name) in self.claimed or name in self.ignored:
            return
        value = self.value_of(frame, holder, name)
        if value is None or value is tensor or id(value) not in self.truth:
            return
        for leaf in self.switched_on:
            if leaf.is_leaf:
                leaf.requires_grad_(False)
        self.switched_on = []
        self.claimed.add((id(tensor), name))
        self.seen[id(tensor)] = tensor  # keeps it alive, so that its id stays its own
        owner = id(frame.f_locals.get("self"))
        self.found[frame.f_code.co_name, owner, *holder, name] = tensor, value

    def value_of(self, frame: FrameType, holder: tuple[str, ...], name: str) -> Tensor | None:
        wanted = [m[1] for s in SPELLINGS if (m := re.fullmatch(s, name))]
        if holder and holder[-1] in GRADIENT_DICTS:
            wanted.insert(0, name)
        if holder and name.isdigit():
            wanted = [f"{m[1]}.{name}" for s in SPELLINGS if (m := re.fullmatch(s, holder[-1]))]
        for of in wanted:
            for scope in (frame.f_locals, frame.f_globals):
                near = [(h, t) for h, n, t in named(scope) if (n == of or ".".join((*h, n)) == of)]
                near = [(h, t) for h, t in near if not (h and h[-1] in GRADIENT_DICTS)]
                same = [t for h, t in near if h == holder] or [t for h, t in near if not h] or [t for _, t in near]
                if same:
                    return same[0]
            if of in self.latest:
                return self.latest[of]
        return None

    def judge(self) -> None:
        """Close the pass: compare what it claims with what autograd says."""
        if not self.found:
            return
        for (*_, name), (tensor, value) in self.found.items():
            truth = self.truth[id(value)]
            scale = truth.abs().max().item() if truth.numel() else 0.0
            if tensor.shape != truth.shape:
                self.wrong.append(f"{name}: shape {tuple(tensor.shape)} for {tuple(truth.shape)}")
            elif not (tensor - truth).abs().max().item() <= 1e-9 * scale + 1e-13:
                self.wrong.append(f"{name}: off by {(tensor - truth).abs().max().item():.1e} of {scale:.1e}")
            else:
                self.right.append(name)
        self.past |= {(id(t), t._version): t for t in self.seen.values()}
        self.found, self.truth, self.seen = {}, {}, {}
        self.passes += 1
        if self.manual or self.passes >= PASSES:
            raise EnoughError


def named(scope: dict[str, Any], holder: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, Tensor]]:
    """Yield every floating tensor below ``scope`` with where it lies and its name there."""
    for name, item in list(scope.items()):
        if not isinstance(name, str) or name.startswith("__"):
            continue
        if isinstance(item, Tensor):
            if item.is_floating_point():
                yield holder, name, item
        elif len(holder) < 2:
            inside: dict[str, Any] = {}
            if isinstance(item, dict):
                inside = item
            elif isinstance(item, list | tuple) and len(item) < 50:
                if not item or isinstance(item[0], Tensor | tuple) or type(item[0]).__module__ == "__main__":
                    inside = {str(i): x for i, x in enumerate(item)}
            elif type(item).__module__ == "__main__" and hasattr(item, "__dict__"):
                inside = vars(item)
            yield from named(inside, (*holder, name))


class Nothing(contextlib.ContextDecorator):
    """In the place of ``torch.no_grad``."""

    def __enter__(self) -> Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        return


def too_long(*_: object) -> None:
    """End a file."""
    raise TimeoutError


def run(path: Path) -> tuple[list[str], list[str], str]:
    """Return the names of right gradients, what is wrong with others, and what the file raised."""
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    watch = Watch(path)
    if watch.manual or "p.data" in path.read_text():
        torch.no_grad = Nothing  # type: ignore[assignment,misc]
    raised = ""
    with contextlib.redirect_stdout(io.StringIO()):
        sys.settrace(watch.trace)
        try:
            runpy.run_path(str(path), run_name="__main__")
        except EnoughError:
            pass
        except Exception as error:  # of whatever the file does
            at, line = error.__traceback__, 0
            while at is not None:
                line = at.tb_lineno if at.tb_frame.f_code.co_filename == str(path) else line
                at = at.tb_next
            raised = f"line {line}: {type(error).__name__}: {error}"
        finally:
            sys.settrace(None)
            signal.alarm(0)
        with contextlib.suppress(EnoughError):
            watch.judge()
    return watch.right, watch.wrong, raised


def complaints(path: Path) -> tuple[str, list[str]]:
    """Return a line about ``path``, and what is not as it should be."""
    right, wrong, raised = run(path)
    text = path.read_text()
    name = f"{path.parent.name}/{path.name}"
    bad: list[str] = []
    told = f"{len(set(right))} right" + (f", {len(wrong)} wrong" if wrong else "")
    if path.parent.name in ("right", "unfinished"):
        bad += wrong + ([raised] if raised else []) + ([] if right else ["no gradient found"])
    if path.parent.name == "unfinished":
        missing = text.splitlines()[0].removeprefix("# missing: ").split()
        bad += [f"{m} is not missing" for m in missing if m in right]
    if path.parent.name == "wrong":
        lines = enumerate(text.splitlines(), 1)
        marked = [(i, line) for i, line in lines if re.search(r"# HG\d{3}(\|HG\d{3})*$", line)]
        if not marked:
            bad.append("no line is marked")
        for number, line in marked:
            codes = set(line.rpartition("# ")[2].split("|"))
            targets = re.findall(r"\w+", re.split(r"[-+*/]?= ", line)[0])
            judged = [t for t in targets if t in right or any(w.startswith(f"{t}:") for w in wrong)]
            found = [w for w in wrong if w.partition(":")[0] in (judged or [w.partition(":")[0]])]
            if "HG226" in codes:
                bad += [] if raised.startswith(f"line {number}:") else [f"line {number} does not raise ({raised})"]
            elif "HG211" in codes:
                found = wrong  # the other name's gradient is spoiled
            if not (found or codes & NOT_IN_FLOAT64 or "HG226" in codes or name in SHOWS_ELSEWHERE):
                bad.append(f"line {number} is marked, and nothing is wrong with its gradient: {wrong}")
            if wrong and name in SHOWS_ELSEWHERE:
                bad.append(f"shows after all: {wrong}")
        if raised and "AssertionError" not in raised and not any("HG226" in line for _, line in marked):
            bad.append(raised)
    return f"{name}: {told}", bad


def main() -> int:
    """Check every file that was asked for; return the number of complaints."""
    parts = sys.argv[1:] or [""]
    paths = [p for kind in ("right", "wrong", "unfinished") for p in sorted((HERE / kind).glob("*.py"))]
    paths = [p for p in paths if any(part in str(p.relative_to(HERE)) for part in parts)]
    count = 0
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        for told, bad in pool.imap(complaints, paths, chunksize=1):
            sys.stdout.write(told + "\n" + "".join(f"    {b}\n" for b in bad))
            count += len(bad)
    sys.stdout.write(f"{len(paths)} files, {count} complaints\n")
    return count


if __name__ == "__main__":
    sys.exit(min(main(), 1))
