"""CTM: a word a line, with its time, as NIST's sclite reads it."""

from __future__ import annotations

from pathlib import PurePath
from typing import IO

from asr.decoding.hypothesis import Transcript

CHANNEL = 1


class CtmWriter:
    """Writes `name channel start duration word confidence` for each word, times in seconds.

    The name is the recording's without its folder and ending; white space in it becomes `_`, since
    columns are told apart by it.
    """

    def write(self, transcript: Transcript, stream: IO[str]) -> None:
        """Write one transcript; one without words is no line."""
        name = "_".join(PurePath(transcript.source).stem.split()) or "-"
        for word in transcript.words:
            duration_s = word.end_s - word.start_s
            stream.write(
                f"{name} {CHANNEL} {word.start_s:.3f} {duration_s:.3f} {word.word}"
                f" {word.confidence:.4f}\n"
            )
