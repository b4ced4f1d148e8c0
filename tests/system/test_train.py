"""`asr run` and `asr train` as a person uses them: to the end, interrupted, killed, again."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file

SMALL = [
    "recipe=custom",
    "augment=none",
    "model.hidden=32",
    "model.channels=8",
    "model.layers=2",
    "model.dropout=0.1",
    "optim.learning_rate=8e-3",
    "optim.ema_decay=0.9",
    "data.max_utterances=8",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
]


Asr = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(asr: Asr, tmp_path_factory: pytest.TempPathFactory, tone_manifest: Path) -> Path:
    """A working folder with the corpus prepared and the run `base` trained and evaluated."""
    folder = tmp_path_factory.mktemp("work")
    asr(folder, "run", *SMALL, f"recipe.root={tone_manifest}", "trainer.max_epochs=10")
    return folder


def test_a_run_goes_from_corpus_to_word_error_rate(folder: Path) -> None:
    metrics = json.loads((folder / "runs/custom/base/eval/test-greedy/metrics.json").read_text())
    assert metrics["utterances"] == 8
    assert metrics["words"] == 16
    assert metrics["wer"] <= 0.2
    for name in ("config.yaml", "log.txt", "metrics.csv", "curves.png", "excluded.jsonl"):
        assert (folder / "runs/custom/base" / name).is_file()
    assert any((folder / "runs/custom/base/tensorboard").iterdir())
    log = (folder / "runs/custom/base/log.txt").read_text()
    assert "command: " in log
    assert "torch: " in log


def test_the_record_has_a_line_an_epoch(folder: Path) -> None:
    with (folder / "runs/custom/base/metrics.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert [int(line["epoch"]) for line in lines] == list(range(1, len(lines) + 1))
    assert float(lines[-1]["loss"]) < 0.3 * float(lines[0]["loss"])
    best = min(float(line["wer"]) for line in lines)
    finished = json.loads((folder / "runs/custom/base/finished.json").read_text())
    assert finished["best_wer"] == pytest.approx(best)


def test_running_again_does_nothing(asr: Asr, folder: Path, tone_manifest: Path) -> None:
    model = folder / "runs/custom/base/model/weights.safetensors"
    before = model.stat().st_mtime_ns
    again = asr(folder, "run", *SMALL, f"recipe.root={tone_manifest}", "trainer.max_epochs=10")
    assert "up to date" in again.stdout
    assert "is finished" in again.stderr
    assert model.stat().st_mtime_ns == before


def test_other_settings_under_the_same_name_are_refused(asr: Asr, folder: Path) -> None:
    refused = asr(folder, "train", *SMALL, "seed=2", status=2)
    assert "seed (1 there, 2 here)" in refused.stderr
    assert "name=" in refused.stderr


def test_all_trains_on_validation_too_for_as_many_epochs_as_base(asr: Asr, folder: Path) -> None:
    asr(folder, "train", *SMALL, "data=all")
    base = json.loads((folder / "runs/custom/base/finished.json").read_text())
    everything = json.loads((folder / "runs/custom/all/finished.json").read_text())
    assert everything["epochs"] == base["epochs"]
    assert everything["best_wer"] is None
    log = (folder / "runs/custom/all/log.txt").read_text()
    assert "56 utterances" in log


def test_preflight_only_trains_nothing(asr: Asr, folder: Path) -> None:
    done = asr(folder, "train", *SMALL, "name=unborn", "preflight=only")
    assert "48 utterances" in done.stdout
    assert not (folder / "runs/custom/unborn").exists()


def test_settings_that_do_not_fit_leave_the_name_free(asr: Asr, folder: Path) -> None:
    for mistake in ("model.dropout=5", "inner_ctc.layer=3", "trainer.accelerator=gpu"):
        if mistake.endswith("gpu") and torch.cuda.is_available():
            continue
        refused = asr(folder, "train", *SMALL, "name=unborn", mistake, status=2)
        assert refused.stderr.count("asr: ") == 1
        assert not (folder / "runs/custom/unborn").exists()


def test_preflight_of_a_run_stops_before_there_is_anything_to_score(
    asr: Asr, folder: Path, tone_manifest: Path
) -> None:
    asr(folder, "run", *SMALL, f"recipe.root={tone_manifest}", "name=unborn", "preflight=only")
    assert not (folder / "runs/custom/unborn").exists()


def weights(folder: Path, name: str) -> dict[str, bytes]:
    tensors = load_file(folder / f"runs/custom/{name}/model/weights.safetensors")
    return {key: value.tobytes() for key, value in tensors.items()}


def record(folder: Path, name: str) -> list[tuple[str, ...]]:
    with (folder / f"runs/custom/{name}/metrics.csv").open() as stream:
        return [tuple(line[:7]) for line in csv.reader(stream)]


LONG = [*SMALL, "trainer.max_epochs=12", "augment=standard"]


@pytest.fixture(scope="module")
def quiet(asr: Asr, folder: Path) -> Path:
    """The same folder, with the run `quiet` trained without any interruption."""
    asr(folder, "train", *LONG, "name=quiet")
    return folder


def start_and_stop(
    forks: Any, folder: Path, words: list[str], checkpoint: Path, number: int
) -> int:
    """Start training, send a signal once a checkpoint is there; the exit status."""
    process = forks.start(folder, "asr", "train", *words)
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.running() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, number)
    return int(process.end().status)


def test_a_run_stopped_in_three_ways_ends_with_the_very_same_weights(
    asr: Asr, forks: Any, quiet: Path
) -> None:
    words = [*LONG, "name=stopped"]
    checkpoints = quiet / "runs/custom/stopped/checkpoints"
    stops = [(1, signal.SIGINT, 130), (4, signal.SIGTERM, 143), (7, signal.SIGKILL, -9)]
    for epoch, number, status in stops:
        checkpoint = checkpoints / f"epoch-{epoch:05d}.ckpt"
        assert start_and_stop(forks, quiet, words, checkpoint, number) == status
        assert not (quiet / "runs/custom/stopped/finished.json").exists()
    resumed = asr(quiet, "train", *words)
    assert "goes on after epoch-" in resumed.stderr
    assert record(quiet, "stopped") == record(quiet, "quiet")
    assert weights(quiet, "stopped") == weights(quiet, "quiet")


def test_another_seed_gives_other_weights(asr: Asr, quiet: Path) -> None:
    asr(quiet, "train", *LONG, "seed=2", "name=seed2")
    assert weights(quiet, "seed2") != weights(quiet, "quiet")


def test_a_torn_checkpoint_is_passed_over_and_more_epochs_may_follow(asr: Asr, quiet: Path) -> None:
    newest = quiet / "runs/custom/quiet/checkpoints/epoch-00012.ckpt"
    whole = newest.read_bytes()
    newest.write_bytes(whole[:1000])
    done = asr(quiet, "train", *LONG, "name=quiet", "trainer.max_epochs=13")
    assert "epoch-00012.ckpt cannot be read" in done.stderr
    assert "goes on after epoch-00011" in done.stderr
    finished = json.loads((quiet / "runs/custom/quiet/finished.json").read_text())
    assert finished["epochs"] == 13


def test_training_without_a_corpus_says_what_to_do(asr: Asr, tmp_path: Path) -> None:
    refused = asr(tmp_path, "train", *SMALL, status=2)
    assert "asr prepare" in refused.stderr


def test_all_without_base_says_what_to_do(asr: Asr, folder: Path, tone_manifest: Path) -> None:
    corpus = f"prepare.folder={folder / 'corpora/custom'}"
    (elsewhere := folder / "elsewhere").mkdir()
    refused = asr(elsewhere, "train", *SMALL, "data=all", corpus, status=2)
    assert "train it first" in refused.stderr
