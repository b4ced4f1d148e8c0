from __future__ import annotations

import io
import json

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
