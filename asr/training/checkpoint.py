"""Checkpoints at the end of every epoch, the best model so far, and an orderly stop."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch

from asr.files import write_atomically
from asr.training.module import CtcTraining

KEPT = 2
_NAME = re.compile(r"epoch-(\d+)\.ckpt")


class StoppedError(Exception):
    """The run was asked to stop by a signal, and did so at the end of a step."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number

    @property
    def status(self) -> int:
        """130 for an interrupt from the keyboard, 143 for a request to stop."""
        return 128 + self.signal_number


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, newest first."""
    numbered = [
        (int(match[1]), path)
        for path in folder.glob("*.ckpt")
        if (match := _NAME.fullmatch(path.name))
    ]
    return [path for _, path in sorted(numbered, reverse=True)]


def newest_readable(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that can be read; a torn one is passed over with a warning."""
    for path in checkpoints(folder):
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001 - whatever a torn file does to the reader
            warn(f"{path} cannot be read ({type(error).__name__}): passed over.")
        else:
            return path
    return None


class EpochCheckpoint(pl.Callback):
    """Writes a checkpoint after each epoch, and the model whenever validation is the best yet.

    Args:
        folder: of the checkpoints.
        save_model: writes the bundle; called with the epoch and the validation WER (None where
            there is no validation).
        validating: whether there is validation; else the model is written after the last epoch.
        patience: epochs without a better WER before training stops; 0: never.
    """

    def __init__(
        self,
        folder: Path,
        save_model: Callable[[int, float | None], None],
        validating: bool,
        patience: int,
    ) -> None:
        self.folder = folder
        self.save_model = save_model
        self.validating = validating
        self.patience = patience
        self.best_wer = float("inf")
        self.best_epoch = 0
        self.better_epoch = 0  # the last one that was better than all before it

    def state_dict(self) -> dict[str, Any]:
        """The best so far, and since when there was none better."""
        return {
            "best_wer": self.best_wer,
            "best_epoch": self.best_epoch,
            "better_epoch": self.better_epoch,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.best_wer = state_dict["best_wer"]
        self.best_epoch = state_dict["best_epoch"]
        self.better_epoch = state_dict["better_epoch"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that was killed just as its patience ended does not train another epoch."""
        trainer.should_stop = self._patience_has_ended(trainer.current_epoch)

    def _patience_has_ended(self, epoch: int) -> bool:
        return self.patience > 0 and epoch - self.better_epoch >= self.patience

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the model where it is the best yet; stop where it has not been for long."""
        assert isinstance(pl_module, CtcTraining)
        epoch, wer = trainer.current_epoch + 1, pl_module.scores.wer
        if wer < self.best_wer:
            self.better_epoch = epoch
        if wer <= self.best_wer:  # of equals the later, whose learning rate was lower
            self.best_wer, self.best_epoch = wer, epoch
            self.save_model(epoch, wer)
        if self._patience_has_ended(epoch):
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the checkpoint under its name once it is whole; drop the oldest."""
        epoch = trainer.current_epoch + 1
        if not self.validating and epoch == trainer.max_epochs:
            self.save_model(epoch, None)
        self.folder.mkdir(parents=True, exist_ok=True)
        content = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        with write_atomically(self.folder / f"epoch-{epoch:05d}.ckpt", "wb") as stream:
            torch.save(content, stream)
        for old in checkpoints(self.folder)[KEPT:]:
            old.unlink()


class StopOnSignal(pl.Callback):
    """On Ctrl-C or SIGTERM, end the step and raise `StoppedError`. The handler only sets a flag.

    A second signal of the same kind has its ordinary effect.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals over, from Lightning too, which has set its own just before."""
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, signal_number: int, frame: FrameType | None) -> None:
        self.received = signal_number
        default = signal.default_int_handler if signal_number == signal.SIGINT else signal.SIG_DFL
        signal.signal(signal_number, default)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Leave between two steps."""
        if self.received is not None:
            raise StoppedError(self.received)

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Leave between two batches of validation."""
        if self.received is not None:
            raise StoppedError(self.received)
