"""The stretch of a recording that is looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from asr import audio
from asr.errors import UserError
from asr.files import InputError

MAXIMUM_LENGTH_S = 60.0  # of the default model, a page of 19 MB


@dataclass(frozen=True)
class Excerpt:
    """A waveform [S] at 16 kHz, where it begins in its recording, and how long that is."""

    source: str
    waveform: npt.NDArray[np.float32]
    start_s: float
    recording_s: float

    @property
    def duration_s(self) -> float:
        """How long the excerpt is."""
        return len(self.waveform) / audio.SAMPLE_RATE_HZ

    @property
    def whole(self) -> bool:
        """Whether nothing of the recording is left out."""
        return self.duration_s >= self.recording_s


def read_excerpt(path: str | Path, start_s: float, length_s: float, source: str) -> Excerpt:
    """At most `length_s` of a recording from `start_s` on.

    No more of the file is decoded, unless its header gives no length.

    Raises:
        UserError: the file cannot be read, or there is no such stretch.
    """
    if not 0 <= start_s < math.inf:  # so that NaN is refused as well
        raise UserError(f"--start is a time in seconds from 0 on, not {start_s:g}.")
    if not 0 < length_s <= MAXIMUM_LENGTH_S:
        most = f"{MAXIMUM_LENGTH_S:g}"
        raise UserError(f"--length is above 0 s and at most {most} s, not {length_s:g}.")
    try:
        recording_s = audio.probe(path).duration_s
        # A file read whole is found out where it breaks off.
        if start_s == 0 and recording_s <= length_s:
            waveform = audio.load(path)
            recording_s = len(waveform) / audio.SAMPLE_RATE_HZ
            waveform = waveform[: round(length_s * audio.SAMPLE_RATE_HZ)]
        elif start_s < recording_s:
            waveform = audio.load(path, start_s, min(start_s + length_s, recording_s))
        else:
            raise UserError(
                f"{source} is {recording_s:.2f} s long: nothing is left at --start {start_s:g}."
            )
    except InputError as error:
        raise UserError(f"{error}.") from None
    return Excerpt(source, waveform, start_s, recording_s)
