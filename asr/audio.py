"""Files to waveforms: probe, decode, check, average the channels, resample to 16 kHz.

Whatever cannot be used raises `AudioError` with a fixed code; docs/bad-input.md lists them all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from asr.files import InputError

SAMPLE_RATE_HZ = 16_000
MINIMUM_DURATION_S = 0.1  # shorter recordings hold no word; training leaves them out

INT16_FULL_SCALE = 32_768
MAXIMUM_AMPLITUDE = 1e6  # float files written in other units than full scale reach 1e5
SAMPLE_RATES_HZ = range(1_000, 1_000_000)  # beyond these a header is damaged
SEGMENT_TOLERANCE_S = 0.05  # manifests round: an end so far past the file's is the file's

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

# What libsndfile notes when a header promises more bytes than the file has, and when the last
# page of an Ogg stream is not marked as the last.
_DATA_SIZE = re.compile(
    r"^\s*(?:data|SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE
)
_OGG_CUT = re.compile(r"lacks an end-of-stream bit|without an End-Of-Stream flag")
# Sizes written by programs that cannot go back to the header: the length is unknown, nothing is
# missing.
_UNKNOWN_SIZES = frozenset({0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFF000, 0xFFFFF000, 0x7FFFFFFF - 36})
# More frames than any file has: libsndfile's answer where a FLAC gives no length is 2**63 - 1.
_UNKNOWN_FRAMES = 2**62
_BLOCK_FRAMES = 1 << 16


class AudioError(InputError):
    """A recording that cannot be used. `reason` is one of the codes of docs/bad-input.md."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says. `codec` is libsndfile's name of the coding, e.g. `PCM_16`."""

    sample_rate_hz: int
    channels: int
    duration_s: float
    codec: str


def probe(path: str | Path) -> AudioInfo:
    """Reads a file's header, and its samples only where that gives no length.

    Raises:
        AudioError: `missing`, `bad-link`, `unreadable`, `empty-file`, `not-audio` or `no-codec`;
            of a file without a length `truncated` as well.
    """
    if Path(path).suffix.lower() in CODEC_EXTENSIONS:
        return _probe_with_torchcodec(path)
    with _open(path) as sound:
        rate_hz, frames = sound.samplerate, sound.frames
        if frames >= _UNKNOWN_FRAMES:
            frames = sum(map(len, _blocks(path, sound)))
        return AudioInfo(rate_hz, sound.channels, frames / rate_hz, sound.subtype)


def load(
    path: str | Path, start_s: float = 0.0, end_s: float | None = None
) -> npt.NDArray[np.float32]:
    """A file, or a stretch of one, as a waveform [S]: 16 kHz, mono, full scale at 1.

    Channels are averaged. Other rates are converted with soxr's HQ. A stretch is found by seeking,
    so a long file is not read for a short one, unless its header gives no length.

    Raises:
        AudioError: as `probe`, and `truncated`, `not-finite`, `bad-segment` or `too-short` (no
            sample at all).
    """
    if Path(path).suffix.lower() in CODEC_EXTENSIONS:
        waveform, rate_hz = _decode_with_torchcodec(path, start_s, end_s)
    else:
        waveform, rate_hz = _decode_with_soundfile(path, start_s, end_s)
    if not len(waveform):
        raise AudioError("too-short", f"{path} has no samples")
    _check_amplitude(path, waveform)
    if rate_hz != SAMPLE_RATE_HZ:
        waveform = soxr.resample(waveform, rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    return waveform


def blocks(path: str | Path) -> Iterator[npt.NDArray[np.float32]]:
    """A file in pieces that together are what `load` gives, at constant memory.

    Where that is only known at the end, an error comes after pieces. A file that FFmpeg decodes
    comes as one piece. Where a rate is converted, samples may differ from `load`'s by rounding.

    Raises:
        AudioError: as `load`.
    """
    if Path(path).suffix.lower() in CODEC_EXTENSIONS:
        yield load(path)
        return
    with _open(path) as sound:
        rate_hz = _checked_rate(path, sound)
        pieces = _finite(path, _counted(path, sound))
        if rate_hz == SAMPLE_RATE_HZ:
            yield from pieces
            return
        stream = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
        for piece in pieces:
            yield stream.resample_chunk(piece)
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def to_int16(waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Rounds a waveform to 16 bits; what is beyond full scale is clipped, never wrapped around."""
    scaled = waveform * np.float32(INT16_FULL_SCALE)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -INT16_FULL_SCALE, INT16_FULL_SCALE - 1, out=scaled)
    return scaled.astype(np.int16)


def _open(path: str | Path) -> soundfile.SoundFile:
    """Opens a file with libsndfile, or says why that cannot be."""
    _check_file(path)
    try:
        if Path(path).suffix.lower() == ".raw":  # AN4's original archive: no header
            return soundfile.SoundFile(
                path,
                samplerate=SAMPLE_RATE_HZ,
                channels=1,
                format="RAW",
                subtype="PCM_16",
                endian="BIG",
            )
        return soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise AudioError(
            "not-audio", f"{path} is not audio that can be read: {_why(error)}"
        ) from None


def _decode_with_soundfile(
    path: str | Path, start_s: float, end_s: float | None
) -> tuple[npt.NDArray[np.float32], int]:
    with _open(path) as sound:
        rate_hz = _checked_rate(path, sound)
        whole = start_s == 0.0 and end_s is None
        if sound.frames >= _UNKNOWN_FRAMES:
            samples = np.concatenate(list(_blocks(path, sound)))
            if not whole:
                first, count = _stretch(path, rate_hz, len(samples), start_s, end_s)
                samples = samples[first : first + count]
            return _mono(samples), rate_hz
        first, count = (0, -1) if whole else _stretch(path, rate_hz, sound.frames, start_s, end_s)
        try:
            if first:
                sound.seek(first)
            samples = sound.read(count, dtype="float32")
        except soundfile.LibsndfileError as error:
            raise AudioError("truncated", f"{path} breaks off: {_why(error)}") from None
        wanted = sound.frames if whole else count
        _check_count(path, sound, len(samples), wanted)
        if whole:
            _check_header(path, sound)
    return _mono(samples), rate_hz


def _counted(path: str | Path, sound: soundfile.SoundFile) -> Iterator[npt.NDArray[np.float32]]:
    """The samples of a whole file, its channels averaged; raises where some are missing."""
    count = 0
    for block in _blocks(path, sound):
        count += len(block)
        yield _mono(block)
    if not count:
        raise AudioError("too-short", f"{path} has no samples")
    if sound.frames < _UNKNOWN_FRAMES:
        _check_count(path, sound, count, sound.frames)
        _check_header(path, sound)


def _finite(
    path: str | Path, blocks: Iterator[npt.NDArray[np.float32]]
) -> Iterator[npt.NDArray[np.float32]]:
    for block in blocks:
        if len(block):
            _check_amplitude(path, block)
        yield block


def _blocks(path: str | Path, sound: soundfile.SoundFile) -> Iterator[npt.NDArray[np.float32]]:
    """The samples of a file, whether or not it says how many it has."""
    # After each block soundfile seeks to where it is already, which fails at an unforeseen end.
    sound.seekable = lambda: False
    while True:
        try:
            block = sound.read(_BLOCK_FRAMES, dtype="float32")
        except soundfile.LibsndfileError as error:
            raise AudioError("truncated", f"{path} breaks off: {_why(error)}") from None
        yield block
        if len(block) < _BLOCK_FRAMES:
            return


def _checked_rate(path: str | Path, sound: soundfile.SoundFile) -> int:
    rate_hz: int = sound.samplerate
    if rate_hz not in SAMPLE_RATES_HZ:
        raise AudioError("not-audio", f"{path} claims {rate_hz} samples a second")
    return rate_hz


def _check_amplitude(path: str | Path, waveform: npt.NDArray[np.float32]) -> None:
    # Written so that NaN, which compares as false, is refused as well.
    if not max(waveform.max(), -waveform.min()) <= MAXIMUM_AMPLITUDE:
        raise AudioError("not-finite", f"{path} has samples that are no numbers, or beyond measure")


def _check_count(path: str | Path, sound: soundfile.SoundFile, found: int, wanted: int) -> None:
    # MP3 states no length that binds: libsndfile estimates it, so fewer samples are no fault.
    if sound.format not in ("MP3", "MPEG") and found < wanted:
        raise AudioError("truncated", f"{path} breaks off: {found} of {wanted} samples can be read")


def _mono(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Channels averaged: [S] or [S, C] -> [S]."""
    return samples.mean(axis=1, dtype=np.float32) if samples.ndim == 2 else samples


def _stretch(
    path: str | Path, rate_hz: int, frames: int, start_s: float, end_s: float | None
) -> tuple[int, int]:
    """First frame and number of frames between two times."""
    first = round(start_s * rate_hz)
    last = frames if end_s is None else round(end_s * rate_hz)
    if first < 0 or last <= first or last > frames + SEGMENT_TOLERANCE_S * rate_hz:
        raise AudioError(
            "bad-segment",
            f"{path} is {frames / rate_hz:.2f} s long, {start_s} to {end_s} s is not in it",
        )
    return first, min(last, frames) - first


def _check_header(path: str | Path, sound: soundfile.SoundFile) -> None:
    """Raises `truncated` where the header promises more than the file has."""
    notes = sound.extra_info
    if size := _DATA_SIZE.search(notes):
        promised, present = int(size[1]), int(size[2])
        if promised > present and promised not in _UNKNOWN_SIZES:
            raise AudioError(
                "truncated", f"{path} breaks off: {present} of {promised} bytes of audio are there"
            )
    if _OGG_CUT.search(notes):
        raise AudioError("truncated", f"{path} breaks off: its last page is not there")
    if sound.format == "RAW" and os.path.getsize(path) % 2:
        raise AudioError("truncated", f"{path} breaks off: its last sample is half there")


def _check_file(path: str | Path) -> None:
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


def _why(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).rstrip(".").lower()


def _torchcodec(path: str | Path) -> Any:
    """A torchcodec decoder for what libsndfile does not read."""
    _check_file(path)
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
        why = _why_torchcodec(error)
        raise AudioError("not-audio", f"{path} is not audio that can be read: {why}") from None


def _why_torchcodec(error: Exception) -> str:
    """What FFmpeg says, without where in torchcodec's sources it was said."""
    return re.sub(r"^\w+, \S+:\d+, ", "", str(error).strip().splitlines()[0])


def _probe_with_torchcodec(path: str | Path) -> AudioInfo:
    found = _torchcodec(path).metadata
    duration_s = found.duration_seconds_from_header
    if not duration_s:
        samples, rate_hz = _decode_with_torchcodec(path, 0.0, None)
        duration_s = len(samples) / rate_hz
    return AudioInfo(found.sample_rate, found.num_channels, duration_s, found.codec or "")


def _decode_with_torchcodec(
    path: str | Path, start_s: float, end_s: float | None
) -> tuple[npt.NDArray[np.float32], int]:
    decoder = _torchcodec(path)
    duration_s = decoder.metadata.duration_seconds_from_header
    whole = start_s == 0.0 and end_s is None
    if duration_s and not whole:
        rate_hz = decoder.metadata.sample_rate
        _stretch(path, rate_hz, round(duration_s * rate_hz), start_s, end_s)
    try:
        # Where no length is given, what is there has to be decoded to know it.
        found = decoder.get_samples_played_in_range(
            *(start_s, end_s) if duration_s else (0.0, None)
        )
    except (RuntimeError, ValueError) as error:
        why = _why_torchcodec(error)
        raise AudioError("truncated", f"{path} breaks off: {why}") from None
    samples = found.data.mean(dim=0).numpy()  # [C, S] -> [S]
    if not duration_s and not whole:
        first, count = _stretch(path, found.sample_rate, len(samples), start_s, end_s)
        samples = samples[first : first + count]
    return samples, found.sample_rate
