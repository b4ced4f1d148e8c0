"""`asr train`: a prepared corpus to a model."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.commands.devices import choose_device
from asr.commands.runs import (
    Finished,
    check_owner,
    claim,
    read_finished,
    run_folder,
    write_finished,
)
from asr.config import Config
from asr.errors import UserError
from asr.files import explain_write_errors

if TYPE_CHECKING:
    from asr.bundle import Bundle
    from asr.commands.training_data import TrainingData
    from asr.training.module import CtcTraining


def train(config: Config) -> int:
    """Train, or go on with, the run that the settings describe.

    Returns:
        0, or 130 or 143 where a signal stopped it.

    Raises:
        UserError: the corpus is not prepared, the name is taken, the settings do not fit.
    """
    from asr.corpus import Corpus

    corpus = Corpus.open(Path(config.prepare.folder))
    folder = run_folder(config)
    max_epochs = epochs_of(config)
    if config.preflight != "only":
        check_owner(folder, config, corpus.fingerprint)
        finished = read_finished(folder)
        if finished is not None and max_epochs <= finished.max_epochs:
            print(f"train: {folder} is finished ({_outcome(finished)})", file=sys.stderr)
            return 0
    check_settings(config)

    import torch

    from asr.commands.training_data import gather
    from asr.commands.training_module import build

    torch.set_num_threads(config.trainer.threads or os.cpu_count() or 1)
    data = gather(config, corpus)
    print(f"train: {data}", file=sys.stderr, flush=True)
    module, bundle = build(config, data, corpus.normaliser, max_epochs)
    if config.preflight == "only":
        return 0
    # Only now, so that settings that do not fit leave the name free.
    claim(folder, config, corpus.fingerprint)
    return _fit(config, data, module, bundle, corpus.fingerprint)


def check_settings(config: Config) -> None:
    """Find what no corpus would mend, before one is prepared or read.

    Raises:
        UserError: the device is not there, the run `base` is needed and not finished, or no network
            can be made of the sizes.
    """
    epochs_of(config)
    choose_device(config.trainer.accelerator)
    from asr.commands.network import check_sizes

    check_sizes(config)


def epochs_of(config: Config) -> int:
    """The epochs to train: those asked for, or, with validation in the training data, base's.

    Raises:
        UserError: the run `base` is needed and not finished.
    """
    if "validation" not in config.data.train_splits:
        return config.trainer.max_epochs
    base = read_finished(run_folder(config, "base"))
    if base is None:
        raise UserError(
            f"data=all trains for as many epochs as the run base did, and "
            f"{run_folder(config, 'base')} is not finished: train it first "
            f"(asr train recipe={config.recipe.name})."
        )
    return base.epochs


def _outcome(finished: Finished) -> str:
    if finished.best_wer is None:
        return f"{finished.epochs} epochs, no validation"
    best = f"validation WER {100 * finished.best_wer:.1f} % in epoch {finished.best_epoch}"
    return f"{finished.epochs} epochs, best {best}"


def _fit(
    config: Config, data: TrainingData, module: CtcTraining, bundle: Bundle, corpus: str
) -> int:
    from asr.training.checkpoint import StoppedError
    from asr.training.fit import FitSettings, fit
    from asr.training.preflight import write_excluded

    folder, trainer = run_folder(config), config.trainer
    write_excluded(folder / "excluded.jsonl", data.excluded)
    origin = {"command": shlex.join(sys.argv), **versions(), "data": str(data)}

    def save_model(epoch: int, wer: float | None) -> None:
        bundle.trained = _provenance(config, data, corpus, epoch, wer)
        bundle.save(folder / "model")

    settings = FitSettings(
        max_epochs=module.max_epochs,
        patience=trainer.patience if data.validation is not None else 0,
        validate_every=trainer.validate_every,
        devices=trainer.devices,
        accelerator=trainer.accelerator,
        precision=trainer.precision,
    )
    with _logs(folder / "log.txt") as (log, file_log):
        for name, value in origin.items():
            file_log.info("%s: %s", name, value)
        # On a terminal the progress bar shows what each epoch's line says.
        log_epoch = (file_log if sys.stderr.isatty() else log).info
        try:
            outcome = fit(
                module, data.batches, data.validation, folder, settings, save_model, log, log_epoch
            )
        except StoppedError as stop:
            log.info(
                "train: stopped by %s; the same command goes on after the last finished epoch", stop
            )
            return stop.status
        finished = Finished(max_epochs=module.max_epochs, **vars(outcome))
        write_finished(folder, finished)
        log.info("train: %s is finished (%s)", folder, _outcome(finished))
        log.info("  model    %s", folder / "model")
        log.info("  curves   %s", folder / "curves.png")
    return 0


@contextlib.contextmanager
def _logs(path: Path) -> Iterator[tuple[logging.Logger, logging.Logger]]:
    """A log for the screen and a file, and one for the file alone."""
    with explain_write_errors(path):
        handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    file_log = logging.Logger("asr.train.file", logging.INFO)
    file_log.addHandler(handler)
    log = logging.Logger("asr.train", logging.INFO)
    log.addHandler(logging.StreamHandler(sys.stderr))
    log.parent = file_log
    try:
        yield log, file_log
    finally:
        handler.close()


def _provenance(
    config: Config, data: TrainingData, corpus: str, epoch: int, wer: float | None
) -> dict[str, Any]:
    return {
        "recipe": config.recipe.name,
        "run": config.name,
        "corpus": corpus,
        "splits": list(config.data.train_splits),
        "hours": round(data.hours, 3),
        "utterances": data.utterances,
        "epochs": epoch,
        "validation_wer": None if wer is None else round(wer, 6),
        "seed": config.seed,
        "command": shlex.join(["asr", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """What computed: asr with its commit where known, python, torch, and the machine's kind."""
    import torch

    import asr

    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(asr.__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    commit = f" ({described.stdout.strip()})" if described.returncode == 0 else ""
    return {
        "asr": asr.__version__ + commit,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
