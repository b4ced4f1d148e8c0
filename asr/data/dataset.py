"""Planned batches and splits of a corpus as tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from asr.augment import change_speed, utterance_keys
from asr.corpus import Split
from asr.data.batch import Batch, pad_labels, pad_waveforms
from asr.data.sampler import BatchPlan, PlannedBatch

Encode = Callable[[str], Sequence[int]]


def waveform(split: Split, index: int) -> Tensor:
    """An utterance's samples in [-1, 1]: [S]."""
    return torch.from_numpy(split.waveform(index).astype(np.float32) / 32768.0)


class TrainingBatches(IterableDataset[Batch]):
    """The planned batches of one epoch. Set `epoch` before iterating.

    Args:
        utterances: what the plan's indices stand for, each a row of a split.
        plan: which of them together.
        encode: text to labels.
        encode_inner: text to the inner CTC's labels, where it has units of its own.
    """

    def __init__(
        self,
        utterances: Sequence[tuple[Split, int]],
        plan: BatchPlan,
        encode: Encode,
        encode_inner: Encode | None = None,
    ) -> None:
        self.utterances = utterances
        self.plan = plan
        self.encode = encode
        self.encode_inner = encode_inner
        self.epoch = 1

    def __len__(self) -> int:
        return len(self.plan.batches(self.epoch))

    def __iter__(self) -> Iterator[Batch]:
        for planned in self.plan.batches(self.epoch):
            yield self.batch(planned)

    def batch(self, planned: PlannedBatch) -> Batch:
        """The tensors of a planned batch."""
        rows = [self.utterances[index] for index in planned.indices]
        waveforms = [
            change_speed(waveform(split, row), factor)
            for (split, row), factor in zip(rows, planned.factors, strict=True)
        ]
        return make_batch(rows, waveforms, self.encode, self.encode_inner, self.epoch)


def make_batch(
    rows: Sequence[tuple[Split, int]],
    waveforms: Sequence[Tensor],
    encode: Encode | None,
    encode_inner: Encode | None = None,
    epoch: int = 0,
) -> Batch:
    """Tensors of utterances: waveforms padded, texts encoded where an encoder is given."""
    texts = tuple(split.texts[row] for split, row in rows)
    ids = tuple(split.ids[row] for split, row in rows)
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
        speakers=tuple(split.speakers[row] for split, row in rows),
        keys=utterance_keys(ids),
        epoch=epoch,
    )


def validation_batches(split: Split, batch_s: float, max_utterances: int) -> Iterator[Batch]:
    """Every utterance of a split once, longest first, without augmentation."""
    plan = BatchPlan(
        samples=np.asarray(split.samples),
        keys=utterance_keys(split.ids),
        batch_s=batch_s,
        max_utterances=max_utterances,
        seed=0,
    )
    for planned in reversed(plan.batches(1)):
        rows = [(split, int(index)) for index in planned.indices]
        yield make_batch(rows, [waveform(*row) for row in rows], encode=None)
