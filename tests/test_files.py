from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from asr.errors import UserError
from asr.files import (
    InputError,
    digest_bytes,
    digest_file,
    explain_write_errors,
    replace_folder,
    resolve_inside,
    write_atomically,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_file(path: Path, fault: type[BaseException] | None = None) -> None:
    with write_atomically(path) as handle:
        handle.write("new")
        if fault:
            raise fault


def write_folder(path: Path, fault: type[BaseException] | None = None) -> None:
    with replace_folder(path) as folder:
        (folder / "new").write_text("new")
        if fault:
            raise fault


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_written_file_has_its_content_and_nothing_stands_beside_it(tmp_path: Path) -> None:
    with write_atomically(tmp_path / "a.txt") as handle:
        handle.write("één\n")
        assert names(tmp_path) != ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == "één\n".encode()
    assert names(tmp_path) == ["a.txt"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_file(tmp_path / "a.txt", ZeroDivisionError)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_full_disk_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(UserError, match=r"a\.txt: No space left on device"):
        write_file(tmp_path / "a.txt")
    assert names(tmp_path) == []


def test_a_file_below_a_file_is_an_error_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="Not a directory"),
        write_atomically(tmp_path / "file" / "a.txt"),
    ):
        pass


def test_a_relative_name_is_known_by_its_whole_path_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "out" / "a.txt"))
    with (
        pytest.raises(UserError, match=r"Cannot write out/a\.txt: Permission denied"),
        explain_write_errors(Path("out/a.txt")),
    ):
        raise refused


def test_an_input_that_is_missing_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), write_atomically(tmp_path / "a.txt", "wb"):
        (tmp_path / "input").read_bytes()
    assert names(tmp_path) == []


def test_a_folder_replaces_the_old_one_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "corpus"
    target.mkdir()
    (target / "old").write_text("old")
    with replace_folder(target) as folder:
        (folder / "new").write_text("new")
        assert names(target) == ["old"]
    assert names(target) == ["new"]
    assert names(tmp_path) == ["corpus"]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "corpus"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_folder(target, KeyboardInterrupt)
    assert names(target) == ["old"]
    assert names(tmp_path) == ["corpus"]


def test_a_folder_on_a_full_disk_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(UserError, match="corpus: No space left on device"):
        write_folder(tmp_path / "corpus")
    assert names(tmp_path) == []


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "corpus"
    script = (
        "import os, signal, sys; from asr.files import replace_folder\n"
        "with replace_folder(sys.argv[1]) as folder:\n"
        "    (folder / 'half').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert not target.exists()
    assert len(names(tmp_path)) == 1
    with replace_folder(target) as folder:
        (folder / "whole").write_text("whole")
    assert names(tmp_path) == ["corpus"]
    assert names(target) == ["whole"]


def test_a_folder_that_another_writer_has_in_hand_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "corpus"
    with replace_folder(target) as first:
        (first / "first").write_text("")
        with replace_folder(target) as second:
            (second / "second").write_text("")
        assert names(target) == ["second"]
    assert names(target) == ["first"]


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    old = tmp_path / ".corpus.01234567.old"
    old.mkdir()
    (old / "old").write_text("old")
    with pytest.raises(ZeroDivisionError), replace_folder(tmp_path / "corpus"):
        raise ZeroDivisionError
    assert names(tmp_path / "corpus") == ["old"]


def test_digests_of_bytes_and_of_a_file_agree_with_hashlib(tmp_path: Path) -> None:
    data = bytes(range(256)) * 8192  # more than one piece
    (tmp_path / "a").write_bytes(data)
    expected = hashlib.blake2b(data, digest_size=16).hexdigest()
    assert digest_bytes(data) == digest_file(tmp_path / "a") == expected


def test_a_path_inside_its_root_is_resolved(tmp_path: Path) -> None:
    (tmp_path / "wav").mkdir()
    (tmp_path / "wav" / "a.wav").write_text("x")
    (tmp_path / "link.wav").symlink_to("wav/a.wav")
    expected = (tmp_path / "wav" / "a.wav").resolve()
    assert resolve_inside(tmp_path, "wav/../wav/a.wav") == expected
    assert resolve_inside(tmp_path, "link.wav") == expected
    assert resolve_inside(tmp_path, tmp_path / "wav" / "a.wav") == expected


def test_a_path_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (tmp_path / "secret.wav").write_text("x")
    (root / "out.wav").symlink_to(tmp_path / "secret.wav")
    (root / "dangling.wav").symlink_to("nowhere.wav")
    (root / "loop.wav").symlink_to("loop.wav")
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    cases = {
        "../secret.wav": "outside-root",
        "../nothing.wav": "outside-root",
        "/etc/passwd": "outside-root",
        "out.wav": "outside-root",
        "dangling.wav": "bad-link",
        "loop.wav": "bad-link",
        "one/a.wav": "bad-link",
        "folder/nothing.wav": "missing",
        "nothing/nothing.wav": "missing",
    }
    for path, reason in cases.items():
        with pytest.raises(InputError) as caught:
            resolve_inside(root, path)
        assert (path, caught.value.reason) == (path, reason)


def test_a_folder_whose_name_is_a_pattern_leaves_others_leftovers_alone(tmp_path: Path) -> None:
    others = tmp_path / ".a.01234567.partial"
    own = tmp_path / ".[ab].01234567.partial"
    for path in (others, own):
        path.mkdir()
    with replace_folder(tmp_path / "[ab]"):
        pass
    assert (others.exists(), own.exists()) == (True, False)
