"""`asr tune` with real trainings: interrupted, killed, gone on with; the best trained again."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from asr.files import digest_file

# Of the seed below the trials have the learning rates 1e-3, 8e-3 and 1e-4, and the second one
# another speed too: it becomes the best, and the third one is stopped early.
SPACE = """\
space:
  optim.learning_rate: {choice: [8e-3, 1e-3, 1e-4]}
  augment.speed.factors: {choice: [[1.0], [0.9, 1.0]]}
"""
SMALL = [
    *("recipe=custom", "augment=none", "model.hidden=32", "model.channels=8", "model.layers=2"),
    *("model.dropout=0.1", "optim.ema_decay=0.9", "data.max_utterances=8", "trainer.threads=1"),
    "trainer.accelerator=cpu",
]
SEARCH = [
    *("tune=rates", "tune.seed=75", "tune.trials=3", "tune.max_epochs=8"),
    "tune.grace_epochs=4",
]
TIMEOUT_S = 300


@dataclass
class Story:
    """What a search left and said: interrupted, killed, gone on with; and its best once more."""

    folder: Path
    statuses: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    trials: list[str] = field(default_factory=list)  # what the first and second said in the end

    def note(self, ended: Any) -> None:
        self.statuses.append(ended.status)
        self.said.append(ended.stderr + ended.stdout)

    def runs(self, name: str) -> Path:
        return self.folder / "runs/custom" / name

    def reports(self) -> list[tuple[int, int, float]]:
        with (self.runs("tune-base") / "reports.csv").open(newline="") as stream:
            lines = list(csv.DictReader(stream))
        return [(int(line["trial"]), int(line["epoch"]), float(line["rate"])) for line in lines]


@pytest.fixture(scope="module")
def story(forks: Any, tmp_path_factory: pytest.TempPathFactory, tone_manifest: Path) -> Story:
    folder = tmp_path_factory.mktemp("a search")
    (folder / "conf/tune").mkdir(parents=True)
    (folder / "conf/tune/rates.yaml").write_text(SPACE)
    story = Story(folder)
    given = [*SMALL, f"recipe.root={tone_manifest}"]
    assert forks.run(folder, "asr", "prepare", *given).status == 0
    checkpoints = [story.runs(f"tune-base-00{number}") / "checkpoints" for number in (1, 2)]
    search = forks.start(folder, "asr", "tune", *given, *SEARCH)
    send(search, signal.SIGINT, checkpoints[0] / "epoch-00001.ckpt")
    story.note(search.end())
    story.trials.append((story.runs("tune-base") / "output-001.txt").read_text())
    search = forks.start(folder, "asr", "tune", *given, *SEARCH)
    send(search, signal.SIGKILL, checkpoints[1] / "epoch-00005.ckpt")
    story.note(search.end())
    wait_until_free(story.runs("tune-base-002") / ".training")
    story.note(forks.run(folder, "asr", "tune", *given, *SEARCH))
    story.trials.append((story.runs("tune-base") / "output-002.txt").read_text())
    line = story.said[-1].strip().splitlines()[-1]
    told = subprocess.run(
        ["sh", "-c", f"asr() {{ printf '%s\\0' \"$@\"; }}; {line}"],
        capture_output=True,
        check=True,
    )
    story.note(forks.run(folder, "asr", *told.stdout.decode().split("\0")[:-1]))
    return story


def send(command: Any, number: int, once: Path) -> None:
    """A signal to a command, once there is that file."""
    while not once.exists():
        assert command.running(), command.end()
        time.sleep(0.005)
    os.kill(command.pid, number)


def wait_until_free(lock: Path) -> None:
    """A trial ends with the search, although that could not tell it to."""
    deadline = time.monotonic() + TIMEOUT_S
    with lock.open() as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            else:
                return


def test_an_interrupt_lets_the_trial_save_and_tells_how_to_go_on(story: Story) -> None:
    assert story.statuses[0] == 128 + signal.SIGINT
    assert "asr: stopped by SIGINT; the same command goes on\n" in story.said[0]
    assert "train: stopped by SIGINT and saved" in story.trials[0]
    assert re.search(r"^ 1 .* interrupted *$", story.said[0], re.MULTILINE)
    assert re.search(r"^ 3 .* not begun *$", story.said[0], re.MULTILINE)


def test_after_a_kill_the_same_command_goes_on_from_the_checkpoints(story: Story) -> None:
    assert story.statuses[1:3] == [-signal.SIGKILL, 0]
    assert re.search(r"tune-base-002 goes on after epoch-0000[5-8]", story.trials[1])
    assert "[1/3]" not in story.said[2]  # the first one had come to its end


def test_each_epoch_is_decided_upon_once_and_the_poor_trial_is_stopped(story: Story) -> None:
    epochs = [(trial, epoch) for trial, epoch, _ in story.reports()]
    last = Counter(trial for trial, _ in epochs)
    assert epochs == [(trial, epoch) for trial in (1, 2, 3) for epoch in range(1, last[trial] + 1)]
    assert last == {1: 8, 2: 8, 3: 4}
    assert re.search(r"^ 3 .* stopped early *$", story.said[2], re.MULTILINE)


def test_the_command_of_the_best_gives_the_same_weights_and_rates(story: Story) -> None:
    assert "\nBest: trial 2, validation WER " in story.said[2]
    assert story.statuses[3] == 0
    weights = [
        digest_file(story.runs(name) / "model/weights.safetensors")
        for name in ("tuned", "tune-base-002", "tune-base-001")
    ]
    assert weights[0] == weights[1] != weights[2]
    with (story.runs("tuned") / "metrics.csv").open(newline="") as stream:
        rates = [float(line["wer"]) for line in csv.DictReader(stream)]
    assert rates == [rate for trial, _, rate in story.reports() if trial == 2]


def test_a_table_and_a_picture_are_left(story: Story) -> None:
    folder = story.runs("tune-base")
    with (folder / "results.csv").open(newline="") as stream:
        rows = {row["trial"]: row for row in csv.DictReader(stream)}
    finished = json.loads((story.runs("tune-base-002") / "finished.json").read_text())
    assert float(rows["2"]["validation_wer"]) == finished["best_wer"]
    assert [rows[trial]["ended"] for trial in "123"] == ["done", "done", "stopped early"]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_of_ray_or_of_the_trials_is_on_the_screen(story: Story) -> None:
    lines = story.said[2].splitlines()
    begun = [line for line in lines if line.startswith("[")]
    assert lines[: len(begun)] == begun
    assert "ray" not in story.said[2].lower().replace("array", "")
    assert "train: " not in story.said[2]
