"""JSON: the text, its score, and its words in time with their confidence."""

from __future__ import annotations

import json
from typing import TextIO

from asr.decoding.hypothesis import Transcript

SCHEMA = 1


class JsonWriter:
    """Writes a transcript as one JSON object, `docs/formats.md` names its keys.

    `indent` None puts it on a single line, as JSON lines want it.
    """

    def __init__(self, indent: int | None = 2) -> None:
        self.indent = indent

    def write(self, transcript: Transcript, stream: TextIO) -> None:
        """Write one transcript."""
        record = {
            "schema": SCHEMA,
            "source": transcript.source,
            **({} if transcript.channel is None else {"channel": transcript.channel}),
            **({"start_s": round(transcript.start_s, 3)} if transcript.start_s else {}),
            "duration_s": round(transcript.duration_s, 3),
            "text": transcript.text,
            "score": round(transcript.score, 4),
            "words": [
                {
                    "word": word.word,
                    "start_s": word.start_s,
                    "end_s": word.end_s,
                    "confidence": round(word.confidence, 4),
                }
                for word in transcript.words
            ],
        }
        if len(transcript.nbest) > 1:
            record["nbest"] = [
                {"text": one.text, "score": round(one.score, 4)} for one in transcript.nbest
            ]
        json.dump(record, stream, ensure_ascii=False, indent=self.indent)
        stream.write("\n")
