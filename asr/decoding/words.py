"""From units on a time line to words: where one ends and the next begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from asr.decoding.hypothesis import Word
from asr.text import SPACE


@dataclass(frozen=True)
class TimedUnit:
    """One emitted unit, from its first frame to its last one's end, and its peak posterior."""

    symbol: str
    start_s: float
    end_s: float
    confidence: float


def words_of(units: Iterable[TimedUnit]) -> tuple[Word, ...]:
    """The words that units spell, in order.

    Characters join into words between spaces (`|`). A unit of several characters is a whole word
    of its own and needs no space beside it. A word lasts from its first unit's start to its last
    unit's end; its confidence is the mean of its units'.
    """
    return tuple(
        Word(
            word="".join(unit.symbol for unit in spelled),
            start_s=round(max(0.0, spelled[0].start_s), 3),
            end_s=round(spelled[-1].end_s, 3),
            confidence=round(sum(unit.confidence for unit in spelled) / len(spelled), 4),
        )
        for spelled in _spelled(units)
    )


def _spelled(units: Iterable[TimedUnit]) -> Iterator[list[TimedUnit]]:
    """The units of each word."""
    letters: list[TimedUnit] = []
    for unit in units:
        if unit.symbol != SPACE and len(unit.symbol) == 1:
            letters.append(unit)
            continue
        if letters:
            yield letters
            letters = []
        if unit.symbol != SPACE:
            yield [unit]
    if letters:
        yield letters
