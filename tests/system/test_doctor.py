"""`asr doctor`: looks at everything, says what to do, and its status says whether all is there."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from asr.commands import doctor

REPOSITORY = Path(__file__).resolve().parents[2]


def asr(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "asr", *words],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=REPOSITORY,
    )


def test_every_part_of_the_machine_has_a_row() -> None:
    done = asr("doctor", "--json")

    assert done.returncode == 0, done.stdout
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["torch"]["found"] == version("torch")
    assert rows["ray"]["found"] == version("ray")
    expected = {"Python", "asr", "torchaudio", "CPU", "free disk here", "audio .wav", "audio .flac"}
    assert expected <= set(rows)
    assert rows["precision 32-true on cpu"]["good"] is True
    assert any(name.startswith("CUDA") for name in rows)
    for row in rows.values():
        assert row["good"] or row["advice"], row


def test_what_is_missing_comes_with_advice_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "LIBRARIES", ("soxr",))
    monkeypatch.setitem(sys.modules, "soxr", None)  # importing it raises ImportError
    monkeypatch.setattr(doctor, "_torch", lambda: iter(()))
    monkeypatch.setenv("COLUMNS", "200")

    status = doctor.doctor(as_json=False)

    assert status == 1
    *table, verdict = capsys.readouterr().out.splitlines()
    assert verdict == "Not fit yet: soxr."
    (line,) = [line for line in table if "soxr" in line]
    assert "missing" in line
    assert "make setup" in line


def test_an_absent_extra_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "LIBRARIES", ())
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor, "_torch", lambda: iter(()))
    monkeypatch.setenv("COLUMNS", "200")

    assert doctor.doctor(as_json=False) == 0
    assert "pip install '.[synth]'" in capsys.readouterr().out
