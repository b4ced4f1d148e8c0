"""The data module: the batches of the epoch that is due."""

from __future__ import annotations

from collections.abc import Iterator

import lightning.pytorch as pl
from torch.utils.data import DataLoader, IterableDataset

from asr.corpus import Split
from asr.data.batch import Batch
from asr.data.dataset import TrainingBatches, validation_batches


class ValidationBatches(IterableDataset[Batch]):
    """Every utterance of a split once."""

    def __init__(self, split: Split, batch_s: float, max_utterances: int) -> None:
        self.split = split
        self.batch_s = batch_s
        self.max_utterances = max_utterances

    def __iter__(self) -> Iterator[Batch]:
        return validation_batches(self.split, self.batch_s, self.max_utterances)


class CorpusBatches(pl.LightningDataModule):
    """Training batches, planned anew for each epoch, and validation batches.

    The trainer must reload its loaders every epoch: an epoch's loader is a function of its number,
    which is what makes a resumed epoch the same as the first.
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

    def train_dataloader(self) -> DataLoader[Batch]:
        """The batches of the epoch that is due."""
        assert self.trainer is not None
        self.training.epoch = self.trainer.current_epoch + 1
        return DataLoader(self.training, batch_size=None)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Every validation utterance once; nothing where there is no validation."""
        if self.validation is None:
            return []
        batches = ValidationBatches(self.validation, self.batch_s, self.max_utterances)
        return DataLoader(batches, batch_size=None)
