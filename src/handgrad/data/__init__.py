"""From words to contexts: word lists, the vocabulary, the split, and the original names list."""

from handgrad.data.dataset import (
    Dataset,
    Rows,
    Split,
    Vocabulary,
    build_dataset,
    contexts,
    describe,
    split_words,
)
from handgrad.data.download import download_names
from handgrad.data.words import MARKER, WordList, load_words

__all__ = [
    "MARKER",
    "Dataset",
    "Rows",
    "Split",
    "Vocabulary",
    "WordList",
    "build_dataset",
    "contexts",
    "describe",
    "download_names",
    "load_words",
    "split_words",
]
