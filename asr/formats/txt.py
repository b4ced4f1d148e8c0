"""Plain text: one line, nothing else."""

from __future__ import annotations

from typing import TextIO

from asr.decoding.hypothesis import Transcript


class TxtWriter:
    """Writes a transcript's text and a line end."""

    def write(self, transcript: Transcript, stream: TextIO) -> None:
        """Write one transcript."""
        stream.write(transcript.text + "\n")
