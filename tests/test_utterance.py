from __future__ import annotations

import json
from pathlib import Path

import pytest

from asr.errors import UserError
from asr.utterance import Rejection, Utterance, read_manifest


def manifest(folder: Path, *lines: object) -> Path:
    for name in ("a.wav", "b.wav", "sub/c.wav"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    path = folder / "train.jsonl"
    path.write_bytes(
        b"".join(
            (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n"
            for line in lines
        )
    )
    return path


def only(path: Path) -> Utterance | Rejection:
    entry, *rest = read_manifest(path)
    assert not rest
    return entry


def test_all_keys_of_a_line_are_read(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        {"audio": "a.wav", "text": "Hello.", "id": 7, "speaker": "ann", "split": "test"}
        | {"start_s": 1, "end_s": 2.5, "unknown": [1]},
    )
    audio = str((tmp_path / "a.wav").resolve())
    assert only(path) == Utterance("7", audio, "Hello.", "test", "ann", 1.0, 2.5)


def test_an_id_is_made_from_path_and_times(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        {"audio": "sub/c.wav", "text": "x"},
        {"audio": "sub/c.wav", "text": "x", "start_s": 1.2, "end_s": 3.4},
        {"audio": "sub/c.wav", "text": "x", "start_s": 3.4},
    )
    assert [entry.id for entry in read_manifest(path)] == [
        "sub/c",
        "sub/c-1200-3400",
        "sub/c-3400-",
    ]


def test_nemo_manifests_are_understood(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        {"audio_filepath": "a.wav", "text": "x", "duration": 2.0},
        {"audio_filepath": "a.wav", "text": "x", "offset": 1.0, "duration": 2.0},
    )
    whole, part = read_manifest(path)
    assert isinstance(whole, Utterance)
    assert isinstance(part, Utterance)
    assert (whole.start_s, whole.end_s) == (0.0, None)
    assert (part.start_s, part.end_s) == (1.0, 3.0)


def test_an_absolute_path_is_taken_as_it_stands(tmp_path: Path) -> None:
    entry = only(manifest(tmp_path, {"audio": "/data/a.wav", "text": "x"}))
    assert entry.audio == "/data/a.wav"


def test_empty_lines_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    line = b"\xef\xbb\xbf" + json.dumps({"audio": "a.wav", "text": "x"}).encode()
    entries = list(read_manifest(manifest(tmp_path, line, b"", b"  ")))
    assert [type(entry) for entry in entries] == [Utterance]


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b'{"audio": "a.wav", "text": "cut o',
        b"\xff\xfe",
        b"[1]",
        {"text": "x"},
        {"audio": "a.wav"},
        {"audio": "", "text": "x"},
        {"audio": "a.wav", "text": None},
        {"audio": "a.wav", "text": 5},
        {"audio": "a.wav", "text": "x", "start_s": "1"},
        {"audio": "a.wav", "text": "x", "start_s": True},
        {"audio": "a.wav", "text": "x", "start_s": -1},
        {"audio": "a.wav", "text": "x", "start_s": 2, "end_s": 1},
        b'{"audio": "a.wav", "text": "x", "end_s": NaN}',
    ],
)
def test_a_line_that_is_no_utterance_is_rejected_by_file_and_line(
    tmp_path: Path, line: object
) -> None:
    path = manifest(tmp_path, {"audio": "a.wav", "text": "x"}, line)
    good, bad = read_manifest(path)
    assert isinstance(good, Utterance)
    assert isinstance(bad, Rejection)
    assert bad.reason == "bad-line"
    assert f"{path}:2" in bad.detail


def test_paths_that_cannot_be_used_are_rejected_with_their_text(tmp_path: Path) -> None:
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    path = manifest(
        tmp_path,
        {"audio": "a.wav", "text": "x"},
        {"audio": "../x.wav", "text": "one", "speaker": "ann", "split": "test"},
        {"audio": "none.wav", "text": "two"},
        {"audio": "loop.wav", "text": "three"},
    )
    _, *bad = read_manifest(path)
    assert all(isinstance(entry, Rejection) for entry in bad)
    assert [(entry.reason, entry.text) for entry in bad if isinstance(entry, Rejection)] == [
        ("outside-root", "one"),
        ("no-audio", "two"),
        ("bad-link", "three"),
    ]
    assert (bad[0].speaker, bad[0].split) == ("ann", "test")


@pytest.mark.parametrize("lines", [[], [b"no"], [{"audio": "none.wav", "text": "x"}]])
def test_a_manifest_without_a_single_utterance_is_an_error(
    tmp_path: Path, lines: list[object]
) -> None:
    path = manifest(tmp_path, *lines)
    with pytest.raises(UserError, match=r"train\.jsonl holds no utterance"):
        list(read_manifest(path))


def test_a_missing_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        list(read_manifest(tmp_path / "none.jsonl"))
