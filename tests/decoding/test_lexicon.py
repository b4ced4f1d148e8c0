from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from asr.decoding.lexicon import Lexicon
from asr.errors import UserError
from asr.units.characters import CharacterUnits
from asr.units.phones import PhoneUnits
from asr.units.symbols import BLANK

LETTERS = CharacterUnits((BLANK, "|", "a", "b"))
DICTIONARY = "\ufeff;;; CMU style\nA  AH\nA(2)  EY\n\n# a comment\nBAB  B AE B\nA  AH\n'TIS-IT  T\n"


def lexicon(tmp_path: Path, text: str) -> Lexicon:
    (tmp_path / "words").write_text(text)
    return Lexicon.read(tmp_path / "words", "english")


def test_a_dictionary_has_words_as_texts_write_them_and_each_pronunciation_once(
    tmp_path: Path,
) -> None:
    entries = lexicon(tmp_path, DICTIONARY).entries
    assert [(entry.word, entry.phones, entry.line) for entry in entries] == [
        ("a", ("AH",), 2),
        ("a", ("EY",), 3),
        ("bab", ("B", "AE", "B"), 6),
    ]


def test_what_texts_do_not_write_as_one_word_is_left_out_and_known(tmp_path: Path) -> None:
    left_out = lexicon(tmp_path, "AB\nZE%%NO\n<sil>\n...\nAB\n").left_out
    assert [(entry.word, entry.line) for entry in left_out] == [("ZE%%NO", 2), ("...", 4)]


def test_a_plain_list_serves_letters_and_a_gzipped_one_too(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "words.gz", "wt") as stream:
        stream.write("BA\nab\n")
    words, spellings = Lexicon.read(tmp_path / "words.gz", "english").spelled(LETTERS)
    assert words == ("ba", "ab")
    assert spellings == [(0, [3, 2]), (1, [2, 3])]


def test_phones_have_every_pronunciation(tmp_path: Path) -> None:
    units = PhoneUnits((BLANK, "AE", "AH", "B", "EY"), {})
    words, spellings = lexicon(tmp_path, DICTIONARY).spelled(units)
    assert words == ("a", "bab")
    assert spellings == [(0, [2]), (0, [4]), (1, [3, 1, 3])]


@pytest.mark.parametrize(
    ("text", "units", "message"),
    [
        ("ab\nabc\n", LETTERS, r"words:2: the model cannot spell 'abc': 'c' is none of its chara"),
        ("ab AE B\n", PhoneUnits((BLANK, "AE"), {}), r"words:1: .*'ab': 'B' is none of its phones"),
        ("ab\n", PhoneUnits((BLANK, "AE"), {}), r"words:1: 'ab' has no phones"),
    ],
)
def test_a_word_that_the_units_cannot_spell_is_named_with_its_line(
    tmp_path: Path, text: str, units: CharacterUnits | PhoneUnits, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        lexicon(tmp_path, text).spelled(units)


def test_symbols_that_nobody_says_are_no_words(tmp_path: Path) -> None:
    entries = lexicon(tmp_path, "<s>  SIL\n</s>  SIL\n<sil>  SIL\nA  AH\n").entries
    assert [entry.word for entry in entries] == ["a"]


def test_a_gzipped_lexicon_that_is_damaged_is_named(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(b"abbabaab\n" * 50 + bytes(range(97, 120)), mtime=0))
    for name, data in {
        "cut": whole[:-12],
        "turned": [*whole[:10], 0xFF, 0xFF, *whole[12:]],
    }.items():
        (tmp_path / name).write_bytes(bytes(data))
        with pytest.raises(UserError, match=f"The lexicon .*{name} cannot be unpacked"):
            Lexicon.read(tmp_path / name, "english")


def test_a_file_without_words_or_none_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no words"):
        lexicon(tmp_path, ";;; nothing\n\n")
    with pytest.raises(UserError, match="cannot be read"):
        Lexicon.read(tmp_path / "missing", "english")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        Lexicon.read(tmp_path / "bytes", "english")
