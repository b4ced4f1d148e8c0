from __future__ import annotations

import math

import numpy as np
import pytest

from asr.decoding.script import Script
from asr.errors import UserError
from asr.units.characters import CharacterUnits
from asr.units.phones import PhoneUnits
from asr.units.pieces import SentencePieceUnits
from asr.units.symbols import Units
from asr.units.words import WordUnits

CHARACTERS = CharacterUnits(("<blank>", "|", "a", "b", "nine"))
WORDS = WordUnits(("<blank>", "ab", "nine"))
PHONES = PhoneUnits.from_pronunciations({"nine": ("N", "AY", "N"), "ab": ("AE", "B")})
PIECES = SentencePieceUnits.from_texts(["ab nine ab", "nine nine ab"], 8)
ALL = pytest.mark.parametrize("units", [CHARACTERS, WORDS, PHONES, PIECES], ids=lambda u: u.kind)


def read(text: str, units: Units = CHARACTERS) -> Script:
    return Script.from_text(text, units, "english", "a.txt")


def test_a_text_is_normalised_line_by_line() -> None:
    assert read("Ab, ab!\n\n  NINE.\n").words == ("ab", "ab", "nine")


@ALL
def test_each_words_labels_are_those_of_the_word_alone(units: Units) -> None:
    script = read("ab nine nine ab", units)
    assert script.words == ("ab", "nine", "nine", "ab")
    for word, place in zip(script.words, script.places, strict=True):
        alone = read(word, units)
        own = [script.labels[position] for position in place]
        assert own == [alone.labels[position] for position in alone.places[0]]


@ALL
def test_words_lie_where_their_labels_are_emitted(units: Units) -> None:
    script = read("ab nine", units)
    emissions = np.full((4 * len(script.labels), len(units.symbols)), -9.0)
    emissions[:, 0] = -0.1
    for number, label in enumerate(script.labels):
        emissions[4 * number + 1, [0, label]] = -9.0, math.log(0.5)
    words = script.place(emissions, units, seconds_per_frame=0.1, offset_s=0.0)
    assert [word.word for word in words] == ["ab", "nine"]
    for word, place in zip(words, script.places, strict=True):
        assert word.start_s == pytest.approx(0.4 * place.start + 0.1 - 0.04)
        assert word.end_s >= 0.4 * (place.stop - 1) + 0.2 - 1e-9
        assert word.confidence == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "gaps"),
    [
        ("a b", set()),
        ("* a b", {0}),
        ("a b *", {3}),
        ("a * b", {1, 2}),  # on both sides of the |
        ("a\n*\nb", {1, 2}),
        ("a * * b", {1, 2}),
        ("* a * b *", {0, 1, 2, 3}),
        ("nine * nine", {1}),
        ("a*b", set()),  # stands for itself, and is no letter
    ],
)
def test_a_star_that_stands_alone_is_a_gap(text: str, gaps: set[int]) -> None:
    assert read(text).gaps == gaps


def test_a_gap_between_phones_is_between_words() -> None:
    assert read("nine * ab", PHONES).gaps == {3}


@pytest.mark.parametrize("text", ["", " \n\t\n", "*", "...", "* ! *"])
def test_a_text_without_words_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"a\.txt holds no words"):
        read(text)


@pytest.mark.parametrize(
    ("units", "why"),
    [
        (CHARACTERS, "this model cannot spell 'abc': 'c' is none of the units"),
        (WORDS, "this model cannot spell 'abc': it is none of the units"),
        (PHONES, "this model cannot spell 'abc': it is not in the lexicon"),
        (PIECES, "this model cannot spell 'abc': 'c' is none of the units"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_word_that_cannot_be_spelled_is_named_with_its_line(units: Units, why: str) -> None:
    with pytest.raises(UserError, match=rf"a\.txt:3: {why}\. Write it as it is said"):
        read("ab\n* nine\nab Abc nine\n", units)
