"""SRT (SubRip): subtitles that every player knows."""

from __future__ import annotations

import re
from typing import IO

from asr.decoding.hypothesis import Transcript
from asr.formats.cues import DEFAULT, CueSettings, cues
from asr.formats.subtitles import write_cues

# SRT has no escapes. A word joiner (invisible, of no width) after the first character keeps players
# from taking a word for a tag (`<i>`), for the markup of ASS (`{\an8}`, `\N`) or for a line of
# times.
JOINER = "\u2060"
MARKUP = re.compile(r"[<{\\]|--(?=>)")


class SrtWriter:
    """Writes [cues](docs/formats.md); a transcript without words is an empty file."""

    def __init__(self, settings: CueSettings = DEFAULT) -> None:
        self.settings = settings

    def write(self, transcript: Transcript, stream: IO[str]) -> None:
        """Write one transcript."""
        write_cues(cues(transcript, self.settings), "srt", escaped, stream)


def escaped(text: str) -> str:
    """Text that no player takes for markup."""
    return MARKUP.sub(rf"\g<0>{JOINER}", text)
