"""Gradients against the truth: two tensors, two functions, or every line of a file."""

from __future__ import annotations

from handgrad.checker.comparison import Comparison, Evidence, Verdict, cmp, compare, compare_pass

__all__ = ["Comparison", "Evidence", "Verdict", "cmp", "compare", "compare_pass"]
