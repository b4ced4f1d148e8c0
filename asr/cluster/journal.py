"""What has become of each file of a job: a small database in the output folder.

It is written by one process, under a lock. A file's outputs come first, whole and flushed, and its
record after them: a kill between the two costs the work of a few files, never an output. What is
done is known from the records alone, without looking for outputs.

The database keeps a rollback journal and no write-ahead log, which would need memory shared by all
who open it, and that is not to be had on a network's file system.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock

from asr.errors import UserError
from asr.files import explain_write_errors, remove_leftovers, write_atomically
from asr.inputs import Failure

FOLDER = ".asr"  # of the output folder: journal, lock, and outputs that are not whole yet
PARTIAL = "partial"
SCHEMA = 1

_TABLES = """
create table files (
    key blob primary key,        -- path, and where it is a stretch of it, which one
    path blob not null,
    name blob not null unique,   -- of the outputs, below the output folder, without ending
    size integer not null,
    changed_ns integer not null, -- of the file's content, as the system says
    settings text not null,      -- digest of model, decoder, formats
    outputs text not null,       -- JSON: [[name below the output folder, digest], ...]
    audio_s real not null,
    failure text,                -- JSON: stage, reason, detail
    attempts integer not null
) without rowid;
create table begun (part text primary key, count integer not null) without rowid;
create table notes (name text primary key, value text not null) without rowid;
create index failed on files (path) where failure is not null;
"""

# A name that another file has is an error: `insert or replace` would remove that file's record.
_UPSERT = """
insert into files values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (key) do update set
    path = excluded.path, name = excluded.name, size = excluded.size,
    changed_ns = excluded.changed_ns, settings = excluded.settings, outputs = excluded.outputs,
    audio_s = excluded.audio_s, failure = excluded.failure, attempts = excluded.attempts
"""

_BEGIN = "insert into begun values (?, 1) on conflict do update set count = count + 1"

# Run by a second process: whether it gets locks that the first one holds.
_PROBE = """
import fcntl, sys
got = 0
for path, lock in ((sys.argv[1], fcntl.flock), (sys.argv[2], fcntl.lockf)):
    with open(path, "a") as handle:
        try:
            lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            got = 1
        except OSError:
            pass
print(got)
"""


@dataclass(frozen=True, slots=True)
class Record:
    """What became of a file in a state: its outputs with their digests, or why it has none."""

    path: str
    start_s: float
    end_s: float | None
    name: str
    size: int
    changed_ns: int
    settings: str
    outputs: tuple[tuple[str, str], ...] = ()
    audio_s: float = 0.0
    failure: Failure | None = None
    attempts: int = 1


class Journal:
    """The records of an output folder, which nobody else may write into meanwhile.

    A context manager. `token` is another one in each run: a worker that outlived its run sees by it
    that it has nothing to write any more. The next run takes its `partial_folder` away, and with it
    what such a worker had not renamed yet.

    Raises:
        UserError: another run is at work there, locks do not hold there, the folder cannot be
            written, or the journal is damaged or of a newer version; each says what to do.
    """

    def __init__(self, output: str | Path) -> None:
        self.output = Path(output)
        self.folder = self.output / FOLDER
        self.token = secrets.token_hex(8)
        self._lock = filelock.FileLock(self.folder / "lock")
        self._database: sqlite3.Connection

    def __enter__(self) -> Journal:
        with explain_write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except filelock.Timeout:
                raise UserError(self._who()) from None
        try:
            self._check_locks()
            self._clear()
            with write_atomically(self.folder / "holder.json") as stream:
                holder = {"host": socket.gethostname(), "pid": os.getpid(), "token": self.token}
                json.dump(holder, stream)
            self._database = self._opened()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._database.close()
        # A worker that was lost leaves what it had not renamed.
        shutil.rmtree(partial_folder(self.output, self.token), ignore_errors=True)
        with contextlib.suppress(OSError):
            (self.folder / "holder.json").unlink()
        self._lock.release()

    def find(self, path: str, start_s: float = 0.0, end_s: float | None = None) -> Record | None:
        """The record of a file, or of a stretch of it."""
        found = self._ask("select * from files where key = ?", (_key(path, start_s, end_s),))
        return next(map(_record, found), None)

    def holder_of(self, name: str) -> str | None:
        """The path whose outputs have that name."""
        found = self._ask("select path from files where name = ?", (os.fsencode(name),))
        return next((os.fsdecode(path) for (path,) in found), None)

    def failed(self) -> Iterator[Record]:
        """The records of files that failed, by their paths."""
        question = "select * from files where failure is not null order by path"
        return map(_record, self._ask(question))

    def write(
        self, records: Iterable[Record], part: str | None = None, begun: str | None = None
    ) -> None:
        """All of the records or none, in the place of earlier ones.

        With them a part is over, and another one has begun, which `begin` would say as well but
        takes a flush of the disk of its own.
        """
        rows = [
            (
                _key(record.path, record.start_s, record.end_s),
                os.fsencode(record.path),
                os.fsencode(record.name),
                record.size,
                record.changed_ns,
                record.settings,
                json.dumps(record.outputs),
                record.audio_s,
                None if record.failure is None else json.dumps(astuple(record.failure)),
                record.attempts,
            )
            for record in records
        ]
        with self._changed() as database:
            database.executemany(_UPSERT, rows)
            if part is not None:
                database.execute("delete from begun where part = ?", (part,))
            if begun is not None:
                database.execute(_BEGIN, (begun,))

    def begin(self, part: str) -> int:
        """Notes that the work at a part begins here; how many times it has, without an end."""
        with self._changed() as database:
            database.execute(_BEGIN, (part,))
        ((count,),) = self._ask("select count from begun where part = ?", (part,))
        return int(count)

    def begun(self, part: str) -> int:
        """How many times the work at a part began and did not end."""
        found = self._ask("select count from begun where part = ?", (part,))
        return next((int(count) for (count,) in found), 0)

    def note(self, name: str, value: Any) -> None:
        """Keep a value (of JSON) under a name."""
        with self._changed() as database:
            database.execute(
                "insert or replace into notes values (?, ?)", (name, json.dumps(value))
            )

    def noted(self, name: str) -> Any:
        """The value kept under a name, or None."""
        found = self._ask("select value from notes where name = ?", (name,))
        return next((json.loads(value) for (value,) in found), None)

    def _ask(self, question: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._database.execute(question, values)
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from None

    @contextlib.contextmanager
    def _changed(self) -> Iterator[sqlite3.Connection]:
        """A transaction: on the disk when it ends, or nothing of it."""
        try:
            with self._database:
                self._database.execute("begin immediate")
                yield self._database
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from None

    def _clear(self) -> None:
        """Take away what earlier runs left half-done, and make room for this one's."""
        partial, left = self.folder / PARTIAL, self.folder / "left"
        with explain_write_errors(partial):
            shutil.rmtree(left, ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                partial.rename(left)  # at once: nothing in it has its name any more
            partial_folder(self.output, self.token).mkdir(parents=True)
        shutil.rmtree(left, ignore_errors=True)
        remove_leftovers(self.folder / "holder.json")

    def _opened(self) -> sqlite3.Connection:
        path = self.folder / "journal.sqlite"
        try:
            # Transactions are begun here, not where Python's module thinks they should be.
            database = sqlite3.connect(path, isolation_level=None)
            database.execute("pragma journal_mode = delete")
            database.execute("pragma synchronous = full")
            ((version,),) = database.execute("pragma user_version")
            if version == 0:
                with database:
                    database.execute("begin immediate")
                    for statement in _TABLES.split(";\n"):
                        database.execute(statement)
                    database.execute(f"pragma user_version = {SCHEMA}")
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from None
        if version > SCHEMA:
            database.close()
            raise UserError(f"{path} has schema {version}, this asr knows {SCHEMA}: upgrade asr.")
        return database

    def _unusable(self, error: sqlite3.DatabaseError) -> UserError:
        path = self.folder / "journal.sqlite"
        if isinstance(error, sqlite3.OperationalError):  # a full disk, no permission
            return UserError(
                f"Cannot write {path}: {error}. What is recorded stays; when that is mended, the"
                " same command goes on."
            )
        return UserError(
            f"{path} is damaged ({error}): move it away. Outputs stay until they are written anew."
        )

    def _who(self) -> str:
        """That another run is at work, and which."""
        try:
            holder = json.loads((self.folder / "holder.json").read_text(encoding="utf-8"))
            whose = f"process {holder['pid']} on {holder['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            whose = "another process"
        return f"{whose} is transcribing into {self.output}: wait for it, or choose another -o."

    def _check_locks(self) -> None:
        """Raises where a second process gets what this one holds."""
        import fcntl

        second = self.folder / "lock.probe"
        with explain_write_errors(second), open(second, "a") as handle:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            command = [sys.executable, "-I", "-S", "-c", _PROBE, self._lock.lock_file, str(second)]
            probe = subprocess.run(command, capture_output=True, text=True, check=False)
        if probe.stdout.strip() != "0":
            raise UserError(
                f"Locks do not hold in {self.output}, which two runs at once would destroy: give a"
                " folder of another file system with -o."
            )


def _key(path: str, start_s: float, end_s: float | None) -> bytes:
    if start_s == 0.0 and end_s is None:
        return os.fsencode(os.path.abspath(path))
    return os.fsencode(os.path.abspath(path)) + f"\0{start_s!r}:{end_s!r}".encode()


def _record(row: tuple[Any, ...]) -> Record:
    key, path, name, size, changed_ns, settings, outputs, audio_s, failure, attempts = row
    start_s, end_s = 0.0, None
    if b"\0" in key:
        start, _, end = key.rpartition(b"\0")[2].decode().partition(":")
        start_s, end_s = float(start), None if end == "None" else float(end)
    return Record(
        path=os.fsdecode(path),
        start_s=start_s,
        end_s=end_s,
        name=os.fsdecode(name),
        size=size,
        changed_ns=changed_ns,
        settings=settings,
        outputs=tuple((output, digest) for output, digest in json.loads(outputs)),
        audio_s=audio_s,
        failure=None if failure is None else Failure(*json.loads(failure)),
        attempts=attempts,
    )


def partial_folder(output: str | Path, token: str) -> Path:
    """Where outputs of the run of that token are while they are not whole."""
    return Path(output) / FOLDER / PARTIAL / token


def is_current(output: str | Path, token: str) -> bool:
    """Whether the run of that token still holds the output folder: it may write there."""
    try:
        with open(Path(output) / FOLDER / "holder.json", encoding="utf-8") as stream:
            return bool(json.load(stream)["token"] == token)
    except (OSError, ValueError, KeyError, TypeError):
        return False
