from __future__ import annotations

import pytest

from asr.decoding.words import TimedUnit, words_of


def spelled(symbols: list[str]) -> list[str]:
    units = [TimedUnit(s, i * 0.1, (i + 1) * 0.1, 1.0) for i, s in enumerate(symbols)]
    return [word.word for word in words_of(units)]


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


def test_a_word_lasts_from_its_first_units_start_to_its_last_units_end() -> None:
    (word,) = words_of([TimedUnit("a", 0.5, 0.6, 0.9), TimedUnit("b", 0.8, 1.0, 0.7)])
    assert (word.start_s, word.end_s) == (0.5, 1.0)


def test_a_words_confidence_is_the_mean_of_its_units() -> None:
    (word,) = words_of([TimedUnit("a", 0.5, 0.6, 0.9), TimedUnit("b", 0.8, 1.0, 0.7)])
    assert word.confidence == pytest.approx(0.8)
