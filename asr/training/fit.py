"""The Lightning trainer, set up as a run needs it."""

from __future__ import annotations

import datetime
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy

from asr.corpus import Split
from asr.data.dataset import TrainingBatches
from asr.training.checkpoint import newest_readable
from asr.training.datamodule import CorpusBatches
from asr.training.keeper import Keeper, Keeping
from asr.training.loggers import make_loggers
from asr.training.memory import PeakMemory, ReturnMemory
from asr.training.module import CtcTraining
from asr.training.nonfinite import SkippedSteps
from asr.training.place import started_by_torchrun
from asr.training.progress import RunProgress
from asr.training.ranks import part
from asr.training.record import Record
from asr.training.signals import Signals, StoppedError


@dataclass(frozen=True)
class FitSettings:
    """How long and on what to train; see `conf/trainer`.

    `several`: whether this is one of several processes, which something else has started.
    """

    max_epochs: int
    validate_every: int
    devices: int
    nodes: int
    accelerator: str
    precision: str
    timeout_s: float
    max_skipped: int
    loggers: tuple[str, ...]
    several: bool


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
    keeping: Keeping,
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
        keeping: what is kept of it, and when it ends early.
        log: for the screen and the log file.
        log_epoch: takes one line an epoch.

    Raises:
        StoppedError: a signal asked to stop.
        UserError: a file of the run cannot be written, or too many steps were not finite.
    """
    found = newest_readable(folder / "checkpoints", log.warning)
    parameters = sum(parameter.numel() for parameter in module.network.parameters())
    begins = f"goes on after {found[0].stem}" if found else "begins"
    log.info(
        "train: %s %s: %.1f million parameters, up to %d epochs",
        *(folder, begins, parameters / 1e6, settings.max_epochs),
    )
    peak = PeakMemory()
    module.report_skipped = SkippedSteps(folder, settings.max_skipped, module, log).report
    with Signals() as signals:
        state = found[1] if found else None
        keeper = Keeper(folder / "checkpoints", keeping, signals, state, log.warning)
        callbacks = [Record(folder), RunProgress(log_epoch), keeper, ReturnMemory(), peak]
        trainer = _trainer(folder, settings, callbacks)
        plan = batches.plan
        loaders = CorpusBatches(batches, validation, plan.batch_s, plan.max_utterances)
        try:
            trainer.fit(module, loaders)
        except StoppedError:
            part()
            raise
        part()
        if signals.received is not None:  # after the last step: what follows does not begin
            raise StoppedError(signals.received)
    epochs = trainer.current_epoch
    validated = validation is not None
    return Outcome(
        epochs=epochs,
        best_epoch=keeper.best_epoch if validated else epochs,
        best_wer=keeper.best_rate if validated else None,
        parameters=parameters,
        peak_resident_bytes=peak.resident_bytes,
        peak_cuda_bytes=peak.cuda_bytes or None,
    )


def _trainer(folder: Path, settings: FitSettings, callbacks: list[pl.Callback]) -> pl.Trainer:
    # What Lightning advises is for the writers of its applications.
    warnings.filterwarnings("ignore", module="lightning")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    strategy = DDPStrategy(
        cluster_environment=(
            TorchElasticEnvironment() if started_by_torchrun() else SLURMEnvironment(False)
        ),
        timeout=datetime.timedelta(seconds=settings.timeout_s),
        broadcast_buffers=False,  # nothing in them changes in training
        gradient_as_bucket_view=True,
    )
    trainer = pl.Trainer(
        max_epochs=settings.max_epochs,
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy=strategy if settings.several else "auto",
        precision=settings.precision,  # type: ignore[arg-type]
        callbacks=callbacks,
        logger=make_loggers(settings.loggers, folder),
        check_val_every_n_epoch=settings.validate_every,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    # Its handlers of signals tell the other processes from within, and it asks the first one before
    # each step whether it has heard any; the ranks agree on that in `Keeper`.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    return trainer
