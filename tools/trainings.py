"""Trainings that benchmarks measure: `asr train` itself, in a folder that is gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import asr.commands.training_module
from asr.commands.compose import compose
from asr.commands.runs import run_folder
from asr.commands.train import train
from asr.config import Config
from asr.errors import UserError
from asr.training.module import CtcTraining
from asr.training.record import EpochRecord, read_records

NAME = "bench"
# As in any later epoch of a real run, from the first one on.
EVERYTHING_FROM_THE_START = (
    "augment.speed.start_epoch=1",
    "augment.warp.start_epoch=1",
    "augment.spec.start_epoch=1",
    "data.short_first=false",
)


def settings(words: Sequence[str]) -> Config:
    """What the words ask for; the corpus is found from any folder.

    Raises:
        UserError: what `asr train` raises.
    """
    config = compose([*EVERYTHING_FROM_THE_START, *words])
    corpus = str(Path(config.prepare.folder).resolve())
    return replace(config, name=NAME, prepare=replace(config.prepare, folder=corpus))


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A block in a working folder of its own."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(here)


def train_here(config: Config, kind: type[CtcTraining] = CtcTraining) -> list[EpochRecord]:
    """Train in this process, in a temporary folder: what it leaves in metrics.csv.

    Args:
        config: of the run.
        kind: what is trained; looks on.

    Raises:
        UserError: what `asr train` raises.
    """
    with temporary_folder(), patch.object(asr.commands.training_module, "CtcTraining", kind):
        if status := train(config):
            raise UserError(f"asr train ended with status {status}")
        return read_records(run_folder(config) / "metrics.csv")


def train_apart(words: Sequence[str]) -> list[EpochRecord]:
    """The same by the command, in a process of its own.

    Raises:
        UserError: what `asr train` says.
    """
    config = settings(words)
    command = [*EVERYTHING_FROM_THE_START, *words, f"name={NAME}"]
    command.append(f"prepare.folder={config.prepare.folder}")
    with temporary_folder():
        done = subprocess.run(
            [sys.executable, "-m", "asr", "train", *command],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UserError(f"asr train: {done.stderr.strip()}")
        return read_records(run_folder(config) / "metrics.csv")


def audio_rate(records: Sequence[EpochRecord]) -> float:
    """Seconds of audio trained on in a second; where there are several epochs, not in the first."""
    counted = records[1:] or records
    return sum(each.audio_s for each in counted) / sum(each.train_s for each in counted)
