"""Files to waveforms: probe, decode, check, choose or average channels, resample to 16 kHz.

Whatever cannot be used raises `AudioError` with a fixed code; docs/bad-input.md lists them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from asr.sounds.ffmpeg import FfmpegSound
from asr.sounds.sndfile import SndfileSound
from asr.sounds.sound import (
    SEGMENT_TOLERANCE_S,
    AudioError,
    Floats,
    Sound,
    check_amplitude,
    check_channel,
    check_length,
    check_rate,
    mono,
    span,
)

__all__ = [
    "CODEC_EXTENSIONS",
    "EXTENSIONS",
    "INT16_FULL_SCALE",
    "MINIMUM_DURATION_S",
    "SAMPLE_RATE_HZ",
    "SEGMENT_TOLERANCE_S",
    "SOUNDFILE_EXTENSIONS",
    "AudioError",
    "AudioInfo",
    "blocks",
    "load",
    "probe",
    "to_int16",
]

SAMPLE_RATE_HZ = 16_000
MINIMUM_DURATION_S = 0.1  # shorter recordings hold no word; training leaves them out
INT16_FULL_SCALE = 32_768

SOUNDFILE_EXTENSIONS = frozenset(
    (
        *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".sph", ".raw"),
        *(".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64"),
    )
)
CODEC_EXTENSIONS = frozenset(
    (".m4a", ".aac", ".mp4", ".mka", ".mkv", ".webm", ".wma", ".amr", ".mov")
)
EXTENSIONS = SOUNDFILE_EXTENSIONS | CODEC_EXTENSIONS


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says. `codec` is the decoder's name of the coding, e.g. `PCM_16`."""

    sample_rate_hz: int
    channels: int
    duration_s: float
    codec: str


def probe(path: str | Path, limit_s: float | None = None) -> AudioInfo:
    """Reads a file's header, and its samples only where that gives no length.

    Of those no more than `limit_s` seconds are read, at constant memory.

    Raises:
        AudioError: `missing`, `bad-link`, `unreadable`, `empty-file`, `not-audio` or `no-codec`;
            `too-long` where it lasts longer than `limit_s`; of a file without a length `truncated`
            as well.
    """
    with closing(_open(path)) as sound:
        frames = sound.frames
        if frames is None:
            frames = sum(map(len, _limited(path, sound, limit_s)))
        check_length(path, sound, frames, limit_s)
        return AudioInfo(sound.rate_hz, sound.channels, frames / sound.rate_hz, sound.codec)


def load(
    path: str | Path,
    start_s: float = 0.0,
    end_s: float | None = None,
    *,
    channel: int | None = None,
    limit_s: float | None = None,
) -> npt.NDArray[np.float32]:
    """A file, or a stretch of one, as a waveform [S]: 16 kHz, mono, full scale at 1.

    Channels are averaged, or one is taken, counted from 0. Other rates are converted with soxr's
    HQ. A stretch is found by seeking, so a long file is not read for a short one, unless its header
    gives no length; then it is read as far as the stretch goes. Of file or stretch no more is
    kept than `limit_s` seconds, whatever the header says.

    Raises:
        AudioError: as `probe`, and `truncated`, `not-finite`, `bad-segment`, `no-channel` or
            `too-short` (no sample at all).
    """
    with closing(_open(path)) as sound:
        check_rate(path, sound)
        check_channel(path, sound, channel)
        rate_hz = sound.rate_hz
        if start_s == 0.0 and end_s is None:
            pieces = [mono(block, channel) for block in _limited(path, sound, limit_s)]
            waveform = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        elif sound.frames is None:
            waveform = _searched(path, sound, start_s, end_s, channel, limit_s)
        else:
            first, count = span(path, rate_hz, sound.frames, start_s, end_s)
            check_length(path, sound, count, limit_s)
            waveform = mono(sound.stretch(first, count), channel)
    if not len(waveform):
        raise AudioError("too-short", f"{path} has no samples")
    check_amplitude(path, waveform)
    if rate_hz != SAMPLE_RATE_HZ:
        waveform = soxr.resample(waveform, rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    return waveform


def blocks(
    path: str | Path, *, channel: int | None = None, limit_s: float | None = None
) -> Iterator[npt.NDArray[np.float32]]:
    """A file in pieces that together are what `load` gives, at constant memory.

    Where that is only known at the end, an error comes after pieces. Where a rate is converted,
    samples may differ from `load`'s by rounding.

    Raises:
        AudioError: as `load`; `too-long` before anything is decoded where the header says so.
    """
    with closing(_open(path)) as sound:
        check_rate(path, sound)
        check_channel(path, sound, channel)
        pieces = _checked(path, _limited(path, sound, limit_s), channel)
        if sound.rate_hz == SAMPLE_RATE_HZ:
            yield from pieces
            return
        stream = soxr.ResampleStream(
            sound.rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ"
        )
        for piece in pieces:
            yield stream.resample_chunk(piece)
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def to_int16(waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Rounds a waveform to 16 bits; what is beyond full scale is clipped, never wrapped around."""
    scaled = waveform * np.float32(INT16_FULL_SCALE)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -INT16_FULL_SCALE, INT16_FULL_SCALE - 1, out=scaled)
    return scaled.astype(np.int16)


def _open(path: str | Path) -> Sound:
    if Path(path).suffix.lower() in CODEC_EXTENSIONS:
        return FfmpegSound(path)
    return SndfileSound(path)


def _limited(path: str | Path, sound: Sound, limit_s: float | None) -> Iterator[Floats]:
    """Blocks [S, C] of a file that is not too long, as its header says and as it turns out."""
    check_length(path, sound, sound.frames or 0, limit_s)
    count = 0
    for block in sound.blocks():
        count += len(block)
        check_length(path, sound, count, limit_s)
        yield block


def _searched(
    path: str | Path,
    sound: Sound,
    start_s: float,
    end_s: float | None,
    channel: int | None,
    limit_s: float | None,
) -> Floats:
    """A stretch [S] of a file of unknown length, which is read from its beginning to its end."""
    first = round(start_s * sound.rate_hz)
    last = None if end_s is None else round(end_s * sound.rate_hz)
    pieces, kept, count = [], 0, 0
    for block in sound.blocks():
        stretch = block[max(first - count, 0) : None if last is None else last - count]
        kept += len(stretch)
        count += len(block)
        check_length(path, sound, kept, limit_s)
        if len(stretch):  # even an empty view would keep its block
            pieces.append(mono(stretch, channel))
        if last is not None and count >= last:
            break
    span(path, sound.rate_hz, count, start_s, end_s)  # raises where it is none of the file
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def _checked(path: str | Path, blocks: Iterable[Floats], channel: int | None) -> Iterator[Floats]:
    """Blocks [S] of a file that has samples, all of them numbers."""
    count = 0
    for block in blocks:
        samples = mono(block, channel)  # [S, C] -> [S]
        check_amplitude(path, samples)
        count += len(samples)
        yield samples
    if not count:
        raise AudioError("too-short", f"{path} has no samples")
