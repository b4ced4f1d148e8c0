"""The benchmarks of `tools/` on tiny sizes: that they run, and account for what they measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = ("model.hidden=16", "model.channels=4", "model.layers=2", "data.max_utterances=8")


def python(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def benchmark(folder: Path, name: str, *words: str) -> dict[str, Any]:
    found = json.loads(python(folder, str(REPOSITORY / "tools" / name), *words, "--json"))
    assert isinstance(found, dict)
    return found


def test_only_the_unpacked_layer_on_mixed_lengths_gives_other_outputs(tmp_path: Path) -> None:
    found = benchmark(tmp_path, "bench_models.py", "--quick", "--threads", "1", "--device", "cpu")
    assert "load" in found["hardware"]
    timings = {(row["lengths"], row["variant"]): row for row in found["layers"]}
    assert len(timings) == 6
    for (lengths, variant), row in timings.items():
        assert (row["error"] > 1e-3) == ((lengths, variant) == ("mixed", "unpacked"))
        assert 0 < row["train_min_ms"] <= row["train_ms"]
        assert 0 < row["infer_min_ms"] <= row["infer_ms"]
    cells = {row["variant"]: row for row in found["cells"]}
    assert list(cells) == [
        *("lstm", "lstm_reference", "lstm_peephole", "lstm_layernorm"),
        *("gru", "gru reference", "rnn"),
    ]
    for row in cells.values():
        assert row["error"] < 1e-5
        assert 0 < row["train_min_ms"] <= row["train_ms"]
        assert 0 < row["infer_min_ms"] <= row["infer_ms"]


def test_the_table_of_cells_shows_how_many_times_the_lstms_time(tmp_path: Path) -> None:
    words = ("--quick", "--threads", "1", "--device", "cpu", "--only", "cells")
    shown = python(tmp_path, str(REPOSITORY / "tools" / "bench_models.py"), *words)
    lstm = next(line for line in shown.splitlines() if " lstm " in line and "float32" in line)
    assert lstm.count("1.00") == 2
    assert "lstm_peephole" in shown
    assert "packed" not in shown


def test_every_second_of_an_epoch_belongs_to_a_stage(tmp_path: Path, tone_manifest: Path) -> None:
    python(tmp_path, "-m", "asr", "prepare", "recipe=custom", f"recipe.root={tone_manifest}")
    settings = ("recipe=custom", "trainer.threads=1", "trainer.accelerator=cpu", *SMALL)
    found = benchmark(tmp_path, "bench_training.py", *settings, "--epochs", "2")
    assert [epoch["steps"] for epoch in found["epochs"]] == [6, 6]  # 48 utterances, 8 at a time
    last = found["epochs"][-1]
    step_s = sum(last["wall_s"][stage] for stage in ("forward", "backward", "optimiser"))
    assert found["step_share"] == pytest.approx(step_s / sum(last["wall_s"].values()))
    for times in (last["wall_s"], last["processor_s"]):
        assert set(times) > {"loading", "features", "validation", "saving", "rest"}
        assert min(times.values()) >= 0
    assert last["wall_s"]["loading"] > 0
    assert last["wall_s"]["features"] > 0
    assert last["wall_s"]["validation"] > 0
    assert last["resident_mb"] > 50
    assert [path.name for path in tmp_path.iterdir()] == ["corpora"]  # its run is gone again
