"""`asr transcribe`: recordings into text, a bad one stopping none of the others."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from asr import audio
from asr.commands.devices import choose_device
from asr.commands.output import FAILURES, Folder, Output, Screen, printable
from asr.decoding.hypothesis import Transcript
from asr.description import read_description
from asr.errors import UserError
from asr.files import InputError, explain_write_errors, write_atomically
from asr.inputs import Failure, Recording, find_recordings
from asr.waveforms import BATCH_S, MAXIMUM_DURATION_S, batches_by_length, too_long

if TYPE_CHECKING:
    import numpy as np

    from asr.bundle import Bundle

# Recordings sorted by length together, and printed in their order when all of them are done.
WINDOW_FILES = 500
NAMED_FAILURES = 10  # on the screen, where a file lists them all

WHAT_TO_DO = {
    "missing": "check the path",
    "bad-link": "mend or remove the link",
    "outside-root": "give the file that the link leads to by itself",
    "unreadable": "check the permissions",
    "empty-file": "copy the file again",
    "not-audio": "convert it to wav or flac; ffmpeg reads most formats",
    "no-codec": "run `asr doctor`, or convert it to wav or flac",
    "truncated": "copy the file again, or convert what is left of it to wav",
    "not-finite": "export the recording again",
    "too-short": "leave it out: it holds no sound",
    "too-long": f"cut it into pieces of at most {MAXIMUM_DURATION_S / 60:.0f} minutes",
    "error": "transcribe it alone, and report what it says if it fails again",
}


def transcribe(
    model: str,
    inputs: list[str],
    output: str | None,
    formats: list[str],
    decoder: Mapping[str, Any] | None = None,
) -> int:
    """Transcribe files, folders and patterns; write into the folder `output`, or print.

    `decoder` has the settings in which the decoder differs from the model's own.

    Returns the exit status: 1 where an input failed.

    Raises:
        UserError: there is no such model, nothing to transcribe, or the output cannot be written.
    """
    read_description(Path(model))  # a wrong model costs no second of loading torch
    if output is not None and Path(output).exists() and not Path(output).is_dir():
        raise UserError(f"{output} is a file: -o names a folder.")
    recordings, failures = find_recordings(inputs)
    if not recordings and not failures:
        raise UserError(f"There is no audio in {', '.join(inputs)}: see docs/transcribing.md.")
    if not recordings and all(failure.reason == "missing" for failure in failures):
        raise UserError(f"Nothing to transcribe: {failures[0].detail}.")
    target: Output = (
        Screen(formats, several=len(recordings) + len(failures) > 1)
        if output is None
        else Folder(Path(output), formats, recordings)
    )

    from asr.bundle import load

    bundle = load(model, choose_device())
    if decoder:
        own = bundle.own_decoder if bundle.decoder["name"] != "greedy" else {"name": "beam"}
        bundle.search = bundle.build_decoder({**own, **decoder})
    if bundle.search.rate_name == "per":
        print("asr: this model emits phones: what is written are phones, no words", file=sys.stderr)
    began = time.perf_counter()
    visible = output is not None or not sys.stdout.isatty()
    with _Counts(len(recordings), len(failures), visible) as counts:
        for start in range(0, len(recordings), WINDOW_FILES):
            window = recordings[start : start + WINDOW_FILES]
            for recording, result in _results(bundle, window, counts):
                if isinstance(result, Failure):
                    failures.append(result)
                else:
                    target.add(recording, result)
                counts.advance(result)
            target.end_window(window)
    _report(failures, counts, time.perf_counter() - began, output, formats)
    return 1 if failures else 0


def _results(
    bundle: Bundle, window: Sequence[Recording], counts: _Counts
) -> Iterator[tuple[Recording, Transcript | Failure]]:
    """Each recording's transcript or failure, the shortest recordings first."""
    readable, durations = [], []
    for recording in window:
        duration_s = _attempt(recording, lambda path: audio.probe(path).duration_s)
        if isinstance(duration_s, float) and duration_s > MAXIMUM_DURATION_S:
            detail = too_long(printable(recording.path), duration_s)
            duration_s = _failure(recording, "read", "too-long", detail)
        if isinstance(duration_s, Failure):
            yield recording, duration_s
        else:
            readable.append(recording)
            durations.append(duration_s)
    counts.expect(len(window), sum(durations))
    for batch in batches_by_length(durations, BATCH_S):
        loaded: list[tuple[Recording, np.ndarray]] = []
        for position in batch:
            waveform = _attempt(readable[position], audio.load)
            if isinstance(waveform, Failure):
                yield readable[position], waveform
            else:
                loaded.append((readable[position], waveform))
        yield from _recognised(bundle, loaded)


def _attempt(recording: Recording, read: Any) -> Any:
    """What `read` gives for the file, or why it gives nothing."""
    try:
        return read(recording.path)
    except InputError as error:
        return _failure(recording, "read", error.reason, str(error))
    except Exception as error:  # noqa: BLE001  one bad file stops none of the others
        return _failure(recording, "read", "error", f"{type(error).__name__}: {error}")


def _recognised(
    bundle: Bundle, loaded: Sequence[tuple[Recording, np.ndarray]]
) -> Iterator[tuple[Recording, Transcript | Failure]]:
    """A batch's transcripts. Where it fails as a whole, each recording is tried alone."""
    if not loaded:
        return
    recordings = [recording for recording, _ in loaded]
    try:
        transcripts = bundle.recognise(
            [waveform for _, waveform in loaded],
            [printable(recording.path) for recording in recordings],
        )
    except Exception as error:  # noqa: BLE001  one bad recording stops none of the others
        if len(loaded) > 1:
            for one in loaded:
                yield from _recognised(bundle, [one])
            return
        detail = f"{type(error).__name__}: {error}"
        yield recordings[0], _failure(recordings[0], "recognise", "error", detail)
        return
    for recording, transcript in zip(recordings, transcripts, strict=True):
        if math.isfinite(transcript.score):
            yield recording, transcript
        else:
            detail = f"for {printable(recording.path)} the model gives values that are no numbers"
            yield recording, _failure(recording, "recognise", "not-finite", detail)


def _failure(recording: Recording, stage: str, reason: str, detail: str) -> Failure:
    return Failure(str(recording.path), stage, reason, detail)


class _Counts:
    """What is done, has failed and is left: a progress bar on stderr, silent without a terminal."""

    def __init__(self, files: int, failed: int, visible: bool) -> None:
        console = Console(stderr=True)
        self.done, self.failed, self.left = 0, failed, files
        self._files = files
        self.audio_s = 0.0
        self._expected_files, self._expected_s = 0, 0.0
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
        self._task = self._progress.add_task("", total=None, counts="", speed="")
        self._began = time.perf_counter()

    def __enter__(self) -> _Counts:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def expect(self, files: int, audio_s: float) -> None:
        """So many files last so long; the others are taken to be alike."""
        self._expected_files += files
        self._expected_s += audio_s
        total_s = self._expected_s / self._expected_files * self._files
        self._progress.update(self._task, total=total_s)

    def advance(self, result: Transcript | Failure) -> None:
        """One more is done or has failed."""
        self.left -= 1
        if isinstance(result, Failure):
            self.failed += 1
        else:
            self.done += 1
            self.audio_s += result.duration_s
        elapsed_s = max(time.perf_counter() - self._began, 1e-9)
        self._progress.update(
            self._task,
            completed=self.audio_s,
            counts=f"{self.done} done, {self.failed} failed, {self.left} left",
            speed=f"{self.audio_s / 3600:.2f} h, {self.audio_s / elapsed_s:.0f} x real time",
        )


def _report(
    failures: Sequence[Failure],
    counts: _Counts,
    seconds: float,
    output: str | None,
    formats: Sequence[str],
) -> None:
    """List what failed, and say what was done and where it lies."""
    listing = None if output is None else Path(output) / FAILURES
    if listing is not None:
        _list_failures(listing, failures)
    for failure in failures if listing is None else failures[:NAMED_FAILURES]:
        advice = WHAT_TO_DO.get(failure.reason)
        print(
            f"asr: {printable(failure.detail)}{f' ({advice})' if advice else ''}", file=sys.stderr
        )
    if len(failures) > NAMED_FAILURES and listing is not None:
        print(f"asr: … and {len(failures) - NAMED_FAILURES} more", file=sys.stderr)
    if listing is None and not failures:
        return
    parts = [
        f"{counts.done} transcribed: {counts.audio_s / 3600:.2f} hours of audio in {seconds:.1f} s,"
        f" {counts.audio_s / seconds:.0f} times real time"
    ]
    if output is not None:
        parts.append(f"written to {printable(output)} ({', '.join(formats)})")
    if failures:
        reasons = Counter(failure.reason for failure in failures).most_common()
        counted = ", ".join(f"{count} {reason}" for reason, count in reasons)
        listed = f", listed in {printable(listing)}" if listing else ""
        parts.append(f"{len(failures)} failed ({counted}){listed}")
    print("; ".join(parts) + ".", file=sys.stderr)


def _list_failures(path: Path, failures: Sequence[Failure]) -> None:
    """One JSON object a line; no file where nothing failed."""
    if not failures:
        with explain_write_errors(path):
            path.unlink(missing_ok=True)
        return
    with write_atomically(path) as stream:
        for failure in failures:
            record = {
                **{key: printable(value) for key, value in asdict(failure).items()},
                "what_to_do": WHAT_TO_DO.get(failure.reason, ""),
            }
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
