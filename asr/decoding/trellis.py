"""All CTC paths of a text as a trellis, compiled by Numba; `asr.decoding.alignment` asks it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from asr.kernels import inner, kernel

BLANK = 0

Scores = npt.NDArray[np.float32]
Sums = npt.NDArray[np.float64]

# The kernels hold a trellis as two rows: `blanks[u]` stands before label u, `sums[u]` at it. A
# blank is reached from itself and the label before; a label from itself, its blank, and straight
# from the label before where that is another one. Frame f of n frames can only be at the labels
# from last - (n - f) to f: others cannot be reached, or cannot reach the end.


@inner
def forward(
    labels: npt.NDArray[np.int32],
    straight: Sums,
    gap: npt.NDArray[np.bool_],
    rows: Scores,
    gaps: Scores,
    blanks: Sums,
    sums: Sums,
    start: int,
    frames: int,
) -> None:
    """Sums up to the last of these frames, the first of which is number `start` of all `frames`."""
    last = len(labels) - 1
    for row in range(len(rows)):
        frame = start + row
        low, high = max(0, last - (frames - frame)), min(last, frame + 1)
        for u in range(high, low - 1, -1):
            before = sums[u - 1] if u > 0 else -np.inf
            best = max(max(sums[u], blanks[u]), before + straight[u])
            sums[u] = best + rows[row, labels[u]]
            score = gaps[row] if gap[u] else rows[row, 0]
            blanks[u] = max(blanks[u], before) + score


@inner
def step_back(straight: Sums, blanks: Sums, sums: Sums, low: int, high: int) -> None:
    """What follows each state, before the frame in which it is: labels `low` to `high`."""
    last = len(straight) - 1
    for u in range(low, high + 1):
        blanks[u] = max(blanks[u], sums[u])
        if u < last:
            sums[u] = max(max(sums[u], blanks[u + 1]), sums[u + 1] + straight[u + 1])


@inner
def backward(
    labels: npt.NDArray[np.int32],
    straight: Sums,
    gap: npt.NDArray[np.bool_],
    rows: Scores,
    gaps: Scores,
    blanks: Sums,
    sums: Sums,
    start: int,
    frames: int,
) -> None:
    """As `forward`, from the last of these frames to the first."""
    last = len(labels) - 1
    for row in range(len(rows) - 1, -1, -1):
        frame = start + row
        low, high = max(0, last - (frames - frame)), min(last, frame + 1)
        step_back(straight, blanks, sums, low, high)
        for u in range(low, high + 1):
            sums[u] += rows[row, labels[u]]
            blanks[u] += gaps[row] if gap[u] else rows[row, 0]


@inner
def entry(straight: Sums, blanks: Sums, sums: Sums, state: int) -> tuple[int, float]:
    """By how many states the best way into a state comes from before, and its sum."""
    u = state // 2
    before = sums[u - 1] if u > 0 else -np.inf
    if state % 2 == 0:
        return (1, before) if before > blanks[u] else (0, blanks[u])
    step, score = 0, sums[u]
    if blanks[u] > score:
        step, score = 1, blanks[u]
    if before + straight[u] > score:
        step, score = 2, before + straight[u]
    return step, score


@inner
def forward_traced(
    labels: npt.NDArray[np.int32],
    straight: Sums,
    gap: npt.NDArray[np.bool_],
    rows: Scores,
    gaps: Scores,
    blanks: Sums,
    sums: Sums,
    steps: npt.NDArray[np.uint8],
) -> None:
    """As `forward`, with no frame left out, and into `steps` how far each state came."""
    for row in range(len(rows)):
        for u in range(len(labels) - 1, -1, -1):
            step, score = entry(straight, blanks, sums, 2 * u + 1)
            steps[row, 2 * u + 1] = step
            step, blank = entry(straight, blanks, sums, 2 * u)
            steps[row, 2 * u] = step
            sums[u] = score + rows[row, labels[u]]
            blanks[u] = blank + (gaps[row] if gap[u] else rows[row, 0])


@kernel
def place(rows: Scores, labels: Any, spans: Any, peaks: Any) -> bool:
    """As `asr.decoding.alignment.peaks`, of a trellis kept whole; False where that raises an error.

    Args:
        rows: natural log-probabilities [T', V].
        labels: [U], none of them the blank.
        spans: [U, 2] becomes each label's first frame and that after its last.
        peaks: [U] becomes the label's highest posterior in these frames.
    """
    frames, count = len(rows), len(labels)
    straight = np.zeros(count + 1)
    straight[0] = straight[count] = -np.inf
    for u in range(1, count):
        if labels[u] == labels[u - 1]:
            straight[u] = -np.inf
    guarded = np.zeros(count + 1, np.int32)
    for u in range(count):
        guarded[u] = labels[u]
        spans[u, 0] = spans[u, 1] = 0
        peaks[u] = -np.inf
    blanks, sums = np.full(count + 1, -np.inf), np.full(count + 1, -np.inf)
    blanks[0] = 0.0
    unknown = False
    for frame in range(frames):
        for label in range(rows.shape[1]):
            unknown |= rows[frame, label] != rows[frame, label]
    if unknown:
        return False
    steps = np.zeros((frames, 2 * count + 2), np.uint8)
    nowhere = np.zeros(count + 1, np.bool_)
    forward_traced(guarded, straight, nowhere, rows, rows[:, BLANK], blanks, sums, steps)
    state = 2 * count
    step, score = entry(straight, blanks, sums, state)
    if not score > -np.inf:
        return False
    for frame in range(frames - 1, -1, -1):
        state -= step
        if state % 2:
            u = state // 2
            spans[u, 0] = frame
            spans[u, 1] = max(spans[u, 1], frame + 1)
            peaks[u] = max(peaks[u], rows[frame, labels[u]])
        step = int(steps[frame, state])
    for u in range(count):
        peaks[u] = np.exp(peaks[u])
    return True
