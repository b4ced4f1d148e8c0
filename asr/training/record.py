"""What a run leaves to look at: metrics.csv, TensorBoard, curves.png."""

from __future__ import annotations

import csv
import io
import math
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
    """One line of metrics.csv. The rates are of validation, and nan where there is none.

    `rate` stands there as `wer`, or as `per` where phones are decoded; then `cer` is nan.
    """

    epoch: int
    steps: int
    loss: float
    rate: float
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
                rate=float(row.pop("wer") if "wer" in row else row.pop("per")),
                **{name: float(value) for name, value in row.items()},
            )
            for row in csv.DictReader(stream)
        ]


def write_records(path: Path, records: list[EpochRecord], rate_name: str = "wer") -> None:
    """The whole file, atomically: an epoch that is trained again takes its old line's place."""
    text = io.StringIO()
    writer = csv.writer(text)
    names = [field.name for field in fields(EpochRecord)]
    writer.writerow(rate_name if name == "rate" else name for name in names)
    for record in records:
        writer.writerow(
            f"{value:.6g}" if isinstance(value, float) else value for value in vars(record).values()
        )
    with write_atomically(path) as stream:
        stream.write(text.getvalue())


def draw_curves(path: Path, records: list[EpochRecord], rate_name: str = "wer") -> None:
    """Loss, validation error rate, learning rate and gradient norm against the epoch, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    epochs = [record.epoch for record in records]
    panels = [
        ("CTC loss per label, training", [record.loss for record in records], True),
        (
            f"{rate_name.upper()} on validation, %",
            [100 * record.rate for record in records],
            False,
        ),
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


@dataclass
class Sums:
    """What the steps of an epoch have come to so far."""

    steps: int = 0
    finite: int = 0  # of these, with a finite loss
    loss: float = 0.0
    norm: float = 0.0
    audio_s: float = 0.0
    train_s: float = 0.0
    validate_s: float = 0.0


class Record(pl.Callback):
    """Keeps metrics.csv and curves.png of a run, and tells the trainer's loggers the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: list[EpochRecord] = []
        self.drawn = float("-inf")
        self.sums = Sums()
        self.resumed: Sums | None = None
        self.begun = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """The sums of the epoch under way."""
        return {**vars(self.sums), "train_s": self._train_s()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The epoch goes on from there."""
        self.resumed = Sums(**state_dict)

    def _train_s(self) -> float:
        return self.sums.train_s + time.monotonic() - self.begun - self.sums.validate_s

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lines of epochs that will be trained again are dropped."""
        known = read_records(self.folder / "metrics.csv")
        self.records = [record for record in known if record.epoch <= trainer.current_epoch]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sums begin anew, but for those of a resumed epoch."""
        self.sums, self.resumed = self.resumed or Sums(), None
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
        step = pl_module.step
        if step is None:
            return
        self.sums.steps += 1
        self.sums.audio_s += step.audio_s
        if math.isfinite(step.loss) and math.isfinite(pl_module.grad_norm):
            self.sums.finite += 1
            self.sums.loss += step.loss
            self.sums.norm += pl_module.grad_norm
        if pl_module.position.steps % 10 == 0:
            figures = {
                "train/loss": step.loss,
                "train/learning_rate": pl_module.learning_rate,
                "train/grad_norm": pl_module.grad_norm,
            }
            _tell(trainer, figures, pl_module.position.steps)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training's clock stops."""
        self.validation_begun = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """And goes on."""
        self.sums.validate_s = time.monotonic() - self.validation_begun

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's line and draw the curves."""
        assert isinstance(pl_module, CtcTraining)
        validated, name = pl_module.scores.utterances > 0, pl_module.rate_name
        record = EpochRecord(
            epoch=trainer.current_epoch + 1,
            steps=pl_module.position.steps,
            loss=self.sums.loss / max(1, self.sums.finite),
            rate=pl_module.scores.rate if validated else float("nan"),
            cer=pl_module.scores.cer if validated and name == "wer" else float("nan"),
            learning_rate=pl_module.learning_rate,
            grad_norm=self.sums.norm / max(1, self.sums.finite),
            audio_s=self.sums.audio_s,
            train_s=self._train_s(),
            validate_s=self.sums.validate_s,
        )
        self.sums, self.begun = Sums(), time.monotonic()
        if not trainer.is_global_zero:
            return
        self.records.append(record)
        write_records(self.folder / "metrics.csv", self.records, name)
        if time.monotonic() - self.drawn > REDRAWN_S:
            self._draw(name)
        if validated:
            rates = {f"validation/{name}": record.rate, "validation/cer": record.cer}
            _tell(trainer, rates, pl_module.position.steps)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the last ones too, unless nothing was left to train."""
        assert isinstance(pl_module, CtcTraining)
        if self.records and trainer.is_global_zero:
            self._draw(pl_module.rate_name)

    def _draw(self, rate_name: str) -> None:
        draw_curves(self.folder / "curves.png", self.records, rate_name)
        self.drawn = time.monotonic()


def _tell(trainer: pl.Trainer, figures: dict[str, float], step: int) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(figures, step)
