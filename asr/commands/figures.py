"""What a run took and what it reached, read from what it left."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import statistics
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from asr.commands.runs import read_finished, run_folder
from asr.config import Config
from asr.scoring.record import METRICS


@dataclass(frozen=True)
class Figures:
    """What is known of a run; None where it is not.

    Rates are shares of words or characters, infinite where errors stand over none. `epoch_s` is the
    median of training without validation; the peaks are those of `asr.commands.runs.Finished`.
    """

    parameters: int | None = None
    best_epoch: int | None = None
    epochs: int | None = None
    epoch_s: float | None = None
    peak_resident_bytes: int | None = None
    peak_cuda_bytes: int | None = None
    validation_wer: float | None = None
    wer: float | None = None
    wer_low: float | None = None
    wer_high: float | None = None
    cer: float | None = None


def read_training(config: Config) -> Figures:
    """Of the run; nothing where it is not finished, or where another model is to be scored."""
    folder = run_folder(config)
    finished = read_finished(folder)
    if config.bundle or finished is None:
        return Figures()
    epochs_s: list[float] = []
    with contextlib.suppress(OSError), (folder / "metrics.csv").open(newline="") as stream:
        epochs_s = [float(line["train_s"]) for line in csv.DictReader(stream)]
    return Figures(
        parameters=finished.parameters,
        best_epoch=finished.best_epoch,
        epochs=finished.epochs,
        epoch_s=statistics.median(epochs_s) if epochs_s else None,
        peak_resident_bytes=finished.peak_resident_bytes,
        peak_cuda_bytes=finished.peak_cuda_bytes,
        validation_wer=finished.best_wer,
    )


def add_evaluation(figures: Figures, config: Config, since_s: float = 0.0) -> Figures | None:
    """With what was found on the split; None where nothing was from `since_s` on.

    The evaluation is of the run's own model, or of the one that is to be scored, which may lie
    there under several digests: the newest counts.
    """
    folder = run_folder(config) / "eval"
    name = f"{config.split}-{config.decoder['name']}"
    files = folder.glob(f"{name}*/{METRICS}") if config.bundle else [folder / name / METRICS]
    found = [metrics for file in files if (metrics := _read(file)) and _is_of(metrics, config)]
    newest = max(found, key=_date_s, default=None)
    if newest is None or _date_s(newest) < int(since_s):
        return None
    low, high = newest["wer_ci95"]
    return replace(
        figures,
        wer=_rate(newest["wer"]),
        wer_low=_rate(low),
        wer_high=_rate(high),
        cer=_rate(newest["cer"]),
    )


def _read(file: Path) -> dict[str, Any] | None:
    try:
        metrics = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # `asr evaluate` would not take it for an evaluation either
        return None
    return metrics if isinstance(metrics, dict) else None


def _is_of(metrics: dict[str, Any], config: Config) -> bool:
    """Whether this was asked for: the split, the decoder with its settings, and the model."""
    asked = Path(config.bundle or run_folder(config) / "model").resolve()
    return (
        metrics["split"] == config.split
        and metrics["stamp"]["decoder"] == config.decoder
        and (not config.bundle or Path(metrics["model"]).resolve() == asked)
    )


def _date_s(metrics: dict[str, Any]) -> float:
    return datetime.fromisoformat(metrics["date"]).timestamp()


def _rate(rate: float | None) -> float:
    """JSON has null for errors over no words at all."""
    return math.inf if rate is None else rate
