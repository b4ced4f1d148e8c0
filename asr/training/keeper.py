"""What a run keeps: checkpoints, the best model so far; and when it ends before its last epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from asr.errors import UserError
from asr.training.average import BestEpochs
from asr.training.checkpoint import State, checkpoints, epochs_done, restore, write
from asr.training.module import CtcTraining
from asr.training.ranks import gathered, summed
from asr.training.signals import Signals, StoppedError, first_flagged


@dataclass(frozen=True)
class Keeping:
    """What is kept when.

    `save_model` writes the bundle, given the epoch and the validation error rate, which is None
    where there is no `validating`: then it is written after the last epoch alone. A checkpoint is
    written at the end of an epoch, and after `every_steps` and `every_minutes` (0: not so).
    Training stops after `patience` epochs without a better error rate; 0: never. In the end the
    average of the `average_best` epochs is kept (0: none), if it is at least as good as the best.
    """

    save_model: Callable[[int, float | None], None]
    validating: bool
    patience: int
    every_steps: int
    every_minutes: float
    average_best: int


class Keeper(pl.Callback):
    """Goes on from a checkpoint, writes them, and ends the run when it is asked to.

    The ranks agree on all of this: what one of them wants, all do, after the same step. The first
    one writes.

    Args:
        folder: of the checkpoints.
        keeping: what and when.
        signals: that ask the run to stop.
        state: of the checkpoint to go on from; None: from the beginning.
        warn: told of a file that cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        keeping: Keeping,
        signals: Signals,
        state: State | None,
        warn: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self.keeping = keeping
        self.signals = signals
        self.state = state
        self.best_rate = float("inf")
        self.best_epoch = 0
        self.better_epoch = 0  # the last one that was better than all before it
        self.best_epochs = BestEpochs(folder / "best", keeping.average_best, warn)

    def state_dict(self) -> dict[str, Any]:
        """The best so far, and since when there was none better."""
        return {
            "best_rate": self.best_rate,
            "best_epoch": self.best_epoch,
            "better_epoch": self.better_epoch,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.best_rate = state_dict["best_rate"]
        self.best_epoch = state_dict["best_epoch"]
        self.better_epoch = state_dict["better_epoch"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Everything is in its place: go on from the checkpoint.

        Raises:
            UserError: another rank has found another checkpoint.
        """
        assert isinstance(pl_module, CtcTraining)
        positions = gathered(self.state and self.state["position"])
        if any(position != positions[0] for position in positions):
            raise UserError(
                f"Not every process finds the same checkpoint in {self.folder}: the folder must be"
                " on a disk that all machines share."
            )
        if self.state is not None:
            restore(self.state, trainer, pl_module)
            self.state = None
        if trainer.is_global_zero:
            self.best_epochs.forget_after(pl_module.position.epoch)
            for torn in self.folder.glob(".*.partial"):  # of processes that were killed
                torn.unlink(missing_ok=True)
        pl_module.ask = lambda: self._ask(pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that was killed just as its patience ended does not train another epoch."""
        self.written = time.monotonic()
        trainer.should_stop = self._patience_has_ended(trainer.current_epoch)

    def _patience_has_ended(self, epoch: int) -> bool:
        return self.keeping.patience > 0 and epoch - self.better_epoch >= self.keeping.patience

    def _ask(self, module: CtcTraining) -> list[float]:
        """Of all ranks, at the end of a step: to stop for a signal, and to write a checkpoint."""
        steps, minutes = self.keeping.every_steps, (time.monotonic() - self.written) / 60
        due = steps > 0 and (module.position.steps + 1) % steps == 0
        due |= module.global_rank == 0 and 0 < self.keeping.every_minutes <= minutes
        return [*self.signals.flags(), float(due)]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        """Leave between two steps, or write a checkpoint, where some rank has asked for it."""
        assert isinstance(pl_module, CtcTraining)
        if pl_module.step is None:
            return
        *flags, due = pl_module.step.requests
        self._stop_if(first_flagged(flags), trainer, pl_module)
        # The last batch's is written when its epoch has been validated.
        if due and pl_module.position.batch < pl_module.batches:
            self._write(trainer, pl_module)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        """Leave between two batches of validation."""
        assert isinstance(pl_module, CtcTraining)
        *flags, _ = summed(self._ask(pl_module), pl_module.device)
        self._stop_if(first_flagged(flags), trainer, pl_module)

    def _stop_if(self, number: int | None, trainer: pl.Trainer, module: CtcTraining) -> None:
        if number is not None:
            self._write(trainer, module)
            gathered(None)  # no rank leaves while another one writes
            raise StoppedError(number)

    def _write(self, trainer: pl.Trainer, module: CtcTraining) -> None:
        if trainer.is_global_zero:
            write(self.folder, trainer, module)
        self.written = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the model where it is the best yet; stop where it has not been for long."""
        assert isinstance(pl_module, CtcTraining)
        epoch, rate = trainer.current_epoch + 1, pl_module.scores.rate
        if rate < self.best_rate:
            self.better_epoch = epoch
        if rate <= self.best_rate:  # of equals the later, whose learning rate was lower
            self.best_rate, self.best_epoch = rate, epoch
            if trainer.is_global_zero:
                self.keeping.save_model(epoch, rate)
        if self.keeping.average_best and trainer.is_global_zero:
            oldest = min((epochs_done(path) for path in checkpoints(self.folder)), default=0)
            self.best_epochs.keep(epoch, rate, pl_module.averaged.state_dict(), oldest)
        if self._patience_has_ended(epoch):
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's checkpoint."""
        assert isinstance(pl_module, CtcTraining)
        epoch = trainer.current_epoch + 1
        if not self.keeping.validating and epoch == trainer.max_epochs and trainer.is_global_zero:
            self.keeping.save_model(epoch, None)
        pl_module.finish_epoch()
        self._write(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the average of the best epochs."""
        assert isinstance(pl_module, CtcTraining)
        gathered(None)  # the first rank has written them
        if not self.keeping.average_best or not self.best_epochs.epochs():
            return
        pl_module.averaged.load_state_dict(self.best_epochs.average())
        pl_module.on_validation_epoch_start()
        with torch.inference_mode(), trainer.precision_plugin.forward_context():
            for batch in trainer.datamodule.val_dataloader():  # type: ignore[attr-defined]
                pl_module.validation_step(batch.to(pl_module.device), 0)
        pl_module.on_validation_epoch_end()
        rate = pl_module.scores.rate
        if rate <= self.best_rate:
            self.best_rate, self.best_epoch = rate, trainer.current_epoch
            if trainer.is_global_zero:
                self.keeping.save_model(trainer.current_epoch, rate)
