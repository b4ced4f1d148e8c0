"""The folder of a run, and what makes two runs the same."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from asr.config import Config
from asr.errors import UserError
from asr.files import explain_write_errors, write_atomically

SETTINGS = "config.yaml"
FINISHED = "finished.json"
LOCK = ".training"
# Devices, workers, loggers and the number of epochs are not among these.
IDENTITY = (
    *("seed", "init", "freeze", "units", "features", "augment", "model", "inner_ctc", "optim"),
    "data",
)
TUNING = (*IDENTITY, "tune")  # of a search for better settings, which has a folder too
# How a batch is gone through, not what is in it; how far a search goes, not what it tries.
NOT_IDENTITY = ("data.device_batch_s", "tune.trials", "tune.concurrent")


@dataclass(frozen=True)
class Finished:
    """How a run ended. `best_wer` is of validation, and None where there was none.

    It is the rate called `rate_name`: of words, or of phones where phones are decoded.

    What follows it was not always recorded. The peaks are of the largest of the processes that
    trained: all that it held, and what its tensors took on a GPU.
    """

    epochs: int
    max_epochs: int
    best_epoch: int
    best_wer: float | None
    parameters: int | None = None
    peak_resident_bytes: int | None = None
    peak_cuda_bytes: int | None = None
    rate_name: str = "wer"


def run_folder(config: Config, name: str | None = None) -> Path:
    """Where the run of that name of the same recipe lies."""
    return Path("runs") / config.recipe.name / (name or config.name)


def identity(
    settings: dict[str, Any], corpus: str, sections: Sequence[str] = IDENTITY
) -> dict[str, Any]:
    """What a run is identified by, as dotted keys: recipe, corpus, and the settings that train."""
    keys: dict[str, Any] = {"recipe.name": settings["recipe"]["name"], "corpus": corpus}
    for section in sections:
        keys |= _flat(section, settings.get(section))
    if not keys.get("augment.join.probability"):  # as of runs from before there was such a setting
        keys = {key: value for key, value in keys.items() if not key.startswith("augment.join.")}
    return {key: value for key, value in keys.items() if key not in NOT_IDENTITY}


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(f"{prefix}.{key}", inner)
    return flat


def check_owner(
    folder: Path, config: Config, corpus: str, sections: Sequence[str] = IDENTITY
) -> None:
    """Refuse a folder that is another run's.

    Raises:
        UserError: another run has that name, and what differs is named; or which one has it cannot
            be read.
    """
    settings = folder / SETTINGS
    if not settings.is_file():
        return
    mine = identity(asdict(config), corpus, sections)
    try:
        stored = yaml.safe_load(settings.read_text(encoding="utf-8"))
        theirs = identity(stored["settings"], stored["corpus"], sections)
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise UserError(
            f"{settings} does not say which run this is ({type(error).__name__}): "
            "choose another name=, or move the folder away."
        ) from None
    differing = [
        f"{key} ({theirs.get(key)} there, {mine.get(key)} here)"
        for key in sorted(mine.keys() | theirs.keys())
        if mine.get(key) != theirs.get(key)
    ]
    if differing:
        raise UserError(
            f"{folder} holds another run: {', '.join(differing)}. Nothing trained is overwritten: "
            "choose another name=, or the settings of that run."
        )


def claim(folder: Path, config: Config, corpus: str, sections: Sequence[str] = IDENTITY) -> None:
    """Make a run folder this run's own, or find that it is already.

    Raises:
        UserError: another run has that name, or the folder cannot be written.
    """
    check_owner(folder, config, corpus, sections)
    settings = folder / SETTINGS
    if settings.is_file():
        return
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with write_atomically(settings) as stream:
        content = {"corpus": corpus, "settings": asdict(config)}
        yaml.safe_dump(content, stream, sort_keys=False, allow_unicode=True)


@contextlib.contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Holds a run's folder against a second training; the kernel lets go when the process ends.

    Raises:
        UserError: another process holds it.
    """
    with explain_write_errors(folder):
        lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(
            f"{folder} is being trained by another process: wait for it, or choose another name=."
        ) from None
    finally:
        os.close(lock)


def read_finished(folder: Path) -> Finished | None:
    """How the run ended, or None where it has not.

    Raises:
        UserError: the file that says so cannot be read.
    """
    path = folder / FINISHED
    if not path.is_file():
        return None
    try:
        return Finished(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} does not say how the run ended ({type(error).__name__}): delete it, and the "
            "same command goes on from the last checkpoint."
        ) from None


def write_finished(folder: Path, finished: Finished) -> None:
    """Say that the run has ended."""
    with write_atomically(folder / FINISHED) as stream:
        stream.write(json.dumps(asdict(finished), indent=2) + "\n")
