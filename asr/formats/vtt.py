"""WebVTT: the subtitles of web pages (W3C)."""

from __future__ import annotations

from html import escape
from typing import IO

from asr.decoding.hypothesis import Transcript
from asr.formats.cues import DEFAULT, CueSettings, cues
from asr.formats.subtitles import write_cues


class VttWriter:
    """Writes [cues](docs/formats.md); a transcript without words is a file of its header alone."""

    def __init__(self, settings: CueSettings = DEFAULT) -> None:
        self.settings = settings

    def write(self, transcript: Transcript, stream: IO[str]) -> None:
        """Write one transcript."""
        write_cues(cues(transcript, self.settings), "vtt", escaped, stream)


def escaped(text: str) -> str:
    """Text with `&`, `<` and `>` as character references, so that `-->` cannot occur."""
    return escape(text, quote=False)
