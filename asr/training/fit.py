"""The Lightning trainer, set up as a run needs it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger

from asr.corpus import Split
from asr.data.dataset import TrainingBatches
from asr.training.checkpoint import (
    EpochCheckpoint,
    StopOnSignal,
    StoppedError,
    newest_readable,
)
from asr.training.datamodule import CorpusBatches
from asr.training.memory import PeakMemory, ReturnMemory
from asr.training.module import CtcTraining
from asr.training.progress import RunProgress
from asr.training.record import Record


@dataclass(frozen=True)
class FitSettings:
    """How long and on what to train; see `conf/trainer`."""

    max_epochs: int
    patience: int
    validate_every: int
    devices: int
    accelerator: str
    precision: str


@dataclass(frozen=True)
class Outcome:
    """How training ended. `best_wer` is of validation, and None where there was none.

    `parameters` are the network's; the peaks are those of `PeakMemory`.
    """

    epochs: int
    best_epoch: int
    best_wer: float | None
    parameters: int
    peak_resident_bytes: int
    peak_cuda_bytes: int | None


def fit(
    module: CtcTraining,
    batches: TrainingBatches,
    validation: Split | None,
    folder: Path,
    settings: FitSettings,
    save_model: Callable[[int, float | None], None],
    log: logging.Logger,
    log_epoch: Callable[[str], None],
) -> Outcome:
    """Train, or go on from the newest checkpoint in `folder` that can be read.

    Args:
        module: what is trained.
        batches: training utterances.
        validation: a split that chooses the best epoch; None: the last one is kept.
        folder: of the run.
        settings: how long and on what.
        save_model: writes the bundle of an epoch, given its validation WER.
        log: for the screen and the log file.
        log_epoch: takes one line an epoch.

    Raises:
        StoppedError: a signal asked to stop.
        UserError: a file of the run cannot be written.
    """
    keeper = EpochCheckpoint(
        folder / "checkpoints", save_model, validation is not None, settings.patience
    )
    stopper, peak = StopOnSignal(), PeakMemory()
    # What Lightning advises is for the writers of its applications.
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    trainer = pl.Trainer(
        max_epochs=settings.max_epochs,
        accelerator=settings.accelerator,
        devices=settings.devices,
        precision=settings.precision,  # type: ignore[arg-type]
        callbacks=[
            Record(folder),
            RunProgress(log_epoch),
            keeper,
            ReturnMemory(),
            peak,
            stopper,
        ],
        logger=TensorBoardLogger(folder / "tensorboard", name="", version=""),
        check_val_every_n_epoch=settings.validate_every,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    resumed = newest_readable(keeper.folder, log.warning)
    parameters = sum(parameter.numel() for parameter in module.network.parameters())
    begins = f"goes on after {resumed.stem}" if resumed else "begins"
    log.info(
        "train: %s %s: %.1f million parameters, up to %d epochs",
        *(folder, begins, parameters / 1e6, settings.max_epochs),
    )
    loaders = CorpusBatches(batches, validation, batches.plan.batch_s, batches.plan.max_utterances)
    trainer.fit(module, loaders, ckpt_path=resumed, weights_only=True)
    if stopper.received is not None:  # after the last batch: what follows training does not begin
        raise StoppedError(stopper.received)
    epochs = trainer.current_epoch
    validated = validation is not None
    return Outcome(
        epochs=epochs,
        best_epoch=keeper.best_epoch if validated else epochs,
        best_wer=keeper.best_wer if validated else None,
        parameters=parameters,
        peak_resident_bytes=peak.resident_bytes,
        peak_cuda_bytes=peak.cuda_bytes or None,
    )
