"""Words to contexts: the vectorised form against the documents' loop, and the splits."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handgrad.data import Vocabulary, build_dataset, contexts, describe, load_words, split_words
from handgrad.errors import EmptySplitError, InvalidOptionError, MarkerInWordError, UnknownSymbolError

SYMBOLS = st.characters(exclude_characters=".", exclude_categories=["Cs"])
WORDS = st.lists(st.text(SYMBOLS, min_size=1, max_size=6), min_size=1, max_size=12)
TEN = ["ada", "ben", "cleo", "dan", "eva", "finn", "gus", "hal", "ida", "jo"]


def contexts_by_loop(words: list[str], stoi: dict[str, int], block_size: int) -> tuple[list[list[int]], list[int]]:
    """The exercise's own loop."""
    X, Y = [], []
    for w in words:
        context = [0] * block_size
        for ch in w + ".":
            ix = stoi[ch]
            X.append(context)
            Y.append(ix)
            context = [*context[1:], ix]
    return X, Y


@given(WORDS, st.integers(1, 5))
def test_contexts_are_those_of_the_loop(words: list[str], block_size: int) -> None:
    chars = sorted(set("".join(words)))
    stoi = {s: i + 1 for i, s in enumerate(chars)} | {".": 0}

    X, Y = contexts(words, Vocabulary.of(words), block_size)

    assert (X.tolist(), Y.tolist()) == contexts_by_loop(words, stoi, block_size)
    assert (X.dtype, Y.dtype) == ("int64", "int64")


@given(WORDS)
def test_a_word_is_encoded_and_decoded(words: list[str]) -> None:
    vocabulary = Vocabulary.of(words)

    assert [vocabulary.decode(vocabulary.encode(word)) for word in words] == words


def test_the_marker_is_symbol_0_and_the_others_are_sorted() -> None:
    assert Vocabulary.of(["ba", "éa"]).symbols == (".", "a", "b", "é")


def test_an_unknown_symbol_is_named_with_its_word() -> None:
    vocabulary = Vocabulary.of(["ada"])

    for ask in (lambda: vocabulary.encode("adé"), lambda: contexts(["ada", "adé"], vocabulary, 3)):
        with pytest.raises(UnknownSymbolError, match="the word 'adé' holds 'é', which is none of the vocabulary's 3"):
            ask()


def test_a_word_with_the_marker_is_refused() -> None:
    with pytest.raises(MarkerInWordError, match=r"the word 'e\.va' holds '\.'"):
        build_dataset([*TEN, "e.va"])


@given(st.lists(st.sampled_from(TEN), min_size=6), st.integers(0, 99))
def test_shuffle_is_the_shuffle_and_cut_of_the_documents(words: list[str], seed: int) -> None:
    random.seed(seed)
    expected = words.copy()
    random.shuffle(expected)
    n1, n2 = int(0.8 * len(words)), int(0.9 * len(words))

    split = split_words(words, "shuffle", seed)

    assert list(map(list, split)) == [expected[:n1], expected[n1:n2], expected[n2:]]


def test_splitting_leaves_the_global_random_state_alone() -> None:
    before = random.getstate()

    split_words(TEN)

    assert random.getstate() == before


@given(st.lists(st.sampled_from([*TEN, "kim", "lea"]), min_size=40, max_size=80), st.integers(0, 99))
def test_distinct_loses_no_word_and_shares_none(words: list[str], seed: int) -> None:
    try:
        train, dev, test = split_words(words, "distinct", seed)
    except EmptySplitError:
        assert len(set(words)) < 6
        return

    assert Counter(train) + Counter(dev) + Counter(test) == Counter(words)
    assert not set(train) & set(dev) | set(train) & set(test) | set(dev) & set(test)


@pytest.mark.parametrize("how", ["shuffle", "distinct"])
def test_too_few_words_for_three_parts_are_counted(how: str) -> None:
    assert all(split_words(TEN[:6], how))

    with pytest.raises(
        EmptySplitError,
        match=r"^HG105: train, dev and test need at least 6 .*words, and the list has 5; give a longer list$",
    ):
        split_words(TEN[:5], how)


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(InvalidOptionError, match="block_size is 0"):
        build_dataset(TEN, block_size=0)
    with pytest.raises(InvalidOptionError, match="hold more numbers than 1,073,741,824; give a smaller one"):
        build_dataset(TEN, block_size=10**8)
    with pytest.raises(InvalidOptionError, match="the split 'half' is unknown"):
        build_dataset(TEN, split="half")


def test_the_original_list_gives_the_figures_of_the_documents(original_names: Path) -> None:
    facts = describe(build_dataset(load_words(original_names).words))

    assert facts["words"] == 32033
    assert facts["distinct_words"] == 29494
    assert facts["symbols"] == 27
    assert facts["split_rows"] == {"train": 182625, "dev": 22655, "test": 22866}
    assert (facts["dev_words_in_train"], facts["split_words"]["dev"]) == (424, 3203)
    assert (facts["test_words_in_train"], facts["split_words"]["test"]) == (377, 3204)
    assert facts["test_words_in_dev"] == 56


def test_the_distinct_split_of_the_original_list_shares_nothing(original_names: Path) -> None:
    facts = describe(build_dataset(load_words(original_names).words, split="distinct"))

    assert sum(facts["split_words"].values()) == 32033
    assert facts["dev_words_in_train"] == facts["test_words_in_train"] == facts["test_words_in_dev"] == 0
