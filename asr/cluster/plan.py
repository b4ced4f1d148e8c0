"""What a job consists of: recordings cut into parts, and what is to be done for each of them.

How recordings are cut depends on the list of them, in its order, and on their sizes alone: not on
what is done already, nor on who does it. So what is recognised together is the same in a job that
was killed and goes on, and its results are the same to the last digit.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from asr.cluster.journal import Journal, Record
from asr.files import digest_bytes
from asr.inputs import Failure, Recording

PART_FILES = 128
PART_BYTES = 16 * 2**20  # of audio as it lies on the disk: some eight minutes of 16-bit WAV

SAMPLE = 200  # at least, where there are as many

# Failures of recordings that end the process at work on them.
DEADLY = ("crashed", "timed-out")


@dataclass(frozen=True, slots=True)
class File:
    """A recording as it lies there: how large, and when it was changed.

    Where it is not `wanted` it has its outputs already, and is recognised only for those that are
    recognised together with it.
    """

    recording: Recording
    size: int
    changed_ns: int
    wanted: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """Files that go to a worker together."""

    files: tuple[File, ...]

    @property
    def key(self) -> str:
        """The same for the same files."""
        names = [(f.recording.path, f.recording.start_s, f.recording.end_s) for f in self.files]
        return digest_bytes(repr(names).encode())

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Choice:
    """Which recorded files are done again: all of them, or those that failed."""

    everything: bool = False
    failed: bool = False


@dataclass
class Totals:
    """Files and bytes by what is to be done with them.

    `changed` counts those of the wanted that are recorded, but the file, the model or the settings
    are others now; `sample` are some of the wanted, from all over the list.
    """

    wanted: int = 0
    wanted_bytes: int = 0
    done: int = 0
    failed: int = 0
    changed: int = 0
    sample: list[File] = field(default_factory=list)

    def want(self, file: File, changed: bool) -> None:
        """One more is to be done."""
        self.wanted += 1
        self.wanted_bytes += file.size
        self.changed += changed
        if self.wanted % self._step == 0:
            self.sample.append(file)
        if len(self.sample) > 2 * SAMPLE:
            del self.sample[::2]
            self._step *= 2

    _step: int = 1


def survey(
    recordings: Iterable[Recording], longest_name: int
) -> Iterator[tuple[Recording, File | Failure]]:
    """Recordings as they lie there now, and those of them that are none."""
    for recording in recordings:
        try:
            status = os.stat(recording.path)
        except OSError as error:
            what = f"{recording.path} is gone: {error.strerror}"
            yield recording, Failure(recording.path, "find", "missing", what)
            continue
        if not stat.S_ISREG(status.st_mode):
            what = f"{recording.path} is no file but a pipe, a device or a folder"
            yield recording, Failure(recording.path, "find", "not-audio", what)
        elif any(len(os.fsencode(part)) > longest_name for part in recording.name.split("/")):
            what = f"{recording.path}: its outputs' name would be too long for the file system"
            yield recording, Failure(recording.path, "find", "name-too-long", what)
        else:
            yield recording, File(recording, status.st_size, status.st_mtime_ns)


def parts_of(files: Iterable[File]) -> Iterator[Part]:
    """Files in their order, cut where one more would be too many or too large."""
    chosen: list[File] = []
    size = 0
    for file in files:
        if chosen and (len(chosen) == PART_FILES or size + file.size > PART_BYTES):
            yield Part(tuple(chosen))
            chosen, size = [], 0
        chosen.append(file)
        size += file.size
    if chosen:
        yield Part(tuple(chosen))


class Plan:
    """What is to be done for each recording, as the journal knows it.

    `settings` is the digest of model, decoder and formats: what is recorded with other ones counts
    as not done.
    """

    def __init__(
        self,
        recordings: Iterable[Recording],
        journal: Journal,
        settings: str,
        choice: Choice,
        longest_name: int,
    ) -> None:
        self.recordings = list(_settled(recordings, journal))
        self.settings = settings
        self._journal = journal
        self._choice = choice
        self._longest_name = longest_name

    def count(self) -> tuple[Totals, list[Failure]]:
        """Totals, and what cannot be transcribed as it lies there."""
        totals, failures = Totals(), []
        for _, file in survey(self.recordings, self._longest_name):
            if isinstance(file, Failure):
                failures.append(file)
                continue
            record = self._record(file)
            if self._wanted(file, record):
                totals.want(file, record is not None and not self._valid(file, record))
            elif record is not None and record.failure is not None:
                totals.failed += 1
            else:
                totals.done += 1
        return totals, failures

    def parts(self) -> Iterator[Part]:
        """The parts in which a file is wanted, each whole but for files that end their worker."""
        for part in parts_of(self._files()):
            files = [
                replace(file, wanted=self._wanted(file, record))
                for file in part.files
                if not self._deadly(file, record := self._record(file))
            ]
            if any(file.wanted for file in files):
                yield Part(tuple(files))

    def attempts(self, file: File) -> int:
        """How many times its work has ended in this state: done or failed."""
        record = self._record(file)
        return record.attempts if record is not None and self._valid(file, record) else 0

    def _files(self) -> Iterator[File]:
        for _, file in survey(self.recordings, self._longest_name):
            if isinstance(file, File):
                yield file

    def _record(self, file: File) -> Record | None:
        recording = file.recording
        return self._journal.find(recording.path, recording.start_s, recording.end_s)

    def _valid(self, file: File, record: Record) -> bool:
        return (record.size, record.changed_ns, record.settings) == (
            file.size,
            file.changed_ns,
            self.settings,
        )

    def _wanted(self, file: File, record: Record | None) -> bool:
        if record is None or self._choice.everything or not self._valid(file, record):
            return True
        return record.failure is not None and self._choice.failed

    def _deadly(self, file: File, record: Record | None) -> bool:
        """Whether it is left out, so that those beside it can be recognised at all."""
        if record is None or record.failure is None or self._wanted(file, record):
            return False
        return record.failure.reason in DEADLY


def _settled(recordings: Iterable[Recording], journal: Journal) -> Iterator[Recording]:
    """Recordings under the names that are recorded; none takes a name that another one has."""
    recordings = list(recordings)
    names: set[str] | None = None
    for recording in recordings:
        record = journal.find(recording.path, recording.start_s, recording.end_s)
        if record is not None:
            yield replace(recording, name=record.name)
        elif journal.holder_of(recording.name) is None:
            yield recording
        else:
            names = names or {other.name for other in recordings}
            name = _free(recording, names, journal)
            names.add(name)
            yield replace(recording, name=name)


def _free(recording: Recording, names: set[str], journal: Journal) -> str:
    """The name with the file's ending, or else with a number, that nobody has."""
    ending = os.path.splitext(recording.path)[1]
    number = 1
    name = recording.name + ending
    while name in names or journal.holder_of(name) is not None:
        number += 1
        name = f"{recording.name}{ending}.{number}"
    return name
