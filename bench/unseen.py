"""Forwards for which no rule and no test was written, derived: are the gradients right, how does the text look.

    python bench/unseen.py [NAME...]

Each script in `bench/unseen` is derived by the command; the text is pasted below the script and run; the gradients
of all parameters, and of all values that the script names once, are compared with autograd's. A refusal is printed
with its reason. Status 1 if a gradient differs. Whether a text can be read at once is for a person to say: of the
20, written before the deriver had run on any, 13 were derived at first and 6 read at once.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).with_name("unseen")
COMMAND = (sys.executable, "-m", "handgrad", "derive", "--json")
GENERATED = re.compile(r"\b\w+_(?:\d+|in|out|at|prev)(?:_\d+)?\b")
CLOSE = 1e-4  # of the largest number of a gradient in float32


def code_lines(text: str) -> list[str]:
    """Return the lines that are neither empty nor comments."""
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def names_bound_once(text: str) -> set[str]:
    """Return the names of the module that one statement outside of all loops binds."""
    module = ast.parse(text)
    inside = {id(n) for loop in ast.walk(module) if isinstance(loop, ast.For | ast.While) for n in ast.walk(loop)}
    stores = [n for n in ast.walk(module) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    counts = Counter(n.id for n in stores)
    return {n.id for n in stores if counts[n.id] == 1 and id(n) not in inside}


def differing(forward: str, backward: str, gradients: dict[str, str]) -> tuple[list[str], int]:
    """Run both texts; return the gradients that are not autograd's, and how many were compared."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(forward, space)  # noqa: S102  (a script of ours)
    once = names_bound_once(forward)
    compared: dict[str, torch.Tensor] = {}
    for name, of in gradients.items():
        try:
            tensor = eval(re.sub(r"\.(\d+)(?=\.)", r"[\1]", of), space)  # noqa: S307  (a name of that script)
        except (NameError, AttributeError, SyntaxError, IndexError):
            continue
        if isinstance(tensor, torch.Tensor) and tensor.requires_grad and (tensor.is_leaf or of in once):
            compared[name] = tensor
    leaves = {id(t) for t in compared.values() if t.is_leaf}
    known = {name: space.get(name) for name in once}
    parameters = {name: item for name, item in known.items() if isinstance(item, torch.Tensor) and item.requires_grad}
    missing = [name for name, item in parameters.items() if item.is_leaf and id(item) not in leaves]
    truth = torch.autograd.grad(space["loss"], list(compared.values()), allow_unused=True, retain_graph=True)
    with torch.no_grad():
        exec(backward, space)  # noqa: S102  (the derived text)
    wrong = [f"d{name} is missing" for name in missing]
    for (name, tensor), gradient in zip(compared.items(), truth, strict=True):
        expected = torch.zeros_like(tensor) if gradient is None else gradient
        found = space[name]
        scale = expected.abs().max().item() or 1.0
        if found.shape != expected.shape or not (found - expected).abs().max().item() <= CLOSE * scale:
            wrong.append(name)
    return wrong, len(compared) + len(missing)


def main() -> int:
    """Derive, compare, print."""
    torch.set_num_threads(1)
    wanted = set(sys.argv[1:])
    paths = sorted(path for path in FOLDER.glob("*.py") if not wanted or path.stem in wanted)
    head = f"{'forward':20s} {'lines':>5s} {'derived':>7s} {'equal':>7s} {'longest':>7s} {'names':>5s} {'s':>5s}"
    print(head)
    failed, derived = 0, 0
    for path in paths:
        forward = path.read_text()
        start = time.perf_counter()
        run = subprocess.run([*COMMAND, str(path)], capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if run.returncode:
            print(f"{path.stem:20s} {len(code_lines(forward)):5d}       -  {run.stderr.strip() or run.stdout.strip()}")
            continue
        answer = json.loads(run.stdout)
        derived += 1
        text = answer["source"]
        gradients = {line["gradient"]: line["of"] for line in answer["lines"] if line["of"]}
        wrong, count = differing(forward, text, gradients)
        failed += bool(wrong)
        rows = code_lines(text)
        made = set(GENERATED.findall("\n".join(rows))) - set(GENERATED.findall(forward))
        print(
            f"{path.stem:20s} {len(code_lines(forward)):5d} {len(rows):7d} {count - len(wrong):3d}/{count:<3d} "
            f"{max(map(len, rows)):7d} {len(made):5d} {seconds:5.1f}"
            + (f"  wrong: {', '.join(wrong)}" if wrong else "")
        )
    print(f"{derived} of {len(paths)} derived, {failed} with a wrong gradient")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
