"""What is checked before the first step; `preflight=only` tells of it and trains nothing."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from asr.commands.devices import choose_device
from asr.commands.training_data import TrainingData
from asr.config import Config
from asr.errors import UserError
from asr.training.capacity import check_memory, find_device_batch_s, rehearsal, usable_precision
from asr.training.checkpoint import checkpoints, epochs_done
from asr.training.headroom import available_bytes, bytes_to_keep, check_disk, memory_limit
from asr.training.largest import largest_micro_batches
from asr.training.module import CtcTraining
from asr.training.place import Place
from asr.training.preflight import Unknown

LISTED = 5  # symbols in a line


class Preflight:
    """The checks of a run, each of which says in a few words what it has found.

    Some find what the training goes by: `precision`, and `device_batch_s` of the data's batches.
    `lines` are for the screen and the log: what stops nothing, and should be known.
    """

    def __init__(
        self, config: Config, data: TrainingData, module: CtcTraining, folder: Path, place: Place
    ) -> None:
        self.config = config
        self.data = data
        self.module = module
        self.folder = folder
        self.place = place
        self.device = _device(config, place)
        self.precision = config.trainer.precision
        self.lines: list[str] = []
        self._checks: dict[str, Callable[[], str]] = {
            "data": lambda: str(data),
            "units": self._units,
            "duplicates": self._duplicates,
            "disk": self._disk,
            "precision": self._precision,
            "memory": self._memory,
        }

    def check(self) -> None:
        """Go through all of them.

        Raises:
            UserError: one found what the run would end of; of the first.
        """
        for check in self._checks.values():
            check()

    def report(self) -> int:
        """Go through all of them, print what each has found, and give the exit status."""
        status, begun = 0, time.monotonic()
        for name, check in self._checks.items():
            try:
                found = check()
            except UserError as error:
                status, found = 2, f"FAILED: {error}"
            print(f"{name:<11}{found}", flush=True)
        print(f"{'took':<11}{time.monotonic() - begun:.1f} s; nothing is trained or written")
        for line in self.lines:
            print(line, file=sys.stderr)
        return status

    def _units(self) -> str:
        unknown = self.data.unknown
        for split, symbols in unknown.items():
            trained = split in self.config.data.train_splits
            end = "those utterances are left out" if trained else "the model cannot write it"
            self.lines.append(f"train: no unit spells {_listed(symbols)} in {split}: {end}")
        kinds = {one.symbol for symbols in unknown.values() for one in symbols}
        return (
            f"{len(kinds)} unknown in {', '.join(unknown)}"
            if kinds
            else "they spell all texts of all splits"
        )

    def _duplicates(self) -> str:
        for one in self.data.shared:
            here, there = one.ids
            self.lines.append(
                f"train: {one.count} training utterances have the same {one.by} as one of"
                f" {one.split} ({here} and {there}, for example): they stay, and scores on"
                f" {one.split} flatter"
            )
        found = [f"{one.count} with the {one.by} of one of {one.split}" for one in self.data.shared]
        return ", ".join(found) or "no training utterance is in another split"

    def _disk(self) -> str:
        needed = bytes_to_keep(self.module, self.config.optim.average_best)
        free = check_disk(self.folder, needed)
        return f"{needed / 1e6:,.0f} MB for checkpoints and model; {free / 1e6:,.0f} MB are free"

    def _precision(self) -> str:
        with self._rehearsal():
            self.precision, line = usable_precision(self.module, self.device, self.precision)
        if line is not None:
            self.lines.append(f"train: {line}")
        return f"{self.precision} on {self.device}"

    def _memory(self) -> str:
        begun = time.monotonic()
        batches, trainer = self.data.batches, self.config.trainer
        done = max(
            (epochs_done(path) for path in checkpoints(self.folder / "checkpoints")), default=0
        )
        last = self.module.max_epochs
        largest = partial(
            largest_micro_batches,
            batches,
            range(min(done + 1, last), last + 1),
            self.place.rank,
            trainer.devices * trainer.nodes,
        )
        found = largest()
        with self._rehearsal():
            if self.config.data.device_batch_s == "auto" and self.device.type == "cuda":
                batches.device_batch_s = find_device_batch_s(
                    self.module, batches, found[0], self.precision
                )
                found = largest()
                self.lines.append(_told(batches.device_batch_s, self.device))
            for each in found:
                check_memory(self.module, batches, each, self.precision)
        return (
            f"there is enough for {found[0].padded_s:.1f} s of audio at once, and for an utterance"
            f" of {found[-1].longest_s:.1f} s ({time.monotonic() - begun:.1f} s)"
        )

    @contextlib.contextmanager
    def _rehearsal(self) -> Iterator[None]:
        """In which what the machine has no memory for is an error, and not the process's end."""
        on_cpu = self.device.type == "cpu"
        available = available_bytes() if on_cpu else None
        mine = None if available is None else available // self.config.trainer.devices
        with memory_limit(mine), rehearsal(self.module, self.device):
            yield


def _told(device_batch_s: float | None, device: torch.device) -> str:
    found = "all of its share" if device_batch_s is None else f"{device_batch_s:.0f} s"
    return f"train: data.device_batch_s=auto: {device} takes {found} at once"


def _listed(unknown: Sequence[Unknown]) -> str:
    """'é' (3 times, in u17), 'ß' (2 times, in u20) and 4 more."""
    named = [f"{one.symbol!r} ({one.count} times, as in {one.id})" for one in unknown[:LISTED]]
    more = len(unknown) - LISTED
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def _device(config: Config, place: Place) -> torch.device:
    """Where this process will train."""
    kind = choose_device(config.trainer.accelerator, config.trainer.devices)
    if kind == "cpu":
        return torch.device("cpu")
    names = ("LOCAL_RANK", "SLURM_LOCALID") if place.world > 1 else ()
    local = next((int(os.environ[name]) for name in names if name in os.environ), 0)
    return torch.device(kind, local % torch.cuda.device_count())
