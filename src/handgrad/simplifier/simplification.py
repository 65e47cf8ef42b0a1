"""`handgrad.simplify`: the closed forms in a backward, found, proved, and written in the user's names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from handgrad.deriver.derivation import Backward, derive
from handgrad.errors import DeriveError
from handgrad.graph import Value
from handgrad.simplifier.algebra import TooLargeError
from handgrad.simplifier.arguments import UnreadableError
from handgrad.simplifier.points import NotProvedError, Points
from handgrad.simplifier.proof import ClosedForm, Prover
from handgrad.simplifier.regions import Region, Regions
from handgrad.simplifier.search import Search
from handgrad.simplifier.writing import UnwritableError, weight

LEAST = 3  # what one line written inside of another one saves: a form that saves no more is none
FEWEST = 2  # lines that become one
NOTHING = "# nothing to gain: no part of this backward folds into a shorter line"


class Simplification:
    """What `simplify` found. ``closed_forms`` are in the order of the backward; ``str()`` is Python with comments."""

    def __init__(self, backward: Backward, closed_forms: list[ClosedForm]) -> None:
        self.backward, self.closed_forms = backward, closed_forms

    def __iter__(self) -> Iterator[ClosedForm]:
        return iter(self.closed_forms)

    def __len__(self) -> int:
        return len(self.closed_forms)

    def __getitem__(self, gradient: str) -> ClosedForm:
        """Return the closed form of a gradient: ``found["dlogits"]``; raises KeyError with those there are."""
        for form in self.closed_forms:
            if form.gradient == gradient:
                return form
        raise KeyError(f"no closed form of {gradient}; there are {', '.join(f.gradient for f in self.closed_forms)}")

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.closed_forms)) + "\n" if self.closed_forms else f"{NOTHING}\n"

    def __repr__(self) -> str:
        return f"<Simplification: {', '.join(form.gradient for form in self.closed_forms) or 'nothing to gain'}>"

    def _repr_markdown_(self) -> str:
        return f"```python\n{self}```"


def simplify(forward: Callable[..., Any] | Backward, *inputs: Any) -> Simplification:
    """Return the closed forms in the backward of ``forward(*inputs)``, or in one that has been derived.

    A closed form is one line for a gradient that takes several, written with values that have names: the gradient of
    softmax, of a normalisation, of a loss. Each is compared with autograd in float64 at two points, and so is every
    line of its proof; what does not agree to nine digits is not shown.

    Raises:
        HandgradError: as `derive`.

    >>> import torch
    >>> def forward(x):
    ...     mean = x.mean(0, keepdim=True)
    ...     y = x - mean
    ...     return y
    >>> print(simplify(forward, torch.ones(4, 5)))
    # x -> y: 3 lines in one
    dx = dy - dy.mean(0)  # (4, 5)
    #   because
    #   dmean = -dy.sum(0)
    #       what is subtracted gets the opposite sign
    #   dx = dy - dy.mean(0)
    #       a difference passes the gradient on; a mean over dim 0: each of the 4 gets its part
    <BLANKLINE>
    """
    backward = forward if isinstance(forward, Backward) else derive(forward, *inputs)
    regions = Regions(backward)
    candidates = []
    for region in regions:
        found = _searched(regions, region)
        if found is not None:
            candidates.append(found)
    candidates.sort(key=lambda item: (-item[0], -len(item[1].region.steps), item[1].region.head.id))
    points = Points(backward) if candidates else None
    chosen: list[ClosedForm] = []
    taken: set[Value] = set()
    for _, search in candidates:
        region = search.region
        if taken & {region.head, *region.inside}:
            continue
        assert points is not None
        try:
            form = Prover(points, search).closed_form(len(regions.saved(region)))
        except (NotProvedError, UnwritableError, TooLargeError, DeriveError):
            continue
        chosen.append(form)
        taken |= {region.head, *region.inside}
    chosen.sort(key=lambda form: -form.region.head.id)
    return Simplification(backward, chosen)


def _searched(regions: Regions, region: Region) -> tuple[int, Search] | None:
    """Return how much shorter the closed form of a region is; None if it is not, or if there is none."""
    saved = regions.saved(region)
    if len(saved) < FEWEST:
        return None
    try:
        search = Search(regions, region)
        best = search.run()
        if search.has_plain_sizes:
            other = Search(regions, region, plain=True)
            plain = other.run()
            if plain is not None and (best is None or plain[0] < best[0]):
                search, best = other, plain
    except (UnreadableError, TooLargeError, DeriveError, ZeroDivisionError):
        return None
    if best is None:
        return None
    gain = sum(weight(share.gradient) + 1 for share in saved) - best[0] - 1
    return (gain, search) if gain >= (LEAST if region.several else LEAST * len(saved)) else None
