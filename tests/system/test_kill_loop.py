"""A few kills of each kind, by the tool that does a hundred."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.bundle import Bundle

REPOSITORY = Path(__file__).resolve().parents[2]
RATE_HZ = 16_000


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    (tmp_path / "speech").mkdir()
    for seed, duration_s in enumerate((0.4, 0.9, 1.4)):
        samples = np.random.default_rng(seed).normal(0, 0.1, round(duration_s * RATE_HZ))
        soundfile.write(tmp_path / "speech" / f"{seed}.wav", samples, RATE_HZ)
    return tmp_path / "speech"


@pytest.mark.parametrize(("victims", "kills"), [("process", 2), ("worker,node,driver", 3)])
def test_nothing_is_lost_torn_or_done_twice_whatever_is_killed(
    tiny_bundle: Bundle, recordings: Path, tmp_path: Path, victims: str, kills: int
) -> None:
    tiny_bundle.save(tmp_path / "model")
    words = ["--kills", str(kills), "--victims", victims, "--files", "900", "--latest-s", "0.3"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "tools/kill_loop.py", "--json", *words, tmp_path / "model", recordings],
        cwd=REPOSITORY,
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == kills
    assert set(found["stages"]) == set(victims.split(","))
    assert found["broken"] == 27
