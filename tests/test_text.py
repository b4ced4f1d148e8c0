"""Normalisers and units against hand-written cases."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import UserError
from asr.text import (
    CharacterUnits,
    PhoneUnits,
    UnknownSymbolError,
    normalise,
    units_from_dict,
    units_to_dict,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUBOUT G M E F", "rubout g m e f"),
        ("Don’t stop — it's 'quoted'!", "don't stop it's quoted"),
        ("  tabs\tand\nlines ", "tabs and lines"),
        ("twenty-one", "twenty one"),
        ("snake_case", "snake case"),
        ("ﬁne", "fine"),
        ("...", ""),
        ("Straße", "straße"),
    ],
)
def test_english_keeps_words_and_apostrophes_within_them(text: str, expected: str) -> None:
    assert normalise("english", text) == expected


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise("english", text)
    assert normalise("english", once) == once


def test_a_mistyped_normaliser_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'english'"):
        normalise("englsh", "x")


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


def test_units_survive_a_bundle() -> None:
    units = CharacterUnits.from_texts(["yes yes no"], 2)
    assert units_from_dict(units_to_dict(units)) == units


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"kind": "pieces", "symbols": []},
        {"kind": "characters", "symbols": "abc"},
        {"kind": "characters", "symbols": ["a", "b"]},
        {"kind": "characters", "symbols": ["<blank>", "a", "a"]},
    ],
)
def test_damaged_units_are_refused(damaged: dict[str, object]) -> None:
    with pytest.raises(UserError):
        units_from_dict(damaged)


def test_a_dictionary_gives_first_pronunciations(tmp_path: Path) -> None:
    path = tmp_path / "dic"
    path.write_text(";;; comment\nA  AH\nA(2)  EY\nDON'T  D OW N T\n\n")
    phones = PhoneUnits.from_dictionary(path)
    assert phones.symbols == ("<blank>", "AH", "D", "N", "OW", "T")
    assert phones.encode("a don't") == [1, 2, 4, 3, 5]
    assert phones.encode_known("a dog") == []
    with pytest.raises(UnknownSymbolError):
        phones.encode("dog")


def test_a_word_without_phones_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "dic"
    path.write_text("A  AH\nB\n")
    with pytest.raises(UserError, match=":2: the word 'B'"):
        PhoneUnits.from_dictionary(path)


def test_the_publishers_dictionary_is_read_as_it_is(real_data) -> None:  # type: ignore[no-untyped-def]
    phones = PhoneUnits.from_dictionary(real_data("an4") / "etc" / "an4.dic")
    spelled = [phones.symbols[label] for label in phones.encode("rubout g")]
    assert spelled == ["R", "AH", "B", "AW", "T", "JH", "IY"]
