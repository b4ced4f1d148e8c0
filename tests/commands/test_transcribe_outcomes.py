"""Odd names, folders and moments that `asr transcribe -o` meets, each with what comes of it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr import inputs
from asr.bundle import Bundle, load
from asr.cluster import plan
from asr.cluster.journal import Journal
from asr.cluster.plan import File
from asr.cluster.transcription import Done
from asr.commands import transcribe as command
from asr.commands.main import ASKED_TO_STOP, INTERRUPTED, guarded
from asr.commands.tally import Tally
from asr.commands.transcribe import Options
from asr.errors import UserError
from asr.inputs import Failure

RATE_HZ = 16_000


@pytest.fixture
def model(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    tiny_bundle.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one good recording in it."""
    record(tmp_path / "in" / "good.wav")
    return tmp_path / "in"


def record(path: Path, duration_s: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).normal(0, 0.1, round(duration_s * RATE_HZ))
    with path.open("wb") as handle:  # by its name soundfile writes none that is no UTF-8
        soundfile.write(handle, samples, RATE_HZ, format="WAV")


def options_of(model: Path, *given: Path, output: Path, **more: Any) -> Options:
    formats = ["txt", "json"]
    return Options(str(model), [str(path) for path in given], str(output), formats, **more)


def transcribe(model: Path, *given: Path, output: Path, **more: Any) -> int:
    return command.transcribe(options_of(model, *given, output=output, **more))


def failures(out: Path) -> list[tuple[str, str]]:
    """What failed, and why."""
    lines = (out / "failures.jsonl").read_text(encoding="utf-8").splitlines()
    return [(Path(line["path"]).name, line["reason"]) for line in map(json.loads, lines)]


def written(out: Path) -> set[str]:
    return {
        str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and ".asr" not in p.parts
    }


@pytest.mark.parametrize(
    "name",
    [
        " two  spaces ",
        "a new\nline",
        os.fsdecode(b"caf\xe9"),
        "x" * 240,
        "$(touch pwned); `touch pwned` | rm -rf *",
        "-o",
        "a\\b'\"",
        "a...",
    ],
)
def test_a_name_is_kept_as_it_is(model: Path, folder: Path, tmp_path: Path, name: str) -> None:
    record(folder / f"{name}.wav")
    out = tmp_path / "out"
    assert transcribe(model, folder, output=out) == 0
    assert written(out) == {"good.txt", "good.json", f"{name}.txt", f"{name}.json"}
    assert (out / f"{name}.txt").read_bytes() == (out / "good.txt").read_bytes()
    assert not list(tmp_path.rglob("pwned"))
    assert transcribe(model, folder, output=out) == 0


def test_a_name_that_leaves_no_room_for_an_ending_is_a_failure(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    name = "x" * 251 + ".wav"
    record(folder / name)
    assert transcribe(model, folder, output=tmp_path / "out") == 1
    assert failures(tmp_path / "out") == [(name, "name-too-long")]
    assert written(tmp_path / "out") == {"good.txt", "good.json", "failures.jsonl"}


def test_no_line_of_a_manifest_leads_out_of_the_output_folder(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    names = ["../up", "a/../../up", "/absolute/name", "..", "a//b", "./c", "good"]
    lines = [
        json.dumps({"audio": "good.wav", "id": name, "end_s": 0.3 + number / 100})
        for number, name in enumerate(names)
    ]
    (folder / "list.jsonl").write_text("\n".join(lines))
    before = set(tmp_path.rglob("*"))
    assert transcribe(model, folder / "list.jsonl", output=tmp_path / "out") == 1
    assert [reason for _, reason in failures(tmp_path / "out")] == ["outside-root"] * 5
    made = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "out") for path in made)
    expected = {"absolute/name", "good"}
    assert {n.removesuffix(".txt") for n in written(tmp_path / "out") if ".txt" in n} == expected


@pytest.mark.parametrize(("length", "status"), [(243, 0), (244, 1)])
def test_a_name_leaves_room_for_the_longest_ending_and_a_channels_number(
    model: Path, tmp_path: Path, length: int, status: int
) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "list.jsonl").write_text(json.dumps({"audio": "a.wav", "id": "x" * length}))
    options = options_of(model, tmp_path / "list.jsonl", output=tmp_path / "out", channels="split")
    assert command.transcribe(replace(options, formats=["txt", "textgrid"])) == status
    assert "failures.jsonl" not in written(tmp_path / "out") or status == 1


def test_a_file_of_the_users_own_is_not_overwritten_unless_that_is_asked_for(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    record(folder / "a.wav")
    (folder / "a.txt").write_text("what I wrote down")
    assert transcribe(model, folder, output=folder) == 1
    assert failures(folder) == [("a.wav", "name-taken")]
    assert (folder / "a.txt").read_text() == "what I wrote down"
    assert not (folder / "a.json").exists()
    assert transcribe(model, folder, output=folder, overwrite=True) == 0
    assert (folder / "a.txt").read_text() == (folder / "good.txt").read_text()


def test_what_a_killed_run_wrote_but_did_not_record_is_taken_over(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    for name in ("first", "out"):
        assert transcribe(model, folder, output=tmp_path / name) == 0
        if name == "first":
            shutil.copytree(tmp_path / "first", tmp_path / "out")
            shutil.rmtree(tmp_path / "out" / ".asr")
    assert "failures.jsonl" not in written(tmp_path / "out")


def test_outputs_of_other_settings_are_replaced(
    model: Path, folder: Path, tmp_path: Path, make_bundle: Any
) -> None:
    out = tmp_path / "out"
    assert transcribe(model, folder, output=out) == 0
    before = (out / "good.txt").read_text()
    make_bundle(("|", "d", "e", "f", "g")).save(model)
    assert transcribe(model, folder, output=out) == 0
    assert (out / "good.txt").read_text() != before


def test_channels_of_one_recording_take_no_other_recordings_name(
    model: Path, tmp_path: Path
) -> None:
    both = np.random.default_rng(0).normal(0, 0.1, (RATE_HZ // 2, 2))
    for name in ("a.wav", "a.1.wav", "b.wav", "b.wav.1.wav", "b.mp3"):
        soundfile.write(tmp_path / name, both, RATE_HZ, format="WAV")
    given = [tmp_path / name for name in ("a.wav", "a.1.wav", "b.wav", "b.wav.1.wav", "b.mp3")]
    out = tmp_path / "out"
    assert transcribe(model, *given, output=out, channels="split") == 0
    assert len(written(out)) == len(given) * 2 * 2


def test_a_path_that_the_file_system_does_not_take_is_that_files_failure(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a/" * 2100 + "far", "good", "odd:name"]
    lines = [
        json.dumps({"audio": "good.wav", "id": name, "end_s": 0.3 + number / 100})
        for number, name in enumerate(names)
    ]
    (folder / "list.jsonl").write_text("\n".join(lines))
    rename = os.replace

    def refuse(source: Any, target: Any) -> None:  # as exFAT does
        if ":" in str(target):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), source, None, target)
        rename(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    assert transcribe(model, folder / "list.jsonl", output=tmp_path / "out") == 1
    reasons = [reason for _, reason in failures(tmp_path / "out")]
    assert sorted(reasons) == ["name-taken", "name-too-long"]
    assert written(tmp_path / "out") == {"good.txt", "good.json", "failures.jsonl"}


def test_no_line_of_a_manifest_leads_to_the_journal(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    lines = [
        json.dumps({"audio": "good.wav", "id": name, "end_s": end_s})
        for name, end_s in ((".asr/journal", 0.3), ("b/.asr/c", 0.4))
    ]
    (folder / "list.jsonl").write_text("\n".join(lines))
    assert transcribe(model, folder / "list.jsonl", output=tmp_path / "out") == 1
    assert failures(tmp_path / "out") == [("good.wav", "name-taken")]
    assert not list((tmp_path / "out" / ".asr").glob("journal.[tj]*"))


def test_a_link_in_the_output_folder_is_replaced_and_not_followed(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out" / "good.txt").symlink_to(tmp_path / "precious")
    assert transcribe(model, folder, output=tmp_path / "out") == 0
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "out" / "good.txt").is_symlink()


def test_outputs_inside_the_input_folder_are_no_inputs_of_the_next_run(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in (folder, folder / "out"):
        for _ in range(2):
            assert transcribe(model, folder, output=out) == 0
        assert "0 transcribed; 1 were there before" in capsys.readouterr().err
    assert written(folder / "out") == {"good.txt", "good.json"}


def test_an_unreadable_folder_is_a_failure_and_the_others_go_on(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(folder / "locked" / "a.wav")
    scandir = os.scandir

    def refuse(path: Any) -> Any:  # as it is for everybody but root, who runs some tests
        if str(path).endswith("/locked"):
            raise PermissionError(13, os.strerror(13), path)
        return scandir(path)

    monkeypatch.setattr(inputs.os, "scandir", refuse)
    assert transcribe(model, folder, output=tmp_path / "out") == 1
    assert failures(tmp_path / "out") == [("locked", "unreadable")]
    assert "good.txt" in written(tmp_path / "out")


def test_a_file_that_goes_away_after_it_was_found_is_a_failure(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(folder / "gone.wav")
    parts = plan.Plan.parts

    def vanish(self: plan.Plan) -> Any:
        (folder / "gone.wav").unlink()
        return parts(self)

    monkeypatch.setattr(plan.Plan, "parts", vanish)
    assert transcribe(model, folder, output=tmp_path / "out") == 1
    assert "good.txt" in written(tmp_path / "out")
    assert "gone.txt" not in written(tmp_path / "out")
    assert failures(tmp_path / "out") == [("gone.wav", "missing")]


def test_three_minutes_of_silence_are_transcribed_in_windows(model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.flac", np.zeros(180 * RATE_HZ, np.int16), RATE_HZ)
    bundle = load(model)
    bundle.network.head.weight.data.zero_()
    bundle.network.head.bias.data[0] = 100.0  # of the blank: it hears nothing
    bundle.save(tmp_path / "deaf")
    assert transcribe(tmp_path / "deaf", tmp_path / "silence.flac", output=tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "silence.json").read_text())
    assert (found["duration_s"], found["text"], found["words"]) == (180.0, "", [])
    assert (tmp_path / "out" / "silence.txt").read_text() == "\n"


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_an_incomplete_model_fails_no_file(
    model: Path, folder: Path, tmp_path: Path, damage: str
) -> None:
    weights = model / "weights.safetensors"
    kept = shutil.copyfile(weights, tmp_path / "kept")
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"weights\.safetensors"):
        transcribe(model, folder, output=tmp_path / "out")
    assert written(tmp_path / "out") == set()
    shutil.copyfile(kept, weights)
    assert transcribe(model, folder, output=tmp_path / "out") == 0


def test_a_cluster_that_does_not_answer_fails_no_file(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"No Ray cluster answers at 127\.0\.0\.1:1"):
        transcribe(model, folder, output=tmp_path / "out", ray="127.0.0.1:1")
    assert written(tmp_path / "out") == set()


def test_a_gpu_that_is_not_there_fails_no_file(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="--device gpu: torch finds no GPU here"):
        transcribe(model, folder, output=tmp_path / "out", device="gpu")
    assert written(tmp_path / "out") == set()


def test_a_second_run_is_refused_and_disturbs_nothing(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with Journal(out) as journal:
        with pytest.raises(UserError, match=rf"process {os.getpid()} on \S+ is transcribing"):
            transcribe(model, folder, output=out)
        journal.note("still", "mine")
    assert written(out) == set()


@pytest.fixture
def _signals() -> Iterator[None]:
    """Puts back what `guarded` puts in place."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (signal.SIGTERM, ASKED_TO_STOP, "asked to stop"),
        (signal.SIGINT, INTERRUPTED, "interrupted"),
    ],
)
def test_a_stop_in_the_middle_is_told_and_the_same_command_goes_on(
    model: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    status: int,
    words: str,
) -> None:
    monkeypatch.setattr(plan, "PART_FILES", 2)
    (folder / "bad.wav").write_text("no audio")
    for name in "uvwxyz":
        record(folder / f"{name}.wav")
    ended = Tally.ended

    def stop(self: Tally, file: File, outcome: Done | Failure) -> None:
        ended(self, file, outcome)
        if self.left == 4:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Tally, "ended", stop)
    out = tmp_path / "out"
    options = options_of(model, folder, output=out)
    assert guarded(lambda: command.transcribe(options)) == status
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == f"asr: {words}"
    assert told[-2].startswith("3 transcribed: ")
    assert "4 are left: the same command goes on" in told[-2]
    assert failures(out) == [("bad.wav", "not-audio")]
    before = {name: (out / name).stat().st_mtime_ns for name in written(out)}
    assert len(before) == 7
    monkeypatch.setattr(Tally, "ended", ended)
    assert guarded(lambda: command.transcribe(options)) == 1
    after = {name: (out / name).stat().st_mtime_ns for name in written(out)}
    assert len(after) == 15
    kept = before.keys() - {"failures.jsonl"}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
