"""How far a job is: a line that moves on a terminal, a log that stays, failures by name."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from asr.cluster.plan import File
from asr.cluster.writing import Done
from asr.files import (
    explain_write_errors,
    on_one_line,
    printable,
    remove_leftovers,
    write_atomically,
)
from asr.inputs import Failure

FAILURES = "failures.jsonl"
LOG_EVERY_S = 60.0
NAMED_FAILURES = 10  # on the screen, where a file lists them all

WHAT_TO_DO = {
    "missing": "check the path",
    "bad-link": "mend or remove the link",
    "outside-root": "give the file by itself; in a manifest an absolute path, an id without `..`",
    "unreadable": "check the permissions",
    "empty-file": "copy the file again",
    "not-audio": "convert it to wav or flac; ffmpeg reads most formats",
    "no-codec": "run `asr doctor`, or convert it to wav or flac",
    "truncated": "copy the file again, or convert what is left of it to wav",
    "not-finite": "export the recording again",
    "too-short": "leave it out: it holds no sound",
    "too-long": "allow it with --max-hours, or cut it into pieces",
    "changed": "run again when nobody writes to it any more",
    "timed-out": "see whether its disk answers; --timeout gives it longer",
    "crashed": "convert it to wav or flac, then --retry-failed",
    "name-too-long": "give it a shorter name",
    "name-taken": "give it another name, or another -o; --overwrite replaces a file",
    "no-channel": "leave out --channels",
    "bad-segment": "correct start_s and end_s: they are seconds of the file",
    "bad-line": "correct the line: docs/data.md has its keys",
    "duplicate-id": "give each line an id of its own",
    "no-audio": "correct the line's path",
    "recognise: not-finite": "it is the model's fault: transcribe with another one",
    "error": "transcribe it alone, and report what it says if it fails again",
}


class Log:
    """Adds lines with the time to a file. What it cannot write is lost, and ends no job."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lost = False
        with explain_write_errors(path):
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115  closed by `close`

    def say(self, line: str) -> None:
        """Add a line."""
        try:
            self._file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n".encode())
        except OSError as error:
            if not self._lost:
                print(f"asr: {self._path} lacks lines: {error.strerror}.", file=sys.stderr)
            self._lost = True

    def close(self) -> None:
        """It is complete."""
        with contextlib.suppress(OSError):  # nothing is left to write
            self._file.close()


class Tally:
    """Counts what is done, has failed and is left; draws only where stderr is a terminal.

    Args:
        files: that are to be done.
        audio_s: how long they last, as far as is known.
        visible: whether a line may move.
        log: a file to which lines are added, and failures listed elsewhere; None: there is none,
            and all failures are kept.
    """

    def __init__(self, files: int, audio_s: float, visible: bool, log: Path | None = None) -> None:
        console = Console(stderr=True)
        self.done, self.left = 0, files
        self.failures: list[Failure] = []
        self.gone: list[Failure] = []  # files that went away while they were to be read
        self.reasons: Counter[str] = Counter()
        self.audio_s = 0.0
        self._pending_s = 0.0  # recognised already, of files that are not done yet
        self._progress = Progress(
            TextColumn("{task.fields[counts]}"),
            BarColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (console.is_terminal and visible),
            redirect_stdout=False,  # what is printed there is the result
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=audio_s or None, counts="starting", speed="")
        self._log = None if log is None else Log(log)
        self._began = self._logged = time.perf_counter()

    def __enter__(self) -> Tally:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def close(self) -> None:
        """The log is complete."""
        if self._log is not None:
            self._log.close()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return max(time.perf_counter() - self._began, 1e-9)

    def heard(self, audio_s: float) -> None:
        """So much more is recognised, of a file that is not done yet."""
        self._pending_s += audio_s
        self._show()

    def ended(self, file: File, outcome: Done | Failure) -> None:
        """One more is done or has failed."""
        if isinstance(outcome, Failure):
            self.fail(outcome)
        else:
            self.count(outcome.audio_s)

    def count(self, audio_s: float) -> None:
        """One more is done, which lasts so long."""
        self.left -= 1
        self.done += 1
        self.audio_s += audio_s
        self._pending_s = max(0.0, self._pending_s - audio_s)
        self._show()

    def fail(self, failure: Failure) -> None:
        """One more has failed."""
        self.left -= 1
        self.reasons[failure.reason] += 1
        if self._log is None or len(self.failures) < NAMED_FAILURES:
            self.failures.append(failure)
        if failure.reason == "missing":
            self.gone.append(failure)
        self.say(told(failure))
        self._show()

    def say(self, line: str) -> None:
        """Keep a line in the log."""
        if self._log is not None:
            self._log.say(on_one_line(line))

    def _show(self) -> None:
        audio_s = self.audio_s + self._pending_s
        failed = sum(self.reasons.values())
        counts = f"{self.done} done, {failed} failed, {self.left} left"
        speed = f"{audio_s / 3600:.2f} h, {audio_s / self.seconds:.0f} x real time"
        self._progress.update(self._task, completed=audio_s, counts=counts, speed=speed)
        if time.perf_counter() - self._logged > LOG_EVERY_S:
            self._logged = time.perf_counter()
            self.say(f"{counts}; {speed}")


def what_to_do(failure: Failure) -> str:
    """What usually helps against a failure."""
    own = WHAT_TO_DO.get(f"{failure.stage}: {failure.reason}")
    return own or WHAT_TO_DO.get(failure.reason, "")


def told(failure: Failure) -> str:
    """A failure in a line, with what to do about it."""
    advice = what_to_do(failure)
    return f"{on_one_line(failure.detail)}{f' ({advice})' if advice else ''}"


def name_failures(failures: Sequence[Failure], count: int) -> None:
    """Name on stderr those failures that were kept of so many."""
    for failure in failures:
        print(f"asr: {told(failure)}", file=sys.stderr)
    if count > len(failures):
        print(f"asr: … and {count - len(failures)} more", file=sys.stderr)


def list_failures(path: Path, failures: Iterable[Failure]) -> int:
    """One JSON object a line, no file where nothing failed; how many there are."""
    count = 0
    remove_leftovers(path)
    with write_atomically(path) as stream:
        for failure in failures:
            record = {
                **{key: printable(value) for key, value in asdict(failure).items()},
                "what_to_do": what_to_do(failure),
            }
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    if not count:
        with explain_write_errors(path):
            path.unlink()
    return count
