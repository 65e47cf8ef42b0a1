"""The gradients as they came out, beside autograd's: do they agree, and by how much not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from handgrad.checker.resolution import Resolution
from handgrad.checker.truth import Point, autograd_gradients
from handgrad.claims import Claim
from handgrad.graph import Value
from handgrad.precision import FEW_DIGITS, fitted, largest
from handgrad.report import Finding, Gradient, HeatMap, Place, Verdict

TILES = 32


class Numbers:
    """What the recorded run has computed, and what autograd computes."""

    def __init__(self, known: Resolution) -> None:
        self.known = known
        wanted = [*known.candidates, known.loss]
        self.autograd = autograd_gradients(known.graph, known.loss, wanted, known.stop, None)
        self.truth = autograd_gradients(known.graph, known.loss, wanted, known.stop, torch.float64)
        self.scale = max((largest(t) for t in self.truth.values()), default=0.0)
        self.here = Point(known.graph, known.loss, [], seed=3, jitter=0.0, stop=known.stop)

    def agree(self, claim: Claim) -> bool:
        """Whether what ``claim`` has computed is the gradient."""
        assert claim.final is not None
        try:
            given = {v: tensors[0] for v, tensors in self.known.lines.carried(claim).items()}
            found = self.here.evaluate(claim.final, given)
        except (RuntimeError, IndexError, ValueError, TypeError):
            found = claim.final.value.double()
        truth = self.truth[self.known.of[claim]]
        shaped = fitted(found, tuple(truth.shape))
        if shaped is None:
            return False
        recorded = fitted(claim.final.value.double(), tuple(truth.shape))
        if (
            claim.carried is None
            and recorded is not None
            and largest(recorded - shaped) > 1e-3 * (largest(truth) + self.scale)
        ):
            return False  # what the name stood for was changed behind its back
        noise = max(2.0**-40 * self.scale, FEW_DIGITS * largest(truth))
        return largest(shaped - truth) <= noise

    def entry(
        self, claim: Claim, of: Value, verdict: Verdict, mistakes: tuple[Finding, ...], note: str | None
    ) -> Gradient:
        """Return what the report says of ``claim``."""
        assert claim.final is not None
        found, autograd, truth = claim.final.value, self.autograd[of], self.truth[of]
        if claim.carried is not None and claim.carried.shape == claim.final.shape:
            found = found - claim.carried.value
        last = claim.events[-1].last.statement
        shape = tuple(found.shape)
        same_shape = shape == of.shape
        exact = same_shape and found.dtype == autograd.dtype and bool((found == autograd).all())
        numbers = _numbers(found, autograd, truth)
        bits: Literal["exact", "rounding"] | None = None
        if verdict == "right":
            bits = "exact" if exact else "rounding"
        place = mistakes[0].place if mistakes and verdict == "wrong" else Place(last.source.cell, last.line)
        return Gradient(
            name=claim.name,
            of=of.name or "?",
            verdict=verdict,
            cell=place.cell,
            line=place.line,
            code="\n".join(dict.fromkeys(e.last.statement.text for e in claim.events)),
            shape=shape,
            expected_shape=of.shape,
            exact=exact,
            approximate=same_shape and bool(torch.allclose(found.to(autograd.dtype), autograd)),
            bits=bits,
            mistakes=mistakes,
            note=note,
            difference=_heat_map(found, truth) if verdict in ("wrong", "inherited") and same_shape else None,
            **numbers,
        )

    def unknown(self, claim: Claim, of: Value, note: str) -> Gradient:
        """Return what the report says of ``claim`` where autograd's gradient is not known."""
        entry = self.entry(claim, of, "unverified", (), note)
        return replace(entry, exact=False, approximate=False, maxdiff=None, error=None, autograd_error=None)


def _numbers(found: Tensor, autograd: Tensor, truth: Tensor) -> dict[str, Any]:
    try:
        maxdiff = largest(found.double() - autograd.double())
    except RuntimeError:
        return {"maxdiff": None, "error": None, "autograd_error": None}
    return {
        "maxdiff": maxdiff,
        "error": largest(found.double() - truth),
        "autograd_error": largest(autograd.double() - truth),
    }


def _heat_map(found: Tensor, truth: Tensor) -> HeatMap | None:
    difference = (found.double() - truth).abs()
    if not difference.numel():
        return None
    flat = difference.reshape(-1, difference.shape[-1]) if difference.dim() else difference.reshape(1, 1)
    rows, columns = flat.shape
    tiles = torch.nn.functional.adaptive_max_pool2d(flat[None, None], (min(rows, TILES), min(columns, TILES)))[0, 0]
    return HeatMap((rows, columns), tuple(tuple(row) for row in tiles.tolist()))
