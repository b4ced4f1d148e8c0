"""The job: parts go to workers, what becomes of their files goes into the journal.

A part whose worker is lost is done again. Where that happens too often, its files are tried one by
one; those that end their worker again have failed, and the others are recognised together as if
those had never been there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from asr.cluster.executor import Executor, Lost
from asr.cluster.journal import Journal, Record
from asr.cluster.plan import File, Part, Plan
from asr.cluster.transcription import Result, Transcriber, Trial
from asr.cluster.writing import Done
from asr.inputs import Failure

PART_LOSSES = 3  # of a part's worker, before its files are tried one by one
FILE_LOSSES = 2  # of a file's worker, before that is the file's failure


class Watcher(Protocol):
    """Is told what happens, when it is recorded."""

    def ended(self, file: File, outcome: Done | Failure) -> None:
        """A file is done or has failed."""
        ...

    def say(self, line: str) -> None:
        """Something that is no file's own affair."""
        ...


@dataclass
class Job:
    """Does what a plan wants done.

    `trials` is where files are tried one by one: it outlives their ends. Where `executor` does not,
    `in_process` says so: the journal then knows which part was begun and never ended. `seconds`
    sums up what workers spent on reading, recognising and writing.
    """

    plan: Plan
    journal: Journal
    transcriber: Transcriber
    executor: Executor
    trials: Executor
    watcher: Watcher
    in_process: bool
    seconds: Counter[str] = field(default_factory=Counter)
    _ended: tuple[Part, Result] | None = None  # and not recorded yet

    def run(self) -> None:
        """Do it all; what is recorded stays, whatever happens.

        Raises:
            UserError: outputs or the journal cannot be written, or the model not be loaded.
        """
        losses: Counter[str] = Counter()
        tried: set[str] = set()
        suspects: list[Part] = []
        parts: Iterable[Part] = self._sound(self.plan.parts(), suspects)
        while True:
            again: list[Part] = []
            for part in self._lost(parts):
                losses[part.key] += 1
                if losses[part.key] < PART_LOSSES:
                    again.append(part)
                elif part.key not in tried:
                    suspects.append(part)
                elif len(part.files) > 1:  # none of its files does it alone
                    again += [Part((file,)) for file in part.files]
                    tried.update(single.key for single in again)
                else:
                    self._fail(part.files[0], "crashed", "")
            for part in suspects:
                left = self._tried(part)
                tried.add(left.key)
                losses[left.key] = 0
                if any(file.wanted for file in left.files):
                    again.append(left)
            suspects = []
            if not again:
                return
            parts = again

    def _sound(self, parts: Iterable[Part], suspects: list[Part]) -> Iterator[Part]:
        """Parts but for those that were begun too often; these are suspects."""
        for part in parts:
            if self.in_process and self.journal.begun(part.key) >= PART_LOSSES:
                suspects.append(part)
            else:
                yield part

    def _lost(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Do the work and record it; the parts whose worker was lost."""
        begun = map(self._begun, parts) if self.in_process else parts
        settings = self.transcriber.settings
        try:
            for part, result in self.executor.map(self.transcriber, begun, settings.limit_s):
                if isinstance(result, Lost):
                    why = f"a worker was lost with {len(part.files)} files: {result.why}"
                    self.watcher.say(why)
                    yield part
                    continue
                self._ended = part, result
                if result.stopped is not None:
                    raise result.stopped
                if not self.in_process:
                    self._record()
        except Exception:
            raise
        except BaseException:  # a signal: what has ended until now stays
            self._record()
            raise
        self._record()

    def _begun(self, part: Part) -> Part:
        """A part with which this process begins now; what it has ended before is recorded first."""
        self._record(part.key)
        return part

    def _record(self, begun: str | None = None) -> None:
        """What has ended, and that another part has begun, flushed to the disk together."""
        if self._ended is None:
            if begun is not None:
                self.journal.begin(begun)
            return
        (part, result), self._ended = self._ended, None
        self.seconds.update(result.seconds)
        ended = [
            (file, outcome)
            for file, outcome in zip(part.files, result.outcomes, strict=True)
            if outcome is not None
        ]
        entries = [self._entry(file, outcome) for file, outcome in ended]
        self.journal.write(entries, part.key, begun)
        for file, outcome in ended:
            self.watcher.ended(file, outcome)

    def _entry(self, file: File, outcome: Done | Failure) -> Record:
        recording = file.recording
        record = Record(
            path=recording.path,
            start_s=recording.start_s,
            end_s=recording.end_s,
            name=recording.name,
            size=file.size,
            changed_ns=file.changed_ns,
            settings=self.plan.settings,
            attempts=file.attempts + 1,
        )
        if isinstance(outcome, Failure):
            return replace(record, failure=outcome)
        return replace(record, outputs=outcome.outputs, audio_s=outcome.audio_s)

    def _tried(self, part: Part) -> Part:
        """A part without the files that end their worker, which have failed."""
        self.watcher.say(f"{len(part.files)} files are tried one by one: their worker was lost")
        losses: Counter[str] = Counter()
        waiting = [Part((file,)) for file in part.files]
        deadly: set[str] = set()
        while waiting:
            again = []
            results = self.trials.map(
                Trial(self.transcriber), waiting, self.transcriber.settings.limit_s
            )
            for single, result in results:
                if not isinstance(result, Lost):
                    continue
                losses[single.key] += 1
                if losses[single.key] < FILE_LOSSES:
                    again.append(single)
                    continue
                deadly.add(single.key)
                self._fail(
                    single.files[0], "timed-out" if result.timed_out else "crashed", result.why
                )
            waiting = again
        self.journal.write([], part.key)
        return Part(tuple(file for file in part.files if Part((file,)).key not in deadly))

    def _fail(self, file: File, reason: str, why: str) -> None:
        path = file.recording.path
        what = {
            "crashed": f"{path}: the process that recognised it ended, more than once",
            "timed-out": f"{path}: the process that recognised it did not end in time",
        }[reason]
        failure = Failure(path, "recognise", reason, f"{what} ({why})" if why else what)
        if file.wanted:  # else it has its outputs, and only the others have to do without it
            self.journal.write([self._entry(file, failure)])
            self.watcher.ended(file, failure)
