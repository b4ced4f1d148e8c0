"""What a run leaves to look at: metrics.csv, TensorBoard, curves.png."""

from __future__ import annotations

import csv
import io
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from asr.files import write_atomically
from asr.training.module import CtcTraining

# Drawing takes half a second, which short epochs should not pay every time.
REDRAWN_S = 120.0


@dataclass(frozen=True)
class EpochRecord:
    """One line of metrics.csv. The rates are of validation, and nan where there is none."""

    epoch: int
    steps: int
    loss: float
    wer: float
    cer: float
    learning_rate: float
    grad_norm: float
    audio_s: float
    train_s: float
    validate_s: float


def read_records(path: Path) -> list[EpochRecord]:
    """What metrics.csv holds."""
    if not path.is_file():
        return []
    with path.open(newline="") as stream:
        return [
            EpochRecord(
                int(row.pop("epoch")),
                int(row.pop("steps")),
                **{name: float(value) for name, value in row.items()},
            )
            for row in csv.DictReader(stream)
        ]


def write_records(path: Path, records: list[EpochRecord]) -> None:
    """The whole file, atomically: an epoch that is trained again takes its old line's place."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(field.name for field in fields(EpochRecord))
    for record in records:
        writer.writerow(
            f"{value:.6g}" if isinstance(value, float) else value for value in vars(record).values()
        )
    with write_atomically(path) as stream:
        stream.write(text.getvalue())


def draw_curves(path: Path, records: list[EpochRecord]) -> None:
    """Loss, validation WER, learning rate and gradient norm against the epoch, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    epochs = [record.epoch for record in records]
    panels = [
        ("CTC loss per label, training", [record.loss for record in records], True),
        ("WER on validation, %", [100 * record.wer for record in records], False),
        ("learning rate", [record.learning_rate for record in records], False),
        ("gradient norm, mean of the epoch", [record.grad_norm for record in records], True),
    ]
    for axes, (title, values, logarithmic) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        axes.plot(epochs, values, marker="." if len(epochs) < 30 else "", color="#2a6f97")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if logarithmic and any(value > 0 for value in values):
            axes.set_yscale("log")
        elif values and max(values) == max(values):
            axes.set_ylim(bottom=0)
    with write_atomically(path, "wb") as stream:
        figure.savefig(stream, format="png", dpi=110)


class Record(pl.Callback):
    """Keeps metrics.csv and curves.png of a run, and tells the trainer's loggers the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: list[EpochRecord] = []
        self.drawn = float("-inf")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lines of epochs that will be trained again are dropped."""
        known = read_records(self.folder / "metrics.csv")
        self.records = [record for record in known if record.epoch <= trainer.current_epoch]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sums begin anew."""
        self.loss = self.norm = self.audio_s = self.validate_s = 0.0
        self.steps = 0
        self.begun = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Add a step."""
        assert isinstance(pl_module, CtcTraining)
        self.steps += 1
        loss = float(outputs["ctc"])
        self.loss += loss
        self.norm += pl_module.grad_norm
        self.audio_s += batch.audio_s
        if trainer.global_step % 10 == 0 and trainer.logger is not None:
            figures = {
                "train/loss": loss,
                "train/learning_rate": pl_module.learning_rate,
                "train/grad_norm": pl_module.grad_norm,
            }
            trainer.logger.log_metrics(figures, trainer.global_step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training's clock stops."""
        self.validation_begun = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """And goes on."""
        self.validate_s = time.monotonic() - self.validation_begun

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's line and draw the curves."""
        assert isinstance(pl_module, CtcTraining)
        validated = pl_module.scores.utterances > 0
        record = EpochRecord(
            epoch=trainer.current_epoch + 1,
            steps=trainer.global_step,
            loss=self.loss / max(1, self.steps),
            wer=pl_module.scores.wer if validated else float("nan"),
            cer=pl_module.scores.cer if validated else float("nan"),
            learning_rate=pl_module.learning_rate,
            grad_norm=self.norm / max(1, self.steps),
            audio_s=self.audio_s,
            train_s=time.monotonic() - self.begun - self.validate_s,
            validate_s=self.validate_s,
        )
        self.records.append(record)
        write_records(self.folder / "metrics.csv", self.records)
        if time.monotonic() - self.drawn > REDRAWN_S:
            self._draw()
        if trainer.logger is not None and validated:
            rates = {"validation/wer": record.wer, "validation/cer": record.cer}
            trainer.logger.log_metrics(rates, trainer.global_step)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the last ones too, unless nothing was left to train."""
        if self.records:
            self._draw()

    def _draw(self) -> None:
        draw_curves(self.folder / "curves.png", self.records)
        self.drawn = time.monotonic()
