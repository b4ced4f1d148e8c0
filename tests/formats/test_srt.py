from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
import srt

from asr.decoding.hypothesis import Transcript
from asr.formats.cues import CueSettings, cues
from asr.formats.srt import JOINER, SrtWriter

Make = Callable[..., Transcript]
Written = Callable[[object, Transcript], str]

MILLISECOND = timedelta(milliseconds=1)


def test_a_cue_is_a_number_a_line_of_times_and_its_lines(
    transcript: Make, written: Written
) -> None:
    words = [("hello", 0.5, 1.0), ("world", 3661.25, 3662.5)]
    assert written(SrtWriter(), transcript(*words, duration_s=4000)) == (
        "1\n00:00:00,500 --> 00:00:01,300\nhello\n\n2\n01:01:01,250 --> 01:01:02,500\nworld\n\n"
    )


def test_without_words_it_is_empty(transcript: Make, written: Written) -> None:
    assert written(SrtWriter(), transcript(duration_s=3)) == ""
    assert list(srt.parse("")) == []


def test_a_word_of_a_cue_is_underlined_while_it_is_said(transcript: Make, written: Written) -> None:
    text = written(SrtWriter(CueSettings(highlight=True)), transcript(("a<i>", 0, 1), ("b", 1, 2)))
    assert [cue.content for cue in srt.parse(text)] == [
        f"<u>a<{JOINER}i></u> b",
        f"a<{JOINER}i> <u>b</u>",
    ]


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("<i>", "<+i>"),
        ("{\\i1}", "{+\\+i1}"),
        ("\\N", "\\+N"),
        ("\\h", "\\+h"),
        ("{\\p1}", "{+\\+p1}"),  # a drawing, which pysubs2 would leave out
        ("-->", "--+>"),
        ("&amp;", "&amp;"),
        ("a>b", "a>b"),
    ],
)
def test_no_word_is_taken_for_markup(
    word: str, shown: str, transcript: Make, written: Written
) -> None:
    (cue,) = srt.parse(written(SrtWriter(), transcript((word, 0, 1))))
    assert cue.content == shown.replace("+", JOINER)


@pytest.mark.parametrize("highlight", [False, True])
def test_another_reader_finds_every_cue(
    highlight: bool, transcripts: list[Transcript], written: Written
) -> None:
    settings = CueSettings(highlight=highlight)
    for transcript in transcripts[:: 3 if highlight else 1]:
        text = written(SrtWriter(settings), transcript)
        found = list(srt.parse(text))
        wanted = list(cues(transcript, settings))
        assert [cue.index for cue in found] == list(range(1, len(wanted) + 1))
        for cue, own in zip(found, wanted, strict=True):
            assert (cue.start, cue.end) == (own.start_ms * MILLISECOND, own.end_ms * MILLISECOND)
            content = re.sub("</?u>", "", cue.content).replace(JOINER, "")
            assert content.split("\n") == [re.sub("</?u>", "", row) for row in own.rows(str)]
        assert srt.compose(found) == text  # it is as that library would have written it
