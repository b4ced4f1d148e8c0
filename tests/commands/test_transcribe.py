from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.bundle import Bundle, load
from asr.commands import transcribe as command
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
    model: Path, *inputs: Path, output: Path | None = None, formats: list[str] | None = None
) -> int:
    formats = formats or (["txt"] if output is None else BOTH)
    arguments = [str(path) for path in inputs]
    return command.transcribe(str(model), arguments, str(output) if output else None, formats)


def written(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


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


def test_order_is_kept_over_windows_and_batches(
    model: Path, audio: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    transcribe(model, audio)
    at_once = capsys.readouterr().out
    monkeypatch.setattr(command, "WINDOW_FILES", 2)
    monkeypatch.setattr(command, "BATCH_S", 0.5)
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


def test_a_second_run_replaces_the_first_ones_files_and_failures(
    model: Path, audio: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (audio / "bad.wav").write_bytes(b"")
    assert transcribe(model, audio, output=out) == 1
    assert (out / "failures.jsonl").exists()
    (audio / "bad.wav").unlink()
    assert transcribe(model, audio, output=out) == 0
    assert not (out / "failures.jsonl").exists()


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
