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

from asr.commands import decoders
from asr.commands.runs import read_finished, run_folder
from asr.config import Config
from asr.description import digest_of, pipeline_name, read_description
from asr.scoring.record import METRICS

# What reading a file comes to that is not there, torn, or of a version that wrote less into it.
UNREADABLE = (OSError, ValueError, TypeError, KeyError)


@dataclass(frozen=True)
class Figures:
    """What is known of a run; None where it is not.

    Rates are shares of words, characters or phones, infinite where errors stand over none.
    `epoch_s` is the median of training without validation; the peaks are those of
    `asr.commands.runs.Finished`.
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
    validation_per: float | None = None
    per: float | None = None
    per_low: float | None = None
    per_high: float | None = None


def read_training(config: Config) -> Figures:
    """Of the run; nothing where it is not finished, or where another model is to be scored."""
    folder = run_folder(config)
    finished = read_finished(folder)
    if config.bundle or finished is None:
        return Figures()
    epochs_s: list[float] = []
    with contextlib.suppress(*UNREADABLE), (folder / "metrics.csv").open(newline="") as stream:
        epochs_s = [float(line["train_s"]) for line in csv.DictReader(stream)]
    return Figures(
        parameters=finished.parameters,
        best_epoch=finished.best_epoch,
        epochs=finished.epochs,
        epoch_s=statistics.median(epochs_s) if epochs_s else None,
        peak_resident_bytes=finished.peak_resident_bytes,
        peak_cuda_bytes=finished.peak_cuda_bytes,
        **{f"validation_{finished.rate_name}": finished.best_wer},
    )


def add_evaluation(figures: Figures, config: Config, since_s: float = 0.0) -> Figures | None:
    """With what was found on the split; None where nothing was from `since_s` on.

    The evaluation is of the run's own model, or of the one that is to be scored, which may lie
    there under several digests: the newest counts.
    """
    folder = run_folder(config) / "eval"
    name = f"{config.split}-{decoders.label(config.decoder)}"
    files = [*folder.glob(f"{name}*/{METRICS}")] if config.bundle else [folder / name / METRICS]
    if config.bundle and config.decoder["name"] == decoders.OWN:
        now = _digits(config.bundle)  # it may have kept another one since
        files = [file for file in files if file.parent.name in (name, f"{name}-{now}")]
    found = [one for file in files if (one := _read(file)) and one.is_of(config)]
    newest = max(found, key=lambda one: one.date_s, default=None)
    if newest is None or newest.date_s < int(since_s):
        return None
    return replace(figures, **newest.rates)


def _digits(bundle: str) -> str:
    """How evaluations of a model that is not the run's own end; '' for a name of torchaudio's."""
    if pipeline_name(bundle) is not None:
        return ""
    return digest_of(read_description(Path(bundle)))[:8]


@dataclass(frozen=True)
class _Evaluation:
    """What a comparison shows of metrics.json, by `Figures`' names, and what that was asked for."""

    split: str
    decoder: dict[str, Any]
    model: Path
    date_s: float
    rates: dict[str, Any]

    def is_of(self, config: Config) -> bool:
        """Whether this was asked for: the split, the decoder with its settings, and the model."""
        asked = Path(config.bundle or run_folder(config) / "model").resolve()
        return (
            self.split == config.split
            and decoders.is_of(config, self.decoder)
            and (not config.bundle or self.model.resolve() == asked)
        )


def _read(file: Path) -> _Evaluation | None:
    """None where not all of this can be read."""
    try:
        metrics = json.loads(file.read_text(encoding="utf-8"))
        name = "per" if "per" in metrics else "wer"
        low, high = metrics[f"{name}_ci95"]
        rates = {name: metrics[name], f"{name}_low": low, f"{name}_high": high}
        if name == "wer":
            rates["cer"] = metrics["cer"]
        return _Evaluation(
            split=metrics["split"],
            decoder=metrics["stamp"]["decoder"],
            model=Path(metrics["model"]),
            date_s=datetime.fromisoformat(metrics["date"]).timestamp(),
            rates={key: _rate(rate) for key, rate in rates.items()},
        )
    except UNREADABLE:
        return None


def _rate(rate: float | None) -> float:
    """JSON has null for errors over no words at all."""
    return math.inf if rate is None else float(rate)
