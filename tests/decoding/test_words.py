from __future__ import annotations

import pytest

from asr.decoding.hypothesis import Word
from asr.decoding.words import TimedUnit, words_of
from asr.units.characters import CharacterUnits
from asr.units.phones import PhoneUnits
from asr.units.pieces import SentencePieceUnits
from asr.units.words import WordUnits

CHARACTERS = CharacterUnits(("<blank>", "|", "a", "b", "c", "g", "m", "nine", "rubout"))


def spelled(symbols: list[str]) -> list[str]:
    units = [TimedUnit(s, i * 0.1, (i + 1) * 0.1, 1.0) for i, s in enumerate(symbols)]
    return [word.word for word in words_of(CHARACTERS, units)]


@pytest.mark.parametrize(
    ("symbols", "words"),
    [
        ([], []),
        (["|"], []),
        (["a"], ["a"]),
        (["a", "b", "|", "c"], ["ab", "c"]),
        (["|", "a", "|", "|", "b", "|"], ["a", "b"]),
        (["rubout", "g", "|", "m"], ["rubout", "g", "m"]),
        (["g", "rubout", "m"], ["g", "rubout", "m"]),
        (["nine", "nine"], ["nine", "nine"]),
        (["nine", "|", "nine"], ["nine", "nine"]),
    ],
)
def test_units_spell_words(symbols: list[str], words: list[str]) -> None:
    assert spelled(symbols) == words


def times(*emitted: tuple[str, float, float]) -> list[tuple[float, float]]:
    """Starts and ends of the words of some units with their own."""
    words = words_of(CHARACTERS, [TimedUnit(*unit, 1.0) for unit in emitted])
    return [(word.start_s, word.end_s) for word in words]


def test_a_word_begins_before_its_first_unit_and_outlasts_its_last_one() -> None:
    assert times(("a", 0.5, 0.52), ("b", 0.8, 0.82)) == [(0.46, 0.88)]


def test_the_sound_of_a_whole_word_lasts_as_long_as_its_letters() -> None:
    assert times(("nine", 0.5, 0.54)) == [(0.46, 0.82)]


def test_a_word_lasts_at_least_as_long_as_its_units_were_emitted() -> None:
    assert times(("a", 0.5, 1.0)) == [(0.46, 1.0)]


def test_a_word_ends_where_the_next_begins() -> None:
    assert times(("nine", 0.5, 0.54), ("nine", 0.7, 0.74)) == [(0.46, 0.66), (0.66, 1.02)]


def test_words_whose_units_are_close_part_in_the_middle() -> None:
    assert times(("nine", 0.5, 0.54), ("nine", 0.56, 0.6)) == [(0.46, 0.55), (0.55, 0.88)]


def test_no_word_begins_before_the_recording() -> None:
    assert times(("a", 0.01, 0.05)) == [(0.0, 0.09)]


def test_a_words_confidence_is_the_mean_of_its_units() -> None:
    (word,) = words_of(CHARACTERS, [TimedUnit("a", 0.5, 0.6, 0.9), TimedUnit("b", 0.8, 1.0, 0.7)])
    assert word.confidence == pytest.approx(0.8)


def test_pieces_join_into_words_from_mark_to_mark() -> None:
    units = SentencePieceUnits.from_texts(["the cat sat", "the cats sat"], 10)
    emitted = [
        TimedUnit("▁the", 0.1, 0.2, 0.9),
        TimedUnit("▁", 0.3, 0.4, 0.1),  # as silent as a space: its time is nobody's
        TimedUnit("c", 0.5, 0.6, 0.8),
        TimedUnit("at", 0.7, 0.9, 0.6),
        TimedUnit("▁s", 1.0, 1.1, 1.0),
        TimedUnit("at", 1.2, 1.3, 0.5),
    ]
    assert words_of(units, emitted) == (
        Word("the", 0.06, 0.34, 0.9),
        Word("cat", 0.46, 0.9, 0.7),
        Word("sat", 0.96, 1.36, 0.75),
    )


def test_words_and_phones_stand_for_themselves() -> None:
    words = WordUnits(("<blank>", "nine", "|"))
    phones = PhoneUnits.from_pronunciations({"nine": ("N", "AY", "N")})
    emitted = [TimedUnit("nine", 0.1, 0.4, 0.9), TimedUnit("|", 0.5, 0.6, 0.8)]
    assert words_of(words, emitted) == (Word("nine", 0.06, 0.42, 0.9), Word("|", 0.46, 0.6, 0.8))
    emitted = [TimedUnit("N", 0.1, 0.2, 0.9), TimedUnit("AY", 0.2, 0.4, 0.8)]
    assert words_of(phones, emitted) == (Word("N", 0.06, 0.2, 0.9), Word("AY", 0.2, 0.4, 0.8))


def test_words_of_phones_are_those_that_are_given() -> None:
    phones = PhoneUnits.from_pronunciations({"nine": ("N", "AY", "N"), "a": ("AH",)})
    emitted = [
        TimedUnit("N", 0.1, 0.2, 0.9),
        TimedUnit("AY", 0.2, 0.3, 0.8),
        TimedUnit("N", 0.4, 0.44, 0.7),
        TimedUnit("AH", 0.6, 0.64, 0.5),
    ]
    spelled = [("nine", range(3)), ("a", range(3, 4))]
    assert words_of(phones, emitted, spelled) == (
        Word("nine", 0.06, 0.48, 0.8),
        Word("a", 0.56, 0.68, 0.5),
    )
