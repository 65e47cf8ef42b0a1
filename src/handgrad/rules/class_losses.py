"""Losses of class scores: cross-entropy and the negative log-likelihood.

The slope of cross-entropy is ``softmax(logits) - onehot(target)``. Classes have dimension 1 (0 if there is no batch);
what else there is, pixels or time, is more batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from handgrad.expr import (
    Expr,
    call,
    index,
    index_key,
    is_number,
    let,
    number,
    product,
    raw,
    scatter,
    total,
    unreduce,
    written,
)  # fmt: skip
from handgrad.rules.makers import Maker, integers, positive
from handgrad.rules.softmaxes import kernel
from handgrad.rules.table import Terms, rule, sample, to

ZERO = number(0.0)
SMOOTHED = "softmax and cross-entropy: the probabilities, less the smoothed target"


def ignoring(*shape: int, high: int, ignored: int) -> Maker:
    """Return classes of which the first is to be ignored."""

    def make(generator: torch.Generator) -> Tensor:
        drawn = integers(*shape, high=high)(generator)
        drawn.view(-1)[0] = ignored
        return drawn

    return make


def some_weights(generator: torch.Generator) -> Tensor:
    """Return weights of five classes, which want no gradient: PyTorch gives them none."""
    return positive(5)(generator).detach()


def class_dim(scores: Expr) -> int:
    """Return the dimension of the classes."""
    return 1 if len(scores.shape) > 1 else 0


def per_class(weight: Expr, scores: Expr) -> Expr:
    """Return ``weight``, one number for each class, so that it broadcasts to the scores."""
    more = (1,) * (len(scores.shape) - 2)
    return weight.method("view", -1, *more, shape=(*weight.shape, *more)) if more else weight


def smoothed(onehot: Expr, scores: Expr, label_smoothing: Expr) -> Expr:
    """Return the target that label smoothing wants: a part of it is spread over all classes."""
    count = scores.shape[class_dim(scores)]
    return (1 - label_smoothing) * onehot + label_smoothing / number(int(count), written(count))


class Classes:
    """The targets of a loss over classes: which count, how much, and as one-hots.

    ``kept`` is None where none is ignored: the ignored class, -100 unless given, is looked for in the targets.
    """

    def __init__(self, scores: Expr, target: Expr, weight: Expr | None, ignore_index: int, reduction: str) -> None:
        self.scores, self.target, self.reduction = scores, target, reduction
        self.dim = class_dim(scores)
        self.count = scores.shape[self.dim]
        self.weight = weight
        self.kept: Expr | None = None
        self.picked = target
        if ignore_index != -100 or bool((target.data.value == ignore_index).any()):
            self.kept = let("kept", target.differs(ignore_index))
            if not 0 <= ignore_index < self.count:
                self.picked = let("classes", target * self.kept)  # any class will do: it does not count

    @property
    def one_hot(self) -> Expr:
        """The targets in the shape of the scores."""
        more = self.target.shape
        onehot = call("F.one_hot", self.picked, self.count, shape=(*more, self.count))
        return onehot if len(more) < 2 else onehot.method("movedim", -1, 1, shape=self.scores.shape)

    @property
    def weights(self) -> Expr | None:
        """How much each target counts; None if all count 1."""
        if self.weight is None:
            return self.kept
        own = index(self.weight, index_key([self.picked]), self.target.shape)
        return let("weights", own if self.kept is None else own * self.kept)

    def beside_scores(self, x: Expr) -> Expr:
        """Return ``x``, one number for each target, so that it broadcasts to the scores."""
        return unreduce(x, self.scores.shape, [self.dim], keepdim=False)

    def reduced(self, slope: Expr, g: Expr) -> Expr:
        """Return ``slope``, of each target's loss, times the gradient that the loss gets."""
        if self.reduction == "none":
            return slope * self.beside_scores(g)
        return (slope / self.total if self.reduction == "mean" else slope) * g

    def each(self, g: Expr) -> Expr:
        """Return the gradient that each target's loss gets, beside the scores, rounded as PyTorch does."""
        share = g if self.weights is None else self.weights * g
        share = share / self.total if self.reduction == "mean" else share
        return self.beside_scores(share) if share.shape else share

    @property
    def total(self) -> Expr:
        """What a mean divides by."""
        weights, sizes = self.weights, self.target.shape
        if weights is not None:
            return weights.method("sum", shape=())
        named = all(getattr(size, "text", None) for size in sizes)
        return product(sizes) if named else self.target.method("numel", shape=())


@rule(
    "cross_entropy",
    samples=[
        sample("F.cross_entropy(x, t)", x=(3, 5), t=integers(3, high=5)),
        sample("s * F.cross_entropy(x, t)", x=(3, 5), t=integers(3, high=5), s=()),
        sample("F.cross_entropy(x, t, reduction='sum')", x=(3, 5), t=integers(3, high=5)),
        sample("F.cross_entropy(x, t, reduction='none')", x=(3, 5), t=integers(3, high=5)),
        sample("F.cross_entropy(x, t, reduction='none').mean()", x=(3, 5), t=integers(3, high=5)),
        sample("F.cross_entropy(x, t)", x=(5,), t=integers(high=5)),
        sample("F.cross_entropy(x, t)", x=(3, 5, 2), t=integers(3, 2, high=5)),
        sample("F.cross_entropy(x, t, reduction='none')", x=(3, 5, 2, 4), t=integers(3, 2, 4, high=5)),
        sample("F.cross_entropy(x.view(-1, 5), t.view(-1))", x=(3, 2, 5), t=integers(3, 2, high=5)),
        sample("F.cross_entropy(x, t)", x=(4, 5), t=ignoring(4, high=5, ignored=-100)),
        sample("F.cross_entropy(x, t, ignore_index=0)", x=(4, 5), t=ignoring(4, high=5, ignored=0)),
        sample("F.cross_entropy(x, t, ignore_index=-1, reduction='none')", x=(4, 5),
               t=ignoring(4, high=5, ignored=-1)),
        sample("F.cross_entropy(x, t, weight=w)", x=(4, 5), t=integers(4, high=5), w=some_weights),
        sample("F.cross_entropy(x, t, w, ignore_index=9)", x=(4, 5, 2),
               t=ignoring(4, 2, high=5, ignored=9), w=some_weights),
        sample("F.cross_entropy(x, t, w, reduction='sum')", x=(4, 5), t=integers(4, high=5), w=some_weights),
        sample("F.cross_entropy(x, t, label_smoothing=0.1)", x=(4, 5), t=integers(4, high=5)),
        sample("F.cross_entropy(x, t, label_smoothing=0.1)", x=(4, 5, 2), t=ignoring(4, 2, high=5, ignored=-100)),
        sample("F.cross_entropy(x, t, w, label_smoothing=0.2)", x=(4, 5, 2), t=ignoring(4, 2, high=5, ignored=-100),
               w=some_weights),
        sample("F.cross_entropy(x, t, w, label_smoothing=0.2, reduction='none')", x=(4, 5), t=integers(4, high=5),
               w=some_weights),
        sample("F.cross_entropy(x, t)", x=(3, 5), t=(3, 5)),
        sample("F.cross_entropy(x, t, reduction='none')", x=(3, 5, 2), t=(3, 5, 2)),
        sample("F.cross_entropy(x, t, w, label_smoothing=0.3)", x=(3, 5, 2), t=(3, 5, 2), w=some_weights),
        sample("s * F.cross_entropy(x, t.softmax(1), reduction='sum')", x=(3, 5), t=(3, 5), s=()),
    ],
)  # fmt: skip
def cross_entropy(g: Expr, y: Expr, logits: Expr, target: Expr, weight: Expr | None = None, ignore_index: int = -100,
                  reduction: str = "mean", label_smoothing: Expr = ZERO) -> Terms:  # fmt: skip
    if target.data.is_floating:
        yield from _of_probabilities(g, logits, target, weight, reduction, label_smoothing)
        return
    of = Classes(logits, target, weight, ignore_index, reduction)
    probs, weights = call("F.softmax", logits, of.dim, shape=logits.shape), of.weights
    slope, why = probs - of.one_hot, "softmax and cross-entropy: the probabilities, less 1 at the right class"
    exact: Expr | None = None
    if is_number(label_smoothing, 0) and weight is None:
        logprobs = call("F.log_softmax", logits, of.dim, shape=logits.shape)
        share = of.each(g)
        dlogprobs = let("dlogprobs", -of.one_hot.method("type_as", logits) * share)
        exact = kernel("_log_softmax", dlogprobs, logprobs, logits, of.dim)
    if not is_number(label_smoothing, 0):
        wanted, why = smoothed(of.one_hot.method("type_as", logits), logits, label_smoothing), SMOOTHED
        slope, weights = probs - let("wanted", wanted), of.kept
        if weight is not None:
            wanted = let("wanted", per_class(weight, logits) * wanted)
            slope = probs * total(wanted, (of.dim,), keepdim=True) - wanted
    slope = slope if weights is None else slope * of.beside_scores(weights)
    yield to(logits, of.reduced(slope, g), why, exact=exact)


def _of_probabilities(
    g: Expr, logits: Expr, target: Expr, weight: Expr | None, reduction: str, label_smoothing: Expr
) -> Terms:
    dim = class_dim(logits)
    count = product([size for d, size in enumerate(logits.shape) if d != dim])
    wanted, log_slope = target, -call("F.log_softmax", logits, dim, shape=logits.shape)
    if not is_number(label_smoothing, 0):
        wanted, log_slope = smoothed(target, logits, label_smoothing), (1 - label_smoothing) * log_slope
    if weight is not None:
        wanted, log_slope = per_class(weight, logits) * wanted, per_class(weight, logits) * log_slope
    wanted = let("wanted", wanted)
    slope = call("F.softmax", logits, dim, shape=logits.shape) * total(wanted, (dim,), keepdim=True) - wanted
    share = unreduce(g, logits.shape, [dim], keepdim=False) if reduction == "none" else g
    if reduction == "mean":
        slope, log_slope = slope / count, log_slope / count
    yield to(logits, slope * share, "the probabilities, by what the target sums to, less the target")
    yield to(target, log_slope * share, "the loss is minus the log-probabilities, weighted by the target")


@rule(
    "nll_loss",
    samples=[
        sample("F.nll_loss(x, t)", x=(3, 5), t=integers(3, high=5)),
        sample("s * F.nll_loss(x, t)", x=(3, 5), t=integers(3, high=5), s=()),
        sample("F.nll_loss(F.log_softmax(x, 1), t)", x=(3, 5), t=integers(3, high=5)),
        sample("F.nll_loss(x, t, reduction='sum')", x=(3, 5), t=integers(3, high=5)),
        sample("F.nll_loss(x, t, reduction='none')", x=(3, 5), t=integers(3, high=5)),
        sample("F.nll_loss(x, t)", x=(5,), t=integers(high=5)),
        sample("F.nll_loss(x, t, weight=w)", x=(4, 5), t=integers(4, high=5), w=some_weights),
        sample("F.nll_loss(x, t)", x=(4, 5), t=ignoring(4, high=5, ignored=-100)),
        sample("F.nll_loss(x, t, w, ignore_index=2, reduction='none')", x=(4, 5),
               t=ignoring(4, high=5, ignored=2), w=some_weights),
        sample("F.nll_loss(x, t)", x=(3, 5, 2), t=integers(3, 2, high=5)),
        sample("F.nll_loss(x, t, w, ignore_index=-1)", x=(3, 5, 2, 4),
               t=ignoring(3, 2, 4, high=5, ignored=-1), w=some_weights),
        sample("F.nll_loss(x, t, reduction='none')", x=(3, 5, 2), t=integers(3, 2, high=5)),
    ],
)  # fmt: skip
def nll_loss(g: Expr, y: Expr, logprobs: Expr, target: Expr, weight: Expr | None = None, ignore_index: int = -100,
             reduction: str = "mean") -> Terms:  # fmt: skip
    of = Classes(logprobs, target, weight, ignore_index, reduction)
    why = "the loss is minus the log-probability of the right class: only that one gets a gradient"
    if len(target.shape) > 1:
        slope = -of.one_hot.method("type_as", logprobs)
        if of.weights is not None:
            slope = slope * of.beside_scores(of.weights)
        yield to(logprobs, of.reduced(slope, g), why)
        return
    slope = number(-1.0)
    if of.weights is not None:
        slope = -(of.weights if weight is not None else of.weights.method("type_as", logprobs))
    share = (slope / of.total if reduction == "mean" else slope) * g
    rows = [raw(f"range({written(target.shape[0])})")] if target.shape else []
    yield to(logprobs, scatter(share, index_key([*rows, of.picked]), logprobs.shape, accumulate=False), why)
