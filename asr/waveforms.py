"""What is given to be recognised, as waveforms: checked, measured, sorted into batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asr import audio
from asr.errors import UserError
from asr.files import InputError

Audio = str | Path | np.ndarray

BATCH_S = 120.0  # of audio recognised at once, padding included
BATCH_COST = 8  # a batch takes as long as so many more of its longest recording, at most

# A recording of up to so long is recognised whole, which takes memory in proportion to its length;
# a longer one in windows.
WHOLE_S = 120.0
LONGEST_S = 24 * 3600.0  # of what is decoded of a file, unless told otherwise
# Floats lie in [-1, 1] but for a little overshoot; beyond this they are integers in disguise.
LOUDEST = 16.0


def duration_s_of(item: Audio, source: str, limit_s: float = LONGEST_S) -> float:
    """How long an input called `source` is, in seconds; a file is not decoded for it.

    Raises:
        UserError: the file cannot be read, or it is longer than `limit_s`.
    """
    if isinstance(item, str | Path):
        try:
            return audio.probe(item, limit_s).duration_s
        except InputError as error:
            raise UserError(f"{error}.") from None
    duration_s = len(item) / audio.SAMPLE_RATE_HZ if np.ndim(item) else 0.0
    if duration_s > limit_s:
        raise UserError(f"{source} lasts more than {limit_s / 3600:.3g} hours.")
    return duration_s


def waveform_of(item: Audio, source: str) -> npt.NDArray[np.float32]:
    """An input called `source` as floats `[S]` in [-1, 1] at 16 kHz.

    Raises:
        UserError: the file cannot be read, or the array is no such waveform.
    """
    if not isinstance(item, str | Path):
        return _checked(item, source)
    try:
        return audio.load(item)
    except InputError as error:
        raise UserError(f"{error}.") from None


def short_waveform_of(item: Audio, source: str) -> npt.NDArray[np.float32] | None:
    """As `waveform_of`; None for a file that is far longer than its header says.

    Raises:
        UserError: as `waveform_of`.
    """
    if not isinstance(item, str | Path):
        return _checked(item, source)
    try:
        return audio.load(item, limit_s=2 * WHOLE_S)
    except InputError as error:
        if error.reason == "too-long":
            return None
        raise UserError(f"{error}.") from None


def blocks_of(
    item: Audio, source: str, limit_s: float = LONGEST_S
) -> Iterator[npt.NDArray[np.float32]]:
    """An input called `source` in pieces that together are its waveform; a file's as it is decoded.

    Raises:
        UserError: as `waveform_of`; the file is longer than `limit_s`.
    """
    if not isinstance(item, str | Path):
        yield _checked(item, source)
        return
    try:
        yield from audio.blocks(item, limit_s=limit_s)
    except InputError as error:
        raise UserError(f"{error}.") from None


def _checked(item: Any, source: str) -> npt.NDArray[np.float32]:
    """An array as floats `[S]`, once it is known to be a waveform."""
    if not isinstance(item, np.ndarray) or item.ndim != 1:
        shape = getattr(item, "shape", None)
        what = f"{type(item).__name__}{list(shape) if shape is not None else ''}"
        raise UserError(f"{source}: an array [S] of samples, mono, is needed, not {what}")
    if item.dtype == np.int16:
        return item.astype(np.float32) / np.float32(audio.INT16_FULL_SCALE)
    if not np.issubdtype(item.dtype, np.floating):
        raise UserError(f"{source}: samples are floats in [-1, 1] or int16, not {item.dtype}")
    if not np.isfinite(item).all():
        raise UserError(f"{source}: holds samples that are not a number or infinite")
    if item.size and np.abs(item).max() > LOUDEST:
        raise UserError(
            f"{source}: samples reach {np.abs(item).max():g}, floats lie in [-1, 1]:"
            " divide by the full scale, or give int16"
        )
    return np.ascontiguousarray(item, dtype=np.float32)


def batches_by_length(durations_s: Sequence[float], batch_s: float) -> Iterator[list[int]]:
    """Positions of recordings, the shortest first, in batches of at most `batch_s` with padding.

    So that the network takes the least time for all of them, if a batch takes as long as its
    longest recording `BATCH_COST` times more than it holds: alike in length, and not too small. A
    recording longer than `batch_s` is a batch of its own.
    """
    order = sorted(range(len(durations_s)), key=durations_s.__getitem__)
    lengths_s = [durations_s[position] for position in order]
    least = np.zeros(len(order) + 1)  # [N + 1] what the first so many cost together
    begins = [0] * (len(order) + 1)  # where the last batch of these begins
    for end, longest_s in enumerate(lengths_s, start=1):
        most = end if end * longest_s <= batch_s else max(1, int(batch_s // longest_s))
        first = end - min(most, end)
        sizes = np.arange(end - first, 0, -1)
        costs = least[first:end] + longest_s * (sizes + BATCH_COST)
        best = int(costs.argmin())
        least[end], begins[end] = costs[best], first + best
    bounds = [len(order)]
    while bounds[-1]:
        bounds.append(begins[bounds[-1]])
    for begin, end in itertools.pairwise(reversed(bounds)):
        yield order[begin:end]
