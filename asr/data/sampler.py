"""Which utterances stand together in a batch, as a pure function of seed and epoch.

An epoch is planned in global batches, which do not depend on the number of ranks; each rank takes
its share of every one of them. Nothing is kept for a batch but where it begins, so that the plan of
ten million utterances takes seconds, and any batch of it is found at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np

from asr.audio import SAMPLE_RATE_HZ
from asr.augment import Join, Speed, draw, perturbed_samples

# Durations are moved by up to this share before sorting: an utterance meets others each epoch.
JITTER = 0.05
UNCHANGED = Speed((1.0,))
ALONE = Join()
# Utterances that are worked on at once: what a step of the arithmetic leaves stays small.
BLOCK = 2**18


@dataclass(frozen=True)
class PlannedBatch:
    """Utterances by index into what is planned [B], the speed each is played at [B], the epoch."""

    indices: np.ndarray
    factors: np.ndarray
    epoch: int

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, part: slice) -> PlannedBatch:
        """Some of its utterances."""
        return PlannedBatch(self.indices[part], self.factors[part], self.epoch)


@dataclass(frozen=True, eq=False)
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
        join: which others follow an utterance: its length is that of all.
        joinable: which utterances may follow or be followed [N]; None: all.
    """

    samples: np.ndarray
    keys: np.ndarray
    batch_s: float
    max_utterances: int
    seed: int
    speed: Speed = UNCHANGED
    short_first: bool = True
    join: Join = ALONE
    joinable: np.ndarray | None = None
    # The epoch that was planned last, which is asked for again and again.
    _last: list[EpochPlan] = field(default_factory=list, init=False, repr=False)

    def epoch(self, epoch: int) -> EpochPlan:
        """The batches of an epoch in order; epochs count from 1."""
        for planned in self._last:
            if planned.epoch == epoch:
                return planned
        self._last.clear()  # before the next one is made: one at a time is in memory
        order, starts = self._sorted_batches(epoch)
        if epoch > 1 or not self.short_first:
            uniform = self._uniform(epoch, self.keys[order[starts[:-1]]], "order")
            order, starts = _rearranged(order, starts, np.argsort(uniform, kind="stable"))
        planned = EpochPlan(self, epoch, order, starts)
        self._last.append(planned)
        return planned

    def lengths(self, epoch: int, indices: np.ndarray) -> np.ndarray:
        """Samples of utterances, those that follow included: [B] -> [B]."""
        followers = self.followers(epoch, indices)
        return self._spoken(epoch, indices) + self._spoken(epoch, followers).sum(axis=1)

    def followers(self, epoch: int, indices: np.ndarray) -> np.ndarray:
        """Which utterances follow each in the same waveform: [B] -> [B, F], -1 for none."""
        found = self.join.draw(self.seed, epoch, self.keys[indices], len(self.samples))  # [B, F]
        if self.joinable is not None:
            found[~(self.joinable[indices][:, None] & self.joinable[found])] = -1
        ends = self._spoken(epoch, indices)[:, None] + self._spoken(epoch, found).cumsum(axis=1)
        found[ends > self.join.longest_s * SAMPLE_RATE_HZ] = -1
        return found

    def factors(self, epoch: int, indices: np.ndarray) -> np.ndarray:
        """The speed each is played at: [B] -> [B]."""
        return self.speed.draw(self.seed, epoch, self.keys[indices])

    def _spoken(self, epoch: int, indices: np.ndarray) -> np.ndarray:
        """Samples of each utterance by itself, 0 for -1: [...] -> [...]."""
        flat = indices.reshape(-1)
        lengths = perturbed_samples(self.samples[flat], self.factors(epoch, flat))
        return np.where(flat < 0, 0, lengths).reshape(indices.shape)

    def _sorted_batches(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Utterances from short to long [N], and where batches of them begin, N last."""
        lengths = np.empty(len(self.samples), dtype=np.int64)  # [N]
        for block in _blocks(len(lengths)):
            lengths[block] = self.lengths(epoch, np.arange(block.start, block.stop))
        jittered = self._uniform(epoch, self.keys, "plan")  # [N]
        for block in _blocks(len(lengths)):
            jittered[block] = lengths[block] * (1 + JITTER * (2 * jittered[block] - 1))
        order = _argsort(jittered, self.keys)
        del jittered
        return order, batch_starts(lengths[order], self.batch_s, self.max_utterances)

    def _uniform(self, epoch: int, keys: np.ndarray, purpose: str) -> np.ndarray:
        """A number in [0, 1) for each key: [K] -> [K]."""
        uniform = np.empty(len(keys))
        for block in _blocks(len(keys)):
            uniform[block] = draw(self.seed, epoch, keys[block], purpose, 1)[:, 0]
        return uniform


@dataclass(frozen=True, eq=False)
class EpochPlan(Sequence[PlannedBatch]):
    """The global batches of one epoch, each found without those before it.

    `order` [N] are the utterances in the order in which they are trained on. Batch k of the K holds
    those from `starts[k]` to `starts[k + 1]` [K + 1], about from short to long.
    """

    plan: BatchPlan
    epoch: int
    order: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, position: int) -> PlannedBatch: ...
    @overload
    def __getitem__(self, position: slice) -> list[PlannedBatch]: ...
    def __getitem__(self, position: int | slice) -> PlannedBatch | list[PlannedBatch]:
        """Global batch `position`, which counts from 0, or several."""
        if isinstance(position, slice):
            return [self[number] for number in range(len(self))[position]]
        number = range(len(self))[position]
        indices = self.order[self.starts[number] : self.starts[number + 1]]  # [B]
        return PlannedBatch(indices, self.plan.factors(self.epoch, indices), self.epoch)

    def share(self, position: int, rank: int, world: int) -> PlannedBatch:
        """What one rank of `world` does of a global batch; nothing, where that is too small."""
        return self[position][rank::world]


def batch_starts(lengths: np.ndarray, batch_s: float, max_utterances: int) -> np.ndarray:
    """Cut utterances [N], in their order, into batches: where each begins, and N last [K + 1].

    A batch takes utterances as long as size x longest is at most `batch_s` seconds, `lengths` being
    samples; its first one in any case.
    """
    limit = batch_s * SAMPLE_RATE_HZ
    most = max(1, min(max_utterances, len(lengths)))
    shortest = lengths.min(initial=SAMPLE_RATE_HZ)
    if most * shortest > limit:  # not even of the shortest; there is no need to look further ahead
        most = max(1, int(limit // shortest))
    parts = []
    start = 0
    for block in _blocks(len(lengths)):
        sizes = _sizes(lengths[block.start : block.stop + most - 1], limit, most).tolist()
        starts = []
        while start < block.stop:
            starts.append(start)
            start += sizes[start - block.start]
        parts.append(np.array(starts, dtype=np.int64))
    return np.concatenate([*parts, [len(lengths)]])


def _sizes(lengths: np.ndarray, limit: float, most: int) -> np.ndarray:
    """How many utterances a batch would hold that began at each position: [N] -> [N].

    What a batch takes grows with each utterance, so its size is found bit by bit, from the highest:
    2^b more are taken where they fit, given the longest of any 2^b neighbours.
    """
    count = len(lengths)
    longest_of = [lengths]  # [b][N - 2^b + 1]: the longest of 2^b from a position on
    while 2 ** len(longest_of) < min(most, count):
        half = 2 ** (len(longest_of) - 1)
        longest_of.append(np.maximum(longest_of[-1][:-half], longest_of[-1][half:]))
    longest = lengths
    sizes = np.ones(count, dtype=np.int64)
    following = np.arange(1, count + 1)  # the first utterance that is not taken
    for bit in reversed(range(len(longest_of))):
        among = longest_of[bit]
        wider = np.maximum(longest, among[np.minimum(following, len(among) - 1)])
        more = sizes + 2**bit
        fits = (following < len(among)) & (more <= most) & (more * wider <= limit)
        longest = np.where(fits, wider, longest)
        sizes += fits * 2**bit
        following += fits * 2**bit
    return sizes


def _argsort(values: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """`np.lexsort((keys, values))` in a fraction of its time, since few values are equal."""
    order = np.argsort(values)
    ordered = values[order]
    equal = np.zeros(len(order) + 1, dtype=bool)  # to the one before
    equal[1:-1] = ordered[1:] == ordered[:-1]
    tied = np.flatnonzero(equal[1:] | equal[:-1])
    among = order[tied]
    order[tied] = among[np.lexsort((among, keys[among], ordered[tied]))]
    return order


def _rearranged(
    order: np.ndarray, starts: np.ndarray, batches: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`order` and `starts` with the batches in another order: [N], [K + 1], [K]."""
    sizes = np.diff(starts)[batches]  # [K]
    ends = np.cumsum(sizes)
    moved = np.repeat(starts[:-1][batches] - (ends - sizes), sizes)  # [N]
    moved += np.arange(len(order))
    return order[moved], np.concatenate([[0], ends])


def _blocks(count: int) -> Iterator[slice]:
    """Slices of at most `BLOCK` that together are `count`."""
    for begin in range(0, count, BLOCK):
        yield slice(begin, min(begin + BLOCK, count))
