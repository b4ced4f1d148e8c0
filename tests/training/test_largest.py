"""The batch that takes the most memory is the one that a search through all of them finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from asr.augment import Join, Speed
from asr.data.dataset import SplitRows, TrainingBatches
from asr.data.sampler import ALONE, BatchPlan, EpochPlan
from asr.training import largest
from asr.training.largest import MicroBatch, largest_micro_batches, longest_together

EPOCHS = range(1, 7)


class Silence:
    """Utterances of nothing, of between 0.2 and 2 s, or less."""

    def __init__(self, count: int, most: int) -> None:
        lengths = np.random.default_rng(count).integers(3_200, 32_000, count)
        self.samples = np.minimum(lengths, most)
        self.ids = [f"u{row}" for row in range(count)]
        self.texts = self.speakers = self.ids

    def waveform(self, row: int) -> np.ndarray:
        return np.zeros(self.samples[row], dtype=np.int16)


def batches(
    count: int,
    batch_s: float,
    device_batch_s: float | None = None,
    most: int = 32_000,
    join: Join = ALONE,
) -> TrainingBatches:
    split: Any = Silence(count, most)
    rows = SplitRows([(split, range(count))])
    speed = Speed((0.9, 1.0, 1.1), 3)
    plan = BatchPlan(rows.samples, rows.keys, batch_s, 16, 1, speed, join=join)
    return TrainingBatches(rows, plan, lambda text: [1], device_batch_s=device_batch_s)


def by_search(made: TrainingBatches, epochs: range, rank: int, world: int) -> tuple[int, int]:
    """The most samples that a micro-batch's tensor has, and the longest utterance, as served."""
    shapes = [
        batch.waveforms.shape
        for epoch in epochs
        for share in made.shares(epoch, 0, rank, world)
        for batch in share.micro_batches
    ]
    return max(rows * samples for rows, samples in shapes), max(samples for _, samples in shapes)


def sizes(found: list[MicroBatch]) -> tuple[int, int]:
    return len(found[0].planned) * found[0].longest, found[-1].longest


@pytest.mark.parametrize(("rank", "world"), [(0, 1), (0, 2), (1, 2), (2, 3), (7, 8)])
@pytest.mark.parametrize("join", [ALONE, Join(0.8, 3, 5.0, start_epoch=2)])
@pytest.mark.parametrize("device_batch_s", [None, 4.0])
def test_it_is_what_a_search_through_all_that_is_served_finds(
    rank: int, world: int, device_batch_s: float | None, join: Join
) -> None:
    made = batches(60, 12.0, device_batch_s, join=join)
    found = largest_micro_batches(made, EPOCHS, rank, world)
    assert sizes(found) == by_search(made, EPOCHS, rank, world)
    assert sizes(found) != by_search(made, range(1, 3), rank, world)  # speed makes them longer
    for one in found:
        assert made.batch(one.planned).waveforms.shape == (len(one.planned), one.longest)


@pytest.mark.parametrize("device_batch_s", [None, 2.5, 4.0, 8.0])
def test_among_many_batches_it_is_the_largest_and_about_so_with_a_devices_limit(
    device_batch_s: float | None,
) -> None:
    made = batches(1000, 12.0, device_batch_s, most=24_000)  # many are equal but for their speed
    most, longest = by_search(made, range(3, 4), 1, 2)
    found = largest_micro_batches(made, range(3, 4), 1, 2)
    assert len(made.plan.epoch(3)) > 10 * largest.CANDIDATES
    assert (0.97 * most if device_batch_s else most) <= sizes(found)[0] <= most
    assert sizes(found)[1] == longest


def test_without_a_devices_limit_nothing_but_the_largest_is_looked_at_closely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(largest, "CANDIDATES", 1)
    made = batches(300, 12.0)
    for epoch in range(1, 9):
        only = range(epoch, epoch + 1)
        assert sizes(largest_micro_batches(made, only, 1, 2)) == by_search(made, only, 1, 2)


def test_many_batches_are_gone_through_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    made = batches(200, 12.0)
    whole = sizes(largest_micro_batches(made, EPOCHS, 1, 2))
    monkeypatch.setattr(largest, "BLOCK", 3)
    assert sizes(largest_micro_batches(made, EPOCHS, 1, 2)) == whole
    assert whole == by_search(made, EPOCHS, 1, 2)


def test_the_longest_utterance_is_looked_at_too_where_it_is_in_another_batch() -> None:
    made = batches(60, 12.0)
    made.plan.samples[7] = 5 * 16_000  # alone in its batch
    found = largest_micro_batches(made, range(1, 2))
    assert len(found) == 2
    assert 7 in found[1].planned.indices
    assert found[1].longest_s == 5.0
    assert found[0].padded_s > found[1].padded_s


def test_of_a_large_corpus_the_last_epochs_are_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    made = batches(60, 12.0)
    planned: list[int] = []
    plan_epoch = BatchPlan.epoch

    def told(self: BatchPlan, epoch: int) -> EpochPlan:
        planned.append(epoch)
        return plan_epoch(self, epoch)

    monkeypatch.setattr(BatchPlan, "epoch", told)
    monkeypatch.setattr(largest, "PLANNED", 2 * 60 + 59)
    largest_micro_batches(made, EPOCHS)
    assert planned == [5, 6]
    planned.clear()
    monkeypatch.setattr(largest, "PLANNED", 1)
    largest_micro_batches(made, EPOCHS)
    assert planned == [6]


@pytest.mark.parametrize(("seconds", "count"), [(0.0, 1), (3.0, 2), (9.0, 5), (1000.0, 450)])
def test_the_longest_utterances_together_have_the_seconds(seconds: float, count: int) -> None:
    made = batches(60, 12.0)
    made.plan.samples[:] = 16_000
    made.plan.samples[[3, 11]] = 32_000  # of 2.22 s at the slowest speed
    found = longest_together(made, seconds, 6)
    assert len(found.planned) == count
    assert found.padded_s >= seconds
    assert found.longest == 35_556
    assert {3, 11} & set(found.planned.indices.tolist())
    assert count < 2 or {3, 11} <= set(found.planned.indices.tolist())


@pytest.mark.parametrize("seconds", [0.0, 9.0, 100.0])
def test_the_longest_together_are_what_training_hears_where_others_follow(seconds: float) -> None:
    made = batches(60, 12.0, join=Join(0.8, 4, 6.0, start_epoch=2))
    found = longest_together(made, seconds, 6)
    waveforms = made.batch(found.planned).waveforms
    assert waveforms.shape == (len(found.planned), found.longest)
    assert found.padded_s >= seconds
    assert found.longest == max(made.plan.lengths(6, np.arange(60)))
    assert found.longest > 35_556  # more than any has alone
