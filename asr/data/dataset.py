"""Planned batches and splits of a corpus as tensors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asr.augment import change_speed, utterance_keys
from asr.corpus import Split
from asr.data.batch import Batch, pad_labels, pad_waveforms
from asr.data.sampler import BatchPlan, EpochPlan, PlannedBatch, batch_starts

Encode = Callable[[str], Sequence[int]]
Alter = Callable[[Tensor, int, np.uint64], Tensor]


def waveform(split: Split, index: int) -> Tensor:
    """An utterance's samples in [-1, 1]: [S]."""
    return torch.from_numpy(split.waveform(index).astype(np.float32) / 32768.0)


class SplitRows:
    """Rows of splits, one split after another: what the indices of a plan stand for."""

    def __init__(self, parts: Sequence[tuple[Split, Sequence[int] | np.ndarray]]) -> None:
        self.splits = tuple(split for split, _ in parts)
        rows = [np.asarray(rows, dtype=np.int64) for _, rows in parts]
        self._rows = np.concatenate([np.zeros(0, dtype=np.int64), *rows])  # [N]
        self._ends = np.cumsum([len(part) for part in rows])  # [splits]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[Split, int]:
        """The utterance's split, and its row there."""
        number = range(len(self))[index]
        split = int(np.searchsorted(self._ends, number, side="right"))
        return self.splits[split], int(self._rows[number])

    @property
    def samples(self) -> np.ndarray:
        """How long each is [N]."""
        return np.concatenate([np.asarray(split.samples)[rows] for split, rows in self._parts()])

    @property
    def keys(self) -> np.ndarray:
        """64 bits for each [N], from its id."""
        return utterance_keys(split.ids[row] for split, rows in self._parts() for row in rows)

    def _parts(self) -> Iterator[tuple[Split, np.ndarray]]:
        yield from zip(self.splits, np.split(self._rows, self._ends[:-1]), strict=True)


@dataclass(frozen=True)
class Share:
    """What one rank does of a global batch, in pieces that its device can take.

    `utterances` is how many all ranks have together. `weight` is 1, and 0 where there is nothing
    for this rank: then its one micro-batch, an utterance of the batch, must count nothing.
    """

    micro_batches: tuple[Batch, ...]
    utterances: int
    weight: float


class TrainingBatches:
    """Planned batches of training utterances.

    Args:
        utterances: what the plan's indices stand for, each a row of a split.
        plan: which of them together.
        encode: text to labels.
        encode_inner: text to the inner CTC's labels, where it has units of its own.
        device_batch_s: seconds of audio that a device takes at once, padding included; None: any.
        alter: what else is done to a waveform [S] after the change of speed, given the epoch and
            the utterance's key; its length stays.
    """

    def __init__(
        self,
        utterances: SplitRows,
        plan: BatchPlan,
        encode: Encode,
        encode_inner: Encode | None = None,
        device_batch_s: float | None = None,
        alter: Alter | None = None,
    ) -> None:
        self.utterances = utterances
        self.plan = plan
        self.encode = encode
        self.encode_inner = encode_inner
        self.device_batch_s = device_batch_s
        self.alter = alter

    def shares(self, epoch: int, first: int = 0, rank: int = 0, world: int = 1) -> Iterator[Share]:
        """A rank's share of each global batch of an epoch, in order, from number `first` on.

        Epochs count from 1, batches and ranks from 0. All ranks have the same number of shares.
        """
        plan = self.plan.epoch(epoch)
        for number in range(first, len(plan)):
            yield self._share(plan, number, rank, world)

    def _share(self, plan: EpochPlan, number: int, rank: int, world: int) -> Share:
        whole, own = plan[number], plan.share(number, rank, world)
        # Where nothing is its own, the shortest, or about.
        pieces = self._micro_batches(own if len(own) else whole[:1])
        weight = 1.0 if len(own) else 0.0
        return Share(tuple(self.batch(piece) for piece in pieces), len(whole), weight)

    def batch(self, planned: PlannedBatch) -> Batch:
        """The tensors of planned utterances."""
        followers = self.plan.followers(planned.epoch, planned.indices)  # [B, F]
        rows, waveforms = [], []
        for first, factor, drawn in zip(planned.indices, planned.factors, followers, strict=True):
            others = drawn[drawn >= 0]
            together = [first, *others]
            factors = [factor, *self.plan.factors(planned.epoch, others)]
            heard = [
                self._heard(index, own, planned.epoch)
                for index, own in zip(together, factors, strict=True)
            ]
            rows.append([self.utterances[index] for index in together])
            waveforms.append(torch.cat(heard) if len(heard) > 1 else heard[0])
        return make_batch(rows, waveforms, self.encode, self.encode_inner, planned.epoch)

    def _heard(self, index: int, factor: float, epoch: int) -> Tensor:
        """An utterance's waveform as training hears it: [S]."""
        samples = change_speed(waveform(*self.utterances[index]), factor)
        return samples if self.alter is None else self.alter(samples, epoch, self.plan.keys[index])

    def _micro_batches(self, planned: PlannedBatch) -> Iterator[PlannedBatch]:
        """Cut where the device's limit is reached; about from short to long, as the share is."""
        if self.device_batch_s is None:
            yield planned
            return
        lengths = self.plan.lengths(planned.epoch, planned.indices)
        starts = batch_starts(lengths, self.device_batch_s, len(lengths))
        for start, end in itertools.pairwise(starts.tolist()):
            yield planned[start:end]


def make_batch(
    rows: Sequence[Sequence[tuple[Split, int]]],
    waveforms: Sequence[Tensor],
    encode: Encode | None,
    encode_inner: Encode | None = None,
    epoch: int = 0,
) -> Batch:
    """Tensors of utterances: waveforms padded, texts encoded where an encoder is given.

    A waveform is of one utterance, or of several that follow one another.
    """
    texts = tuple(" ".join(split.texts[row] for split, row in together) for together in rows)
    ids = tuple("+".join(split.ids[row] for split, row in together) for together in rows)
    padded, lengths = pad_waveforms(waveforms)
    targets, target_lengths = pad_labels([encode(text) if encode else [] for text in texts])
    inner = [encode_inner(text) if encode_inner else [] for text in texts]
    inner_targets, inner_target_lengths = pad_labels(inner)
    return Batch(
        waveforms=padded,
        waveform_lengths=lengths,
        targets=targets,
        target_lengths=target_lengths,
        inner_targets=inner_targets,
        inner_target_lengths=inner_target_lengths,
        ids=ids,
        texts=texts,
        speakers=tuple("+".join(split.speakers[row] for split, row in each) for each in rows),
        keys=utterance_keys(ids),
        epoch=epoch,
    )


def validation_batches(
    split: Split, batch_s: float, max_utterances: int, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """Every utterance of a split once, on one of the ranks; longest first, without augmentation.

    Batch b is rank b % world's. All ranks have as many: the last one may be empty.
    """
    utterances = SplitRows([(split, np.arange(len(split)))])
    plan = BatchPlan(utterances.samples, utterances.keys, batch_s, max_utterances, seed=0).epoch(1)
    for first in range(0, len(plan), world):
        number = first + rank
        planned = plan[len(plan) - 1 - number] if number < len(plan) else plan[0][:0]
        rows = [utterances[index] for index in planned.indices]
        yield make_batch([[row] for row in rows], [waveform(*row) for row in rows], encode=None)
