"""A training's time by the part of a step that it goes into."""

from __future__ import annotations

import functools
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from trainings import train_here

from asr.config import Config
from asr.data.dataset import Share
from asr.training.datamodule import CorpusBatches, TrainingShares
from asr.training.keeper import Keeper
from asr.training.module import CtcTraining

STAGES = ("loading", "features", "forward", "backward", "optimiser", "validation", "saving", "rest")
STEP = ("forward", "backward", "optimiser")

# Which calls belong to which stage; a stage within a stage counts for itself alone.
CALLS: tuple[tuple[type, str, str], ...] = (
    (CorpusBatches, "train_dataloader", "loading"),
    (CtcTraining, "augmented_features", "features"),
    (CtcTraining, "training_step", "forward"),
    (CtcTraining, "manual_backward", "backward"),
    (CtcTraining, "_prepare", "optimiser"),
    (CtcTraining, "_step", "optimiser"),
    (Keeper, "on_train_batch_end", "saving"),
    (Keeper, "on_validation_end", "saving"),
    (Keeper, "on_train_epoch_end", "saving"),
)


@dataclass(frozen=True)
class Epoch:
    """An epoch's wall time and the processor's, by stage (`rest` too); memory at its end."""

    steps: int
    wall_s: dict[str, float]
    processor_s: dict[str, float]
    resident_mb: float


class Stopwatch:
    """Tells every moment of a run to the innermost stage that is under way."""

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []
        self._under_way = ["rest"]
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Start at zero; what has passed since the last moment told belongs to no epoch."""
        self.steps = 0
        self._wall_s = dict.fromkeys(STAGES, 0.0)
        self._processor_s = dict.fromkeys(STAGES, 0.0)
        self._processor_time = processor_clock()
        self._wall, self._processor = time.perf_counter(), self._processor_time()

    def _note(self) -> None:
        if torch.cuda.is_available():  # whose work goes on after a call has returned
            torch.cuda.synchronize()
        wall, processor = time.perf_counter(), self._processor_time()
        stage = self._under_way[-1]
        self._wall_s[stage] += wall - self._wall
        self._processor_s[stage] += processor - self._processor
        self._wall, self._processor = wall, processor

    def enter(self, stage: str) -> None:
        """A stage begins within the one that is under way."""
        self._note()
        self._under_way.append(stage)

    def leave(self) -> None:
        """The innermost stage ends, and the one around it goes on."""
        self._note()
        self._under_way.pop()

    def end_epoch(self) -> None:
        """Keep the epoch, and begin the next."""
        self._note()
        self.epochs.append(Epoch(self.steps, self._wall_s, self._processor_s, resident_mb()))
        self.begin_epoch()


def processor_clock() -> Callable[[], float]:
    """The processor's time of the thread that trains; of all threads, where torch has several.

    (Then that of the thread that reads ahead is in it.)
    """
    return time.thread_time if torch.get_num_threads() == 1 else time.process_time


def resident_mb() -> float:
    """The process's resident memory; where the system does not tell, the most it ever was."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def timed(call: Callable[..., Any], stage: str, watch: Stopwatch) -> Callable[..., Any]:
    """The same call, with its time told to a stage."""

    @functools.wraps(call)
    def told(*args: Any, **kwargs: Any) -> Any:
        watch.enter(stage)
        try:
            return call(*args, **kwargs)
        finally:
            watch.leave()

    return told


def waited(
    shares_of: Callable[[TrainingShares], Iterator[Share]], watch: Stopwatch
) -> Callable[[TrainingShares], Iterator[Share]]:
    """The same shares, with the time until each is there told to loading."""

    def told(epoch: TrainingShares) -> Iterator[Share]:
        shares = shares_of(epoch)
        following = timed(functools.partial(next, shares, None), "loading", watch)
        while (share := following()) is not None:
            yield share

    return told


def profile(config: Config) -> list[Epoch]:
    """Train as the settings say, and time each epoch.

    Raises:
        UserError: what `asr train` raises.
    """
    watch = Stopwatch()

    class Watched(CtcTraining):
        """Says where an epoch and its validation begin and end."""

        def on_train_start(self) -> None:
            watch.begin_epoch()  # what came before does not count

        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            watch.steps += 1

        def on_validation_start(self) -> None:
            watch.enter("validation")

        def on_validation_end(self) -> None:
            watch.leave()

        def on_train_epoch_end(self) -> None:
            watch.end_epoch()

    with ExitStack() as patches:
        for owner, name, stage in CALLS:
            told = timed(getattr(owner, name), stage, watch)
            patches.enter_context(patch.object(owner, name, told))
        shares = waited(TrainingShares.__iter__, watch)
        patches.enter_context(patch.object(TrainingShares, "__iter__", shares))
        train_here(config, Watched)
    return watch.epochs


def share(times: list[dict[str, float]]) -> float:
    """The training step's share of the time of several epochs."""
    step_s = sum(epoch[stage] for epoch in times for stage in STEP)
    return step_s / sum(sum(epoch.values()) for epoch in times)
