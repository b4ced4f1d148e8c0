from __future__ import annotations

import html
import io
import re
from collections.abc import Callable

import pytest
import webvtt

from asr.decoding.hypothesis import Transcript
from asr.formats.cues import CueSettings, cues
from asr.formats.vtt import VttWriter

Make = Callable[..., Transcript]
Written = Callable[[object, Transcript], str]

TIME = re.compile(r"(\d\d):(\d\d):(\d\d)\.(\d\d\d)")


def milliseconds(time: str) -> int:
    match = TIME.fullmatch(time)
    assert match
    hours, minutes, seconds, rest = map(int, match.groups())
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + rest


def read(text: str) -> list[webvtt.Caption]:
    return list(webvtt.from_buffer(io.StringIO(text)))


def test_a_cue_is_a_line_of_times_and_its_lines(transcript: Make, written: Written) -> None:
    text = written(VttWriter(), transcript(("hello", 3661.5, 3661.75), duration_s=4000))
    assert text.startswith("WEBVTT\n\n")
    assert "01:01:01.500 --> 01:01:02.300\nhello\n" in text


def test_without_words_it_is_its_header(transcript: Make, written: Written) -> None:
    text = written(VttWriter(), transcript(duration_s=3))
    assert text.strip() == "WEBVTT"
    assert read(text) == []


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("<i>", "&lt;i&gt;"),
        ("-->", "--&gt;"),
        ("&amp;", "&amp;amp;"),
        ("{\\i1}", "{\\i1}"),
        ("{\\p1}", "{\\p1}"),
        ("\\N", "\\N"),
        ('"', '"'),
    ],
)
def test_no_word_is_taken_for_markup(
    word: str, shown: str, transcript: Make, written: Written
) -> None:
    assert written(VttWriter(), transcript((word, 0, 1))).splitlines()[-2:] == [shown, ""]


@pytest.mark.parametrize("highlight", [False, True])
def test_another_reader_finds_every_cue(
    highlight: bool, transcripts: list[Transcript], written: Written
) -> None:
    settings = CueSettings(highlight=highlight)
    for transcript in transcripts[:: 3 if highlight else 1]:
        found = read(written(VttWriter(settings), transcript))
        wanted = list(cues(transcript, settings))
        assert [(milliseconds(cue.start), milliseconds(cue.end)) for cue in found] == [
            (cue.start_ms, cue.end_ms) for cue in wanted
        ]
        for cue, own in zip(found, wanted, strict=True):
            assert cue.raw_text.count("<u>") == highlight
            lines = re.sub("</?u>", "", cue.raw_text).split("\n")
            assert [html.unescape(line) for line in lines] == [
                re.sub("</?u>", "", row) for row in own.rows(str)
            ]
