"""Training on Ray: it begins again by itself where a process or a worker of Ray's is lost."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from asr.training.checkpoint import checkpoints

SMALL = [
    "recipe=custom",
    "augment=none",
    "model.hidden=16",
    "model.channels=4",
    "model.layers=2",
    "model.dropout=0.1",
    "optim.learning_rate=8e-3",
    "data.max_utterances=4",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=6",
    "trainer.checkpoint_steps=1",
    "trainer.devices=2",
]
RANK = "status = train_as_rank()"  # in the command line of each process


def asr(folder: Path, *words: str) -> subprocess.Popen[str]:
    # Not telling its own children apart, Ray would take a cluster that runs here for its own.
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, "-m", "asr", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], status: int) -> str:
    """What it said, and nothing but that: no traceback, no warning, nothing of Ray's own."""
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == status, stderr
    assert stdout == ""
    assert all(
        re.match(r"train: |epoch \d/6: |asr: |  \w+ +runs/", line) for line in stderr.splitlines()
    ), stderr
    return stderr


def weights(folder: Path, name: str) -> dict[str, bytes]:
    tensors = load_file(folder / "runs/custom" / name / "model/weights.safetensors")
    return {key: value.tobytes() for key, value in tensors.items()}


def parents_of_ranks(folder: Path) -> dict[int, int]:
    """Process ids of the ranks that work in a folder, the first one first, and of their parents."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if (
                RANK in (process / "cmdline").read_text(errors="replace")
                and (process / "cwd").readlink() == folder
            ):
                stat = (process / "stat").read_text()
                found[int(process.name)] = int(stat.rpartition(")")[2].split()[1])
    return dict(sorted(found.items()))


def wait_for_ranks(
    folder: Path, process: subprocess.Popen[str], before: set[int]
) -> dict[int, int]:
    """Until there are two processes that were not there before."""
    deadline = time.monotonic() + 300
    while len(ranks := parents_of_ranks(folder)) < 2 or before & ranks.keys():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return ranks


def wait_for_steps(folder: Path, name: str, process: subprocess.Popen[str]) -> None:
    """Until two more checkpoints have been written."""
    kept = folder / "runs/custom" / name / "checkpoints"
    deadline = time.monotonic() + 300
    before, written = set(checkpoints(kept)), set()
    while len(written) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        written |= set(checkpoints(kept)) - before
        time.sleep(0.02)


@pytest.fixture
def folder(tmp_path: Path, tone_manifest: Path) -> Path:
    """A working folder with the corpus prepared."""
    prepared = asr(tmp_path, "prepare", "recipe=custom", f"recipe.root={tone_manifest}")
    _, stderr = prepared.communicate(timeout=120)
    assert prepared.returncode == 0, stderr
    return tmp_path.resolve()


@pytest.mark.timeout(1500)  # the time limits of all steps together; it takes three minutes
def test_what_is_lost_is_begun_again_and_the_weights_are_those_of_a_quiet_run(folder: Path) -> None:
    ended(asr(folder, "train", *SMALL, "name=quiet"), 0)  # without Ray

    words = [*SMALL, "name=story"]
    training = asr(folder, "train", *words, "cluster=ray", "cluster.max_failures=2")
    first = wait_for_ranks(folder, training, set())
    os.kill(max(first.values()), signal.SIGKILL)  # Ray's worker, which started them
    second = wait_for_ranks(folder, training, set(first))
    wait_for_steps(folder, "story", training)
    os.kill(max(second), signal.SIGKILL)  # one of the two processes
    third = wait_for_ranks(folder, training, {*first, *second})
    wait_for_steps(folder, "story", training)
    training.send_signal(signal.SIGINT)
    said = ended(training, 130)
    assert "asr: Ray's worker on machine 1 of 1 was lost; begins again" in said
    assert "asr: process 2 of 2 was killed by SIGKILL; begins again" in said
    assert said.count("train: runs/custom/story goes on after epoch-") == 1
    assert "train: stopped by SIGINT and saved" in said
    started = {*first, *first.values(), *second, *second.values(), *third, *third.values()}
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)

    said = ended(asr(folder, "train", *words), 0)  # Ray or not, it is the same run
    assert "train: runs/custom/story goes on after epoch-" in said
    assert weights(folder, "story") == weights(folder, "quiet")
