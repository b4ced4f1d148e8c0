"""What FFmpeg decodes (m4a, mp4, webm and others), through torchcodec."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asr.sounds.sound import AudioError, Floats, check_file

BLOCK_S = 20  # whole seconds, so that a block begins with a sample at any rate
LOST_S = 1.0  # so much less than the header promises is no rounding
ESTIMATED = frozenset((".aac",))  # has no header: FFmpeg estimates the length
# FFmpeg does not find its way back to a time in these, so they are decoded in one piece.
UNSEEKABLE = frozenset((".wma",))

# What torchcodec says where a range has no sample.
_NOTHING_THERE = "No audio frames were decoded"


class FfmpegSound:
    """An audio file, or the audio of a video, opened by FFmpeg (`asr.sounds.sound.Sound`).

    Raises:
        AudioError: `missing`, `bad-link`, `unreadable`, `empty-file`, `no-codec` or `not-audio`.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._decoder = _decoder(path)
        found = self._decoder.metadata
        duration_s = found.duration_seconds_from_header
        self.rate_hz: int = found.sample_rate
        self.channels: int = found.num_channels
        self.frames: int | None = round(duration_s * self.rate_hz) if duration_s else None
        self.codec: str = found.codec or ""

    def blocks(self) -> Iterator[Floats]:
        wanted = self.frames or 0
        ending = Path(self._path).suffix.lower()
        unseekable = ending in UNSEEKABLE
        begin_s = count = 0
        while True:
            samples = self._played(begin_s, None if unseekable else begin_s + BLOCK_S)
            begin_s += BLOCK_S
            if samples is not None:
                count += len(samples)
                yield samples
            # Where nothing is found, something may come later: audio that begins after its video.
            if unseekable or (samples is None and begin_s * self.rate_hz >= wanted):
                break
        if ending not in ESTIMATED and count < wanted - LOST_S * self.rate_hz:
            raise AudioError(
                "truncated", f"{self._path} breaks off: {count} of {wanted} samples can be read"
            )

    def stretch(self, first: int, count: int) -> Floats:
        samples = self._played(first / self.rate_hz, (first + count) / self.rate_hz)
        if samples is None:
            raise AudioError("truncated", f"{self._path} breaks off before the stretch")
        return samples

    def close(self) -> None:
        del self._decoder

    def _played(self, start_s: float, end_s: float | None) -> Floats | None:
        """The samples [S, C] between two times; None where there are none."""
        try:
            found = self._decoder.get_samples_played_in_range(start_s, end_s)
        except (RuntimeError, ValueError) as error:
            if _NOTHING_THERE in str(error):
                return None
            raise AudioError("truncated", f"{self._path} breaks off: {_why(error)}") from None
        samples: Floats = found.data.numpy().T  # [C, S] -> [S, C]
        return samples


def _decoder(path: str | Path) -> Any:
    check_file(path)
    try:
        from torchcodec.decoders import AudioDecoder
    except (ImportError, RuntimeError):  # RuntimeError: it is there, but FFmpeg is not
        raise AudioError(
            "no-codec",
            f"{path} needs torchcodec and FFmpeg: install them, or convert the file to wav or flac",
        ) from None
    try:
        return AudioDecoder(str(path))
    except (RuntimeError, ValueError) as error:
        raise AudioError(
            "not-audio", f"{path} is not audio that can be read: {_why(error)}"
        ) from None


def _why(error: Exception) -> str:
    """What FFmpeg says, without where in torchcodec's sources it was said."""
    return re.sub(r"^\w+, \S+:\d+, ", "", str(error).strip().splitlines()[0])
