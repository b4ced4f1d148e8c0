"""`asr gates` on the command line: what it writes, prints and refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr.bundle import Bundle
from asr.commands.main import main
from asr.models.ctc import CtcModel
from asr.models.gru import GruEncoder
from asr.models.lstm import LstmEncoder

RATE_HZ = 16_000
SIZES = {"subsampling": 4, "channels": 4, "hidden": 16, "layers": 2}


def record(path: Path, duration_s: float = 1.0, rate_hz: int = RATE_HZ) -> Path:
    samples = np.random.default_rng(0).normal(0, 0.1, round(duration_s * rate_hz))
    soundfile.write(path, samples, rate_hz)
    return path


@pytest.fixture(autouse=True)
def folder(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model and a recording of a second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    tiny_bundle.save("model")
    record(Path("a.wav"))
    return tmp_path


def test_a_page_and_a_picture_are_written_and_the_figures_printed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gates", "model", "a.wav", "-o", "out/a.html", "--png", "out/a.png"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert (folder / "out/a.html").read_text().startswith("<!doctype html>")
    assert (folder / "out/a.png").read_bytes().startswith(b"\x89PNG")
    assert shown.out.endswith("Written to out/a.html and out/a.png\n")
    rows = [line.split()[:2] for line in shown.out.splitlines() if line[:1] in ("1", "2")]
    assert rows == [["1", "forward"], ["1", "backward"], ["2", "forward"], ["2", "backward"]]


def test_the_table_fits_into_80_columns_whatever_the_figures(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.no_grad():
        tiny_bundle.network.get_parameter("encoder.layers.0.forwards.bias_hh_l0").fill_(12.0)
    tiny_bundle.save("wide-open")
    assert main(["gates", "wide-open", "a.wav", "-o", "a.html"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = (line.split() for line in lines if line.startswith("1 forward"))
    assert row[:5] == ["1", "forward", "1.00", "1.00", "1.00"]
    assert row[5:7] == [">99999–>99999"] * 2
    assert row[7:] == ["100%", "100%", "100%"]
    assert "saturated f i o" in "\n".join(lines)
    assert max(map(len, lines)) <= 80


def test_the_last_layer_is_what_the_page_begins_with_unless_told(folder: Path) -> None:
    main(["gates", "model", "a.wav", "-o", "a.html"])
    assert 'name="layer" value="2" checked' in (folder / "a.html").read_text()
    main(["gates", "model", "a.wav", "-o", "a.html", "--layer", "1", "--direction", "backward"])
    page = (folder / "a.html").read_text()
    assert 'name="layer" value="1" checked' in page
    assert 'name="direction" value="backward" checked' in page


def test_of_ten_minutes_twenty_seconds_are_shown_and_it_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write("long.wav", np.zeros(600 * 8_000, np.int16), 8_000)
    assert main(["gates", "model", "long.wav", "-o", "a.html"]) == 0
    said = capsys.readouterr().err
    assert said == (
        "long.wav is 600.00 s long: 0.00 s to 20.00 s are shown, heard alone."
        " --start and --length choose others.\n"
    )
    assert "Shown: 0.00 s to 20.00 s of a recording of 600.00 s." in (folder / "a.html").read_text()


def test_a_stretch_is_chosen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--start", "0.25", "--length", "0.5"]
    assert main(["gates", "model", "a.wav", "-o", "a.html", *words]) == 0
    assert "0.25 s to 0.75 s are shown" in capsys.readouterr().err
    assert "Shown: 0.25 s to 0.75 s of a recording of 1.00 s." in (folder / "a.html").read_text()


def test_silence_is_shown_and_nothing_emitted(
    tiny_bundle: Bundle, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.no_grad():
        tiny_bundle.network.head.bias[0] += 1000.0  # always the blank
    tiny_bundle.save("mute")
    soundfile.write("silence.wav", np.zeros(RATE_HZ), RATE_HZ)
    words = ["gates", "mute", "silence.wav", "-o", "a.html", "--png", "a.png"]
    assert main(words) == 0
    assert "silence.wav: nothing was emitted" in capsys.readouterr().out
    assert "Nothing was emitted" in (folder / "a.html").read_text()


def text_named_wav() -> str:
    Path("text.wav").write_text("this is not audio\n" * 50)
    return "text.wav"


def too_short() -> str:
    return str(record(Path("short.wav"), 0.02))


def nothing_there() -> str:
    return "none.wav"


def a_folder() -> str:
    Path("sub").mkdir()
    return "sub"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (text_named_wav, "text.wav is not audio"),
        (too_short, "short.wav: the 20 ms from 0 s on are less than one frame of 25 ms"),
        (nothing_there, "none.wav does not exist"),
        (a_folder, "sub is not audio"),
    ],
)
def test_a_recording_that_cannot_be_used_is_refused_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], make: Callable[[], str], said: str
) -> None:
    assert main(["gates", "model", make(), "-o", "a.html"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"asr: {said}")
    assert error.count("\n") == 1
    assert not (folder / "a.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model", "a.wav"], "Give -o FILE for the page, --png FILE"),
        (["model", "a.wav", "-o", "x", "--png", "./x"], "both name x"),
        (["model", "a.wav", "-o", "model"], "model is a folder"),
        (["model", "a.wav", "-o", "a.wav/b.html"], "Cannot write a.wav/b.html"),
        (["model", "a.wav", "--png", "a.wav/b.png"], "Cannot write a.wav/b.png"),
        (["model", "a.wav", "-o", "/dev/null"], "/dev/null is no ordinary file"),
        (["model", "a.wav", "-o", "./a.wav"], "a.wav is the recording"),
        (
            ["model", "a.wav", "-o", "model/weights.safetensors"],
            "weights.safetensors lies in the model's folder",
        ),
        (["model", "a.wav", "-o", "a.html", "--start", "1"], "nothing is left at --start 1"),
        (["model", "a.wav", "-o", "a.html", "--start", "-1"], "--start is a time"),
        (["model", "a.wav", "-o", "a.html", "--length", "0"], "--length is above 0 s"),
        (["model", "a.wav", "-o", "a.html", "--length", "61"], "at most 60 s"),
        (["model", "a.wav", "-o", "a.html", "--layer", "3"], "--layer 3: the layers of LSTM"),
        (["model", "a.wav", "-o", "a.html", "--direction", "up"], "Invalid value"),
        (["nowhere", "a.wav", "-o", "a.html"], "There is no model nowhere"),
        ([".", "a.wav", "-o", "a.html"], "is no model"),
        (["a.wav", "model", "-o", "a.html"], "the model's folder comes first"),
    ],
)
def test_wrong_use_is_answered_in_one_line_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    before = (folder / "a.wav").read_bytes()
    assert main(["gates", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["a.wav", "model"]
    assert (folder / "a.wav").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_found_before_any_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.bundle.load", lambda folder: pytest.fail("the model is loaded"))
    assert main(["gates", "model", "a.wav", "-o", "/proc/a.html"]) == 2
    assert capsys.readouterr().err.startswith("asr: Cannot write /proc/a.html: ")


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("/proc/new/a.html", "/proc/new"),
        ("proc/a.html", "proc/a.html"),
        ("proc/new/sub/a.html", "proc/new"),
        ("a.wav/new/a.html", "a.wav/new"),
    ],
)
def test_what_cannot_be_made_for_a_file_is_found_before_any_work_too(
    target: str,
    named: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (folder / "proc").symlink_to("/proc/self")  # in which not even root makes files
    monkeypatch.setattr("asr.bundle.load", lambda folder: pytest.fail("the model is loaded"))
    assert main(["gates", "model", "a.wav", "-o", target]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"asr: Cannot write {named}: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["a.wav", "--start", "1"],
        ["a.wav", "--layer", "3"],
        ["none.wav"],
    ],
)
def test_for_what_is_refused_no_folder_is_made(folder: Path, words: list[str]) -> None:
    targets = ["-o", "new/pages/a.html", "--png", "slides/a.png"]
    assert main(["gates", "model", *words, *targets]) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["a.wav", "model"]
    assert main(["gates", "model", "a.wav", *targets]) == 0
    assert [path.name for path in (folder / "new/pages").iterdir()] == ["a.html"]
    assert [path.name for path in (folder / "slides").iterdir()] == ["a.png"]


def test_a_gru_is_refused_and_the_models_with_gates_are_named(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    network = CtcModel(GruEncoder(20, **SIZES), 6)
    replace(tiny_bundle, network=network, model={"name": "gru", **SIZES}).save("gru")
    assert main(["gates", "gru", "a.wav", "-o", "a.html"]) == 2
    error = capsys.readouterr().err
    assert "kind gru has no LSTM gates" in error
    assert "lstm_peephole" in error


def test_a_direction_that_a_model_does_not_have_is_refused(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**SIZES, "bidirectional": False}
    network = CtcModel(LstmEncoder(20, **settings), 6)
    replace(tiny_bundle, network=network, model={"name": "lstm", **settings}).save("ahead")
    assert main(["gates", "ahead", "a.wav", "-o", "a.html"]) == 0
    assert main(["gates", "ahead", "a.wav", "-o", "b.html", "--direction", "backward"]) == 2
    assert "run in the other one only" in capsys.readouterr().err
