"""A transcription of an archive that is watched from outside: what is recorded, written, done."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from asr.cluster.journal import FOLDER, PARTIAL
from asr.files import digest_file

OWN = (FOLDER, "failures.jsonl")


class WrongOutputError(Exception):
    """Something was lost, torn or done twice."""


class Night:
    """An archive, the folder it is transcribed into, and how that ended."""

    def __init__(self, out: Path, archive: Path) -> None:
        self.out = out
        self.archive = archive
        self.status = 0
        self._said = out.with_suffix(".said")

    @contextmanager
    def started(self, model: str, words: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        """The command, under way; killed if it still is at the end."""
        command = [sys.executable, "-m", "asr", "transcribe", os.path.abspath(model)]
        command += [str(self.archive), "-o", str(self.out), "--quiet", *words]
        with self._said.open("ab") as said:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def said(self) -> str:
        """What the commands said, all of them."""
        return self._said.read_text(encoding="utf-8")

    def rows(self) -> list[tuple[str, str, str | None, int]]:
        """Of the journal: name, outputs, failure, attempts. None where it cannot be read now."""
        rows = self._ask("select name, outputs, failure, attempts from files order by name")
        return [(os.fsdecode(name), *rest) for name, *rest in rows]

    def recorded(self) -> int:
        """How many files are recorded, as far as can be seen."""
        return sum(count for (count,) in self._ask("select count(*) from files"))

    def _ask(self, question: str) -> list[tuple[Any, ...]]:
        path = self.out / FOLDER / "journal.sqlite"
        if not path.exists():
            return []
        # Read only: what a killed process left half-done is for the next one to mend.
        database = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        with closing(database), suppress(sqlite3.OperationalError):
            return list(database.execute(question))
        return []

    def outputs(self) -> dict[str, str]:
        """Digests of the outputs that lie there."""
        found = {}
        for folder, folders, names in os.walk(self.out):
            folders[:] = [name for name in folders if name != FOLDER]
            for name in names:
                path = Path(folder, name)
                if path.name not in OWN:
                    found[str(path.relative_to(self.out))] = digest_file(path)
        return found

    def check_quiet(self, files: int, broken: int) -> None:
        """That the quiet run did all of it, and failed where the archive is broken."""
        rows = self.rows()
        failed = sum(failure is not None for _, _, failure, _ in rows)
        if (len(rows), failed, self.status) != (files, broken, 1 if broken else 0):
            raise WrongOutputError(
                f"{len(rows)} files, {failed} failed: {self.status}, {self.said()}"
            )

    def check(self, quiet: Night) -> None:
        """That whatever lies there is as in the quiet run, and whatever is recorded lies there."""
        expected, found = quiet.outputs(), self.outputs()
        for name, digest in found.items():
            if expected.get(name) != digest:
                raise WrongOutputError(f"{name} is torn, or another one than in the quiet run")
        for _, outputs, _, attempts in self.rows():
            if attempts != 1:
                raise WrongOutputError(f"{outputs} has been recorded {attempts} times")
            for name, digest in json.loads(outputs):
                if found.get(name) != digest:
                    raise WrongOutputError(f"{name} is recorded, and is not there")

    def check_end(self, quiet: Night) -> None:
        """That all is there, once, as in the quiet run."""
        self.check(quiet)
        if self.outputs() != quiet.outputs():
            raise WrongOutputError("outputs are missing")
        if self.rows() != quiet.rows():
            raise WrongOutputError("the records are others than the quiet run's")
        listed = [(night.out / "failures.jsonl").read_text() for night in (self, quiet)]
        if sorted(listed[0].splitlines()) != sorted(listed[1].splitlines()):
            raise WrongOutputError("the list of failures is another one than the quiet run's")
        left = [*(self.out / FOLDER / PARTIAL).iterdir()]
        if left:
            raise WrongOutputError(f"{left} are left over")


class Processes:
    """Processes of nodes, given their raylets."""

    def __init__(self, raylets: Sequence[int]) -> None:
        self._raylets = raylets

    def workers(self) -> list[int]:
        """Those of actors, on any of the nodes."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                    name = (entry / "cmdline").read_bytes()
                    if parent in self._raylets and name.startswith(b"ray::Actor"):
                        found.append(int(entry.name))
        return found


def is_stopped(pid: int) -> bool:
    """Stop a process, to be looked at; False where it has ended."""
    try:
        os.kill(pid, signal.SIGSTOP)
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "TZ":
            time.sleep(0.001)
    except OSError:
        return False
    return True


def stage_of(night: Night, worker: int, driver: int) -> str:
    """What a stopped process was doing, by what it has open and what lies in the folder."""
    own = night.out / FOLDER
    if worker == driver and (own / "journal.sqlite-journal").exists():
        return "recording"
    with suppress(OSError):
        if b"libtorch" not in Path(f"/proc/{worker}/maps").read_bytes():
            return "waiting for workers" if worker == driver else "starting"
    if any((own / PARTIAL).glob("*/*")):
        return "writing"
    recorded = {output for _, outputs, _, _ in night.rows() for output, _ in json.loads(outputs)}
    if night.outputs().keys() - recorded:
        return "between output and record"
    with suppress(OSError):
        for entry in Path(f"/proc/{worker}/fd").iterdir():
            with suppress(OSError):
                if Path(os.readlink(entry)).is_relative_to(night.archive):
                    return "reading and recognising"
    return "recognising"
