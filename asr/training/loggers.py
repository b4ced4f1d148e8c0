"""Where figures go while a run trains, besides metrics.csv: Lightning's loggers, by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import loggers
from lightning.pytorch.loggers import Logger

from asr.errors import UserError


def make_loggers(names: Sequence[str], folder: Path) -> list[Logger]:
    """The loggers of a run. What they write to a disk is in its folder.

    `tensorboard` is there; the others are packages of their own, and most need an account.

    Raises:
        UserError: one is not installed.
    """
    run, recipe, own = folder.name, folder.parent.name, str(folder)
    known: dict[str, tuple[str, dict[str, Any]]] = {
        "tensorboard": ("TensorBoardLogger", {"save_dir": f"{own}/tensorboard"}),
        "csv": ("CSVLogger", {"save_dir": f"{own}/csv"}),
        "wandb": ("WandbLogger", {"save_dir": own, "project": recipe, "name": run}),
        "mlflow": (
            "MLFlowLogger",
            {"experiment_name": recipe, "run_name": run, "save_dir": f"{own}/mlflow"},
        ),
        "comet": ("CometLogger", {"project": recipe, "name": run}),
    }
    made = []
    for name in names:
        kind, arguments = known[name]
        if name == "tensorboard":
            arguments |= {"name": "", "version": ""}
        if name == "csv":  # a version for each start: it deletes what lies in an old one
            arguments |= {"name": ""}
        try:
            made.append(getattr(loggers, kind)(**arguments))
        except ModuleNotFoundError as error:
            raise UserError(
                f"trainer.loggers: {name} needs a package that is not installed"
                f" ({str(error).splitlines()[0]}): install that, or leave it out."
            ) from None
    return made
