"""What is given to be recognised, as waveforms: checked, measured, sorted into batches."""

from __future__ import annotations

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

    A recording longer than that is a batch of its own.
    """
    batch: list[int] = []
    for position in sorted(range(len(durations_s)), key=durations_s.__getitem__):
        if batch and durations_s[position] * (len(batch) + 1) > batch_s:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch
