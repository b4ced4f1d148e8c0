"""Each call that changes the output folder fails, or is the last one of a killed process.

The calls are libc's, SQLite's own included: a library loaded before it lets the Nth one fail, for
N = 1, 2, … until a run passes untouched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

HERE = Path(__file__).parent
MEMORY = Path("/dev/shm")  # where fsync costs nothing: what counts here is in which order it comes
MODEL = (
    "{schema: 1, model: {}, features: {}, units: {kind: characters}, normaliser: none,"
    " decoder: {name: greedy}, weights: '', trained: {}, scores: []}"
)
# Calls whose failure, once, costs no work: a folder that is there already; the flush of a folder by
# SQLite, which does not look whether it fails; lines of the log; what is taken away at the end.
HARMLESS = (
    r"mkdir /\.asr|fdatasync /\.asr|write /\.asr/log|rmdir /\.asr/partial/\w+"
    r"|unlink /\.asr/holder\.json"
)
FULL = (
    "No space left on device|unable to open database file|disk I/O error|database or disk is full"
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A model, two recordings and a file that is none, two of these in one part of the job."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as made:
        folder = Path(made)
        (folder / "model").mkdir()
        (folder / "model" / "bundle.yaml").write_text(MODEL)
        for seed, name in enumerate(("a.wav", "sub/c.wav")):
            (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            samples = np.random.default_rng(seed).normal(0, 0.1, 4000)
            soundfile.write(folder / "in" / name, samples, 16_000)
        (folder / "in" / "bad.wav").write_text("this is not audio")
        yield folder


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    """What happened in each of some hundred runs."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler: WITHOUT THEM NO FAILING WRITE IS TESTED")
    library = folder / "faults.so"
    source = str(HERE / "faults.c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), source, "-ldl"]
    subprocess.run(command, check=True)
    done = subprocess.run(
        [sys.executable, str(HERE / "faults_in_forks.py"), str(folder)],
        env={**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_quiet_run_says_no_more_than_what_failed_and_touches_all_there_is(
    found: dict[str, Any],
) -> None:
    assert found["quiet"] == [1, ""]
    touched = " ".join(found["calls"])
    for name in ("journal.sqlite", "journal.sqlite-journal", "log", "partial/", "holder.json"):
        assert f"/.asr/{name}" in touched
    assert {"rename /a.txt", "rename /sub/c.json", "rename /failures.jsonl"} <= {*found["calls"]}


def test_outputs_are_flushed_then_renamed_then_their_folders_flushed_then_recorded(
    found: dict[str, Any],
) -> None:
    calls = found["calls"]
    for names, folders in (
        (("/a.txt", "/a.json"), [""]),
        (("/sub/c.txt", "/sub/c.json"), ["", "/sub"]),
    ):
        first = calls.index(f"rename {names[0]}")
        before = [call.split() for call in calls[first - 7 : first] if "/partial/" in call]
        for partial in {name for _, name in before}:
            own = [call for call, name in before if name == partial]
            assert own == ["create", "write", "fsync"]
        assert len(before) == 6
        behind = calls[first : first + 2 + len(folders)]
        assert behind[:2] == [f"rename {name}" for name in names]
        assert sorted(behind[2:]) == [f"fsync {folder}" for folder in folders]
        assert calls[first + 2 + len(folders)] == "create /.asr/journal.sqlite-journal"


@pytest.mark.parametrize("mode", ["error", "full", "kill"])
def test_whatever_fails_no_output_is_torn_and_no_record_lacks_its_outputs(
    found: dict[str, Any], mode: str
) -> None:
    assert len(found[mode]) >= len(found["calls"]) - 3
    assert {row["nth"]: row["wrong"] for row in found[mode] if row["wrong"]} == {}


@pytest.mark.parametrize("mode", ["error", "full", "kill"])
def test_the_next_run_completes_to_what_a_quiet_one_gives(found: dict[str, Any], mode: str) -> None:
    assert {row["nth"]: row["after"] for row in found[mode] if row["after"]} == {}


def test_a_call_that_fails_once_is_said_in_a_line_or_costs_nothing(found: dict[str, Any]) -> None:
    for row, call in zip(found["error"], found["calls"], strict=True):
        if row["status"] == 1:
            assert re.fullmatch(HARMLESS, call), row
            assert row["whole"]
            assert re.fullmatch(r"(asr: \S+/log lacks lines: Input/output error\.\n)?", row["said"])
        else:
            assert row["status"] == 2, row
            assert re.fullmatch(r"asr: Cannot write \S+: [^\n]*\n", row["said"]), row


def test_a_full_disk_is_said_in_a_line(found: dict[str, Any]) -> None:
    lost = r"asr: \S+/log lacks lines: No space left on device\.\n"
    for row in found["full"][:-1]:
        assert row["status"] == 2, row
        assert re.fullmatch(rf"({lost})?asr: Cannot write \S+: ({FULL})[^\n]*\n", row["said"]), row
    last = found["full"][-1]  # nothing is left to write but the log's last line
    assert (last["status"], last["whole"]) == (1, True)
    assert re.fullmatch(lost, last["said"])


def test_a_kill_says_nothing(found: dict[str, Any]) -> None:
    for row in found["kill"]:
        assert (row["status"], row["said"]) == (-signal.SIGKILL, "")
