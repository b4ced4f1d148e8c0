"""What the machinery of `asr transcribe -o` costs: the same archive in a plain loop and as a job.

The plain loop has the model in this process and calls it in batches by length, of the same files
that the job recognises together: it reads a batch's files, recognises them, forgets the texts. No
file is read ahead, nothing is written or recorded; what cannot be read is left out. The job reads
ahead, writes text and JSON, flushes and records them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from archive import make_archive

from asr import audio
from asr.bundle import Bundle, load
from asr.cluster.executor import Executor, LocalExecutor, ProcessExecutor, RayExecutor
from asr.cluster.job import Job
from asr.cluster.journal import Journal
from asr.cluster.plan import Choice, File, Plan, parts_of, survey
from asr.cluster.transcription import Settings, Transcriber
from asr.cluster.writing import Done
from asr.files import InputError
from asr.inputs import Failure, find_recordings
from asr.waveforms import BATCH_S, batches_by_length

LONGEST_NAME = 240


@dataclass
class Watched:
    """When files ended, and how much audio they had."""

    ended_at: list[tuple[float, float]] = field(default_factory=list)
    failed: int = 0

    def ended(self, file: File, outcome: Done | Failure) -> None:
        """One more."""
        if isinstance(outcome, Failure):
            self.failed += 1
        else:
            self.ended_at.append((time.perf_counter(), outcome.audio_s))

    def say(self, line: str) -> None:
        """Nothing is lost here."""
        raise RuntimeError(line)


@dataclass(frozen=True)
class Timed:
    """An archive done in one way: seconds, how many files and how much audio had a transcript.

    `steady` is seconds of audio a second from the end of the first part to that of the last: what
    remains where starting is not counted. `waits` is what workers spent on it, by stage.
    """

    way: str
    seconds: float
    files: int
    failed: int
    audio_s: float
    steady: float
    stages: dict[str, float] = field(default_factory=dict)


def measure(
    model: str, sources: Sequence[Path], files: int, repeats: int, ray: bool
) -> list[Timed]:
    """Each way in its turn, `repeats` times; those on Ray once each."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="machinery-") as made:
        folder = Path(made)
        make_archive(sources, folder / "archive", files)
        bundle = load(model)
        bundle.transcribe(list(sources[:4]))  # the first call sets libraries up
        found: list[Timed] = []
        for number in range(repeats):
            found.append(plain(bundle, folder / "archive"))
            out = folder / f"out-{number}"
            found.append(as_job("1 worker, here", model, folder / "archive", out, LocalExecutor))
        for workers in (1, 2) if ray else ():
            way = f"{workers} worker{'s' * (workers > 1)}, Ray"
            out = folder / f"out-ray-{workers}"
            executor = lambda count=workers: RayExecutor(count)  # noqa: E731
            found.append(as_job(way, model, folder / "archive", out, executor))
        return found


def plain(bundle: Bundle, archive: Path) -> Timed:
    """The plain loop."""
    began = time.perf_counter()
    recordings, _ = find_recordings([str(archive)])
    audio_s, done, failed = 0.0, 0, 0
    found = survey(recordings, LONGEST_NAME)
    for part in parts_of(file for file in found if isinstance(file, File)):
        probed = []
        for file in part.files:
            try:
                probed.append((file, audio.probe(file.recording.path).duration_s))
            except InputError:
                failed += 1
        for batch in batches_by_length([duration_s for _, duration_s in probed], BATCH_S):
            waveforms, names = [], []
            for position in batch:
                path = probed[position][0].recording.path
                try:
                    waveforms.append(audio.load(path))
                    names.append(path)
                except InputError:
                    failed += 1
            transcripts = bundle.recognise(waveforms, names)
            audio_s += sum(transcript.duration_s for transcript in transcripts)
            done += len(transcripts)
    seconds = time.perf_counter() - began
    return Timed("plain loop", seconds, done, failed, audio_s, audio_s / seconds)


def as_job(way: str, model: str, archive: Path, out: Path, make: Callable[[], Executor]) -> Timed:
    """The job, from looking at the archive to the last record; the model's loading and all."""
    began = time.perf_counter()
    recordings, _ = find_recordings([str(archive)])
    watched = Watched()
    with Journal(out) as journal:
        plan = Plan(recordings, journal, "settings", Choice(), LONGEST_NAME)
        settings = Settings(
            str(Path(model).resolve()), ("txt", "json"), str(out), threads=1, token=journal.token
        )
        with make() as executor:
            here = isinstance(executor, LocalExecutor)
            trials = ProcessExecutor() if here else executor
            job = Job(plan, journal, Transcriber(settings), executor, trials, watched, here)
            job.run()
    seconds = time.perf_counter() - began
    audio_s = sum(length for _, length in watched.ended_at)
    first, last = watched.ended_at[0][0], watched.ended_at[-1][0]
    before = sum(length for at, length in _of_first_part(watched, first))
    steady = (audio_s - before) / (last - first) if last > first else 0.0
    done = len(watched.ended_at)
    return Timed(way, seconds, done, watched.failed, audio_s, steady, dict(job.seconds))


def _of_first_part(watched: Watched, first: float) -> Iterator[tuple[float, float]]:
    """What was recorded together with the first file: within a hundredth of a second."""
    return ((at, length) for at, length in watched.ended_at if at - first < 0.01)
