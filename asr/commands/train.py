"""`asr train`: a prepared corpus to a model."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.commands.compose import to_yaml
from asr.commands.devices import choose_device
from asr.commands.ranks import LOST
from asr.commands.runs import (
    Finished,
    check_owner,
    claim,
    occupied,
    read_finished,
    run_folder,
    write_finished,
)
from asr.config import Config
from asr.errors import UserError
from asr.files import explain_write_errors

if TYPE_CHECKING:
    from asr.bundle import Bundle
    from asr.commands.preflight import Preflight
    from asr.commands.training_data import TrainingData
    from asr.training.fit import FitSettings
    from asr.training.module import CtcTraining
    from asr.training.place import Place

# What lies where in the folder of a run.
SUMMARY = {
    "model": "model",
    "curves.png": "curves",
    "metrics.csv": "figures",
    "log.txt": "log",
    "checkpoints": "checkpoints",
}


def train(config: Config) -> int:
    """Train, or go on with, the run that the settings describe.

    Returns:
        0; 128 and its number where a signal stopped it, as 130 and 143; 1 where another process of
        the same run was lost.

    Raises:
        UserError: the corpus is not prepared, the name is taken, the settings do not fit.
    """
    # For torch, when it is loaded: it warns of hosts whose names it cannot find.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from asr.corpus import Corpus

    corpus = Corpus.open(Path(config.prepare.folder))
    folder = run_folder(config)
    max_epochs = epochs_of(config)
    if config.preflight != "only":
        check_owner(folder, config, corpus.fingerprint)
        finished = read_finished(folder)
        if finished is not None and max_epochs <= finished.max_epochs:
            print(f"train: {folder} is finished ({_outcome(finished)})", file=sys.stderr)
            return 0
    check_settings(config)
    place = _place(config)
    if place is None and config.cluster.name == "ray":
        from asr.commands.remote import launch_on_ray

        return launch_on_ray(config)
    if place is None:
        from asr.commands.launch import launch

        return launch(config)

    import torch

    from asr.commands.initial import initial_bundle
    from asr.commands.preflight import Preflight
    from asr.commands.training_data import gather
    from asr.commands.training_module import build

    cores = max(1, (os.cpu_count() or 1) // place.local)
    torch.set_num_threads(config.trainer.threads or cores)
    initial = initial_bundle(config)
    data = gather(config, corpus, initial)
    if place.rank == 0 and config.preflight != "only":
        print(f"train: {data}", file=sys.stderr, flush=True)
    module, bundle = build(config, data, corpus.normaliser, max_epochs, initial)
    preflight = Preflight(config, data, module, folder, place)
    if config.preflight == "only":
        return preflight.report()
    preflight.check()
    # Only now, so that settings that do not fit leave the name free.
    if place.rank == 0:
        claim(folder, config, corpus.fingerprint)
    with occupied(folder) if place.rank == 0 else contextlib.nullcontext():
        return _fit(config, data, module, bundle, initial, corpus.fingerprint, place, preflight)


def _place(config: Config) -> Place | None:
    """Which process this is; None where this one has to start the others.

    Raises:
        UserError: as many processes as the settings ask for have not been started.
    """
    from asr.training.place import Place, place

    devices, nodes = config.trainer.devices, config.trainer.nodes
    on_ray = config.cluster.name == "ray"
    if config.preflight == "only" or (devices * nodes == 1 and not on_ray):
        return Place()
    found = place()
    if found is None and nodes > 1 and not on_ray:
        raise UserError(
            f"trainer.nodes={nodes}: start one process for each device of each machine, with"
            " torchrun or srun, or use cluster=ray (docs/distributed.md)."
        )
    if found is not None and found.world != devices * nodes:
        raise UserError(
            f"{found.world} processes have been started, and trainer.devices={devices} times"
            f" trainer.nodes={nodes} are {devices * nodes}."
        )
    return found


def check_settings(config: Config) -> None:
    """Find what no corpus would mend, before one is prepared or read.

    Raises:
        UserError: the device is not there, the run `base` is needed and not finished, or no network
            can be made of the sizes.
    """
    epochs_of(config)
    if config.optim.schedule == "plateau" and "validation" in config.data.train_splits:
        raise UserError(
            "optim.schedule=plateau needs validation, and data=all trains on it: "
            "choose one_cycle, cosine or constant."
        )
    if config.cluster.name != "ray" or _place(config):  # else other machines may have it
        choose_device(config.trainer.accelerator, config.trainer.devices)
    from asr.commands.network import check_sizes

    check_sizes(config)


def epochs_of(config: Config) -> int:
    """The epochs to train: those asked for, or, with validation in the training data, base's.

    Raises:
        UserError: the run `base` is needed and not finished.
    """
    if "validation" not in config.data.train_splits:
        return config.trainer.max_epochs
    base = read_finished(run_folder(config, "base"))
    if base is None:
        raise UserError(
            f"data=all trains for as many epochs as the run base did, and "
            f"{run_folder(config, 'base')} is not finished: train it first "
            f"(asr train recipe={config.recipe.name})."
        )
    return base.epochs


def _outcome(finished: Finished) -> str:
    if finished.best_wer is None:
        return f"{finished.epochs} epochs, no validation"
    measure = finished.rate_name.upper()
    best = f"validation {measure} {100 * finished.best_wer:.1f} % in epoch {finished.best_epoch}"
    return f"{finished.epochs} epochs, best {best}"


def _fit(
    config: Config,
    data: TrainingData,
    module: CtcTraining,
    bundle: Bundle,
    initial: Bundle | None,
    corpus: str,
    place: Place,
    preflight: Preflight,
) -> int:
    from asr.commands.initial import lineage
    from asr.training.fit import fit
    from asr.training.keeper import Keeping
    from asr.training.preflight import write_excluded
    from asr.training.signals import StoppedError

    folder, trainer = run_folder(config), config.trainer
    origin = {"command": shlex.join(["asr", *sys.argv[1:]]), **versions(), "data": str(data)}

    def save_model(epoch: int, wer: float | None) -> None:
        bundle.trained = _provenance(config, data, corpus, epoch, wer)
        if initial is not None:
            bundle.trained["init"] = lineage(initial.trained)
        bundle.save(folder / "model")

    settings = _fit_settings(config, module.max_epochs, preflight.precision, place)
    # A run that ends before its first validation keeps its last epoch, as one without.
    validation = data.validation if trainer.validate_every <= module.max_epochs else None
    validating = validation is not None
    keeping = Keeping(
        save_model=save_model,
        validating=validating,
        patience=trainer.patience if validating else 0,
        every_steps=trainer.checkpoint_steps,
        every_minutes=trainer.checkpoint_minutes,
        average_best=config.optim.average_best if validating else 0,
    )
    with _logs(folder / "log.txt") if place.rank == 0 else _no_logs() as (log, file_log):
        for name, value in origin.items():
            file_log.info("%s: %s", name, value)
        file_log.info("settings:\n%s", to_yaml(config))
        for line in preflight.lines:
            log.info(line)
        if place.rank == 0:
            write_excluded(folder / "excluded.jsonl", data.excluded)
        # On a terminal the progress bar shows what each epoch's line says.
        log_epoch = (file_log if sys.stderr.isatty() else log).info
        try:
            outcome = fit(
                module, data.batches, validation, folder, settings, keeping, log, log_epoch
            )
        except StoppedError as stop:
            log.info("train: stopped by %s and saved; the same command goes on from here", stop)
            return stop.status
        except RuntimeError as error:
            if place.world == 1 or not _lost(error):
                raise
            file_log.error("train: %s", error)
            again = "; the same command goes on from the last checkpoint"
            begun_again = config.cluster.name == "ray"  # without being asked
            log.error("asr: lost another process of this run%s", "" if begun_again else again)
            return LOST
        if place.rank == 0:
            finished = Finished(
                max_epochs=module.max_epochs, **vars(outcome), rate_name=module.rate_name
            )
            write_finished(folder, finished)
            log.info("train: %s is finished (%s)", folder, _outcome(finished))
            for name, what in SUMMARY.items():
                log.info("  %-12s %s", what, folder / name)
    return 0


def _fit_settings(config: Config, max_epochs: int, precision: str, place: Place) -> FitSettings:
    from asr.training.fit import FitSettings

    trainer = config.trainer
    return FitSettings(
        max_epochs=max_epochs,
        validate_every=trainer.validate_every,
        devices=trainer.devices,
        nodes=trainer.nodes,
        accelerator=trainer.accelerator,
        precision=precision,
        timeout_s=trainer.timeout_s,
        max_skipped=trainer.max_skipped,
        loggers=tuple(trainer.loggers),
        several=place.world > 1,
    )


def _lost(error: RuntimeError) -> bool:
    """Whether an error says that another process cannot be reached any more."""
    from torch import distributed

    kinds = (distributed.DistBackendError, distributed.DistNetworkError, distributed.DistStoreError)
    return isinstance(error, kinds) or "gloo" in str(error) or "NCCL" in str(error)


@contextlib.contextmanager
def _no_logs() -> Iterator[tuple[logging.Logger, logging.Logger]]:
    """For the processes that are not the first, which says what all would say, but for errors."""
    log = logging.Logger("asr.train.other", logging.ERROR)
    log.addHandler(logging.StreamHandler(sys.stderr))
    yield log, logging.Logger("asr.train.none", logging.CRITICAL)


@contextlib.contextmanager
def _logs(path: Path) -> Iterator[tuple[logging.Logger, logging.Logger]]:
    """A log for the screen and a file, and one for the file alone."""
    with explain_write_errors(path):
        handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    file_log = logging.Logger("asr.train.file", logging.INFO)
    file_log.addHandler(handler)
    log = logging.Logger("asr.train", logging.INFO)
    log.addHandler(logging.StreamHandler(sys.stderr))
    log.parent = file_log
    try:
        yield log, file_log
    finally:
        handler.close()


def _provenance(
    config: Config, data: TrainingData, corpus: str, epoch: int, wer: float | None
) -> dict[str, Any]:
    return {
        "recipe": config.recipe.name,
        "run": config.name,
        "corpus": corpus,
        "splits": list(config.data.train_splits),
        "hours": round(data.hours, 3),
        "utterances": data.utterances,
        "epochs": epoch,
        f"validation_{data.units.rate_name}": None if wer is None else round(wer, 6),
        "seed": config.seed,
        "command": shlex.join(["asr", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """What computed: asr with its commit where known, python, torch, and the machine's kind."""
    import torch

    import asr

    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(asr.__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    commit = f" ({described.stdout.strip()})" if described.returncode == 0 else ""
    return {
        "asr": asr.__version__ + commit,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
