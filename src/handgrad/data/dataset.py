"""From words to what the names model learns from: contexts of a few symbols, and the symbol that follows."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from handgrad.data.words import MARKER
from handgrad.errors import EmptySplitError, InvalidOptionError, MarkerInWordError, UnknownSymbolError

LARGEST = 2**30
"""Contexts hold at most so many numbers (8 GiB): more is a slip of the keyboard rather than a wish."""


@dataclass(frozen=True)
class Vocabulary:
    """The symbols of a list of words; a symbol's place in ``symbols`` is its index, and ``.`` has index 0.

    >>> vocabulary = Vocabulary.of(["emma", "ava"])
    >>> vocabulary.symbols
    ('.', 'a', 'e', 'm', 'v')
    >>> vocabulary.encode("emma")
    [2, 3, 3, 1]
    >>> vocabulary.decode([1, 4, 1])
    'ava'
    """

    symbols: tuple[str, ...]

    @classmethod
    def of(cls, words: Iterable[str]) -> Vocabulary:
        """Return the vocabulary of ``words``: the marker, then their symbols in sorted order.

        Raises:
            MarkerInWordError: a word holds the marker ``.`` itself.
        """
        symbols: set[str] = set()
        for word in words:
            if MARKER in word:
                raise MarkerInWordError(
                    f"the word {word!r} holds {MARKER!r}, which marks where a word begins and ends; "
                    "remove it from the word"
                )
            symbols.update(word)
        return cls((MARKER, *sorted(symbols)))

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {symbol: index for index, symbol in enumerate(self.symbols)}

    def encode(self, word: str) -> list[int]:
        """Return the index of each symbol of ``word``.

        Raises:
            UnknownSymbolError: the vocabulary does not have a symbol of the word.
        """
        try:
            return [self._index[symbol] for symbol in word]
        except KeyError as error:
            raise UnknownSymbolError(
                f"the word {word!r} holds {error.args[0]!r}, which is none of the vocabulary's {len(self)} symbols; "
                "build the vocabulary from words that hold it"
            ) from None

    def decode(self, indices: Iterable[int]) -> str:
        """Return the symbols at ``indices`` as one string."""
        return "".join(self.symbols[index] for index in indices)


class Rows(NamedTuple):
    """Contexts ``X``, int64 (rows, block_size), and the symbol that follows each, ``Y``, int64 (rows,)."""

    X: npt.NDArray[np.int64]
    Y: npt.NDArray[np.int64]


def contexts(words: Sequence[str], vocabulary: Vocabulary, block_size: int) -> Rows:
    """Return a row for each symbol of each word, and one for the marker that ends the word.

    Raises:
        InvalidOptionError: ``block_size`` is less than 1, or so large that the contexts would fill the memory.
        UnknownSymbolError: a word holds a symbol that the vocabulary does not have.

    >>> X, Y = contexts(["ava"], Vocabulary.of(["ava"]), block_size=2)
    >>> X.tolist()
    [[0, 0], [0, 1], [1, 2], [2, 1]]
    >>> Y.tolist()
    [1, 2, 1, 0]
    """
    if block_size < 1:
        raise InvalidOptionError(
            f"block_size is {block_size}; it is the number of symbols that predict the next one, so give 1 or more"
        )
    rows = sum(map(len, words)) + len(words)
    if rows * block_size > LARGEST:
        raise InvalidOptionError(
            f"block_size is {block_size}, and {rows:,} rows of it hold more numbers than {LARGEST:,}; "
            "give a smaller one"
        )
    index = np.full(sys.maxunicode + 1, -1, dtype=np.int64)  # code point -> index
    index[_code_points("".join(vocabulary.symbols))] = np.arange(len(vocabulary))
    stream = index[_code_points("".join(MARKER * block_size + word + MARKER for word in words))]
    if (stream < 0).any():
        for word in words:
            vocabulary.encode(word)  # raises at the word that holds the unknown symbol

    lengths = np.array([len(word) + 1 for word in words], dtype=np.int64)  # (words,)
    starts = np.arange(lengths.sum()) + block_size * np.repeat(np.arange(len(words)), lengths)  # (rows,)
    return Rows(X=stream[starts[:, None] + np.arange(block_size)], Y=stream[starts + block_size])


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")


class Split(NamedTuple):
    """The words to train on, to choose hyperparameters with, and to measure the final loss on."""

    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]


def split_words(words: Sequence[str], how: str = "shuffle", seed: int = 42) -> Split:
    """Return ``words`` in three parts of about 80, 10 and 10 %.

    ``"shuffle"`` shuffles the words as they stand, so a word that stands twice can be in two parts.
    ``"distinct"`` shuffles the distinct words, and each word stands in one part as often as in ``words``.

    Raises:
        InvalidOptionError: ``how`` is neither of them.
        EmptySplitError: there are fewer than 6 words, or 6 distinct ones, so a part would have none.

    >>> split_words(["ada", "ben", "cleo", "dan", "eva", "finn"], seed=1).dev
    ('eva',)
    """
    if how not in ("shuffle", "distinct"):
        raise InvalidOptionError(f"the split {how!r} is unknown; choose 'shuffle' or 'distinct'")
    distinct = how == "distinct"
    pool = list(dict.fromkeys(words)) if distinct else list(words)
    random.Random(seed).shuffle(pool)  # noqa: S311 - reproducible, not secret
    n1, n2 = int(0.8 * len(pool)), int(0.9 * len(pool))
    split = Split(tuple(pool[:n1]), tuple(pool[n1:n2]), tuple(pool[n2:]))
    if not all(split):
        raise EmptySplitError(
            f"train, dev and test need at least 6 {'distinct ' * distinct}words, and the list has {len(pool)}; "
            "give a longer list"
        )
    if distinct:
        return Split(*(tuple(word for word in words if word in part) for part in map(set, split)))
    return split


@dataclass(frozen=True, eq=False)
class Dataset:
    """The words of each part, and the rows that they make."""

    vocabulary: Vocabulary
    block_size: int
    words: Split
    train: Rows
    dev: Rows
    test: Rows


def build_dataset(words: Sequence[str], block_size: int = 3, split: str = "shuffle", seed: int = 42) -> Dataset:
    """Split ``words`` and return the contexts of each part, over the vocabulary of all of them.

    Raises:
        InvalidOptionError: ``block_size`` is less than 1, or ``split`` is unknown (see ``split_words``).
        EmptySplitError: there are too few words for three parts.
        MarkerInWordError: a word holds the marker ``.`` itself.

    >>> dataset = build_dataset(["ada", "ben", "cleo", "dan", "eva", "finn"], block_size=3)
    >>> dataset.train.X.shape
    (17, 3)
    """
    vocabulary = Vocabulary.of(words)
    parts = split_words(words, split, seed)
    return Dataset(vocabulary, block_size, parts, *(contexts(part, vocabulary, block_size) for part in parts))


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return the sizes of ``dataset``, and how many words of one part stand in another, ready for JSON.

    >>> describe(build_dataset(["ada", "ben", "cleo", "dan", "eva", "finn"]))["alphabet"]
    'abcdefilnov'
    """
    train, dev, test = map(set, dataset.words)
    return {
        "words": sum(map(len, dataset.words)),
        "distinct_words": len(train | dev | test),
        "symbols": len(dataset.vocabulary),
        "alphabet": "".join(dataset.vocabulary.symbols[1:]),
        "block_size": dataset.block_size,
        "split_words": {part: len(words) for part, words in dataset.words._asdict().items()},
        "split_rows": {part: len(getattr(dataset, part).Y) for part in Split._fields},
        "dev_words_in_train": sum(word in train for word in dataset.words.dev),
        "test_words_in_train": sum(word in train for word in dataset.words.test),
        "test_words_in_dev": sum(word in dev for word in dataset.words.test),
    }
