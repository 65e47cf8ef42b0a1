"""Words to contexts: the vectorised form beside the exercise's loop, in one run.

    python bench/dataset.py

The words are those of HANDGRAD_WORDS, else the built-in names.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from handgrad.data import Vocabulary, build_dataset, load_words

ROUNDS = 7
BLOCK_SIZE = 3


def by_loop(words: tuple[str, ...]) -> tuple[list[list[int]], list[int]]:
    """Do it as the exercise does: a list for every symbol."""
    stoi = {symbol: index for index, symbol in enumerate(Vocabulary.of(words).symbols)}
    X, Y = [], []
    for w in words:
        context = [0] * BLOCK_SIZE
        for ch in w + ".":
            ix = stoi[ch]
            X.append(context)
            Y.append(ix)
            context = [*context[1:], ix]
    return X, Y


def seconds(work: Callable[[], object]) -> float:
    """Return how long ``work`` takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    """Print the medians and their ratio."""
    word_list = load_words()
    words = word_list.words
    pairs = [
        (seconds(lambda: by_loop(words)), seconds(lambda: build_dataset(words, BLOCK_SIZE))) for _ in range(ROUNDS)
    ]
    loop, vectorised = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{word_list.source}: {len(words):,} words")
    print(f"loop {loop:.3f} s, vectorised (all three splits) {vectorised:.3f} s, ratio {loop / vectorised:.1f}x")


if __name__ == "__main__":
    main()
