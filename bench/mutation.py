"""The checker against every single-edit mutant of correct backward passes: detected, located, explained, false alarms.

    python bench/mutation.py [--only atomic] [--category sign] [--limit 100] [--seed 1] [--combinations 200]

Whether a mutant is wrong at all is decided without handgrad, in `mutants/truth.py`: both passes run in float64,
statement by statement, at two points, where every gradient that the mutated line reads is replaced by the same random
noise in both. What is equal then, and in the plain run, is another right spelling, and calling it wrong is a false
alarm. A gradient counts as its last line leaves it, and, if it is returned, as it is returned. Exit status 1 if a bar
is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from rich.console import Console

from mutants.figures import failures_text, figures, grouped, reaches, table, written
from mutants.tasks import combinations, run_all, sample, single_edits
from passes import PASSES

RESULT = Path(__file__).with_name("mutation.json")


def main() -> int:
    """Run the suite, print the tables and the failures, and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="MODEL", choices=PASSES, help=f"one of {', '.join(PASSES)}")
    parser.add_argument("--category", help="mutants of this category only")
    parser.add_argument("--limit", type=int, metavar="N", help="a sample of N mutants")
    parser.add_argument("--seed", type=int, default=1, help="of the sample and the combinations")
    parser.add_argument("--combinations", type=int, default=200, metavar="N", help="sets of two to four edits")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULT, help="the figures, as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=None if sys.stdout.isatty() else 160)
    tasks = [task for name in PASSES if arguments.only in (None, name) for task in single_edits(name)]
    several = combinations(tasks, arguments.combinations, arguments.seed)
    tasks = [t for t in tasks if arguments.category in (None, t.edits[0].category)]
    if arguments.limit is not None:
        tasks = sample(tasks, arguments.limit, arguments.seed)
    outcomes = run_all([*tasks, *several], arguments.processes, console)
    singles, together = outcomes[: len(tasks)], outcomes[len(tasks) :]
    for line in failures_text(outcomes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(table("by pass", grouped(singles, "model")))
    console.print(table("by what the mutant does", grouped(singles, "truth")))
    console.print(table("by category", dict(sorted(grouped(singles, "category").items()))))
    console.print(table("several edits at once", grouped(together, "model")))
    arguments.output.write_text(json.dumps(written(singles, together), indent=1) + "\n")
    return 0 if reaches(figures(singles)) and all(o.detected and o.located for o in together) else 1


if __name__ == "__main__":
    sys.exit(main())
