"""The data module: this rank's share of the batches of the epoch that is due."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

import lightning.pytorch as pl
from torch.utils.data import DataLoader, IterableDataset

from asr.corpus import Split
from asr.data.batch import Batch
from asr.data.dataset import Share, TrainingBatches, validation_batches
from asr.training.module import CtcTraining

AHEAD = 2  # shares that are read while a step computes

Item = TypeVar("Item")


class TrainingShares(IterableDataset[Share]):
    """What is left of an epoch, which counts from 1, from the global batch `first` on.

    Where nothing is left, an empty share: the epoch has only to be validated.
    """

    def __init__(
        self, batches: TrainingBatches, epoch: int, first: int, rank: int, world: int
    ) -> None:
        self.batches = batches
        self.epoch = epoch
        self.first = first
        self.rank = rank
        self.world = world
        self.total = len(batches.plan.epoch(epoch))

    def __len__(self) -> int:
        return max(1, self.total - self.first)

    def __iter__(self) -> Iterator[Share]:
        if self.first >= self.total:
            return iter([Share((), 0, 0.0)])
        return ahead(self.batches.shares(self.epoch, self.first, self.rank, self.world))


class ValidationBatches(IterableDataset[Batch]):
    """Every utterance of a split once, on one of the ranks."""

    def __init__(
        self, split: Split, batch_s: float, max_utterances: int, rank: int, world: int
    ) -> None:
        self.split = split
        self.batch_s = batch_s
        self.max_utterances = max_utterances
        self.rank = rank
        self.world = world

    def __iter__(self) -> Iterator[Batch]:
        return validation_batches(
            self.split, self.batch_s, self.max_utterances, self.rank, self.world
        )


class CorpusBatches(pl.LightningDataModule):
    """Training shares, planned anew for each epoch, and validation batches.

    The trainer must reload its loaders every epoch: an epoch's loader is a function of the run's
    position, which is what makes a resumed epoch the same as the first.
    """

    def __init__(
        self,
        training: TrainingBatches,
        validation: Split | None,
        batch_s: float,
        max_utterances: int,
    ) -> None:
        super().__init__()
        self.training = training
        self.validation = validation
        self.batch_s = batch_s
        self.max_utterances = max_utterances

    def train_dataloader(self) -> DataLoader[Share]:
        """What is left of the epoch that is due."""
        assert self.trainer is not None
        module = self.trainer.lightning_module
        assert isinstance(module, CtcTraining)
        position = module.position
        shares = TrainingShares(
            self.training,
            position.epoch + 1,
            position.batch,
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        module.batches = shares.total
        return DataLoader(shares, batch_size=None)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Every validation utterance once; nothing where there is no validation."""
        assert self.trainer is not None
        if self.validation is None:
            return []
        batches = ValidationBatches(
            self.validation,
            self.batch_s,
            self.max_utterances,
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        return DataLoader(batches, batch_size=None)


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, made by a thread of its own, a few before they are asked for."""
    made: queue.Queue[Item | BaseException | None] = queue.Queue(AHEAD)
    abandoned = threading.Event()

    def put(item: Item | BaseException | None) -> bool:
        while not abandoned.is_set():
            try:
                made.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - raised where the items are used
            put(error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        abandoned.set()
        thread.join()
