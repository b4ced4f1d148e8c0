"""What of a run's plan takes the most memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from asr.audio import SAMPLE_RATE_HZ
from asr.augment import perturbed_samples
from asr.data.dataset import TrainingBatches
from asr.data.sampler import BatchPlan, EpochPlan, PlannedBatch, batch_starts

CANDIDATES = 8  # shares of an epoch that are looked at closely
PLANNED = 2_000_000  # utterances of all epochs that are planned for it: seconds
BLOCK = 2**16  # batches that are worked on at once


@dataclass(frozen=True)
class MicroBatch:
    """Utterances that a device computes at once, the longest of which has so many samples."""

    planned: PlannedBatch
    longest: int

    @property
    def longest_s(self) -> float:
        """Seconds of the longest."""
        return self.longest / SAMPLE_RATE_HZ

    @property
    def padded_s(self) -> float:
        """Seconds of all, padding included."""
        return len(self.planned) * self.longest_s


def largest_micro_batches(
    batches: TrainingBatches, epochs: range, rank: int = 0, world: int = 1
) -> list[MicroBatch]:
    """What takes most of a rank's memory in these epochs.

    The micro-batch with the most audio, padding included; and another with the longest utterance,
    where the first has none as long. Of a large corpus only the last epochs are planned for it:
    theirs is the audio whose speed is drawn.
    """
    plan = batches.plan
    limit_s = math.inf if batches.device_batch_s is None else batches.device_batch_s
    found: list[MicroBatch] = []
    for epoch in epochs[-max(1, PLANNED // len(plan.samples)) :]:
        planned = plan.epoch(epoch)
        for sizes in _share_sizes(planned, rank, world, limit_s * SAMPLE_RATE_HZ):
            for number in np.argsort(sizes, kind="stable")[-CANDIDATES:].tolist():
                own = planned.share(number, rank, world)
                own = own if len(own) else planned[number][:1]
                found += _micro_batches(plan, own, limit_s)
    most = max(found, key=lambda one: (one.padded_s, one.longest))
    longest_one = max(found, key=lambda one: (one.longest, one.padded_s))
    return [most] if longest_one.longest == most.longest else [most, longest_one]


def longest_together(batches: TrainingBatches, seconds: float, epoch: int) -> MicroBatch:
    """The longest utterances at the slowest speed, so many that they have at least the seconds.

    With those that follow them, and then at the epoch's speeds.

    Where the corpus has no more, they come again.
    """
    plan = batches.plan
    everyone = np.arange(len(plan.samples))
    if plan.join.probability:  # who follows depends on the speeds that are drawn
        factors, lengths = plan.factors(epoch, everyone), plan.lengths(epoch, everyone)
    else:
        factors = np.full(len(everyone), min(1.0, *plan.speed.factors))
        lengths = perturbed_samples(plan.samples, factors)
    longest = int(lengths.max())
    count = max(1, math.ceil(seconds * SAMPLE_RATE_HZ / longest))
    some = min(count, len(lengths))
    indices = np.resize(np.argpartition(lengths, -some)[-some:], count)
    return MicroBatch(PlannedBatch(indices, factors[indices], epoch), longest)


def _share_sizes(
    planned: EpochPlan, rank: int, world: int, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Of a rank's share of each batch: samples at once, about, and of the longest: [K], [K].

    At once are those of the longest utterances that are at most `limit` together, with padding.
    """
    plan = planned.plan
    parts = []
    for begin in range(0, len(planned), BLOCK):
        starts = planned.starts[begin : begin + BLOCK + 1]  # [K + 1] of some batches
        order = planned.order[starts[0] : starts[-1]]  # [N]
        lengths = plan.lengths(planned.epoch, order)
        first, size = starts[:-1] - starts[0], np.diff(starts)  # [K]
        place = np.arange(len(order)) - np.repeat(first, size)  # [N]
        own = place % world == rank
        own |= (place == 0) & (np.repeat(size, size) <= rank)  # where nothing else is its own
        longest = np.maximum.reduceat(np.where(own, lengths, 0), first)  # [K]
        count = np.add.reduceat(own.astype(np.int64), first)
        together = np.minimum(count, np.maximum(1, np.floor(limit / longest)))
        parts.append((together * longest, longest))
    at_once, longest = zip(*parts, strict=True)
    return np.concatenate(at_once), np.concatenate(longest)


def _micro_batches(plan: BatchPlan, share: PlannedBatch, limit_s: float) -> Iterator[MicroBatch]:
    lengths = plan.lengths(share.epoch, share.indices)
    for start, end in pairwise(batch_starts(lengths, limit_s, len(lengths)).tolist()):
        yield MicroBatch(share[start:end], int(lengths[start:end].max()))
