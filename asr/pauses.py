"""Emissions of any length in pieces of half a minute to a minute, cut in pauses.

A piece is decoded as if it were a recording, so no word may lie in two of them. A cut lies where
the likeliest units on both sides spell what they spell together, in the middle of blanks: of those
that are surest for longest. Where there are none between two words, it lies between words without;
where one word lasts for half a minute, at the surest blank in it. Units that are phones do not say
where a word ends: there a cut lies between two phones, which may be of one word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from asr.units.symbols import Units

SHORTEST_S = 30.0
LONGEST_S = 60.0

BLANK = 0

Floats = npt.NDArray[np.float32]


def pieces(
    emissions: Iterable[Floats], units: Units, seconds_per_frame: float
) -> Iterator[tuple[int, Floats]]:
    """First frame and log-probabilities [n, V] of each piece, each frame in one of them.

    Args:
        emissions: of a recording from its beginning, in parts [n, V] of any size.
        units: of the model.
        seconds_per_frame: from one frame to the next.
    """
    shortest, longest = (round(seconds / seconds_per_frame) for seconds in (SHORTEST_S, LONGEST_S))
    start, kept = 0, None
    for frames in emissions:
        kept = frames if kept is None else np.concatenate([kept, frames])
        while len(kept) > longest:
            cut = _pause(kept[:longest], shortest, units)
            yield start, kept[:cut]
            start, kept = start + cut, kept[cut:]
    if kept is not None:
        yield start, kept


def _pause(frames: Floats, shortest: int, units: Units) -> int:
    """Where to cut frames [n, V], not before the frame `shortest`."""
    blank = np.exp(frames[:, BLANK])
    path = frames.argmax(axis=1)
    between = ~_inside_words(path, units)
    between[:shortest] = False
    silent = np.flatnonzero(between & (path == BLANK))
    if len(silent):
        runs = np.split(silent, np.flatnonzero(np.diff(silent) > 1) + 1)
        longest = max(runs, key=lambda run: float(blank[run].sum()))
        return int(longest[len(longest) // 2])
    # Words follow one another without a blank, or a word lasts for all that time.
    changed = np.diff(path, prepend=BLANK) != 0
    blank[:shortest] = -1.0
    return int(np.argmax(blank + (between & changed)))


def _inside_words(path: npt.NDArray[np.int64], units: Units) -> npt.NDArray[np.bool_]:
    """Whether a cut before each frame [n] of a path would lie between two units of a word."""
    begins = (path != BLANK) & (np.diff(path, prepend=BLANK) != 0)  # [n] a unit is emitted
    symbols = [units.symbols[label] for label in path[begins]]
    inside = np.zeros(len(symbols) + 1, dtype=bool)  # between two units
    for _, places in units.spell(symbols):
        inside[places.start + 1 : places.stop] = True
    if symbols:
        inside[-1] = True  # for all that is known: what comes next may go on with the word
    emitted = np.cumsum(begins) - begins  # [n] units before the frame
    return inside[emitted]
