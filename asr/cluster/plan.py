"""What a job consists of: recordings cut into parts, and what is to be done for each of them.

How recordings are cut depends on the list of them, in its order, and on their sizes alone: not on
what is done already, nor on who does it. So what is recognised together is the same in a job that
was killed and goes on, and its results are the same to the last digit.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from asr.cluster.journal import FOLDER, Journal, Record
from asr.files import digest_bytes
from asr.inputs import Failure, Recording

PART_FILES = 128
PART_BYTES = 16 * 2**20  # of audio as it lies on the disk: some eight minutes of 16-bit WAV

SAMPLE = 200  # at least, where there are as many

# Failures of recordings that end the process at work on them.
DEADLY_REASONS = ("crashed", "timed-out")

KEPT, WANTED, DEADLY = range(3)  # what becomes of a file


@dataclass(frozen=True, slots=True)
class File:
    """A recording as it lies there: how large, and when it was changed.

    Where it is not `wanted` it has its outputs already, and is recognised only for those that are
    recognised together with it. `attempts` says how often its work has ended in this state before,
    done or failed; where it is `recorded` at all, in whatever state, files of its outputs' names
    are its own.
    """

    recording: Recording
    size: int
    changed_ns: int
    wanted: bool = True
    attempts: int = 0
    recorded: bool = False


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

    Of the wanted that are recorded, `changed` counts those whose file is another one now, and
    `outdated` those whose file is the same, but the model or the settings are others; `sample` are
    some of the wanted, from all over the list.
    """

    wanted: int = 0
    wanted_bytes: int = 0
    done: int = 0
    failed: int = 0
    changed: int = 0
    outdated: int = 0
    sample: list[File] = field(default_factory=list)

    def want(self, file: File) -> None:
        """One more is to be done."""
        self.wanted += 1
        self.wanted_bytes += file.size
        if self.wanted % self._step == 0:
            self.sample.append(file)
        if len(self.sample) > 2 * SAMPLE:
            del self.sample[::2]
            self._step *= 2

    _step: int = 1


def survey(recordings: Iterable[Recording], longest_name: int) -> Iterator[File | Failure]:
    """Recordings as they lie there now, and those of them that are none."""
    for recording in recordings:
        try:
            status = os.stat(recording.path)
        except OSError as error:
            what = f"{recording.path} is gone: {error.strerror}"
            yield Failure(recording.path, "find", "missing", what)
            continue
        if not stat.S_ISREG(status.st_mode):
            what = f"{recording.path} is no file but a pipe, a device or a folder"
            yield Failure(recording.path, "find", "not-audio", what)
        elif recording.name.split("/")[0] == FOLDER:
            what = f"{recording.path}: its outputs would lie in {FOLDER}, where the journal is"
            yield Failure(recording.path, "find", "name-taken", what)
        elif _is_too_long(recording.name, longest_name):
            what = f"{recording.path}: its outputs' name would be too long for the file system"
            yield Failure(recording.path, "find", "name-too-long", what)
        else:
            yield File(recording, status.st_size, status.st_mtime_ns)


def _is_too_long(name: str, longest: int) -> bool:
    """Whether its last part is: those before it are folders, which get no ending."""
    return len(name) * 4 > longest and len(os.fsencode(name).rpartition(b"/")[2]) > longest


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

    All recordings are looked at once, when the plan is made: what happens to a file afterwards is
    for those to find who read it. `recordings` have the names of their outputs, `totals` say how
    much there is to do, `failures` are what cannot be transcribed as it lies there. `settings` is
    the digest of model, decoder and formats: what is recorded with other ones is not done.
    """

    def __init__(
        self,
        recordings: Iterable[Recording],
        journal: Journal,
        settings: str,
        choice: Choice,
        longest_name: int,
    ) -> None:
        self.recordings = list(recordings)
        self.settings = settings
        self.totals = Totals()
        self.failures: list[Failure] = []
        self._choice = choice
        # Of what can be transcribed: a million files' objects would take a gigabyte.
        self._positions = array("q")  # among the recordings
        self._sizes = array("q")
        self._changed_ns = array("q")
        self._attempts = array("L")
        self._kinds = bytearray()
        self._recorded = bytearray()
        records = _settle(self.recordings, journal)
        for position, (record, file) in enumerate(
            zip(records, survey(self.recordings, longest_name), strict=True)
        ):
            if isinstance(file, Failure):
                self.failures.append(file)
            else:
                self._add(position, file, record)

    def parts(self) -> Iterator[Part]:
        """The parts in which a file is wanted, each whole but for files that end their worker."""
        last = 0
        for part in parts_of(self._files()):
            first, last = last, last + len(part.files)
            if WANTED in self._kinds[first:last]:
                kinds = self._kinds[first:last]
                files = zip(part.files, kinds, strict=True)
                yield Part(tuple(file for file, kind in files if kind != DEADLY))

    def _add(self, position: int, file: File, record: Record | None) -> None:
        """One more file, with its record."""
        same = record is not None and _is_same(file, record)
        valid = record is not None and same and record.settings == self.settings
        kind = self._kind(record, valid)
        if kind == WANTED:
            self.totals.want(file)
            if record is not None and not valid:
                self.totals.outdated += same
                self.totals.changed += not same
        elif record is not None and record.failure is not None:
            self.totals.failed += 1
        else:
            self.totals.done += 1
        self._positions.append(position)
        self._sizes.append(file.size)
        self._changed_ns.append(file.changed_ns)
        self._attempts.append(record.attempts if record is not None and valid else 0)
        self._kinds.append(kind)
        self._recorded.append(record is not None)

    def _kind(self, record: Record | None, valid: bool) -> int:
        if record is None or self._choice.everything or not valid:
            return WANTED
        if record.failure is None:
            return KEPT
        if self._choice.failed:
            return WANTED
        # What ended its worker is left out, so that those beside it can be recognised at all.
        return DEADLY if record.failure.reason in DEADLY_REASONS else KEPT

    def _files(self) -> Iterator[File]:
        columns = (self._positions, self._sizes, self._changed_ns, self._kinds)
        before = zip(self._attempts, self._recorded, strict=True)
        for (position, size, changed_ns, kind), (attempts, recorded) in zip(
            zip(*columns, strict=True), before, strict=True
        ):
            recording, wanted = self.recordings[position], kind == WANTED
            yield File(recording, size, changed_ns, wanted, attempts, bool(recorded))


def _is_same(file: File, record: Record) -> bool:
    """Whether a file is as it was when it was recorded."""
    return (record.size, record.changed_ns) == (file.size, file.changed_ns)


def _settle(recordings: list[Recording], journal: Journal) -> Iterator[Record | None]:
    """Each recording's record, once it has the name that is recorded, or one that nobody has."""
    names: set[str] | None = None
    for position, recording in enumerate(recordings):
        record = journal.find(recording.path, recording.start_s, recording.end_s)
        if record is not None:
            if recording.name != record.name:
                recordings[position] = replace(recording, name=record.name)
        elif journal.holder_of(recording.name) is not None:
            names = names or {other.name for other in recordings}
            name = _free(recording, names, journal)
            names.add(name)
            recordings[position] = replace(recording, name=name)
        yield record


def _free(recording: Recording, names: set[str], journal: Journal) -> str:
    """The name with the file's ending, or else with a number, that nobody has."""
    ending = os.path.splitext(recording.path)[1]
    number = 1
    name = recording.name + ending
    while name in names or journal.holder_of(name) is not None:
        number += 1
        name = f"{recording.name}{ending}.{number}"
    return name
