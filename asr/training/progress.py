"""One progress bar for a whole run, silent where there is no terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from asr.training.module import CtcTraining


class RunProgress(pl.Callback):
    """Epoch, loss, WER so far, steps a second, hours of audio an hour, time left: on stderr.

    Args:
        say: what takes one line an epoch, for the log.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[measure]}  {task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        self.total = trainer.max_epochs or 1
        assert isinstance(pl_module, CtcTraining)
        self.measure = f"{pl_module.rate_name.upper()} –"
        self.rate = ""
        self.task = self.progress.add_task(
            "train", total=self.total, completed=trainer.current_epoch, **self._fields(trainer)
        )
        self.progress.start()

    def _fields(self, trainer: pl.Trainer, loss: float | None = None) -> dict[str, Any]:
        return {
            "epoch": f"{min(trainer.current_epoch + 1, self.total)}/{self.total}",
            "loss": "–" if loss is None else f"{loss:.3f}",
            "measure": self.measure,
            "rate": self.rate,
        }

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The mean begins anew."""
        self.loss, self.steps, self.taken, self.audio_s = 0.0, 0, 0, 0.0
        self.begun = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        step = pl_module.step
        if step is None:
            return
        if math.isfinite(step.loss):
            self.loss += step.loss
            self.steps += 1
        self.audio_s += step.audio_s
        self.taken += 1
        elapsed_s = time.monotonic() - self.begun
        rate = self.audio_s / elapsed_s
        self.rate = f"{self.taken / elapsed_s:.1f} steps/s, {rate:.0f} h of audio an hour"
        done = trainer.current_epoch + pl_module.position.batch / pl_module.batches
        fields = self._fields(trainer, self.loss / max(1, self.steps))
        self.progress.update(self.task, completed=done, **fields)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the newest error rate."""
        assert isinstance(pl_module, CtcTraining)
        self.measure = f"{pl_module.rate_name.upper()} {100 * pl_module.scores.rate:.1f} %"

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say how the epoch went."""
        elapsed_s = time.monotonic() - self.begun
        rate = f"{self.audio_s / elapsed_s:.0f} h of audio an hour"
        loss = f"{self.loss / self.steps:.3f}" if self.steps else "–"  # taken before a stop
        line = f"epoch {trainer.current_epoch + 1}/{self.total}: loss {loss}"
        self.say(f"{line}, {self.measure}, {elapsed_s:.1f} s, {rate}")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the bar away."""
        self.progress.stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Take the bar away."""
        self.progress.stop()
