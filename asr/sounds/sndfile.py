"""What libsndfile decodes: wav, flac, ogg, opus, mp3 and others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import soundfile

from asr.sounds.sound import AudioError, Floats, check_file

RAW_RATE_HZ = 16_000  # of files without a header: AN4's original archive

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


class SndfileSound:
    """An audio file opened by libsndfile (`asr.sounds.sound.Sound`).

    Raises:
        AudioError: `missing`, `bad-link`, `unreadable`, `empty-file` or `not-audio`.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._file = _open(path)
        self.rate_hz: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.frames: int | None = self._file.frames if self._file.frames < _UNKNOWN_FRAMES else None
        self.codec: str = self._file.subtype

    def blocks(self) -> Iterator[Floats]:
        # After each block soundfile seeks to where it is already, which fails at an unforeseen end.
        self._file.seekable = lambda: False
        # Asked for more than it has, libsndfile takes a whole Vorbis file for one that breaks off;
        # of Opus it says only then that one does.
        known = self.frames if self._file.subtype == "VORBIS" else None
        count = 0
        while known is None or count < known:
            wanted = _BLOCK_FRAMES if known is None else min(_BLOCK_FRAMES, known - count)
            block = self._read(wanted)
            count += len(block)
            yield block
            if len(block) < wanted:
                break
        if self.frames is not None:
            self._check_count(count, self.frames)
            self._check_header()

    def stretch(self, first: int, count: int) -> Floats:
        if first:
            try:
                self._file.seek(first)
            except soundfile.LibsndfileError as error:
                raise self._broken_off(error) from None
        samples = self._read(count)
        self._check_count(len(samples), count)
        return samples

    def close(self) -> None:
        self._file.close()

    def _read(self, count: int) -> Floats:
        try:
            samples: Floats = self._file.read(count, dtype="float32", always_2d=True)  # [S, C]
        except soundfile.LibsndfileError as error:
            raise self._broken_off(error) from None
        return samples

    def _broken_off(self, error: soundfile.LibsndfileError) -> AudioError:
        return AudioError("truncated", f"{self._path} breaks off: {_why(error)}")

    def _check_count(self, found: int, wanted: int) -> None:
        # MP3 states no length that binds: libsndfile estimates it, so fewer samples are no fault.
        if self._file.format not in ("MP3", "MPEG") and found < wanted:
            raise AudioError(
                "truncated", f"{self._path} breaks off: {found} of {wanted} samples can be read"
            )

    def _check_header(self) -> None:
        """Raises `truncated` where the header promises more than the file has."""
        notes = self._file.extra_info
        if size := _DATA_SIZE.search(notes):
            promised, present = int(size[1]), int(size[2])
            if promised > present and promised not in _UNKNOWN_SIZES:
                raise AudioError(
                    "truncated",
                    f"{self._path} breaks off: {present} of {promised} bytes of audio are there",
                )
        if _OGG_CUT.search(notes):
            raise AudioError("truncated", f"{self._path} breaks off: its last page is not there")
        if self._file.format == "RAW" and os.path.getsize(self._path) % 2:
            raise AudioError("truncated", f"{self._path} breaks off: its last sample is half there")


def _open(path: str | Path) -> soundfile.SoundFile:
    """Opens a file with libsndfile, or says why that cannot be."""
    check_file(path)
    name = os.fsencode(path)  # which soundfile cannot do where it is no UTF-8
    try:
        if Path(path).suffix.lower() == ".raw":
            return soundfile.SoundFile(
                name,
                samplerate=RAW_RATE_HZ,
                channels=1,
                format="RAW",
                subtype="PCM_16",
                endian="BIG",
            )
        return soundfile.SoundFile(name)
    except soundfile.LibsndfileError as error:
        raise AudioError(
            "not-audio", f"{path} is not audio that can be read: {_why(error)}"
        ) from None


def _why(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).rstrip(".").lower()
