"""From a backward of many lines to the closed forms that people derive on paper.

`regions` where lines may fold → `reading` their gradients in `normal_form`, by `algebra` → `definitions` used backwards
and `lemmas` about sums, chosen by `search` → `writing` what is shortest → `proof` at two `points` → `simplification`.
"""

from handgrad.simplifier.proof import ClosedForm, Equality
from handgrad.simplifier.simplification import Simplification, simplify

__all__ = ["ClosedForm", "Equality", "Simplification", "simplify"]
