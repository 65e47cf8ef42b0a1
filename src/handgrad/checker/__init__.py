"""Gradients against the truth: two tensors, two functions, or every line of a recording."""

from __future__ import annotations

from handgrad.checker.comparison import Comparison, Evidence, Verdict, cmp, compare, compare_pass
from handgrad.checker.functions import check
from handgrad.checker.judging import judge

__all__ = ["Comparison", "Evidence", "Verdict", "check", "cmp", "compare", "compare_pass", "judge"]
