from __future__ import annotations

from collections.abc import Callable

import pytest

from asr.decoding.hypothesis import Transcript
from asr.formats.columns import column
from asr.formats.ctm import CtmWriter
from asr.formats.timeline import timeline

Make = Callable[..., Transcript]
Written = Callable[[object, Transcript], str]


def test_a_word_is_a_line_of_name_channel_start_duration_word_and_confidence(
    transcript: Make, written: Written
) -> None:
    words = [("rubout", 0.1, 0.35), ("g", 1.0, 1.5)]
    lines = written(CtmWriter(), transcript(*words, source="calls/b.x.wav"))
    assert lines == "b.x 1 0.100 0.250 rubout 0.5000\nb.x 1 1.000 0.500 g 0.5000\n"


def test_the_channel_is_the_transcripts(transcript: Make, written: Written) -> None:
    assert written(CtmWriter(), transcript(("g", 0, 1), channel=2)).startswith("a 2 0.000 ")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a b\tc.wav", "a_b_c"),
        (".wav", ".wav"),
        ("array 0", "array_0"),
        ("", "-"),
        (" .wav", "-"),
        ("a\nb.wav", "a_b"),
        (";;a.wav", "_;a"),
        (";.wav", "_"),
        ("**a.wav", "_*a"),
        ("\udc80.wav", "\ufffd"),
    ],
)
def test_a_name_is_one_column_and_no_comment(
    source: str, name: str, transcript: Make, written: Written
) -> None:
    assert written(CtmWriter(), transcript(("g", 0, 1), source=source)).split(" ")[0] == name


def test_nothing_recognised_is_a_comment(transcript: Make, written: Written) -> None:
    assert written(CtmWriter(), transcript(channel=2)) == ";; a 2 no words\n"


def test_another_reader_finds_every_word(transcripts: list[Transcript], written: Written) -> None:
    for transcript in transcripts:
        lines = written(CtmWriter(), transcript).removesuffix("\n").split("\n")
        rows = [line.split(" ") for line in lines if not line.startswith(";;")]
        words = timeline(transcript).words
        assert len(rows) == len(words)
        before_ms = 0
        for (name, channel, start, duration, text, confidence), word in zip(
            rows, words, strict=True
        ):
            assert text == column(word.text)
            assert name == rows[0][0]
            assert channel == str(transcript.channel or 1)
            assert (float(start), float(duration)) == (
                word.start_ms / 1000,
                pytest.approx((word.end_ms - word.start_ms) / 1000),
            )
            assert float(confidence) == pytest.approx(word.confidence, abs=5e-5)
            assert word.start_ms >= before_ms
            before_ms = word.end_ms
