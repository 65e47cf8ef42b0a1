"""The rule table: how each operation passes a gradient back, one small page for each topic.

`rule` adds one; `handgrad.rules.table` says how a rule is written.
"""

from handgrad.rules import (
    activations,
    arithmetic,
    attention,
    class_losses,
    constants,
    convolution,
    distances,
    einsum,
    gathering,
    indexing,
    joins,
    losses,
    memory,
    normalisation,
    parts,
    pointwise,
    pooling,
    products,
    random,
    reductions,
    shapes,
    softmaxes,
    trigonometry,
)
from handgrad.rules.table import CONSTANT, RULES, Exprs, Key, Rule, Sample, Term, Terms, bind, find, rule, sample, to

__all__ = [
    "CONSTANT", "RULES", "Exprs", "Key", "Rule", "Sample", "Term", "Terms", "activations", "arithmetic",
    "attention", "bind", "class_losses", "constants", "convolution", "distances", "einsum", "find", "gathering",
    "indexing", "joins", "losses", "memory", "normalisation", "parts", "pointwise", "pooling", "products", "random",
    "reductions", "rule", "sample", "shapes", "softmaxes", "to", "trigonometry",
]  # fmt: skip
