"""Phones of a lexicon against hand-written cases and a publisher's dictionary."""

from __future__ import annotations

from pathlib import Path

import pytest

from asr.errors import UserError
from asr.units.phones import PhoneUnits
from asr.units.symbols import UnknownSymbolError


@pytest.fixture
def dictionary(tmp_path: Path) -> Path:
    path = tmp_path / "dic"
    path.write_text(";;; comment\nA  AH\nA(2)  EY\nDON'T  D OW N T\n\n")
    return path


def test_a_dictionary_gives_first_pronunciations(dictionary: Path) -> None:
    phones = PhoneUnits.from_dictionary(dictionary)
    assert phones.symbols == ("<blank>", "AH", "D", "N", "OW", "T")
    assert phones.encode("a don't") == [1, 2, 4, 3, 5]
    assert phones.encode_known("a dog") == []


def test_a_word_that_is_not_in_the_lexicon_is_named(dictionary: Path) -> None:
    with pytest.raises(
        UnknownSymbolError, match="'dog' in 'a dog' is not in the lexicon"
    ) as caught:
        PhoneUnits.from_dictionary(dictionary).encode("a dog")
    assert caught.value.symbol == "dog"


def test_a_text_heard_rightly_gives_its_phones_and_nobody_knows_those_of_an_unknown_word(
    dictionary: Path,
) -> None:
    phones = PhoneUnits.from_dictionary(dictionary)
    assert phones.reference("don't a") == "D OW N T AH"
    assert phones.decode(phones.encode("don't a")) == "D OW N T AH"
    assert phones.reference("") == ""
    assert phones.reference("a dog") is None


def test_words_are_looked_up_as_the_corpus_writes_them(dictionary: Path) -> None:
    assert PhoneUnits.from_dictionary(dictionary, "none").reference("A DON'T") == "AH D OW N T"
    assert PhoneUnits.from_dictionary(dictionary, "none").reference("a") is None


def test_a_word_without_phones_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "dic"
    path.write_text("A  AH\nB\n")
    with pytest.raises(UserError, match=":2: the word 'B'"):
        PhoneUnits.from_dictionary(path)


def test_symbols_that_nobody_says_are_neither_words_nor_phones(tmp_path: Path) -> None:
    path = tmp_path / "dic"
    path.write_text("<sil>  SIL\nA  AH\n")
    assert PhoneUnits.from_dictionary(path).symbols == ("<blank>", "AH")


def test_a_phone_may_not_be_called_as_the_blank_is(tmp_path: Path) -> None:
    path = tmp_path / "dic"
    path.write_text("A  AH <blank>\n")
    with pytest.raises(UserError, match=":1: <blank>"):
        PhoneUnits.from_dictionary(path)


def test_a_lexicon_survives_its_file_with_words_that_no_text_can_have_left_out(
    tmp_path: Path,
) -> None:
    path = tmp_path / "dic"
    path.write_text("Straße  SH T R\nTWENTY-ONE  T W\n...  P\nA  AH\n", encoding="utf-8")
    phones = PhoneUnits.from_dictionary(path)
    (content,) = phones.files().values()
    assert content.decode() == "straße  SH T R\na  AH\n"
    assert PhoneUnits.from_file(content) == phones
    assert phones.symbols == ("<blank>", "AH", "R", "SH", "T")


@pytest.mark.parametrize("content", [b"a\n", b"a  AH\n\nb  B\n", b"\xff", b"a  <blank>\n"])
def test_a_damaged_lexicon_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        PhoneUnits.from_file(content)


def test_the_publishers_dictionary_is_read_as_it_is(real_data) -> None:  # type: ignore[no-untyped-def]
    phones = PhoneUnits.from_dictionary(real_data("an4") / "etc" / "an4.dic")
    assert phones.reference("rubout g") == "R AH B AW T JH IY"
    (content,) = phones.files().values()
    assert PhoneUnits.from_file(content) == phones
