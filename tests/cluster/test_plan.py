from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from asr.cluster import plan as module
from asr.cluster.journal import Journal, Record
from asr.cluster.plan import Choice, File, Part, Plan, parts_of, survey
from asr.inputs import Failure, Recording


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "out") as opened:
        yield opened


@pytest.fixture
def recordings(tmp_path: Path) -> list[Recording]:
    found = []
    for number in range(10):
        path = tmp_path / f"{number}.wav"
        path.write_bytes(b"x" * (number + 1))
        found.append(Recording(str(path), str(number)))
    return found


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_FILES", 3)


def plan(
    recordings: list[Recording],
    journal: Journal,
    settings: str = "s",
    choice: Choice = Choice(),  # noqa: B008  frozen
) -> Plan:
    return Plan(recordings, journal, settings, choice, longest_name=255)


def recorded(file: File, settings: str = "s", reason: str | None = None) -> Record:
    recording = file.recording
    failure = Failure(recording.path, "read", reason, "why") if reason else None
    return Record(
        recording.path,
        recording.start_s,
        recording.end_s,
        recording.name,
        file.size,
        file.changed_ns,
        settings,
        failure=failure,
    )


def shape(parts: Iterator[Part]) -> list[str]:
    """A letter a file: its number where it is wanted, a dot where it only helps."""
    return [
        "".join(file.recording.name if file.wanted else "." for file in part.files)
        for part in parts
    ]


def test_files_are_cut_into_parts_by_number_and_by_size() -> None:
    files = [File(Recording(str(n), str(n)), size, 0) for n, size in enumerate([5, 5, 5, 5, 99, 1])]
    assert [len(part.files) for part in parts_of(files)] == [3, 3]
    whole = module.PART_BYTES
    files = [File(Recording(str(n), str(n)), size, 0) for n, size in enumerate([whole, 1, whole])]
    assert [len(part.files) for part in parts_of(files)] == [1, 1, 1]


def test_what_is_done_changes_no_part(journal: Journal, recordings: list[Recording]) -> None:
    first = plan(recordings, journal)
    parts = list(first.parts())
    assert shape(first.parts()) == ["012", "345", "678", "9"]
    journal.write([recorded(parts[0].files[1]), *map(recorded, parts[1].files)])
    again = plan(recordings, journal)
    assert shape(again.parts()) == ["0.2", "678", "9"]
    assert [part.key for part in again.parts()] == [parts[0].key, parts[2].key, parts[3].key]


def test_totals_say_what_is_to_be_done(journal: Journal, recordings: list[Recording]) -> None:
    parts = list(plan(recordings, journal).parts())
    journal.write([recorded(parts[0].files[0]), recorded(parts[0].files[1], reason="truncated")])
    again = plan(recordings, journal)
    totals = again.totals
    assert (totals.wanted, totals.done, totals.failed, again.failures) == (8, 1, 1, [])
    assert totals.wanted_bytes == sum(range(3, 11))


@pytest.mark.parametrize("what", ["content", "time", "settings", "overwrite", "retry"])
def test_a_file_is_done_again_where_something_changed_or_it_is_asked_for(
    journal: Journal, recordings: list[Recording], what: str
) -> None:
    (part, *_) = plan(recordings, journal).parts()
    reason = "truncated" if what == "retry" else None
    journal.write(
        [recorded(file, reason=reason if file is part.files[0] else None) for file in part.files]
    )
    assert "0" not in "".join(shape(plan(recordings, journal).parts()))
    path = Path(recordings[0].path)
    if what == "content":
        path.write_bytes(b"another length")
    elif what == "time":
        os.utime(path, ns=(0, 12345))
    settings = "other" if what == "settings" else "s"
    choice = Choice(everything=what == "overwrite", failed=what == "retry")
    again = plan(recordings, journal, settings, choice)
    assert shape(again.parts())[0][0] == "0"
    assert again.totals.changed == (what in ("content", "time"))
    assert again.totals.outdated == {"settings": 3}.get(what, 0)


def test_a_changed_file_is_not_counted_again_for_the_settings(
    journal: Journal, recordings: list[Recording]
) -> None:
    (part, *_) = plan(recordings, journal).parts()
    journal.write([recorded(file) for file in part.files])
    Path(recordings[0].path).write_bytes(b"another length")
    totals = plan(recordings, journal, "other").totals
    assert (totals.changed, totals.outdated) == (1, len(part.files) - 1)


def test_a_recorded_name_stays_when_a_file_of_the_same_stem_comes(
    journal: Journal, tmp_path: Path
) -> None:
    old = Recording(str(tmp_path / "b.wav"), "b")
    journal.write([Record(old.path, 0.0, None, "b", 1, 1, "s")])
    # Now that both are there the list calls them by their endings.
    both = [Recording(str(tmp_path / "b.mp3"), "b.mp3"), Recording(old.path, "b.wav")]
    assert [r.name for r in plan(both, journal).recordings] == ["b.mp3", "b"]
    # The old one is gone, and its name would be free but for what lies under it.
    alone = [
        Recording(str(tmp_path / "b.mp3"), "b"),
        Recording(str(tmp_path / "b.mp3.ogg"), "b.mp3"),
    ]
    assert [r.name for r in plan(alone, journal).recordings] == ["b.mp3.2", "b.mp3"]


def test_a_file_that_ends_its_worker_is_left_out_until_it_is_tried_again(
    journal: Journal, recordings: list[Recording]
) -> None:
    (part, *_) = plan(recordings, journal).parts()
    journal.write([recorded(part.files[1], reason="crashed")])
    assert shape(plan(recordings, journal).parts())[0] == "02"
    journal.write([recorded(part.files[0])])
    assert shape(plan(recordings, journal).parts())[0] == ".2"
    again = plan(recordings, journal, choice=Choice(failed=True))
    assert shape(again.parts())[0] == ".12"


def test_what_is_no_file_or_has_too_long_a_name_is_a_failure(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "good.wav").write_bytes(b"x")
    given = [
        Recording(str(tmp_path / "pipe.wav"), "pipe"),
        Recording(str(tmp_path / "gone.wav"), "gone"),
        Recording(str(tmp_path / "good.wav"), "a" * 51),
        Recording(str(tmp_path / "good.wav"), "é" * 25),
    ]
    found = list(survey(given, longest_name=50))
    assert [f.reason if isinstance(f, Failure) else f.size for f in found] == [
        "not-audio",
        "missing",
        "name-too-long",
        1,
    ]


def test_some_of_the_wanted_files_are_kept_from_all_over_the_list() -> None:
    totals = module.Totals()
    for number in range(10_000):
        totals.want(File(Recording(str(number), str(number)), 1, 0))
    sample = [int(file.recording.path) for file in totals.sample]
    assert module.SAMPLE <= len(sample) <= 2 * module.SAMPLE
    assert max(b - a for a, b in itertools.pairwise(sample)) <= 10_000 / module.SAMPLE
    assert sample[0] < 100
    assert sample[-1] > 9_900
