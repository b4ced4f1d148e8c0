from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from asr.bundle import Bundle, add_score, load
from asr.cluster import plan, transcription
from asr.commands import transcribe as command
from asr.commands.transcribe import Options
from asr.errors import UserError

RATE_HZ = 16_000
BOTH = ["txt", "json"]


@pytest.fixture
def model(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    tiny_bundle.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Three recordings, the longest first by name."""
    folder = tmp_path / "audio"
    for seed, (name, duration_s) in enumerate({"a": 1.3, "b": 0.4, "sub/c": 0.8}.items()):
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(seed).normal(0, 0.1, round(duration_s * RATE_HZ))
        soundfile.write(path, samples, RATE_HZ)
    return folder


def transcribe(
    model: Path,
    *inputs: Path,
    output: Path | None = None,
    formats: list[str] | None = None,
    **more: Any,
) -> int:
    options = Options(
        model=str(model),
        inputs=[str(path) for path in inputs],
        output=None if output is None else str(output),
        formats=formats or (["txt"] if output is None else BOTH),
        **more,
    )
    return command.transcribe(options)


def written(folder: Path) -> list[str]:
    """What lies there, but for the journal."""
    found = (str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    return sorted(name for name in found if not name.startswith(".asr/"))


def test_a_folder_becomes_text_and_json_under_mirrored_paths(
    model: Path, audio: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert transcribe(model, audio, output=out) == 0
    assert written(out) == ["a.json", "a.txt", "b.json", "b.txt", "sub/c.json", "sub/c.txt"]
    record = json.loads((out / "sub" / "c.json").read_text(encoding="utf-8"))
    assert record["source"] == str(audio / "sub" / "c.wav")
    assert record["duration_s"] == 0.8
    assert record["text"] + "\n" == (out / "sub" / "c.txt").read_text(encoding="utf-8")
    assert " ".join(word["word"] for word in record["words"]) == record["text"]


def test_the_command_writes_what_python_gives(model: Path, audio: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = ["a", "b", "sub/c"]
    transcribe(model, audio, output=out)
    transcripts = load(model).transcribe([audio / f"{name}.wav" for name in names])
    assert any(transcript.text for transcript in transcripts)
    for name, transcript in zip(names, transcripts, strict=True):
        assert (out / f"{name}.txt").read_text(encoding="utf-8") == transcript.text + "\n"


def test_one_input_prints_its_text_alone(
    model: Path, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe(model, audio / "a.wav") == 0
    printed = capsys.readouterr()
    assert printed.out == load(model).transcribe([audio / "a.wav"])[0].text + "\n"
    assert printed.err == ""


def test_several_inputs_print_path_and_text_in_their_order(
    model: Path, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [audio / "b.wav", audio / "a.wav", audio / "sub" / "c.wav"]
    assert transcribe(model, *paths) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    texts = [transcript.text for transcript in load(model).transcribe(paths)]
    assert lines == [[str(path), text] for path, text in zip(paths, texts, strict=True)]


def test_json_is_printed_as_a_line_for_each_input(
    model: Path, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe(model, audio, formats=["json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(record["source"]).stem for record in records] == ["a", "b", "c"]


def test_order_is_kept_over_parts_and_batches(
    model: Path, audio: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    transcribe(model, audio)
    at_once = capsys.readouterr().out
    monkeypatch.setattr(plan, "PART_FILES", 2)
    monkeypatch.setattr(transcription, "BATCH_S", 0.5)
    transcribe(model, audio)
    assert capsys.readouterr().out == at_once


def test_inputs_that_differ_only_in_their_ending_do_not_overwrite_each_other(
    model: Path, audio: Path, tmp_path: Path
) -> None:
    samples, _ = soundfile.read(audio / "sub" / "c.wav")
    soundfile.write(audio / "b.flac", samples, RATE_HZ)
    transcribe(model, audio, output=tmp_path / "out", formats=["txt"])
    assert written(tmp_path / "out") == ["a.txt", "b.flac.txt", "b.wav.txt", "sub/c.txt"]


def test_a_dot_in_a_name_stays(model: Path, audio: Path, tmp_path: Path) -> None:
    (audio / "a.wav").rename(audio / "take.1.wav")
    transcribe(model, audio / "take.1.wav", output=tmp_path / "out", formats=["txt"])
    assert written(tmp_path / "out") == ["take.1.txt"]


def times(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_mtime_ns for name in written(folder)}


def test_a_second_run_does_nothing_but_say_so(
    model: Path,
    audio: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    transcribe(model, audio, output=out)
    before = times(out)
    capsys.readouterr()
    monkeypatch.setattr("asr.bundle.load", lambda *_: pytest.fail("it went on"))
    assert transcribe(model, audio, output=out) == 0
    assert times(out) == before
    assert "0 transcribed; 3 were there before" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["file", "model", "formats", "decoder", "overwrite"])
def test_what_changed_is_done_again(
    make_bundle: Callable[..., Bundle], model: Path, audio: Path, tmp_path: Path, what: str
) -> None:
    out = tmp_path / "out"
    transcribe(model, audio, output=out, formats=["txt"])
    before = times(out)
    more: dict[str, Any] = {"formats": ["txt"]}
    if what == "file":
        soundfile.write(audio / "b.wav", np.zeros(RATE_HZ), RATE_HZ)
    elif what == "model":
        make_bundle(symbols=("|", "a", "b", "c", "ten")).save(model)
    elif what == "formats":
        more["formats"] = ["txt", "ctm"]
    elif what == "decoder":
        more["decoder"] = {"name": "beam"}
    else:
        more["overwrite"] = True
    assert transcribe(model, audio, output=out, **more) == 0
    changed = [name for name, time in times(out).items() if before.get(name) != time]
    assert changed == (["b.txt"] if what == "file" else written(out))


def test_what_a_model_was_trained_on_or_reached_does_not_matter(
    model: Path, audio: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    transcribe(model, audio, output=out)
    before = times(out)
    add_score(model, {"recipe": "r", "split": "test", "wer": 1.0})
    transcribe(model, audio, output=out)
    assert times(out) == before


def test_what_failed_stays_listed_until_it_is_tried_again_or_changes(
    model: Path, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (audio / "bad.wav").write_bytes(b"")
    (audio / "worse.wav").write_bytes(b"no audio")
    assert transcribe(model, audio, output=out) == 1
    listed = (out / "failures.jsonl").read_text()
    assert listed.count("\n") == 2
    assert transcribe(model, audio, output=out) == 1
    assert (out / "failures.jsonl").read_text() == listed
    assert "2 failed (2 before)" in capsys.readouterr().err
    assert transcribe(model, audio, output=out, retry_failed=True) == 1
    assert "0 done before" not in capsys.readouterr().err
    soundfile.write(audio / "bad.wav", np.zeros(RATE_HZ), RATE_HZ)
    (audio / "worse.wav").unlink()
    assert transcribe(model, audio, output=out) == 0
    assert not (out / "failures.jsonl").exists()
    assert "bad.txt" in written(out)


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    model: Path, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert transcribe(model, audio, output=out, dry_run=True) == 0
    assert not out.exists()
    printed = capsys.readouterr().out
    assert printed.startswith("3 to do, 0 done before; 0 that cannot be used as they are\n")
    assert "about 2.5 s of audio; about a minute" in printed
    transcribe(model, audio / "a.wav", audio / "b.wav", output=out)
    before = times(out)
    assert transcribe(model, audio, output=out, dry_run=True) == 0
    assert times(out) == before


def test_a_file_that_comes_later_takes_no_ones_name(
    model: Path, audio: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    transcribe(model, audio, output=out, formats=["txt"])
    before = times(out)
    samples, _ = soundfile.read(audio / "sub" / "c.wav")
    soundfile.write(audio / "b.flac", samples, RATE_HZ)
    transcribe(model, audio, output=out, formats=["txt"])
    assert written(out) == ["a.txt", "b.flac.txt", "b.txt", "sub/c.txt"]
    assert times(out).items() >= before.items()


def test_the_log_has_what_the_screen_had(
    model: Path, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (audio / "bad.wav").write_bytes(b"")
    assert transcribe(model, audio, output=tmp_path / "out", quiet=True) == 1
    printed = capsys.readouterr()
    listed = tmp_path / "out" / "failures.jsonl"
    assert (printed.out, printed.err) == ("", f"asr: 1 failed, listed in {listed}\n")
    log = (tmp_path / "out" / ".asr" / "log").read_text()
    assert "4 to do" in log
    assert f"{audio / 'bad.wav'} is empty" in log
    assert "3 transcribed: 2.5 s of audio" in log


def test_paths_come_from_standard_input(
    model: Path, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = f"{audio / 'a.wav'}\n{audio / 'sub'}\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    assert transcribe(model, Path("-"), output=tmp_path / "out", formats=["txt"]) == 0
    assert written(tmp_path / "out") == ["a.txt", "c.txt"]
    listed = f"{audio / 'b.wav'}\0".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    assert transcribe(model, Path("-"), output=tmp_path / "out", formats=["txt"]) == 0
    assert written(tmp_path / "out") == ["a.txt", "b.txt", "c.txt"]


def test_a_manifest_names_stretches_and_their_outputs(
    model: Path, audio: Path, tmp_path: Path
) -> None:
    lines = [
        {"audio": "a.wav", "id": "talk/one", "start_s": 0.1, "end_s": 0.6},
        {"audio": "a.wav", "id": "talk/two", "start_s": 0.6},
        {"audio": "a.wav", "id": "../three"},
        {"audio": "a.wav", "id": "talk/one"},
    ]
    (audio / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "out"
    assert transcribe(model, audio / "list.jsonl", output=out, formats=["json"]) == 1
    assert written(out) == ["failures.jsonl", "talk/one.json", "talk/two.json"]
    record = json.loads((out / "talk/one.json").read_text())
    assert (record["start_s"], record["duration_s"]) == (0.1, 0.5)
    assert all(0.1 <= word["start_s"] < word["end_s"] <= 0.6 for word in record["words"])
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [failure["reason"] for failure in failures] == ["outside-root", "duplicate-id"]
    assert not (tmp_path / "three.json").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"channels": "left"}, "--channels left"),
        ({"device": "tpu"}, "--device tpu"),
        ({"max_hours": 0.0}, "--max-hours 0"),
        ({"timeout_s": float("nan")}, "--timeout nan"),
        ({"workers": 0}, "--workers 0"),
        ({"threads": 0}, "--threads 0"),
        ({"ray": "nowhere"}, "nowhere"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_written(
    model: Path, audio: Path, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        transcribe(model, audio, output=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists() or not written(tmp_path / "out")


@pytest.mark.parametrize(
    "given",
    [
        {"retry_failed": True},
        {"overwrite": True},
        {"dry_run": True},
        {"workers": 2},
        {"ray": "auto"},
    ],
)
def test_options_for_a_folder_need_one(model: Path, audio: Path, given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="is for outputs in a folder: give one with -o"):
        transcribe(model, audio, **given)


def test_the_summary_says_how_much_how_fast_and_where(
    model: Path, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transcribe(model, audio, output=tmp_path / "out")
    summary = capsys.readouterr().err
    assert "3 transcribed" in summary
    assert "times real time" in summary
    assert f"written to {tmp_path / 'out'} (txt, json)" in summary


def test_without_a_folder_only_one_format_can_be_printed(model: Path, audio: Path) -> None:
    with pytest.raises(UserError, match="one format"):
        transcribe(model, audio, formats=BOTH)


def test_what_makes_a_file_of_its_own_is_printed_for_one_input_only(
    model: Path, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe(model, audio / "a.wav", formats=["vtt"]) == 0
    assert capsys.readouterr().out.startswith("WEBVTT\n")
    with pytest.raises(UserError, match="Several of vtt are no file"):
        transcribe(model, audio, formats=["vtt"])


def test_an_input_is_never_overwritten_by_its_output(model: Path, audio: Path) -> None:
    recording = audio / "a.txt"
    (audio / "a.wav").rename(recording)
    before = recording.read_bytes()
    with pytest.raises(UserError, match="would be overwritten"):
        transcribe(model, recording, output=audio)
    assert recording.read_bytes() == before


def test_where_a_batch_fails_only_the_faulty_recording_is_lost(
    model: Path, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognise = Bundle.recognise

    def refuse(self: Bundle, waveforms: list[np.ndarray], sources: list[str]) -> object:
        if any(source.endswith("b.wav") for source in sources):
            raise RuntimeError("out of memory")
        return recognise(self, waveforms, sources)

    monkeypatch.setattr(Bundle, "recognise", refuse)
    out = tmp_path / "out"
    assert transcribe(model, audio, output=out, formats=["txt"]) == 1
    assert written(out) == ["a.txt", "failures.jsonl", "sub/c.txt"]
    (line,) = (out / "failures.jsonl").read_text(encoding="utf-8").splitlines()
    failure = json.loads(line)
    assert failure["stage"] == "recognise"
    assert failure["reason"] == "error"
    assert "out of memory" in failure["detail"]


@pytest.mark.parametrize("fault", ["while reading", "while recognising", "torch's own"])
@pytest.mark.parametrize("printed", [False, True])
def test_a_lack_of_memory_is_no_recordings_fault(
    model: Path,
    audio: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    printed: bool,
) -> None:
    def fail(*_: object, **__: object) -> None:
        if fault != "torch's own":
            raise MemoryError
        torch.empty(1 << 60)

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        if fault == "while reading":
            patched.setattr("asr.audio.load", fail)
        else:
            patched.setattr(Bundle, "recognise", fail)
        with pytest.raises(UserError, match="it ran out of memory"):
            transcribe(model, audio, output=None if printed else out)
    if not printed:
        assert written(out) == []
        assert transcribe(model, audio, output=out, formats=["txt"]) == 0
        assert written(out) == ["a.txt", "b.txt", "sub/c.txt"]


def test_a_model_that_gives_no_numbers_gives_no_text(
    tiny_bundle: Bundle, audio: Path, tmp_path: Path
) -> None:
    tiny_bundle.network.head.bias.data[:] = np.nan
    tiny_bundle.save(tmp_path / "model")
    assert transcribe(tmp_path / "model", audio, output=tmp_path / "out") == 1
    assert written(tmp_path / "out") == ["failures.jsonl"]


def test_a_wrong_model_is_refused_before_torch_is_loaded(audio: Path) -> None:
    with pytest.raises(UserError, match="is no model"):
        transcribe(audio, audio)


def test_weights_of_torchaudio_that_are_others_now_are_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights.pth"
    monkeypatch.setattr("asr.pipelines.weights_file", lambda _: weights)
    options = Options("torchaudio:WAV2VEC2_ASR_BASE_960H", ["a.wav"], str(tmp_path / "out"))
    found = [command._identity(options)]
    for size in (1, 2):
        weights.write_bytes(bytes(size))
        found.append(command._identity(options))
    assert len(set(found)) == 3


def test_a_speed_is_that_of_a_model_and_a_device(
    model: Path,
    audio: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    transcribe(model, audio, output=out)
    monkeypatch.setattr("asr.commands.account.measured", lambda *_: 1e-4)
    for more, expected in (({}, "a minute"), ({"decoder": {"name": "beam"}}, "hours")):
        capsys.readouterr()
        transcribe(model, audio, output=out, dry_run=True, overwrite=True, **more)
        assert expected in capsys.readouterr().out.split("; about ")[1]
