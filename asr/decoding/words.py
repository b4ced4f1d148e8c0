"""From units on a time line to words: where one ends and the next begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asr.decoding.hypothesis import Word
from asr.units.symbols import Units


@dataclass(frozen=True)
class TimedUnit:
    """One emitted unit, from its first frame to its last one's end, and its peak posterior."""

    symbol: str
    start_s: float
    end_s: float
    confidence: float


def words_of(units: Units, emitted: Sequence[TimedUnit]) -> tuple[Word, ...]:
    """The words that units spell, in order.

    A word lasts from its first unit's start to its last unit's end; its confidence is the mean of
    its units'.
    """
    words = []
    for word, positions in units.spell([unit.symbol for unit in emitted]):
        spelled = [emitted[position] for position in positions]
        words.append(
            Word(
                word=word,
                start_s=round(max(0.0, spelled[0].start_s), 3),
                end_s=round(spelled[-1].end_s, 3),
                confidence=round(sum(unit.confidence for unit in spelled) / len(spelled), 4),
            )
        )
    return tuple(words)
