"""What CTM and STM share: columns told apart by white space, as NIST's sclite reads them."""

from __future__ import annotations

import re
from pathlib import PurePath

from asr.decoding.hypothesis import Transcript
from asr.formats.timeline import printable

WIDE = 0xFEE0  # from a character of ASCII to its wide form


def name(transcript: Transcript) -> str:
    """The recording's name without folder and ending, as one column that begins no comment.

    White space becomes `_`, as does a `;` or `*` at the beginning. An empty name is `-`.
    """
    stem = printable(PurePath(transcript.source).stem)
    return re.sub(r"^[;*]", "_", stem.replace(" ", "_")) or "-"


def channel(transcript: Transcript) -> int:
    """The channel as a column: 1 where the recording has one, or where they were averaged."""
    return transcript.channel or 1


def column(word: str) -> str:
    """A word as one column, the same in both formats.

    White space becomes `_`. What sclite takes for alternatives (`{`, which may crash it, a word
    that begins with `<ALT`) or for no word (`@`) is written in its wide form, as `｛`.
    """
    if word == "@" or word[:4].upper() == "<ALT":
        word = chr(ord(word[0]) + WIDE) + word[1:]
    return word.replace(" ", "_").replace("{", chr(ord("{") + WIDE))


def seconds(milliseconds: int) -> str:
    """A time as a column."""
    return f"{milliseconds / 1000:.3f}"
