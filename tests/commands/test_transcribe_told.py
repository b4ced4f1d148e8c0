"""What `asr transcribe` says: before, meanwhile and afterwards, on the screen and in the log."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.bundle import Bundle
from asr.cluster import plan
from asr.commands import transcribe as command
from asr.commands.estimate import length
from asr.commands.noise import noise_to
from asr.commands.tally import Tally
from asr.commands.transcribe import Options
from asr.errors import UserError

RATE_HZ = 16_000


@pytest.fixture
def model(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    tiny_bundle.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings."""
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write(tmp_path / "in" / f"{name}.wav")
    return tmp_path / "in"


def write(path: Path, channels: int = 1) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, (RATE_HZ // 2, channels))
    soundfile.write(path, samples, RATE_HZ)


def transcribe(model: Path, *given: Path, output: Path | None = None, **more: Any) -> int:
    formats = ["txt"] if output is None else ["txt", "json"]
    where = None if output is None else str(output)
    options = Options(
        str(model), [str(path) for path in given], where, **{"formats": formats, **more}
    )
    return command.transcribe(options)


def failures(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]


AGAIN = "model, decoder, formats or channels are others than before"


def test_what_is_done_again_for_other_settings_is_said_before(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    transcribe(model, folder, output=out)
    assert "to do" not in capsys.readouterr().err
    (folder / "b.wav").write_bytes((folder / "a.wav").read_bytes() + bytes(2))
    transcribe(model, folder, output=out, formats=["ctm"], dry_run=True)
    expected = f"2 to do (1 of them changed; 1 of them again: {AGAIN}), 0 done before"
    assert capsys.readouterr().out.startswith(expected)
    transcribe(model, folder, output=out, formats=["ctm"])
    assert capsys.readouterr().err.startswith(f"asr: {expected}.\n")


def test_a_mistake_that_is_found_before_any_file_has_ended_is_told_alone(
    model: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "link.wav").symlink_to("nowhere.wav")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="torch finds no GPU here"):
        transcribe(model, folder, output=tmp_path / "out", device="gpu")
    assert capsys.readouterr().err == ""
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".asr"]
    assert "torch finds no GPU here" in (tmp_path / "out" / ".asr" / "log").read_text()


def test_a_mistake_that_ends_a_job_under_way_is_told_with_how_far_it_came(
    model: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(plan, "PART_FILES", 1)
    ended = Tally.ended

    def end(self: Tally, *given: Any) -> None:
        ended(self, *given)
        raise UserError("the disk is full")

    monkeypatch.setattr(Tally, "ended", end)
    with pytest.raises(UserError, match="the disk is full"):
        transcribe(model, folder, output=tmp_path / "out")
    told = capsys.readouterr().err
    assert told.startswith("1 transcribed: 0.5 s of audio")
    assert "1 are left: the same command goes on" in told


def test_a_decoder_that_there_is_not_is_refused_before_a_folder_is_made(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"No decoder is called 'bean'\. Did you mean 'beam'"):
        transcribe(model, folder, output=tmp_path / "out", decoder={"name": "bean"})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "reason", "advice"),
    [
        ({"audio": "../a.wav"}, "outside-root", "in a manifest an absolute path"),
        ({"audio": "a.wav", "id": "../x"}, "outside-root", "an id without `..`"),
        ({"audio": "a.wav", "start_s": 0.4, "end_s": 0.7}, "bad-segment", "start_s and end_s"),
    ],
)
def test_a_bad_line_of_a_manifest_says_how_to_mend_it(
    model: Path, folder: Path, tmp_path: Path, line: dict[str, Any], reason: str, advice: str
) -> None:
    write(tmp_path / "a.wav")
    good = {"audio": "a.wav", "id": "good"}
    (folder / "m.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(line)}\n")
    assert transcribe(model, folder / "m.jsonl", output=tmp_path / "out") == 1
    (failure,) = failures(tmp_path / "out")
    assert failure["reason"] == reason
    assert advice in failure["what_to_do"]
    assert "link" not in failure["what_to_do"]


def test_a_manifests_absolute_path_may_lie_anywhere(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    write(tmp_path / "a.wav")
    (folder / "m.jsonl").write_text(json.dumps({"audio": str(tmp_path / "a.wav"), "id": "x"}))
    assert transcribe(model, folder / "m.jsonl", output=tmp_path / "out") == 0
    assert (tmp_path / "out" / "x.txt").exists()


def test_the_log_has_what_was_asked_for_and_what_was_found_wrong(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    (folder / "link.wav").symlink_to("nowhere.wav")
    transcribe(model, folder, output=tmp_path / "out", decoder={"name": "beam", "nbest": 3})
    first, second, *_ = (tmp_path / "out" / ".asr" / "log").read_text().splitlines()
    assert f"asr transcribe {model} {folder} -o {tmp_path / 'out'}: 2 to do" in first
    assert first.endswith("; formats txt, json; decoder name beam, nbest 3; channels mix")
    assert f"{folder / 'link.wav'} is a link to nowhere" in second


def test_thousands_of_inputs_do_not_fill_the_log(model: Path, folder: Path, tmp_path: Path) -> None:
    given = [folder / "a.wav"] * 1000
    transcribe(model, *given, output=tmp_path / "out")
    first = (tmp_path / "out" / ".asr" / "log").read_text().splitlines()[0]
    assert first.count("a.wav") == 10
    assert "… and 990 more -o" in first


def test_failures_of_the_run_itself_are_named_before_those_of_every_start(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        (folder / f"link-{number}.wav").symlink_to("nowhere.wav")
    (folder / "z.wav").write_bytes(b"")
    transcribe(model, folder, output=tmp_path / "out")
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith(f"asr: {folder / 'z.wav'} is empty")
    assert told[10] == "asr: … and 3 more"


def test_a_name_with_line_ends_and_tabs_stays_one_line_and_one_column(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "new\nline\tand\x1b[31m.wav")
    (folder / "bad\nname.wav").write_bytes(b"")
    assert transcribe(model, folder) == 1
    printed = capsys.readouterr()
    sources = [line.split("\t")[0] for line in printed.out.splitlines()]
    assert sources == [
        str(folder / "a.wav"),
        str(folder / "b.wav"),
        f"{folder}/new\\nline\\tand\\x1b[31m.wav",
    ]
    assert f"asr: {folder}/bad\\nname.wav is empty" in printed.err.splitlines()[0]


def test_a_name_with_a_line_end_stays_one_line_of_the_log(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    (folder / "bad\nname.wav").write_bytes(b"")
    transcribe(model, folder, output=tmp_path / "out")
    lines = (tmp_path / "out" / ".asr" / "log").read_text().splitlines()
    assert len(lines) == 3
    assert "bad\\nname.wav is empty" in lines[1]


def test_channels_that_are_printed_have_their_numbers(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "call.wav", channels=2)
    transcribe(model, folder / "call.wav", channels="split")
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == ["1", "2"]
    transcribe(model, folder / "call.wav", folder / "a.wav", channels="split")
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(Path(source).name, channel) for source, channel, _ in lines] == [
        ("call.wav", "1"),
        ("call.wav", "2"),
        ("a.wav", "1"),
    ]


@pytest.mark.parametrize(
    ("audio_s", "expected"),
    [
        (0.0, "0.0 s"),
        (7.46, "7.5 s"),
        (90, "1.5 minutes"),
        (360, "0.10 hours"),
        (9e4, "25.00 hours"),
    ],
)
def test_a_length_is_told_in_a_unit_that_shows_it(audio_s: float, expected: str) -> None:
    assert length(audio_s) == expected


def test_of_no_audio_no_speed_is_told(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"")
    transcribe(model, folder, output=tmp_path / "out")
    assert "real time" not in capsys.readouterr().err


def test_the_bar_says_something_from_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Tally(3, 10.0, True):
        pass
    assert "starting" in capsys.readouterr().err


def test_an_empty_list_on_standard_input_is_called_so(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(UserError, match="no audio in the list on standard input"):
        transcribe(model, Path("-"))


@contextlib.contextmanager
def usual_stderr() -> Iterator[None]:
    """Python's stderr on descriptor 2, as it is outside tests."""
    with open(2, "w", closefd=False, buffering=1) as own, contextlib.redirect_stderr(own):
        yield


def test_what_libraries_print_goes_into_a_file_and_what_python_prints_stays(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    with usual_stderr():
        with contextlib.suppress(KeyError), noise_to(log):
            os.write(2, b"noise\n")
            print("told", file=sys.stderr)
            raise KeyError
        os.write(2, b"after\n")
        print("and told", file=sys.stderr)
    assert log.read_text() == "before\nnoise\n"
    assert capfd.readouterr().err == "told\nafter\nand told\n"


def test_without_a_log_the_screen_has_what_libraries_print(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with usual_stderr(), noise_to(tmp_path):  # a folder, in which nothing can be written
        os.write(2, b"noise\n")
    assert capfd.readouterr().err == "noise\n"


def test_what_mpg123_says_of_a_file_stands_in_the_log_and_not_on_the_screen(
    model: Path, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(folder / "c.mp3", np.zeros(RATE_HZ), RATE_HZ, format="MP3")
    with open(folder / "c.mp3", "ab") as handle:  # longer than its Xing header says
        handle.write(bytes(5000))
    with usual_stderr():
        assert transcribe(model, folder, output=tmp_path / "out", quiet=True) == 0
    assert capfd.readouterr().err == ""
    assert "Xing" in (tmp_path / "out" / ".asr" / "log").read_text()
