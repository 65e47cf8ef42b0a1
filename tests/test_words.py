"""Reading a word list: what is accepted, what is noted, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handgrad.data import load_words
from handgrad.errors import (
    HandgradError,
    MarkerInWordError,
    TooFewWordsError,
    WordsNotReadableError,
    WordsNotTextError,
)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(content: bytes, name: str = "words.txt") -> str:
    Path(name).write_bytes(content)
    return name


def test_the_built_in_list_holds_at_least_3000_distinct_names_of_letters_a_to_z() -> None:
    words = load_words().words

    assert len(set(words)) == len(words) >= 3000
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)


def test_one_word_a_line_in_the_order_of_the_file() -> None:
    assert load_words(write(b"ben\nada\nben\n")).words == ("ben", "ada", "ben")


def test_any_alphabet_works() -> None:
    words = ("josé", "李白", "ANNA", "o'neil", "ann lee", "Ægir", "नेहा")

    assert load_words(write("\n".join(words).encode())).words == words


def test_both_spellings_of_an_accented_letter_are_one_symbol() -> None:
    assert load_words(write("jose\u0301\njos\u00e9\n".encode())).words == ("jos\u00e9", "jos\u00e9")


def test_a_byte_order_mark_is_no_part_of_the_first_word() -> None:
    assert load_words(write(b"\xef\xbb\xbfada\nben\n")).words == ("ada", "ben")


def test_white_space_around_a_word_is_dropped() -> None:
    assert load_words(write(b"  ada\t\nben  \n")).words == ("ada", "ben")


def test_a_line_separator_inside_a_word_does_not_split_it() -> None:
    assert load_words(write("a\u2028da\nben\n".encode())).words == ("a\u2028da", "ben")


def test_a_clean_list_has_no_notes() -> None:
    assert load_words(write(b"ada\nben\n")).notes == load_words(write(b"ada\nben")).notes == ()


def test_windows_line_ends_are_read_and_noted() -> None:
    word_list = load_words(write(b"ada\nben\r\ncleo\r\n"))

    assert word_list.words == ("ada", "ben", "cleo")
    assert word_list.notes == ("words.txt:2: Windows line ends (CRLF) from here on are read as plain line ends",)


def test_blank_lines_are_skipped_and_noted() -> None:
    word_list = load_words(write(b"ada\n\nben\n  \ncleo\n"))

    assert word_list.words == ("ada", "ben", "cleo")
    assert word_list.notes == ("words.txt:2: blank lines are skipped (2, this is the first)",)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", TooFewWordsError, "HG103: words.txt holds no words; give many words, one a line"),
        (b"\n \n", TooFewWordsError, "HG103: words.txt holds no words; give many words, one a line"),
        (b"ada\n", TooFewWordsError, "HG103: words.txt holds a single word; give many words, one a line"),
        (
            b"ada\nb.en\n",
            MarkerInWordError,
            "HG104: words.txt:2: the word 'b.en' holds '.', which marks where a word begins and ends; "
            "remove it from the word",
        ),
        (
            b"ada\nben\njos\xe9\n",
            WordsNotTextError,
            "HG102: words.txt:3: the byte 0xe9 is not UTF-8 text; save the file with the encoding UTF-8",
        ),
    ],
)
def test_a_list_that_cannot_be_used_gets_one_sentence(content: bytes, error: type[HandgradError], message: str) -> None:
    with pytest.raises(error) as raised:
        load_words(write(content))

    assert str(raised.value) == message


def test_a_missing_file_is_named_with_the_nearest_one() -> None:
    write(b"ada\nben\n", "names.txt")

    with pytest.raises(WordsNotReadableError) as near:
        load_words("name.txt")
    with pytest.raises(WordsNotReadableError) as far:
        load_words("q/w")
    with pytest.raises(WordsNotReadableError) as inside_a_file:
        load_words("names.txt/w")

    assert str(near.value) == "HG101: name.txt does not exist; did you mean names.txt?"
    assert str(far.value) == "HG101: q/w does not exist; check the path"
    assert str(inside_a_file.value) == "HG101: names.txt/w does not exist; check the path"


def test_a_folder_is_no_word_list() -> None:
    with pytest.raises(WordsNotReadableError, match="is a folder; give a text file with one word a line"):
        load_words(".")


def test_a_file_that_may_not_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)  # root may read everything

    with pytest.raises(WordsNotReadableError) as raised:
        load_words("words.txt")
    assert str(raised.value) == "HG101: words.txt cannot be read (Permission denied); check its permissions"


def test_the_variable_names_the_list_and_errors_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDGRAD_WORDS", write(b"ada\nben\n", "mine.txt"))
    assert load_words().source == "mine.txt"

    monkeypatch.setenv("HANDGRAD_WORDS", "gone.txt")
    with pytest.raises(WordsNotReadableError, match=r"gone\.txt \(from HANDGRAD_WORDS\) does not exist"):
        load_words()


def test_an_empty_variable_means_the_built_in_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDGRAD_WORDS", "")

    assert load_words().source == "built-in names"


@given(st.binary(max_size=60))
def test_any_bytes_give_words_or_one_sentence(content: bytes) -> None:
    path = write(content)
    try:
        words = load_words(path).words
    except (WordsNotTextError, TooFewWordsError, MarkerInWordError):
        return
    assert len(words) >= 2
    assert all(word and "." not in word for word in words)
