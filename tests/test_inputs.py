from __future__ import annotations

import os
from pathlib import Path

import pytest

from asr.inputs import Failure, find_recordings


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def names(*arguments: object) -> dict[str, str]:
    """Each recording's output name by its path; nothing may have failed."""
    recordings, failures = find_recordings([str(argument) for argument in arguments])
    assert failures == []
    return {str(recording.path): str(recording.name) for recording in recordings}


def output_names(*arguments: object) -> list[str]:
    return list(names(*arguments).values())


def failures(*arguments: object) -> list[tuple[str, str]]:
    _, failed = find_recordings([str(argument) for argument in arguments])
    assert all(isinstance(failure, Failure) and failure.detail for failure in failed)
    return [(failure.path, failure.reason) for failure in failed]


# Finding


def test_a_folder_gives_the_audio_below_it_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.wav", "a/z.FLAC", "a/b.Mp3", "c.txt", "noending", "a/b/c/d.opus")
    assert output_names(tmp_path) == ["a/b/c/d", "a/b", "a/z", "b"]


def test_hidden_files_and_folders_are_left_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", ".b.wav", ".cache/c.wav", "d/.e.wav")
    assert output_names(tmp_path) == ["a"]


def test_a_pattern_that_no_shell_expanded_is_expanded(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.wav", "y/b.wav", "y/c.flac")
    assert output_names(tmp_path / "*" / "*.wav") == ["a", "b"]
    assert output_names(tmp_path / "**" / "*.flac") == ["c"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    touch(tmp_path, "a[1].wav", "a1.wav")
    assert output_names(tmp_path / "a[1].wav") == ["a[1]"]


def test_a_file_named_itself_needs_no_audio_ending(tmp_path: Path) -> None:
    touch(tmp_path, "recording.dat")
    assert output_names(tmp_path / "recording.dat") == ["recording"]


def test_what_is_named_twice_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "f/a.wav", "f/b.wav")
    monkeypatch.chdir(tmp_path)
    assert len(names("f", "f/a.wav", tmp_path / "f", "./f/../f/b.wav")) == 2


def test_what_is_missing_is_a_failure_and_the_rest_goes_on(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    recordings, failed = find_recordings(
        [str(tmp_path / "no.wav"), str(tmp_path / "a.wav"), str(tmp_path / "*.mp3"), ""]
    )
    assert [Path(recording.path).name for recording in recordings] == ["a.wav"]
    assert [failure.reason for failure in failed] == ["missing", "missing", "missing"]


def test_a_folder_that_cannot_be_read_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.wav", "locked/b.wav")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert failures(tmp_path) == [(str(tmp_path / "locked"), "unreadable")]


# Links


def test_a_looping_folder_ends_and_gives_each_file_once(tmp_path: Path) -> None:
    touch(tmp_path, "a/b.wav")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(".")
    assert output_names(tmp_path) == ["a/b"]


def test_a_linked_folder_is_read_where_nothing_else_leads_there(tmp_path: Path) -> None:
    touch(tmp_path, ".store/b.wav")
    (tmp_path / "day1").symlink_to(".store")
    assert output_names(tmp_path) == ["day1/b"]


def test_a_linked_file_inside_the_folder_is_a_recording(tmp_path: Path) -> None:
    touch(tmp_path, ".store/b")
    (tmp_path / "a.wav").symlink_to(".store/b")
    assert output_names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("link", "target", "reason"),
    [
        ("a.wav", "nowhere", "bad-link"),
        ("a.wav", "a.wav", "bad-link"),
        ("folder", "nowhere", "bad-link"),
        ("a.wav", "../outside/o.wav", "outside-root"),
        ("folder", "../outside", "outside-root"),
        ("a.wav", "../gone", "outside-root"),
    ],
)
def test_a_link_that_dangles_loops_or_leaves_the_folder_is_a_failure(
    tmp_path: Path, link: str, target: str, reason: str
) -> None:
    touch(tmp_path, "outside/o.wav", "root/b.wav")
    (tmp_path / "root" / link).symlink_to(target)
    recordings, failed = find_recordings([str(tmp_path / "root")])
    assert [Path(recording.path).name for recording in recordings] == ["b.wav"]
    assert [(failure.path, failure.reason) for failure in failed] == [
        (str(tmp_path / "root" / link), reason)
    ]


@pytest.mark.parametrize("target", ["nowhere.wav", "a.wav", "/nowhere.wav"])
def test_a_bad_link_is_told_by_the_path_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    touch(tmp_path, "root/b.wav")
    (tmp_path / "root" / "a.wav").symlink_to(target)
    monkeypatch.chdir(tmp_path)
    (failure,) = find_recordings(["root"])[1]
    assert failure.detail.startswith("root/a.wav ")


def test_links_that_are_no_audio_are_left_alone(tmp_path: Path) -> None:
    touch(tmp_path, "outside/readme", "root/b.wav")
    (tmp_path / "root" / "README").symlink_to("../outside/readme")
    (tmp_path / "root" / "notes.txt").symlink_to("nowhere")
    assert output_names(tmp_path / "root") == ["b"]


@pytest.mark.parametrize("target", ["nowhere", "a.wav"])
def test_a_named_link_that_leads_nowhere_is_a_failure(tmp_path: Path, target: str) -> None:
    (tmp_path / "a.wav").symlink_to(target)
    assert failures(tmp_path / "a.wav") == [(str(tmp_path / "a.wav"), "bad-link")]


def test_a_named_link_may_lead_anywhere(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/o.wav")
    (tmp_path / "a.wav").symlink_to("elsewhere/o.wav")
    assert output_names(tmp_path / "a.wav") == ["a"]


# Naming outputs


def test_inputs_that_differ_only_in_their_ending_keep_it(tmp_path: Path) -> None:
    touch(tmp_path, "b.wav", "b.mp3", "c.wav", "d/b.wav")
    assert output_names(tmp_path) == ["b.mp3", "b.wav", "c", "d/b"]


def test_an_ending_that_was_kept_displaces_no_other_name(tmp_path: Path) -> None:
    touch(tmp_path, "b.wav", "b.mp3", "b.wav.mp3")
    assert sorted(output_names(tmp_path)) == ["b.mp3", "b.wav", "b.wav.mp3"]


def test_only_the_last_ending_goes(tmp_path: Path) -> None:
    touch(tmp_path, "take.1.wav", "take.2.wav")
    assert output_names(tmp_path) == ["take.1", "take.2"]


def test_several_folders_each_go_under_their_own_name(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.wav", "y/a.wav", "y/b/c.wav")
    assert output_names(tmp_path / "x", tmp_path / "y") == ["x/a", "y/a", "y/b/c"]


def test_folders_of_the_same_name_are_told_apart_by_what_is_above(tmp_path: Path) -> None:
    touch(tmp_path, "x/wav/a.wav", "y/wav/a.wav", "z/a.wav")
    assert output_names(tmp_path / "x" / "wav", tmp_path / "y" / "wav", tmp_path / "z") == [
        "x/wav/a",
        "y/wav/a",
        "z/a",
    ]


def test_the_same_folder_twice_is_one_folder(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.wav")
    assert output_names(tmp_path / "x", f"{tmp_path}/x/") == ["a"]


def test_a_folder_given_as_a_dot_goes_under_its_real_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "x/a.wav", "y/b.wav")
    monkeypatch.chdir(tmp_path / "x")
    assert output_names(".", "../y") == ["x/a", "y/b"]


def test_single_files_of_the_same_name_are_told_apart_by_what_is_above(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.wav", "y/a.wav", "y/b.wav")
    assert output_names(tmp_path / "x/a.wav", tmp_path / "y/a.wav", tmp_path / "y/b.wav") == [
        "x/a",
        "y/a",
        "b",
    ]


def test_a_single_file_never_takes_the_name_of_a_folders_file(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.wav", "y/a.wav")
    assert output_names(tmp_path / "x", tmp_path / "y" / "a.wav") == ["a", "y/a"]


def test_a_name_never_leaves_the_output_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.wav", "x/a.wav")
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    for name in output_names("../a.wav", "../x"):
        assert ".." not in Path(name).parts
        assert not Path(name).is_absolute()
