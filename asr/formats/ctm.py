"""CTM: a word a line, with its time, as NIST's sclite reads it."""

from __future__ import annotations

from typing import IO

from asr.decoding.hypothesis import Transcript
from asr.formats.columns import channel, column, name, seconds
from asr.formats.timeline import timeline


class CtmWriter:
    """Writes `name channel start duration word confidence` for each word, times in seconds.

    A transcript without words is a comment with its name and channel; sclite skips it and counts
    the reference's words as deleted.
    """

    def write(self, transcript: Transcript, stream: IO[str]) -> None:
        """Write one transcript."""
        words = timeline(transcript).words
        prefix = f"{name(transcript)} {channel(transcript)}"
        if not words:
            stream.write(f";; {prefix} no words\n")
        for word in words:
            duration = seconds(word.end_ms - word.start_ms)
            stream.write(
                f"{prefix} {seconds(word.start_ms)} {duration} {column(word.text)}"
                f" {word.confidence:.4f}\n"
            )
