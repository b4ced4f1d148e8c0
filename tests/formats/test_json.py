from __future__ import annotations

import io
import json
from dataclasses import replace

from asr.decoding.hypothesis import Hypothesis, Transcript, Word
from asr.formats.json import JsonWriter

TRANSCRIPT = Transcript(
    "déjà.wav",
    1.5,
    (Hypothesis("g m", -1.25, (Word("g", 0.1, 0.2, 0.900012345), Word("m", 0.4, 0.6, 1.0))),),
)


def written(transcript: Transcript, indent: int | None = 2) -> str:
    stream = io.StringIO()
    JsonWriter(indent).write(transcript, stream)
    return stream.getvalue()


def test_json_holds_text_score_and_words_in_time() -> None:
    assert json.loads(written(TRANSCRIPT)) == {
        "schema": 1,
        "source": "déjà.wav",
        "duration_s": 1.5,
        "text": "g m",
        "score": -1.25,
        "words": [
            {"word": "g", "start_s": 0.1, "end_s": 0.2, "confidence": 0.9},
            {"word": "m", "start_s": 0.4, "end_s": 0.6, "confidence": 1.0},
        ],
    }


def test_text_of_any_script_stays_readable() -> None:
    assert "déjà" in written(TRANSCRIPT)


def test_without_indentation_it_is_one_line() -> None:
    assert written(TRANSCRIPT, indent=None).count("\n") == 1


def test_a_channel_is_named_where_there_is_one() -> None:
    assert "channel" not in json.loads(written(TRANSCRIPT))
    assert json.loads(written(replace(TRANSCRIPT, channel=2)))["channel"] == 2


def test_a_stretch_says_where_in_the_recording_it_begins() -> None:
    assert "start_s" not in json.loads(written(TRANSCRIPT))
    assert json.loads(written(replace(TRANSCRIPT, start_s=4.5)))["start_s"] == 4.5


def test_other_readings_follow_with_their_scores() -> None:
    second = Hypothesis("g n", -2.0)
    record = json.loads(written(replace(TRANSCRIPT, nbest=(*TRANSCRIPT.nbest, second))))
    assert record["nbest"] == [{"text": "g m", "score": -1.25}, {"text": "g n", "score": -2.0}]


def test_every_word_is_read_back(transcripts: list[Transcript]) -> None:
    for transcript in transcripts:
        record = json.loads(written(transcript))
        assert record["schema"] == 1
        assert record["text"] == transcript.text
        assert [
            Word(word["word"], word["start_s"], word["end_s"], word["confidence"])
            for word in record["words"]
        ] == [replace(word, confidence=round(word.confidence, 4)) for word in transcript.words]
