"""Train the names model with gradients written by hand, measure it, and sample from it."""

from handgrad.training.config import Config
from handgrad.training.evaluation import evaluate
from handgrad.training.loop import train
from handgrad.training.runs import Run, State
from handgrad.training.sampling import Sample, sample_words

__all__ = ["Config", "Run", "Sample", "State", "evaluate", "sample_words", "train"]
