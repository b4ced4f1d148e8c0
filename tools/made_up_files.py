"""The machinery of a transcription alone: made-up recordings, and a model that does nothing.

All recordings are stretches of one small file, each with a name and a record of its own, so that
there may be a million. Journal, plan and job are the command's own. A process of its own, which
loads no more than a driver does: `python made_up_files.py 1000 outputs` prints JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from asr.cluster.executor import LocalExecutor, ProcessExecutor
from asr.cluster.job import Job
from asr.cluster.journal import Journal
from asr.cluster.plan import Choice, File, Part, Plan
from asr.cluster.transcription import Result, Settings, Transcriber
from asr.cluster.writing import Done
from asr.decoding.hypothesis import Hypothesis, Transcript, Word
from asr.inputs import Failure, Recording

MIB = 2**20
SAMPLES = 200  # of the memory
SECOND = (Word("nothing", 0.0, 0.9, 0.5),)


class Deaf(Transcriber):
    """Recognises nothing, at once; with a folder it writes that, as any worker would."""

    def __call__(self, part: Part) -> Result:
        """What became of the files."""
        if self.settings.folder is not None:
            return super().__call__(part)
        done = Done((("a.txt", "0" * 32), ("a.json", "0" * 32)), 1.0)
        return Result(tuple(done if file.wanted else None for file in part.files), {})

    def recognise(
        self, part: Part, ready: Callable[[int, list[Transcript]], None] | None = None
    ) -> list[list[Transcript] | Failure | None]:
        """A second of nothing."""
        found: list[list[Transcript] | Failure | None] = []
        for position, file in enumerate(part.files):
            nothing = (Hypothesis("nothing", -1.0, SECOND),)
            transcripts = [Transcript(file.recording.name, 1.0, nothing)]
            if ready:
                ready(position, transcripts)
            found.append(transcripts)
        return found


@dataclass
class Watched:
    """Keeps the driver's memory, now and then."""

    every: int
    began: float = field(default_factory=time.perf_counter)
    done: int = 0
    memory: list[tuple[int, float, float]] = field(default_factory=list)  # files, seconds, MiB

    def ended(self, file: File, outcome: Done | Failure) -> None:
        """One more."""
        self.done += 1
        if self.done % self.every == 0:
            self.memory.append((self.done, time.perf_counter() - self.began, memory_mib()))

    def say(self, line: str) -> None:
        """Nothing goes wrong here."""
        raise RuntimeError(line)


@dataclass(frozen=True)
class Machinery:
    """What a run without a model took: seconds until the first part, and from there to the end.

    `again_s` is how long the same command takes to find that all is done.
    """

    files: int
    outputs: bool
    plan_s: float
    work_s: float
    again_s: float
    memory: Sequence[tuple[int, float, float]]

    @property
    def files_a_second(self) -> float:
        """Once it has begun."""
        return self.files / self.work_s


def measure(files: int, outputs: bool) -> Machinery:
    """Do a job of so many files; with outputs, write text and JSON of each, durable per part."""
    with tempfile.TemporaryDirectory(prefix="made-up-", dir=os.environ.get("TMPDIR")) as made:
        folder = Path(made)
        (folder / "one.wav").write_bytes(bytes(44))
        recordings = [
            Recording(str(folder / "one.wav"), f"{number // 1000:04d}/{number:07d}", float(number))
            for number in range(files)
        ]
        out = folder / "out"
        settings = Settings("none", ("txt", "json"), str(out) if outputs else None)
        watched = Watched(max(1, files // SAMPLES))
        plan_s, work_s = _run(recordings, out, settings, watched)
        if watched.done != files:
            raise RuntimeError(f"{watched.done} of {files} were done")
        again_s = sum(_run(recordings, out, settings, Watched(files)))
        return Machinery(files, outputs, plan_s, work_s, again_s, tuple(watched.memory))


def _run(
    recordings: list[Recording], out: Path, settings: Settings, watched: Watched
) -> tuple[float, float]:
    """Seconds of planning, and of the work."""
    began = time.perf_counter()
    with Journal(out) as journal:
        plan = Plan(recordings, journal, "settings", Choice(), 255)
        planned = watched.began = time.perf_counter()
        worker = Deaf(Settings(**{**vars(settings), "token": journal.token}))
        Job(plan, journal, worker, LocalExecutor(), ProcessExecutor(), watched, True).run()
    return planned - began, time.perf_counter() - planned


def memory_mib() -> float:
    """Of this process, resident."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


if __name__ == "__main__":
    print(json.dumps(asdict(measure(int(sys.argv[1]), sys.argv[2] == "outputs"))))
