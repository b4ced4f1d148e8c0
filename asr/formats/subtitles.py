"""Cues in a file of subtitles, by pysubs2."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import IO

from pysubs2 import SSAEvent, SSAFile

from asr.formats.cues import Cue

# Stands for a backslash while pysubs2 has the text, which would take `\N` in a word for a line's
# end and `{\p1}` for a drawing. No word has one: they are free of control characters.
BACKSLASH = "\x00"


def write_cues(
    cues: Iterable[Cue], ending: str, escape: Callable[[str], str], stream: IO[str]
) -> None:
    """Write cues as `srt` or `vtt`; `escape` keeps a word from being taken for markup."""
    file = SSAFile()
    for cue in cues:
        rows = (row.replace("\\", BACKSLASH) for row in cue.rows(escape))
        file.append(SSAEvent(start=cue.start_ms, end=cue.end_ms, text=r"\N".join(rows)))
    written = file.to_string(ending, keep_ssa_tags=True)
    stream.write(written.replace(BACKSLASH, "\\"))
