"""Where the time of a training epoch goes, and how much memory it takes.

    python tools/bench_training.py recipe=an4 trainer.threads=1

Takes the words that `asr train` takes, and a prepared corpus (`prepare.folder=`, else
`corpora/<recipe>`). It is `asr train` itself that runs, in a temporary folder, with a stopwatch
around the parts of a step: nothing is left out that a real run does. Augmentation is on from the
first epoch. With several epochs, the first, in which libraries set themselves up, is shown but does
not count.

Stages: loading (planning, reading, speed, padding), features (and what augments them), forward
(both losses included), backward, optimiser (clearing, clipping, step, average of the weights),
validation, saving (checkpoint and model), and the rest (Lightning, records, curves). The training
step is forward, backward and optimiser: at least 85 % of an epoch's wall time is what is aimed at.
The processor's time stands beside it: it is not lengthened by whatever else the machine does.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hardware import hardware
from rich.console import Console
from rich.table import Table

from asr.commands.compose import compose
from asr.commands.train import train
from asr.data.dataset import TrainingBatches
from asr.data.sampler import BatchPlan
from asr.errors import UserError
from asr.training.checkpoint import EpochCheckpoint
from asr.training.module import CtcTraining

STAGES = ("loading", "features", "forward", "backward", "optimiser", "validation", "saving", "rest")
STEP = ("forward", "backward", "optimiser")
AIM = 0.85

# Which calls belong to which stage; a stage within a stage counts for itself alone.
CALLS: tuple[tuple[type, str, str], ...] = (
    (BatchPlan, "batches", "loading"),
    (TrainingBatches, "batch", "loading"),
    (CtcTraining, "augmented_features", "features"),
    (CtcTraining, "training_step", "forward"),
    (CtcTraining, "backward", "backward"),
    (CtcTraining, "on_train_batch_start", "optimiser"),
    (CtcTraining, "optimizer_step", "optimiser"),
    (CtcTraining, "on_train_batch_end", "optimiser"),
    (EpochCheckpoint, "on_validation_epoch_end", "saving"),
    (EpochCheckpoint, "on_train_epoch_end", "saving"),
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
        self.steps = 0
        self._wall_s = dict.fromkeys(STAGES, 0.0)
        self._processor_s = dict.fromkeys(STAGES, 0.0)
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def _note(self) -> None:
        if torch.cuda.is_available():  # whose work goes on after a call has returned
            torch.cuda.synchronize()
        wall, processor = time.perf_counter(), time.process_time()
        stage = self._under_way[-1]
        self._wall_s[stage] += wall - self._wall
        self._processor_s[stage] += processor - self._processor
        self._wall, self._processor = wall, processor

    def enter(self, stage: str) -> None:
        self._note()
        self._under_way.append(stage)

    def leave(self) -> None:
        self._note()
        self._under_way.pop()

    def end_epoch(self) -> None:
        self._note()
        self.epochs.append(Epoch(self.steps, self._wall_s, self._processor_s, resident_mb()))
        self.begin_epoch()


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


@contextmanager
def watching(watch: Stopwatch) -> Iterator[None]:
    """Put the stopwatch around the calls, and take it away again."""

    class Watched(CtcTraining):
        """Says where an epoch and its validation begin and end."""

        def on_train_start(self) -> None:
            watch.begin_epoch()  # what came before does not count

        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            watch.steps += 1
            super().on_train_batch_end(*args, **kwargs)

        def on_validation_start(self) -> None:
            watch.enter("validation")

        def on_validation_end(self) -> None:
            watch.leave()

        def on_train_epoch_end(self) -> None:
            watch.end_epoch()

    import asr.training.module  # where `asr train` takes it from once it begins

    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in CALLS]
    for (owner, name, original), (_, _, stage) in zip(originals, CALLS, strict=True):
        setattr(owner, name, timed(original, stage, watch))
    asr.training.module.CtcTraining = Watched  # type: ignore[misc]
    try:
        yield
    finally:
        asr.training.module.CtcTraining = CtcTraining  # type: ignore[misc]
        for owner, name, original in originals:
            setattr(owner, name, original)


def profile(words: list[str], epochs: int) -> list[Epoch]:
    """Train for some epochs as the words say, and time them.

    Raises:
        UserError: what `asr train` raises.
    """
    config = compose(
        [
            *("augment.speed.start_epoch=1", "augment.warp.start_epoch=1"),
            *("augment.spec.start_epoch=1", "data.short_first=false"),
            *words,
            f"trainer.max_epochs={epochs}",
        ]
    )
    corpus = str(Path(config.prepare.folder).resolve())
    config = replace(config, name="bench", prepare=replace(config.prepare, folder=corpus))
    watch = Stopwatch()
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, watching(watch):
        os.chdir(folder)  # where the run's own folder goes
        try:
            train(config)
        finally:
            os.chdir(here)
    return watch.epochs


def share(times: list[dict[str, float]]) -> float:
    """The training step's share of the time of several epochs."""
    step_s = sum(epoch[stage] for epoch in times for stage in STEP)
    return step_s / sum(sum(epoch.values()) for epoch in times)


def print_table(epochs: list[Epoch], counted: list[Epoch]) -> None:
    wall = [epoch.wall_s for epoch in counted]
    processor = [epoch.processor_s for epoch in counted]
    table = Table(
        title=f"an epoch of {counted[0].steps} steps: the mean of {len(counted)}",
        title_justify="left",
    )
    table.add_column("stage")
    for column in ("wall s", "share", "processor s", "share"):
        table.add_column(column, justify="right")
    for stage in (*STAGES, "in all"):
        if stage == "in all":
            table.add_section()
        cells = []
        for times in (wall, processor):
            total = sum(sum(epoch.values()) for epoch in times)
            spent = total if stage == "in all" else sum(epoch[stage] for epoch in times)
            cells += [f"{spent / len(times):.2f}", f"{spent / total:.1%}"]
        table.add_row(stage, *cells)
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"training step: {share(wall):.1%} of the wall time (at least {AIM:.0%} is wanted), "
        f"{share(processor):.1%} of the processor's"
    )
    resident = ", ".join(f"{epoch.resident_mb:.0f}" for epoch in epochs)
    console.print(f"resident after each epoch: {resident} MB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="as `asr train` takes them")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_intermixed_args()
    words = options.words or ["recipe=an4"]
    epochs = profile(words, options.epochs)
    counted = epochs[1:] or epochs
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.json:
        result = {
            "hardware": hardware(device),
            "settings": words,
            "step_share": share([epoch.wall_s for epoch in counted]),
            "step_share_of_processor": share([epoch.processor_s for epoch in counted]),
            "epochs": [asdict(epoch) for epoch in epochs],
        }
        print(json.dumps(result))
        return 0
    print_table(epochs, counted)
    print(hardware(device))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"bench_training: {error}")
