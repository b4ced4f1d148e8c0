"""The rows of docs/bad-input.md that `asr transcribe` meets, one parameter each."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.bundle import Bundle
from asr.commands import transcribe as command
from asr.commands.transcribe import Options
from asr.errors import UserError

RATE_HZ = 16_000


def noise(duration_s: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(duration_s * rate_hz))


@pytest.fixture
def model(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    tiny_bundle.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one good recording in it."""
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "good.wav", noise(0.5), RATE_HZ)
    return tmp_path / "in"


def transcribe(model: Path, *inputs: Path, output: Path) -> int:
    options = Options(
        model=str(model),
        inputs=[str(path) for path in inputs],
        output=str(output),
        formats=["txt", "json"],
    )
    return command.transcribe(options)


def failures(out: Path) -> list[dict[str, str]]:
    lines = (out / "failures.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def nothing_written(path: Path) -> None:
    path.write_bytes(b"")


def text_named_wav(path: Path) -> None:
    path.write_text("this is not audio\n" * 100)


def truncated_flac(path: Path) -> None:
    soundfile.write(path, noise(1.0), RATE_HZ, format="FLAC")
    path.write_bytes(path.read_bytes()[:-2000])


def truncated_wav(path: Path) -> None:
    soundfile.write(path, noise(1.0), RATE_HZ)
    path.write_bytes(path.read_bytes()[:-2000])


def not_a_number(path: Path) -> None:
    samples = noise(1.0)
    samples[100] = np.nan
    soundfile.write(path, samples, RATE_HZ, subtype="FLOAT")


def beyond_all_measure(path: Path) -> None:
    soundfile.write(path, noise(1.0) * 1e30, RATE_HZ, subtype="FLOAT")


def header_without_samples(path: Path) -> None:
    soundfile.write(path, noise(0.0), RATE_HZ)


def link_to_nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def link_out_of_the_folder(path: Path) -> None:
    outside = path.parents[1] / "outside.wav"
    soundfile.write(outside, noise(0.5), RATE_HZ)
    path.symlink_to(outside)


def folder_named_wav(path: Path) -> None:
    path.mkdir()


def day_and_an_hour_of_silence(path: Path) -> None:
    size = 25 * 3600 * RATE_HZ * 2
    soundfile.write(path, np.zeros(1, np.int16), RATE_HZ)
    with path.open("r+b") as handle:
        for where, value in ((4, 36 + size), (40, size)):
            handle.seek(where)
            handle.write(value.to_bytes(4, "little"))
        handle.truncate(44 + size)  # which takes no blocks of the disk


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (nothing_written, "bad.wav", "empty-file"),
        (text_named_wav, "bad.wav", "not-audio"),
        (truncated_flac, "bad.flac", "truncated"),
        (truncated_wav, "bad.wav", "truncated"),
        (not_a_number, "bad.wav", "not-finite"),
        (beyond_all_measure, "bad.wav", "not-finite"),
        (header_without_samples, "bad.wav", "too-short"),
        (day_and_an_hour_of_silence, "bad.wav", "too-long"),
        (link_to_nowhere, "bad.wav", "bad-link"),
        (link_to_itself, "bad.wav", "bad-link"),
        (link_out_of_the_folder, "bad.wav", "outside-root"),
        (os.mkfifo, "bad.wav", "not-audio"),
    ],
)
def test_a_bad_file_is_listed_and_the_others_go_on(
    model: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None],
    name: str,
    reason: str,
) -> None:
    make(folder / name)
    out = tmp_path / "out"
    assert transcribe(model, folder, output=out) == 1
    assert sorted(path.name for path in out.iterdir()) == [
        ".asr",
        "failures.jsonl",
        "good.json",
        "good.txt",
    ]
    (failure,) = failures(out)
    assert failure["path"] == str(folder / name)
    assert failure["reason"] == reason
    assert failure["stage"] in ("find", "read", "recognise")
    assert failure["detail"]
    assert failure["what_to_do"]
    told = capsys.readouterr().err
    assert str(folder / name) in told
    assert f"1 failed (1 {reason})" in told


def stereo_at_44_khz(path: Path) -> None:
    soundfile.write(path, np.stack([noise(0.5, 44_100)] * 2, axis=1), 44_100)


def a_fiftieth_of_a_second(path: Path) -> None:
    soundfile.write(path, noise(0.02), RATE_HZ)


def silence(path: Path) -> None:
    soundfile.write(path, np.zeros(RATE_HZ), RATE_HZ)


def one_sample(path: Path) -> None:
    soundfile.write(path, noise(1.0)[:1], RATE_HZ)


@pytest.mark.parametrize("make", [stereo_at_44_khz, a_fiftieth_of_a_second, silence, one_sample])
def test_unusual_audio_is_transcribed(
    model: Path, folder: Path, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(folder / "odd.wav")
    out = tmp_path / "out"
    assert transcribe(model, folder, output=out) == 0
    assert (out / "odd.txt").read_text(encoding="utf-8").endswith("\n")


def test_less_than_a_frame_of_audio_has_an_empty_transcript(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    a_fiftieth_of_a_second(folder / "short.wav")
    transcribe(model, folder, output=tmp_path / "out")
    record = json.loads((tmp_path / "out" / "short.json").read_text(encoding="utf-8"))
    assert (record["text"], record["words"], record["duration_s"]) == ("", [], 0.02)


def test_a_file_name_that_is_no_utf8_is_spelled_out(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    nothing_written(folder / os.fsdecode(b"caf\xe9.wav"))
    assert transcribe(model, folder, output=tmp_path / "out") == 1
    assert [failure["path"] for failure in failures(tmp_path / "out")] == [f"{folder}/caf\\xe9.wav"]


def test_a_looping_folder_is_no_failure(model: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "loop").symlink_to(folder)
    assert transcribe(model, folder, output=tmp_path / "out") == 0
    assert len(list((tmp_path / "out").rglob("*.txt"))) == 1


def test_a_missing_file_beside_a_good_one_is_a_failure(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    assert transcribe(model, folder / "gone.wav", folder, output=tmp_path / "out") == 1
    assert [failure["reason"] for failure in failures(tmp_path / "out")] == ["missing"]


@pytest.mark.parametrize("name", ["gone.wav", "gone", "*.mp3", "*/*"])
def test_nothing_at_all_to_transcribe_is_wrong_use(
    model: Path, folder: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(UserError, match="Nothing to transcribe"):
        transcribe(model, folder / name, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_audio_is_wrong_use(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").mkdir()
    with pytest.raises(UserError, match="no audio in"):
        transcribe(model, tmp_path / "empty.wav", output=tmp_path / "out")


def test_all_files_bad_is_a_failure_with_a_list(model: Path, folder: Path, tmp_path: Path) -> None:
    nothing_written(folder / "good.wav")
    assert transcribe(model, folder, output=tmp_path / "out") == 1
    assert len(failures(tmp_path / "out")) == 1


def test_an_output_folder_that_cannot_be_written_is_told_at_once(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("asr.bundle.load", lambda *_: pytest.fail("it went on"))
    with pytest.raises(UserError, match="Cannot write"):
        transcribe(model, folder, output=tmp_path / "file" / "out")


def test_a_folder_of_somebody_elses_is_told_at_once(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.bundle.load", lambda *_: pytest.fail("it went on"))
    theirs = Path("/proc/self")  # a folder in which nobody, root neither, can make a file
    if not theirs.is_dir():
        pytest.skip("needs Linux, whose /proc nobody can write in")
    with pytest.raises(UserError, match=r"Cannot write /proc/self/\.asr"):
        transcribe(model, folder, output=theirs)


def test_a_full_disk_ends_it_with_what_was_written_whole(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(folder / "longer.wav", noise(1.0), RATE_HZ)
    out, sync = tmp_path / "out", os.fsync

    def fill_up(descriptor: int) -> None:
        if "/partial/" in os.readlink(f"/proc/self/fd/{descriptor}"):
            calls.append(descriptor)
            if len(calls) > 3:  # of two outputs of two recordings each, which are one part
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", fill_up)
    with pytest.raises(UserError, match=r"Cannot write .*\.(txt|json): No space left"):
        transcribe(model, folder, output=out)
    assert [path.name for path in out.iterdir()] == [".asr"]
    monkeypatch.setattr(os, "fsync", sync)
    assert transcribe(model, folder, output=out) == 0
    assert len(list(out.glob("*.json"))) == 2
