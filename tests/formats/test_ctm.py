from __future__ import annotations

import io

import pytest

from asr.decoding.hypothesis import Hypothesis, Transcript, Word
from asr.formats.ctm import CtmWriter


def written(source: str, *words: Word) -> str:
    stream = io.StringIO()
    text = " ".join(word.word for word in words)
    CtmWriter().write(Transcript(source, 2.0, (Hypothesis(text, -1.0, words),)), stream)
    return stream.getvalue()


def test_a_word_is_a_line_of_name_channel_start_duration_word_and_confidence() -> None:
    lines = written("calls/b.x.wav", Word("rubout", 0.1, 0.35, 0.9), Word("g", 1.0, 1.5, 1.0))
    assert lines == "b.x 1 0.100 0.250 rubout 0.9000\nb.x 1 1.000 0.500 g 1.0000\n"


@pytest.mark.parametrize(
    ("source", "name"), [("a b\tc.wav", "a_b_c"), (".wav", ".wav"), ("array 0", "array_0")]
)
def test_a_name_is_one_column(source: str, name: str) -> None:
    assert written(source, Word("g", 0.0, 1.0, 1.0)).split(" ")[0] == name


def test_nothing_recognised_is_no_line() -> None:
    assert written("a.wav") == ""
