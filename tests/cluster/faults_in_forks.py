"""A small job in which each call that changes the output folder fails once: run by test_faults.py.

Runs with faults.c loaded before libc. Takes a folder with a model and recordings in it; prints one
JSON object: what the calls are, and for each of them how a run ended in which it failed, and what
was wrong afterwards, which should be nothing.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from asr.cluster import plan
from asr.cluster.journal import Journal
from asr.cluster.transcription import Transcriber
from asr.commands import transcribe as command
from asr.commands.main import guarded
from asr.commands.transcribe import Options
from asr.decoding.hypothesis import Hypothesis, Transcript, Word
from asr.files import digest_bytes, digest_file

COUNT, FAIL_ONCE, DISK_FULL, KILL = range(4)
MODES = {"error": FAIL_ONCE, "full": DISK_FULL, "kill": KILL}
BEYOND = 1 << 40
FAILED = re.compile(r"^asr: 1 failed, listed in \S+/failures\.jsonl\n", re.MULTILINE)

folder = Path(sys.argv[1])
faults = ctypes.CDLL(None)
faults.faults_begin.argtypes = (ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_char_p)


class Hearing:
    """In the place of a model: what it hears are the digits of the samples' digest."""

    def recognise(
        self, waveforms: Sequence[np.ndarray], sources: Sequence[str]
    ) -> list[Transcript]:
        found = []
        for waveform, source in zip(waveforms, sources, strict=True):
            text = digest_bytes(waveform)
            words = (Word(text, 0.0, 0.1, 0.5),)
            found.append(Transcript(source, len(waveform) / 16_000, (Hypothesis(text, -1, words),)))
        return found


def in_fork(work: Callable[[], int]) -> tuple[int, str]:
    """How a process ends that does the work, negative where by a signal; what it says.

    But for the line that each run says that comes so far: that the file which is none has failed.
    """
    said = folder / "said"
    child = os.fork()
    if child == 0:
        status = 99
        try:
            descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            status = work()
        except BaseException:  # noqa: BLE001  as the interpreter would
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, FAILED.sub("", said.read_text(encoding="utf-8"), count=1)


def transcribe(out: Path) -> int:
    model, inputs = str(folder / "model"), [str(folder / "in")]
    options = Options(model, inputs, str(out), formats=["txt", "json"], quiet=True)
    return guarded(lambda: command.transcribe(options))


def faulty(out: Path, nth: int, mode: int, noted: Path | None = None) -> tuple[int, str, bool]:
    """Status, words, and whether the fault took place."""
    mark = folder / "touched"
    mark.unlink(missing_ok=True)

    def work() -> int:
        faults.faults_begin(os.fsencode(out), nth, mode, noted and os.fsencode(noted))
        try:
            return transcribe(out)
        finally:
            if faults.faults_end():
                mark.touch()

    status, said = in_fork(work)
    return status, said, status == -signal.SIGKILL or mark.exists()


def contents(out: Path) -> dict[str, bytes | None]:
    """All that lies in a folder: files with what they hold, but for the journal's and the log."""
    found: dict[str, bytes | None] = {}
    for path in out.rglob("*"):
        name = str(path.relative_to(out))
        if name != ".asr/journal.sqlite-journal":  # SQLite's own: where it means nothing it stays
            own = name in (".asr/journal.sqlite", ".asr/log")
            found[name] = path.read_bytes() if path.is_file() and not own else None
    return found


def records(out: Path) -> list[tuple[Any, ...]]:
    """The journal's, read from a copy, since reading it may mend it."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    if not (out / ".asr" / "journal.sqlite").exists():
        return []
    shutil.copytree(out / ".asr", copy)
    database = sqlite3.connect(copy / "journal.sqlite")
    tables = {name for (name,) in database.execute("select name from sqlite_master")}
    rows = list(database.execute("select * from files")) if "files" in tables else []
    database.close()
    return rows


def faults_of(out: Path, quiet: Path) -> list[str]:
    """What is wrong in an output folder after a run that ended early."""
    expected, found = contents(quiet), contents(out)
    wrong = []
    for name, content in found.items():
        if not name.startswith(".") and content != expected.get(name, b"\0"):
            wrong.append(f"{name} is not what it should be")
    for row in records(out):
        if row not in records(quiet):
            wrong.append(f"a record of its own: {row}")
        for name, digest in json.loads(row[6]):
            if not (out / name).is_file() or digest_file(out / name) != digest:
                wrong.append(f"{name} is recorded and is not there")
    return wrong


def missing(out: Path, quiet: Path) -> set[str]:
    """What a quiet run writes, and is not there."""
    return {path.name for path in quiet.rglob("*")} - {path.name for path in out.rglob("*")}


def differences(out: Path, quiet: Path) -> list[str]:
    """What is wrong after the run that came next."""
    expected, found = contents(quiet), contents(out)
    wrong = [
        f"{name}: {'changed' if name in found and name in expected else 'more or missing'}"
        for name in found.keys() | expected.keys()
        if name not in found or name not in expected or found[name] != expected[name]
    ]
    if records(out) != records(quiet):
        wrong.append("other records")
    return wrong


def each_call(quiet: Path, mode: int) -> list[dict[str, Any]]:
    """A run for each call that fails, and the run after it."""
    told = []
    nth = 0
    while True:
        nth += 1
        out = folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        status, said, touched = faulty(out, nth, mode)
        if not touched:
            return told
        wrong, whole = faults_of(out, quiet), not missing(out, quiet)
        again, more = in_fork(partial(transcribe, out))
        after = differences(out, quiet)
        if again != 1 or more:
            after.append(f"status {again}: {more}")
        row = {"nth": nth, "status": status, "said": said, "whole": whole}
        told.append({**row, "wrong": wrong, "after": after})


def main() -> None:
    Transcriber.bundle = Hearing()  # type: ignore[method-assign,assignment]
    Journal._check_locks = lambda journal: None  # type: ignore[method-assign]  # a process of its own
    plan.PART_FILES = 2
    transcribe(folder / "before")  # imports what is needed
    gc.collect()
    gc.freeze()  # a fork copies no page that it does not change
    quiet = folder / "out"
    status, said, _ = faulty(quiet, BEYOND, COUNT, folder / "trace")
    quiet = quiet.rename(folder / "quiet")
    calls = (folder / "trace").read_text(encoding="utf-8").splitlines()
    result: dict[str, Any] = {"quiet": [status, said], "calls": calls}
    for name, mode in MODES.items():
        result[name] = each_call(quiet, mode)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
