"""STM: a reference for NIST's sclite, a stretch of speech a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from asr.decoding.hypothesis import Transcript
from asr.formats.columns import channel, column, name, seconds
from asr.formats.timeline import TimedWord, Timeline, timeline

PAUSE_MS = 500  # from which on a line ends in its middle
LONGEST_MS = 30_000  # of a line with no such pause: sclite's time grows with its square
# Between a line's end and the middle of a word: sclite reads times as floats of 32 bits, which are
# 8 ms apart after 18 hours.
MARGIN_MS = 20
# Without a label sclite would take a first word that begins with `<` for one; without its
# definition the report by labels (`-o lur`) fails.
LABEL = "<O>"
DEFINITION = ';; LABEL "O" "Overall" "Everything that is spoken"'


class StmWriter:
    """Writes `name channel speaker start end label words` for each stretch, times in seconds.

    The speaker is not known: the name and channel stand in that column. Lines follow one another
    without gaps from the beginning to the end of the recording, or of a stretch of it. A transcript
    without words is a line without words: words that are recognised in a recording that is not in
    the reference stop sclite.
    """

    def write(self, transcript: Transcript, stream: IO[str]) -> None:
        """Write one transcript."""
        recording, side = name(transcript), channel(transcript)
        stream.write(f"{DEFINITION}\n")
        for start_ms, end_ms, words in stretches(timeline(transcript)):
            columns = [
                *(recording, str(side), f"{recording}-{side}"),
                *(seconds(start_ms), seconds(end_ms), LABEL),
                *(column(word.text) for word in words),
            ]
            stream.write(" ".join(columns) + "\n")


def stretches(content: Timeline) -> Iterator[tuple[int, int, tuple[TimedWord, ...]]]:
    """Beginning, end and words of each stretch.

    sclite gives a word to the stretch in which its middle lies, so a stretch ends between the
    middles of two words, clear of both.
    """
    first, start_ms = 0, content.start_ms
    for position in range(1, len(content.words)):
        before, after = content.words[position - 1], content.words[position]
        end_ms = (before.end_ms + after.start_ms) // 2
        pause = after.start_ms - before.end_ms >= PAUSE_MS
        clear = _middle_ms(before) + MARGIN_MS <= end_ms <= _middle_ms(after) - MARGIN_MS
        if pause or (clear and end_ms - content.words[first].start_ms >= LONGEST_MS):
            yield start_ms, end_ms, content.words[first:position]
            first, start_ms = position, end_ms
    yield start_ms, content.end_ms, content.words[first:]


def _middle_ms(word: TimedWord) -> float:
    return (word.start_ms + word.end_ms) / 2
