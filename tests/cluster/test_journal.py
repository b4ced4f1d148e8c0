from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from asr.cluster.journal import FOLDER, Journal, Record, is_current
from asr.errors import UserError
from asr.inputs import Failure


def record(path: str, name: str, **changes: object) -> Record:
    given = {"start_s": 0.0, "end_s": None, "size": 10, "changed_ns": 7, "settings": "s"} | changes
    return Record(path=path, name=name, **given)  # type: ignore[arg-type]


def test_records_are_there_when_the_journal_is_opened_again(tmp_path: Path) -> None:
    done = record("/a/b.wav", "b", outputs=(("b.txt", "d1"),), audio_s=2.5, attempts=3)
    failed = record("/a/c.wav", "c", failure=Failure("/a/c.wav", "read", "truncated", "breaks off"))
    with Journal(tmp_path) as journal:
        journal.write([done, failed])
    with Journal(tmp_path) as journal:
        assert journal.find("/a/b.wav") == done
        assert journal.find("/a/c.wav") == failed
        assert journal.find("/a/d.wav") is None
        assert list(journal.failed()) == [failed]
        assert journal.holder_of("b") == "/a/b.wav"
        assert journal.holder_of("d") is None


def test_a_later_record_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        failure = Failure("/a/b.wav", "read", "truncated", "breaks off")
        journal.write([record("/a/b.wav", "b", failure=failure)])
        journal.write([record("/a/b.wav", "b", size=11)])
        assert journal.find("/a/b.wav") == record("/a/b.wav", "b", size=11)
        assert list(journal.failed()) == []


def test_stretches_of_a_file_are_recorded_apart(tmp_path: Path) -> None:
    whole = record("/a/b.wav", "b")
    stretch = record("/a/b.wav", "b-1", start_s=0.1, end_s=2.0)
    rest = record("/a/b.wav", "b-2", start_s=2.0)
    tiny = record("/a/b.wav", "b-3", start_s=6.25e-05, end_s=1e-3)
    with Journal(tmp_path) as journal:
        journal.write([whole, stretch, rest, tiny])
        assert journal.find("/a/b.wav", 6.25e-05, 1e-3) == tiny
        assert journal.find("/a/b.wav") == whole
        assert journal.find("/a/b.wav", 0.1, 2.0) == stretch
        assert journal.find("/a/b.wav", 2.0, None) == rest


def test_names_of_any_bytes_are_kept(tmp_path: Path) -> None:
    path = os.fsdecode(b"/a/\xff\n;'.wav")
    with Journal(tmp_path) as journal:
        journal.write([record(path, os.fsdecode(b"\xff\n;'"))])
        assert journal.find(path) == record(path, os.fsdecode(b"\xff\n;'"))


def test_two_files_never_have_the_same_name(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.write([record("/a/b.wav", "b")])
        with pytest.raises(UserError):
            journal.write([record("/a/c.wav", "c"), record("/a/b.mp3", "b")])
        assert journal.find("/a/b.wav") == record("/a/b.wav", "b")
        assert journal.find("/a/c.wav") is None  # all of them or none


def test_a_part_counts_how_often_it_was_begun_until_it_ends(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        assert [journal.begin("p"), journal.begin("p"), journal.begin("q")] == [1, 2, 1]
    with Journal(tmp_path) as journal:
        assert journal.begun("p") == 2
        journal.write([record("/a/b.wav", "b")], part="p")
        assert (journal.begun("p"), journal.begun("q")) == (0, 1)


def test_a_second_run_is_refused_and_told_who_the_first_one_is(tmp_path: Path) -> None:
    program = (
        "import sys; from asr.cluster.journal import Journal\n"
        f"with Journal({str(tmp_path)!r}): print('ready', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "ready\n"
    with pytest.raises(UserError, match=rf"process {first.pid} on \S+ is transcribing into"):
        Journal(tmp_path).__enter__()
    first.kill()
    first.communicate()
    with Journal(tmp_path) as journal:  # the lock of a killed process is nobody's
        assert journal.find("x") is None


def test_where_locks_do_not_hold_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    monkeypatch.setattr(journal._lock, "acquire", lambda timeout: None)  # as on some file systems
    (tmp_path / FOLDER).mkdir()
    with pytest.raises(UserError, match="Locks do not hold"):
        journal.__enter__()


def test_a_damaged_journal_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    path = tmp_path / FOLDER / "journal.sqlite"
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(UserError, match=r"journal\.sqlite is damaged .*: move it away"):
        Journal(tmp_path).__enter__()
    assert path.read_bytes() == b"no database at all" * 1000


def test_a_journal_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path):
        pass
    with sqlite3.connect(tmp_path / FOLDER / "journal.sqlite") as database:
        database.execute("pragma user_version = 99")
    with pytest.raises(UserError, match="has schema 99, this asr knows 1: upgrade asr"):
        Journal(tmp_path).__enter__()


def test_a_full_disk_changes_nothing_and_is_told(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.write([record("/a/b.wav", "b")])
        ((pages,),) = journal._database.execute("pragma page_count")
        journal._database.execute(f"pragma max_page_count = {pages}")
        many = [record(f"/a/{number}.wav", str(number)) for number in range(2000)]
        with pytest.raises(UserError, match=r"Cannot write .*journal\.sqlite: .*full"):
            journal.write(many)
        journal._database.execute("pragma max_page_count = 100000")
        assert journal.find("/a/0.wav") is None
        journal.write(many)
        assert journal.find("/a/1999.wav") == many[-1]


def test_only_the_run_that_holds_the_folder_may_write(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        assert is_current(tmp_path, journal.token)
        assert not is_current(tmp_path, "another")
        (tmp_path / FOLDER / "holder.json").write_text(json.dumps({"token": 1}))
        assert not is_current(tmp_path, journal.token)
    assert not is_current(tmp_path, journal.token)


def test_what_a_killed_run_had_not_finished_is_gone(tmp_path: Path) -> None:
    with Journal(tmp_path):
        (tmp_path / FOLDER / "partial" / "abc").write_text("half")
    with Journal(tmp_path) as journal:
        own = tmp_path / FOLDER / "partial" / journal.token
        assert [*(tmp_path / FOLDER / "partial").rglob("*")] == [own]


def test_the_database_can_be_read_with_sqlite_alone(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.write([record("/a/b.wav", "b", outputs=(("b.txt", "d"),))])
    with sqlite3.connect(tmp_path / FOLDER / "journal.sqlite") as database:
        rows = list(database.execute("select path, name, outputs, failure from files"))
    assert rows == [(b"/a/b.wav", b"b", '[["b.txt", "d"]]', None)]
