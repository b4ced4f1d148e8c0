"""Steps whose loss or gradient is not finite: named, counted, and too many of them the end."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from asr.data.dataset import Share
from asr.errors import UserError
from asr.files import write_atomically
from asr.training.module import CtcTraining

NAMED = 5  # utterances in a line; the file has all


class SkippedSteps:
    """Says which utterances a skipped step is due to, and ends the run after too many.

    Args:
        folder: of the run.
        most: steps that a run may skip.
        module: that is trained.
        log: for the screen and the log file.
    """

    def __init__(self, folder: Path, most: int, module: CtcTraining, log: logging.Logger) -> None:
        self.folder = folder
        self.most = most
        self.module = module
        self.log = log

    def report(self, share: Share, blamed: Sequence[str]) -> None:
        """Tell of one, given this rank's share and what all ranks blame.

        Raises:
            UserError: these are too many; the share is in a file by then.
        """
        position = self.module.position
        blame = (
            f"utterances {', '.join(blamed[:NAMED])}{' and others' if len(blamed) > NAMED else ''}"
            if blamed
            else "no single utterance: the gradient itself"
        )
        self.log.warning(
            "train: step %d of epoch %d is not finite and left out (%d so far): %s",
            *(position.batch + 1, position.epoch + 1, position.reported, blame),
        )
        if position.reported <= self.most:
            return
        path = self.folder / f"not-finite-rank{self.module.global_rank}.pt"
        content = {
            "position": asdict(position),
            "blamed": list(blamed),
            "micro_batches": [
                {
                    "ids": list(batch.ids),
                    "texts": list(batch.texts),
                    "waveforms": batch.waveforms,
                    "waveform_lengths": batch.waveform_lengths,
                    "targets": batch.targets,
                    "target_lengths": batch.target_lengths,
                }
                for batch in share.micro_batches
            ],
            "weights": self.module.network.state_dict(),
        }
        serialised = io.BytesIO()
        torch.save(content, serialised)
        with write_atomically(path, "wb") as stream:
            stream.write(serialised.getbuffer())
        raise UserError(
            f"{position.reported} steps were not finite, more than trainer.max_skipped={self.most}:"
            f" training has stopped. The last batch and the weights are in {path}; a lower"
            " optim.learning_rate or optim.clip_norm often helps (docs/training.md)."
        )
