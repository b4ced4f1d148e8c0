"""From units on a time line to words: where one ends and the next begins.

CTC emits a unit in a frame or two, near the beginning of its sound, and blanks until the next one.
So a word begins a little before its first unit and goes on after its last one; how far was measured
against known times (docs/alignment.md). All decoders' word times come from here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from asr.decoding.alignment import Span
from asr.decoding.hypothesis import Word
from asr.units.symbols import Units

# Chosen on training data by `tools/bench_alignment.py`.
LEAD_S = 0.04  # from the beginning of a word to the first frame of its first unit
LETTER_S = 0.08  # from the first frame of a word's last unit to its end, for each of its letters

DIGITS = 9  # of a confidence: more are an accident of how floats are added


@dataclass(frozen=True)
class TimedUnit:
    """One emitted unit, from its first frame to its last one's end, and its peak posterior."""

    symbol: str
    start_s: float
    end_s: float
    confidence: float


def timed_units(
    units: Units,
    labels: Sequence[int],
    spans: Iterable[Span],
    seconds_per_frame: float,
    offset_s: float,
) -> list[TimedUnit]:
    """Labels in time; `offset_s` is where the first frame begins."""
    return [
        TimedUnit(
            symbol=units.symbols[label],
            start_s=offset_s + span.start_frame * seconds_per_frame,
            end_s=offset_s + span.end_frame * seconds_per_frame,
            confidence=span.confidence,
        )
        for label, span in zip(labels, spans, strict=True)
    ]


def words_of(
    units: Units,
    emitted: Sequence[TimedUnit],
    spelled: Iterable[tuple[str, range]] | None = None,
    joined: Callable[[Sequence[float]], float] = fmean,
) -> tuple[Word, ...]:
    """The words that units spell, in order, none reaching into another.

    A word begins `LEAD_S` before its first unit, but after the middle between that and the word
    before. It ends with the frames of its last unit, or `LETTER_S` for each of the unit's letters
    after its first frame, where the next word has not begun. Its confidence is
    what `joined` makes of its units'. `spelled` are the words and the positions of their units
    where the units cannot say: words of phones.
    """
    if spelled is None:
        spelled = units.spell([unit.symbol for unit in emitted])
    words = [(word, [emitted[position] for position in places]) for word, places in spelled]
    starts_s = _starts_s([own for _, own in words])
    ends_s = [
        min(max(own[-1].end_s, own[-1].start_s + LETTER_S * units.sounds(own[-1].symbol)), next_s)
        for (_, own), next_s in zip(words, [*starts_s[1:], math.inf], strict=False)
    ]
    return tuple(
        Word(
            word=word,
            start_s=round(start_s, 3),
            end_s=round(end_s, 3),
            confidence=round(joined([unit.confidence for unit in own]), DIGITS),
        )
        for (word, own), start_s, end_s in zip(words, starts_s, ends_s, strict=True)
    )


def _starts_s(words: Sequence[Sequence[TimedUnit]]) -> list[float]:
    """Where each word begins, given its units."""
    starts_s = []
    end_s = -math.inf  # of the units of the word before
    for own in words:
        first_s = own[0].start_s
        starts_s.append(max(0.0, first_s - LEAD_S, (end_s + first_s) / 2))
        end_s = own[-1].end_s
    return starts_s
