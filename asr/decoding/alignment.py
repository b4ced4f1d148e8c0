"""Forced alignment: in which frames the labels of a known text were emitted.

The likeliest of all CTC paths that spell the labels (Graves et al. 2006; Viterbi 1967), exactly,
however long the recording. A long trellis is halved in time (Hirschberg 1975): one pass forward to
its middle and one backward to it say which state the best path has there, and each half is a
smaller trellis. So memory grows with the labels alone, never with labels times frames, and nothing
is pruned that could be missing later. Sums are of double precision.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from asr.decoding.trellis import (
    BLANK,
    Scores,
    Sums,
    backward,
    entry,
    forward,
    forward_traced,
    step_back,
)

# What a frame of a gap costs where it is speech: whatever the text has, the text explains.
GAP_COST = 0.5
CELLS = 1 << 24  # of a trellis that is kept whole: a byte each
CHUNK_FRAMES = 4096  # of emissions looked at together


class Emissions(Protocol):
    """Log-probabilities [T', V] that are read in slices: an array, or a file of them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """T' and V."""
        ...

    def __getitem__(self, frames: slice) -> npt.NDArray:
        """Frames [n, V] between two."""
        ...


class AlignmentError(ValueError):
    """There is no path that spells the labels in these frames."""


@dataclass(frozen=True)
class Span:
    """The frames of one label: the first, the one after the last, and how sure.

    `confidence` is the label's posterior, its geometric mean over these frames.
    """

    start_frame: int
    end_frame: int
    confidence: float


def frames_needed(labels: Sequence[int]) -> int:
    """The fewest frames that can spell labels: one each, and a blank between equal ones."""
    repeats = sum(one == other for one, other in pairwise(labels))
    return len(labels) + repeats


def align(emissions: Emissions, labels: Sequence[int], gaps: Collection[int] = ()) -> list[Span]:
    """Where each label was emitted, on the likeliest path that spells all of them.

    In `gaps` stand numbers of labels before which there may be speech that is in no label, of any
    length or none; `len(labels)` is behind the last. A frame of such a gap scores as the likeliest
    of all units does, what unconstrained recognition would give it, and `GAP_COST` less where that
    unit is no blank.

    Args:
        emissions: natural log-probabilities [T', V], unit 0 the blank.
        labels: [U], none of them the blank.
        gaps: numbers from 0 to U.

    Raises:
        AlignmentError: the frames are too few for the labels, no path has a probability, or an
            emission is no number.
        ValueError: a label or gap is out of range.
    """
    frames, size = emissions.shape
    wanted = np.asarray(labels, dtype=np.int32).reshape(-1)  # [U]
    if wanted.size and not (wanted.min() > BLANK and wanted.max() < size):
        raise ValueError(f"labels lie in 1 to {size - 1}")
    if any(not 0 <= gap <= len(wanted) for gap in gaps):
        raise ValueError(f"gaps lie in 0 to {len(wanted)}")
    if frames_needed(labels) > frames:
        raise AlignmentError(
            f"{len(wanted)} labels need {frames_needed(labels)} frames, there are {frames}"
        )
    trellis = _Trellis(emissions, wanted, gaps)
    states = np.empty(frames, dtype=np.int32)  # 2u is the blank before label u, 2u + 1 the label
    trellis.solve(states, 0, frames, 0, 2 * len(wanted))
    return _spans(emissions, wanted, states)


def peaks(emissions: npt.NDArray[np.float32], labels: Sequence[int]) -> list[Span]:
    """As `align` without gaps, each label as sure as it is in its likeliest frame."""
    return [
        replace(
            span,
            confidence=math.exp(emissions[span.start_frame : span.end_frame, label].max()),
        )
        for label, span in zip(labels, align(emissions, labels), strict=True)
    ]


def _spans(
    emissions: Emissions, labels: npt.NDArray[np.int32], states: npt.NDArray[np.int32]
) -> list[Span]:
    """First frame, end and mean log posterior of each label on a path."""
    (emitted,) = np.nonzero(states % 2)
    which = states[emitted] // 2
    counts = np.bincount(which, minlength=len(labels))
    starts = emitted[np.searchsorted(which, np.arange(len(labels)))]
    sums = np.zeros(len(labels))
    for begin in range(0, len(states), CHUNK_FRAMES):
        chunk = states[begin : begin + CHUNK_FRAMES]
        rows = np.asarray(emissions[begin : begin + CHUNK_FRAMES])
        if np.isnan(rows).any():
            raise AlignmentError("there are emissions that are no numbers")
        (inside,) = np.nonzero(chunk % 2)
        which = chunk[inside] // 2
        np.add.at(sums, which, rows[inside, labels[which]].astype(np.float64))
    confidences = np.exp(sums / np.maximum(counts, 1))
    return [
        Span(int(start), int(start + count), float(confidence))
        for start, count, confidence in zip(starts, counts, confidences, strict=True)
    ]


class _Trellis:
    """All paths of one alignment, as sums over their frames."""

    def __init__(
        self, emissions: Emissions, labels: npt.NDArray[np.int32], gaps: Collection[int]
    ) -> None:
        self.emissions = emissions
        # As if a last label stood behind them that nothing reaches: every blank has one after it.
        self.labels = np.append(labels, np.int32(BLANK))
        # What it costs to go from label to label without a blank: nothing, or all if they are one.
        self.straight = np.zeros(len(self.labels))
        self.straight[0] = self.straight[-1] = -np.inf
        self.straight[1:-1][labels[1:] == labels[:-1]] = -np.inf
        self.gap = np.zeros(len(self.labels), dtype=np.bool_)
        self.gap[list(gaps)] = True

    def solve(
        self, states: npt.NDArray[np.int32], begin: int, end: int, before: int, after: int
    ) -> None:
        """Fill in the states of frames [begin, end), the state before and that after being known.

        Raises:
            AlignmentError: no path between them has a probability.
        """
        if begin == end:
            return
        frames, first, last = end - begin, before // 2, after // 2
        width = last - first + 1
        if frames == 1 or 2 * frames * width <= CELLS:
            self._trace(states, begin, end, before, after)
            return
        middle = begin + frames // 2
        ahead = self._sums(width, before - 2 * first)
        for start, rows, gaps in self._chunks(begin, middle + 1):
            forward(*self._part(first, last), rows, gaps, *ahead, start - begin, frames)
        back = self._sums(width, after - 2 * first)
        for start, rows, gaps in self._chunks(middle + 1, end, reverse=True):
            backward(*self._part(first, last), rows, gaps, *back, start - begin, frames)
        step_back(self.straight[first : last + 1], *back, 0, width - 1)
        sums = np.stack([ahead[0] + back[0], ahead[1] + back[1]], axis=1).reshape(-1)
        best = int(sums.argmax())
        _check(sums[best])
        states[middle] = state = 2 * first + best
        self.solve(states, begin, middle, before, state)
        self.solve(states, middle + 1, end, state, after)

    def _trace(
        self, states: npt.NDArray[np.int32], begin: int, end: int, before: int, after: int
    ) -> None:
        """As `solve`, with all of a small trellis in memory."""
        first, last = before // 2, after // 2
        width = last - first + 1
        steps = np.zeros((end - begin, 2 * width), dtype=np.uint8)
        blanks, sums = self._sums(width, before - 2 * first)
        part = self._part(first, last)
        for start, rows, gaps in self._chunks(begin, end):
            forward_traced(*part, rows, gaps, blanks, sums, steps[start - begin :])
        state = after - 2 * first
        step, score = entry(part[1], blanks, sums, state)
        _check(score)
        for frame in range(end - 1, begin - 1, -1):
            state -= step
            states[frame] = 2 * first + state
            step = int(steps[frame - begin, state])

    def _part(
        self, first: int, last: int
    ) -> tuple[npt.NDArray[np.int32], Sums, npt.NDArray[np.bool_]]:
        part = slice(first, last + 1)
        return self.labels[part], self.straight[part], self.gap[part]

    @staticmethod
    def _sums(width: int, state: int) -> tuple[Sums, Sums]:
        """Sums of blanks and of labels, where only one state is possible."""
        sums = np.full((2, width), -np.inf)
        sums[state % 2, state // 2] = 0.0
        return sums[0], sums[1]

    def _chunks(
        self, begin: int, end: int, reverse: bool = False
    ) -> Iterator[tuple[int, Scores, Scores]]:
        """First frame, emissions [n, V], and what a frame of a gap scores [n], bit by bit."""
        starts = range(begin, end, CHUNK_FRAMES)
        for start in reversed(starts) if reverse else starts:
            rows = np.ascontiguousarray(
                self.emissions[start : min(end, start + CHUNK_FRAMES)], dtype=np.float32
            )
            gaps = rows[:, BLANK]
            if self.gap.any():
                gaps = np.maximum(rows[:, BLANK], rows[:, 1:].max(axis=1) - np.float32(GAP_COST))
            yield start, rows, np.ascontiguousarray(gaps)


def _check(score: float) -> None:
    """Written so that NaN, which compares as false, is refused as well."""
    if not score > -np.inf:
        raise AlignmentError("no path that spells the labels has a probability")
