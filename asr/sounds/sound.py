"""What every open audio file is, and what none may be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from asr.files import InputError

Floats = npt.NDArray[np.float32]

MAXIMUM_AMPLITUDE = 1e6  # float files written in other units than full scale reach 1e5
SAMPLE_RATES_HZ = range(1_000, 1_000_000)  # beyond these a header is damaged
SEGMENT_TOLERANCE_S = 0.05  # manifests round: an end so far past the file's is the file's


class AudioError(InputError):
    """A recording that cannot be used. `reason` is one of the codes of docs/bad-input.md."""


class Sound(Protocol):
    """An open audio file, whatever decodes it.

    `frames`, samples of each channel, are what the header says: None where it gives no length.
    `codec` is the decoder's name of the coding, e.g. `PCM_16`.
    """

    rate_hz: int
    channels: int
    frames: int | None
    codec: str

    def blocks(self) -> Iterator[Floats]:
        """The whole file in pieces [S, C]; raises `truncated` where some of it is missing."""
        ...

    def stretch(self, first: int, count: int) -> Floats:
        """So many frames [S, C] of a file with a length, found by seeking."""
        ...

    def close(self) -> None:
        """Nothing is read any more."""
        ...


def check_file(path: str | Path) -> None:
    """Raises for what is no readable file with something in it."""
    try:
        status = os.stat(path)
        if status.st_size and os.access(path, os.R_OK):
            return
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            raise AudioError("bad-link", f"{path} is a link to nowhere") from None
        raise AudioError("missing", f"{path} does not exist") from None
    except OSError as error:
        reason = "bad-link" if os.path.islink(path) else "unreadable"
        raise AudioError(reason, f"{path} cannot be read: {error.strerror}") from None
    if status.st_size:
        raise AudioError("unreadable", f"{path} cannot be read: permission denied")
    raise AudioError("empty-file", f"{path} is empty")


def check_rate(path: str | Path, sound: Sound) -> None:
    """Raises `not-audio` for a rate that no recording has."""
    if sound.rate_hz not in SAMPLE_RATES_HZ:
        raise AudioError("not-audio", f"{path} claims {sound.rate_hz} samples a second")


def check_channel(path: str | Path, sound: Sound, channel: int | None) -> None:
    """Raises `no-channel` where the file has none of that number, counted from 0."""
    if channel is not None and not 0 <= channel < sound.channels:
        count = "1 channel" if sound.channels == 1 else f"{sound.channels} channels"
        raise AudioError("no-channel", f"{path} has {count}, and none of number {channel + 1}")


def check_length(path: str | Path, sound: Sound, frames: int, limit_s: float | None) -> None:
    """Raises `too-long` where so many frames last longer than allowed."""
    if limit_s is not None and frames > limit_s * sound.rate_hz:
        hours = f"{limit_s / 3600:.3g}"
        raise AudioError("too-long", f"{path} lasts more than {hours} hours (--max-hours)")


def check_amplitude(path: str | Path, samples: Floats) -> None:
    """Raises `not-finite` for samples that are NaN, infinite or absurd."""
    # Written so that NaN, which compares as false, is refused as well.
    if len(samples) and not max(samples.max(), -samples.min()) <= MAXIMUM_AMPLITUDE:
        raise AudioError("not-finite", f"{path} has samples that are no numbers, or beyond measure")


def mono(samples: Floats, channel: int | None) -> Floats:
    """One channel, or all of them averaged: [S, C] -> [S]."""
    if channel is not None:
        return np.ascontiguousarray(samples[:, channel])
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)


def span(
    path: str | Path, rate_hz: int, frames: int, start_s: float, end_s: float | None
) -> tuple[int, int]:
    """First frame and number of frames between two times; raises `bad-segment`."""
    first = round(start_s * rate_hz)
    last = frames if end_s is None else round(end_s * rate_hz)
    if first < 0 or last <= first or last > frames + SEGMENT_TOLERANCE_S * rate_hz:
        raise AudioError(
            "bad-segment",
            f"{path} is {frames / rate_hz:.2f} s long, {start_s} to {end_s} s is not in it",
        )
    return first, min(last, frames) - first
