"""How long files last and how long they will take, judged by some of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from asr import audio
from asr.cluster.plan import File, Part
from asr.cluster.transcription import Transcriber

PROBED = 200  # files whose headers are read
HEARD_S = 60.0  # of audio that is recognised to see how fast that is


@dataclass(frozen=True)
class Estimate:
    """Seconds of audio in all, and seconds of audio that a worker does in a second (0: unknown)."""

    audio_s: float
    speed: float = 0.0

    def told(self, workers: int) -> str:
        """In a line."""
        line = f"about {self.audio_s / 3600:.2f} hours of audio"
        if not self.speed:
            return line
        minutes = self.audio_s / self.speed / workers / 60
        took = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
        return f"{line}; about {took if minutes >= 1 else 'a minute'} of {workers} worker(s)"


def estimate(files: Sequence[File], size: int | None = None) -> Estimate:
    """How long files last that have `size` bytes in all and of which some are given."""
    audio_s, probed = 0.0, 0
    for file in files[:: max(1, len(files) // PROBED)]:
        try:
            audio_s += _duration_s(file)
        except Exception:  # noqa: BLE001  what is wrong with it is told when it is to be read
            continue
        probed += file.size
    size = sum(file.size for file in files) if size is None else size
    return Estimate(audio_s * size / probed if probed else 0.0)


def measured(transcriber: Transcriber, files: Sequence[File]) -> float:
    """Seconds of audio that are recognised in a second, the model loaded; 0 where none can be."""
    chosen: list[File] = []
    audio_s = 0.0
    for file in files:
        try:
            duration_s = _duration_s(file)
        except Exception:  # noqa: BLE001
            continue
        if duration_s <= HEARD_S and audio_s < HEARD_S:
            chosen.append(file)
            audio_s += duration_s
    if not chosen:
        return 0.0
    for _ in range(2):  # what is compiled or loaded the first time does not count
        began = time.perf_counter()
        transcriber.recognise(Part(tuple(chosen)))
        seconds = time.perf_counter() - began
    return audio_s / seconds


def _duration_s(file: File) -> float:
    recording = file.recording
    end_s = recording.end_s
    return (audio.probe(recording.path).duration_s if end_s is None else end_s) - recording.start_s
