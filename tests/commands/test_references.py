"""Confidences of the words of a text, after it was written as references are."""

from __future__ import annotations

import pytest

from asr.commands.references import confidences
from asr.decoding.hypothesis import Word
from asr.text import english, unchanged


def words(*pairs: tuple[str, float]) -> tuple[Word, ...]:
    return tuple(Word(word, 0.0, 0.1, confidence) for word, confidence in pairs)


@pytest.mark.parametrize(
    ("heard", "found"),
    [
        (words(), ()),
        (words(("Go", 0.9), ("home", 0.4)), (0.9, 0.4)),
        (words(("e-mail", 0.7), ("now", 0.6)), (0.7, 0.7, 0.6)),
        (words(("a", 0.9), ("...", 0.1), ("b", 0.8)), (0.9, 0.8)),
    ],
)
def test_each_word_as_it_is_written_has_the_confidence_of_its_own(
    heard: tuple[Word, ...], found: tuple[float, ...]
) -> None:
    text = english(" ".join(word.word for word in heard))
    assert confidences(heard, text, english) == found


def test_words_that_are_not_those_of_the_text_have_none() -> None:
    assert confidences(words(("a", 0.9)), "a b", unchanged) is None
    assert confidences((), "a", unchanged) is None
