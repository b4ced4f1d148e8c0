"""Which utterances stand together in a batch, as a pure function of seed and epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asr.augment import Speed, draw, perturbed_samples

SAMPLE_RATE_HZ = 16_000
# Durations are moved by up to this share before sorting: an utterance meets others each epoch.
JITTER = 0.05
UNCHANGED = Speed((1.0,))


@dataclass(frozen=True)
class PlannedBatch:
    """Utterances by index into what is planned, and the speed each is played at."""

    indices: np.ndarray
    factors: np.ndarray


@dataclass(frozen=True)
class BatchPlan:
    """The batches of every epoch: utterances of similar length, at most so many seconds together.

    Args:
        samples: length of each utterance [N].
        keys: 64 bits for each utterance [N], see `utterance_keys`.
        batch_s: seconds of audio in a batch at most, padding included. An utterance longer than
            that is a batch of its own.
        max_utterances: in a batch.
        seed: of the run.
        speed: factors, which belong to the plan because they change lengths.
        short_first: first epoch in order of duration (CTC leaves its plateau sooner).
    """

    samples: np.ndarray
    keys: np.ndarray
    batch_s: float
    max_utterances: int
    seed: int
    speed: Speed = UNCHANGED
    short_first: bool = True

    def batches(self, epoch: int) -> list[PlannedBatch]:
        """The batches of an epoch in order; epochs count from 1."""
        factors = self.speed.draw(self.seed, epoch, self.keys)
        lengths = perturbed_samples(self.samples, factors)
        uniform = draw(self.seed, epoch, self.keys, "plan", 1)[:, 0]
        jittered = lengths * (1 + JITTER * (2 * uniform - 1))
        order = np.lexsort((self.keys, jittered))
        starts = self._cuts(lengths[order])
        batches = [
            PlannedBatch(indices, factors[indices]) for indices in np.split(order, starts[1:])
        ]
        if epoch == 1 and self.short_first:
            return batches
        firsts = np.array([self.keys[batch.indices[0]] for batch in batches])
        shuffled = np.argsort(draw(self.seed, epoch, firsts, "order", 1)[:, 0], kind="stable")
        return [batches[position] for position in shuffled]

    def _cuts(self, lengths: np.ndarray) -> list[int]:
        """Where batches begin in utterances sorted by (about) their length."""
        limit = self.batch_s * SAMPLE_RATE_HZ
        starts: list[int] = []
        longest = 0
        for position, length in enumerate(lengths.tolist()):
            longest = max(longest, length)
            size = position - starts[-1] + 1 if starts else 0
            if not starts or size > self.max_utterances or size * longest > limit:
                starts.append(position)
                longest = length
        return starts
