"""What the beam search leaves out: unlikely labels of a frame, and all but the best states."""

from __future__ import annotations

from typing import Any

import numpy as np

from asr.decoding.states import BLANK, Options
from asr.kernels import inner


@inner
def _select(values: np.ndarray, count: int, wanted: int) -> float:
    """The `wanted`-th largest of the first `count` values, which are reordered (Hoare's select)."""
    low, high, target = 0, count - 1, wanted - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if target <= j:
            high = j
        elif target >= i:
            low = i
        else:
            break
    return values[target]


@inner
def likely_labels(
    frame: np.ndarray, options: Options, chosen: np.ndarray, scratch: np.ndarray
) -> int:
    """Fill in the labels of a frame that are worth a look, the blank left out; how many."""
    most = frame[BLANK]
    for label in range(1, len(frame)):
        most = max(most, frame[label])
    least = most - options.token_threshold
    count = 0
    for label in range(1, len(frame)):
        if frame[label] >= least:
            chosen[count] = label
            scratch[count] = frame[label]
            count += 1
    if count <= options.tokens:
        return count
    least = _select(scratch, count, options.tokens)
    kept = 0
    for wanted_tie in (False, True):  # the larger ones first, then as many equal ones as fit
        for position in range(count):
            value = frame[chosen[position]]
            if kept < options.tokens and (value == least if wanted_tie else value > least):
                scratch[kept] = chosen[position]
                kept += 1
    for position in range(kept):
        chosen[position] = np.int64(scratch[position])
    return kept


@inner
def prune(count: int, found: Any, beam: Any, values: Any, options: Options) -> Any:
    """Copy the best states into the beam; how many, and the log of what masses were divided by."""
    best, largest = -np.inf, 0.0
    for position in range(count):
        state = found[position]
        if state.merged:
            state.acoustic = np.log(state.blank + state.label)
            state.rank = state.acoustic + state.score + state.ahead
        best = max(best, state.rank)
    if best == -np.inf:
        return 0, 0.0
    floor = best - options.beam_threshold
    above = 0
    for position in range(count):
        if found[position].rank >= floor:
            values[above] = found[position].rank
            above += 1
    if above > options.beam:
        floor = _select(values, above, options.beam)
    kept = 0
    for tied in (False, True):
        for position in range(count):
            rank = found[position].rank
            if kept < options.beam and (rank == floor if tied else rank > floor):
                beam[kept] = found[position]
                largest = max(largest, beam[kept].blank + beam[kept].label)
                kept += 1
    for position in range(kept):
        beam[position].blank /= largest
        beam[position].label /= largest
        beam[position].acoustic -= np.log(largest)
    return kept, np.log(largest)
