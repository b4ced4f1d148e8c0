from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cluster.plan import File
from asr.commands import estimate as module
from asr.commands.estimate import estimate
from asr.inputs import Recording

RATE_HZ = 16_000


def file_of(path: Path, end_s: float | None = None) -> File:
    return File(Recording(str(path), path.stem, end_s=end_s), path.stat().st_size, 0)


@pytest.mark.parametrize(
    ("name", "subtype"), [("a.wav", "PCM_16"), ("a.wav", "ULAW"), ("a.flac", "PCM_16")]
)
def test_a_header_says_how_long_its_file_lasts(tmp_path: Path, name: str, subtype: str) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 30 * RATE_HZ)
    soundfile.write(tmp_path / name, samples, RATE_HZ, subtype=subtype)
    file = file_of(tmp_path / name)
    assert estimate([file]).audio_s == pytest.approx(30, rel=0.01)
    assert estimate([file], 3 * file.size).audio_s == pytest.approx(90, rel=0.01)
    assert estimate([file_of(tmp_path / name, end_s=4.5)]).audio_s == 4.5


def test_of_other_files_only_the_size_counts(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"ID3" + bytes(159_997))  # 128 kbit/s
    (tmp_path / "empty.wav").write_bytes(b"")
    assert estimate([file_of(path) for path in sorted(tmp_path.iterdir())]).audio_s == 10


def test_a_disk_that_does_not_answer_costs_the_estimate_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE_HZ), RATE_HZ)
    os.mkfifo(tmp_path / "stuck.wav")  # opening it waits for somebody who writes
    files = [file_of(tmp_path / "a.wav"), file_of(tmp_path / "stuck.wav")]
    assert estimate(files).audio_s == 0
    os.close(os.open(tmp_path / "stuck.wav", os.O_RDWR | os.O_NONBLOCK))
