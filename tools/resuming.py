"""How long a killed training takes until it trains again, early and late in a long epoch.

The corpus is made up, and the run checks and plans it like any other. Its checkpoints are its own:
it takes a step, is told that this was the last one before the position, takes that, and is asked to
stop. Each start is a process of its own, from the beginning to the moment in which the first step
begins: its batch has been found, read and padded by then.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from made_up import in_place_of_a_corpus
from trainings import settings, temporary_folder

import asr.commands.training_module
import asr.training.fit
from asr.commands.train import train
from asr.data.dataset import Share
from asr.errors import UserError
from asr.training.module import CtcTraining

SYMBOLS, LABELS_PER_S = 27, 1.0
SMALL = ("model.hidden=64", "model.layers=1", "model.channels=8", "inner_ctc.layer=1")
SAVED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Start:
    """Seconds of a process until the first step, at a position of the epoch.

    `corpus_s` is the check of all utterances and what else comes before the checkpoint; `resume_s`
    what comes from it on: reading it, planning the epoch, finding and reading the batch.
    """

    position: int
    imports_s: float
    corpus_s: float
    resume_s: float

    @property
    def after_imports_s(self) -> float:
        """What the run itself takes."""
        return self.corpus_s + self.resume_s


def measure(
    words: Sequence[str], utterances: int, positions: Sequence[int], turns: int
) -> list[Start]:
    """The median start at each position; they take turns.

    Raises:
        UserError: what `asr train` says, or the epoch has no such batch.
    """
    starts: dict[int, list[Start]] = {position: [] for position in positions}
    with temporary_folder() as folder:
        for position in starts:
            (folder / str(position)).mkdir()
            child(folder / str(position), words, utterances, position)
        for _ in range(turns):
            for position, found in starts.items():
                told = json.loads(child(folder / str(position), words, utterances))
                found.append(Start(**told))
    return [median(found) for found in starts.values()]


def median(starts: Sequence[Start]) -> Start:
    """Of each of the times."""

    def middle(name: str) -> float:
        return statistics.median(getattr(start, name) for start in starts)

    times = {name: middle(name) for name in ("imports_s", "corpus_s", "resume_s")}
    return Start(starts[0].position, **times)


def child(folder: Path, words: Sequence[str], utterances: int, saved_at: int = 0) -> str:
    """What a process of its own says, in that folder; it ends with a checkpoint at a position.

    Or, with 0, when its first step begins: and has then told its times.
    """
    order = {"words": [*SMALL, *words], "utterances": utterances, "saved_at": saved_at}
    done = subprocess.run(
        [sys.executable, __file__, json.dumps({**order, "began": time.time()})],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != (SAVED if saved_at else 0):
        raise UserError(f"asr train: {done.stderr.strip()}")
    return done.stdout


def main(order: dict[str, Any]) -> int:
    """The process: train on the made-up corpus until it is enough."""
    imported = time.time()
    fitting = imported
    fit = asr.training.fit.fit

    def told(*args: Any, **kwargs: Any) -> Any:
        nonlocal fitting
        fitting = time.time()
        return fit(*args, **kwargs)

    class Stopping(CtcTraining):
        """Does no step too many."""

        def training_step(self, share: Share, batch_idx: int) -> None:
            if not share.micro_batches:
                raise UserError(f"the epoch has {self.batches} batches only")
            if not order["saved_at"]:
                start = Start(
                    position=self.position.batch,
                    imports_s=imported - order["began"],
                    corpus_s=fitting - imported,
                    resume_s=time.time() - fitting,
                )
                print(json.dumps(asdict(start)), flush=True)
                os._exit(0)
            if self.position.steps == 1:
                self.position.batch = self.position.steps = order["saved_at"] - 1
                os.kill(os.getpid(), signal.SIGTERM)
            super().training_step(share, batch_idx)

    config = settings(["recipe=custom", "trainer.max_epochs=1", *order["words"]])
    with (
        in_place_of_a_corpus(order["utterances"], SYMBOLS, LABELS_PER_S),
        patch.object(asr.commands.training_module, "CtcTraining", Stopping),
        patch.object(asr.training.fit, "fit", told),
    ):
        return train(config)


if __name__ == "__main__":
    try:
        sys.exit(main(json.loads(sys.argv[1])))
    except UserError as error:
        sys.exit(str(error))
