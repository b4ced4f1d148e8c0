"""Characters and whole words against hand-written cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.units.characters import CharacterUnits
from asr.units.symbols import UnknownSymbolError


def test_characters_and_whole_words_are_spelled_as_by_hand() -> None:
    units = CharacterUnits(("<blank>", "|", "a", "g", "m", "rubout"))
    assert units.encode("rubout g m") == [5, 3, 1, 4]
    assert units.encode("g rubout m") == [3, 5, 4]
    assert units.encode("mag") == [4, 2, 3]
    assert units.decode([5, 3, 1, 4]) == "rubout g m"
    assert units.decode([1, 1, 3, 5, 5, 1]) == "g rubout rubout"
    assert units.decode([]) == ""


words = st.text(alphabet="abc'", min_size=1, max_size=4)


@given(st.lists(st.lists(words, max_size=6), min_size=1), st.integers(0, 3))
def test_decoding_undoes_encoding(sentences: list[list[str]], whole_word_count: int) -> None:
    texts = [" ".join(sentence) for sentence in sentences]
    units = CharacterUnits.from_texts(texts, whole_word_count)
    for text in texts:
        assert units.decode(units.encode(text)) == text
        assert 0 not in units.encode(text)


def test_only_words_seen_often_enough_become_units() -> None:
    units = CharacterUnits.from_texts(["yes yes no", "a a a"], whole_word_count=2)
    assert units.symbols == ("<blank>", "|", "a", "e", "n", "o", "s", "y", "yes")


def test_an_unknown_character_is_named() -> None:
    with pytest.raises(UnknownSymbolError, match="'z' in 'az'") as caught:
        CharacterUnits(("<blank>", "|", "a")).encode("az")
    assert caught.value.symbol == "z"


def test_a_bar_in_a_text_is_not_taken_for_a_space() -> None:
    with pytest.raises(UnknownSymbolError):
        CharacterUnits.from_texts(["a"]).encode("a|a")


def test_a_frequent_word_that_has_the_blanks_name_is_spelled() -> None:
    units = CharacterUnits.from_texts(["<blank>"] * 5, whole_word_count=5)
    assert units.decode(units.encode("<blank>")) == "<blank>"
    assert 0 not in units.encode("<blank>")
