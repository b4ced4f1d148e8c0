from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.bundle import Bundle

RATE_HZ = 16_000


@pytest.fixture
def model(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    tiny_bundle.save(tmp_path / "model")
    return tmp_path / "model"


def record(path: Path, duration_s: float = 0.5) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, round(duration_s * RATE_HZ))
    soundfile.write(path, samples, RATE_HZ)


def run(
    *arguments: object, folder: Path, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "asr", "transcribe", *map(str, arguments)],
        cwd=folder,
        preexec_fn=before,
        capture_output=True,
        text=True,
        check=False,
    )


def test_real_speech_is_transcribed_into_a_folder(
    model: Path, tmp_path: Path, real_data: Callable[[str], Path]
) -> None:
    speaker = sorted((real_data("an4") / "wav" / "an4test_clstk").iterdir())[0]
    done = run(model, speaker, "-o", "out", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    recordings = sorted(path.stem for path in speaker.glob("*.wav"))
    assert recordings
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.txt")) == recordings
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.json")) == recordings


def test_a_bad_file_costs_the_status_and_nothing_else(model: Path, tmp_path: Path) -> None:
    record(tmp_path / "good.wav")
    (tmp_path / "bad.wav").write_text("this is not audio")
    done = run(model, "bad.wav", "good.wav", "--json", folder=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["source"] == "good.wav"
    assert "bad.wav" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_is_wrong_use_in_one_line_and_leaves_nothing_half_written(
    model: Path, tmp_path: Path
) -> None:
    record(tmp_path / "a.wav", duration_s=3.0)

    def no_file_above_100_bytes() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    done = run(model, "a.wav", "-o", "out", folder=tmp_path, before=no_file_above_100_bytes)
    assert done.returncode == 2
    assert done.stderr.startswith("asr: Cannot write out/.asr/journal.sqlite: ")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".asr"]


def test_an_input_that_is_not_there_is_wrong_use_and_told_at_once(
    model: Path, tmp_path: Path
) -> None:
    done = run(model, "gone.wav", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "asr: Nothing to transcribe: gone.wav does not exist.\n"
