"""How long files last and how long they will take, judged by some of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from asr.cluster.ahead import Ahead, TimedOut
from asr.cluster.plan import File, Part
from asr.cluster.transcription import Transcriber

PROBED = 200  # files whose headers are read
PATIENCE_S = 2.0  # with a disk that does not answer
HEADER_BYTES = 4096
COMPRESSED = 16_000  # bytes of a second, where the header is none of wav or flac: 128 kbit/s
MINUTES_S, HOURS_S = 60.0, 360.0  # from which on a length is told in these
HEARD_S = 60.0  # of audio that is recognised to see how fast that is


@dataclass(frozen=True)
class Estimate:
    """Seconds of audio in all, and seconds of audio that a worker does in a second (0: unknown)."""

    audio_s: float
    speed: float = 0.0

    def told(self, workers: int) -> str:
        """In a line."""
        line = f"about {length(self.audio_s)} of audio"
        if not self.speed:
            return line
        minutes = self.audio_s / self.speed / workers / 60
        took = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
        return f"{line}; about {took if minutes >= 1 else 'a minute'} of {workers} worker(s)"


def length(audio_s: float) -> str:
    """How long something lasts, in the unit in which it is a figure of some digits."""
    if audio_s < MINUTES_S:
        return f"{audio_s:.1f} s"
    if audio_s < HOURS_S:
        return f"{audio_s / 60:.1f} minutes"
    return f"{audio_s / 3600:.2f} hours"


def estimate(files: Sequence[File], size: int | None = None) -> Estimate:
    """How long files last that have `size` bytes in all and of which some are given.

    Nothing is decoded: a file over which a decoder ends its process must not end this one. Where
    the files do not come in a moment the length is unknown.
    """
    chosen = files[:: max(1, len(files) // PROBED)]
    deadline = time.perf_counter() + PATIENCE_S
    audio_s, probed = 0.0, 0
    for file, duration_s in Ahead(
        _duration_s, chosen, lambda _: max(0.0, deadline - time.perf_counter()), len(chosen) + 1
    ):
        if isinstance(duration_s, TimedOut):
            return Estimate(0.0)
        audio_s += duration_s
        probed += file.size
    size = sum(file.size for file in files) if size is None else size
    return Estimate(audio_s * size / probed if probed else 0.0)


def measured(transcriber: Transcriber, files: Sequence[File]) -> float:
    """Seconds of audio that are recognised in a second, the model loaded; 0 where none can be."""
    chosen: list[File] = []
    expected_s = 0.0
    for file in files:
        duration_s = _duration_s(file)
        if duration_s <= HEARD_S and expected_s < HEARD_S:
            chosen.append(file)
            expected_s += duration_s
    if not chosen:
        return 0.0
    for _ in range(2):  # what is compiled or loaded the first time does not count
        began = time.perf_counter()
        heard = transcriber.recognise(Part(tuple(chosen)))
        seconds = time.perf_counter() - began
    done = (outcome for outcome in heard if isinstance(outcome, list))
    return sum(transcript.duration_s for outcome in done for transcript in outcome) / seconds


def _duration_s(file: File) -> float:
    """About how long a recording lasts, by what the first bytes of its file say, and its size."""
    recording = file.recording
    if recording.end_s is not None:
        return recording.end_s - recording.start_s
    try:
        with open(recording.path, "rb") as handle:
            header = handle.read(HEADER_BYTES)
    except OSError:  # which is told when it is to be read
        return 0.0
    return max(0.0, file.size / (_bytes_per_s(header, file.size) or COMPRESSED) - recording.start_s)


def _bytes_per_s(header: bytes, size: int) -> float:
    """Of a wav or flac file that begins so; 0 of any other, and where it does not say."""
    if header[:4] in (b"RIFF", b"RF64") and (at := header.find(b"fmt ")) > 0:
        return float(int.from_bytes(header[at + 16 : at + 20], "little"))
    if header[:4] == b"fLaC":
        sound = int.from_bytes(header[18:26], "big")  # rate: 20 bits, ..., samples: 36 bits
        rate_hz, samples = sound >> 44, sound & (2**36 - 1)
        return size * rate_hz / samples if samples else 0.0
    return 0.0
