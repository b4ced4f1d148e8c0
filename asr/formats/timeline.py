"""The words of a transcript as files show them: printable, in whole milliseconds, in order."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from asr.decoding.hypothesis import Transcript, Word

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
SURROGATES = re.compile(r"[\ud800-\udfff]")  # what no encoding can write


@dataclass(frozen=True)
class TimedWord:
    """A word of at least 1 ms; `spaced` where white space stands before it in the text."""

    text: str
    start_ms: int
    end_ms: int
    confidence: float
    spaced: bool = True


@dataclass(frozen=True)
class Timeline:
    """Words that rise in time, none reaching into another or beyond what was recognised.

    That is from `start_ms` to `end_ms` of the recording: all of it, or a stretch.
    """

    words: tuple[TimedWord, ...]
    end_ms: int
    start_ms: int = 0


def printable(text: str) -> str:
    """Text on one line, without control characters; what cannot be encoded becomes U+FFFD."""
    return SURROGATES.sub("\ufffd", CONTROLS.sub("", " ".join(text.split())))


def timeline(transcript: Transcript, longest: int | None = None) -> Timeline:
    """A transcript's words in order, repaired where their times cannot be written.

    Of two words that overlap the earlier one ends where the later one begins. A word lasts 1 ms at
    least, and begins 1 ms after the one before at least. A word of more than `longest` characters
    is cut into even pieces, which share its time. One without a printable character is left out.

    The end is cut to whole milliseconds; it is 1 ms for each word where that is later.
    """
    pieces = [
        piece
        for word, spaced in zip(transcript.words, _spaced(transcript), strict=True)
        if (text := printable(word.word))
        for piece in _pieces(text, word, spaced, longest or len(text))
    ]
    start_ms = round(transcript.start_s * 1000)
    last_ms = math.floor((transcript.start_s + transcript.duration_s) * 1000 + 1e-6)
    end_ms = max(last_ms, start_ms + max(len(pieces), 1))
    return Timeline(tuple(_repaired(pieces, start_ms, end_ms)), end_ms, start_ms)


def _spaced(transcript: Transcript) -> list[bool]:
    """Whether white space stands before each word in the text; where it is no text of them, yes."""
    text, spaced, position = transcript.text, [], 0
    for word in transcript.words:
        start = position
        while start < len(text) and text[start].isspace():
            start += 1
        if not text.startswith(word.word, start):
            return [True] * len(transcript.words)
        spaced.append(start > position)
        position = start + len(word.word)
    return [True] * len(spaced) if text[position:].strip() else spaced


def _pieces(text: str, word: Word, spaced: bool, longest: int) -> Iterator[TimedWord]:
    count = math.ceil(len(text) / longest)
    cuts = [len(text) * part // count for part in range(count + 1)]
    times = [
        round(1000 * (word.start_s + (word.end_s - word.start_s) * cut / len(text))) for cut in cuts
    ]
    for part in range(count):
        yield TimedWord(
            text[cuts[part] : cuts[part + 1]],
            times[part],
            times[part + 1],
            word.confidence,
            spaced and part == 0,
        )


def _repaired(words: Sequence[TimedWord], begin_ms: int, last_ms: int) -> Iterator[TimedWord]:
    starts_ms: list[int] = []
    for position, word in enumerate(words):
        first_ms = starts_ms[-1] + 1 if starts_ms else begin_ms
        starts_ms.append(max(word.start_ms, first_ms))
        # room for those that follow
        starts_ms[-1] = min(starts_ms[-1], last_ms - (len(words) - position))
    limits_ms = [*starts_ms[1:], last_ms]
    for word, start_ms, next_ms in zip(words, starts_ms, limits_ms, strict=False):
        end_ms = max(min(word.end_ms, next_ms), start_ms + 1)
        yield TimedWord(word.text, start_ms, end_ms, word.confidence, word.spaced)
