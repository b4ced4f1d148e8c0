"""The plan of batches: complete, within its limits, and a function of seed and epoch."""

from __future__ import annotations

import numpy as np
import pytest

from asr.augment import Speed, utterance_keys
from asr.data.sampler import BatchPlan

RATE = 16_000


def plan(seed: int = 1, **changed: object) -> BatchPlan:
    generator = np.random.default_rng(0)
    samples = (generator.gamma(4, 1.0, 500) * RATE).astype(np.int64) + 4000
    settings = {
        "samples": samples,
        "keys": utterance_keys(map(str, range(500))),
        "batch_s": 60.0,
        "max_utterances": 16,
        "seed": seed,
        "speed": Speed(),
    }
    return BatchPlan(**(settings | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize("epoch", [1, 2, 3, 10])
def test_every_utterance_is_in_exactly_one_batch(epoch: int) -> None:
    indices = np.concatenate([batch.indices for batch in plan().batches(epoch)])
    assert sorted(indices) == list(range(500))


@pytest.mark.parametrize("epoch", [1, 3])
def test_no_batch_exceeds_its_limits(epoch: int) -> None:
    made = plan()
    for batch in made.batches(epoch):
        longest = (made.samples[batch.indices] / batch.factors).max() / RATE
        assert len(batch.indices) <= 16
        assert len(batch.indices) == 1 or longest * len(batch.indices) <= 60 + 0.01


def test_an_utterance_longer_than_a_batch_stands_alone() -> None:
    made = plan(samples=np.full(500, 61 * RATE), speed=Speed((1.0,)))
    assert all(len(batch.indices) == 1 for batch in made.batches(2))


def test_batches_hold_utterances_of_similar_length() -> None:
    made = plan()
    lengths = [(made.samples[b.indices] / b.factors) for b in made.batches(4)]
    waste = 1 - sum(part.sum() for part in lengths) / sum(
        part.max() * len(part) for part in lengths
    )
    assert waste < 0.06


def test_the_first_epoch_goes_from_short_to_long_and_later_ones_do_not() -> None:
    made = plan()
    first = [made.samples[batch.indices].mean() for batch in made.batches(1)]
    later = [made.samples[batch.indices].mean() for batch in made.batches(2)]
    assert first == sorted(first)
    assert abs(np.corrcoef(np.arange(len(later)), later)[0, 1]) < 0.5


def as_lists(made: BatchPlan, epoch: int) -> list[list[int]]:
    return [batch.indices.tolist() for batch in made.batches(epoch)]


def test_a_plan_is_a_function_of_seed_and_epoch() -> None:
    assert as_lists(plan(), 5) == as_lists(plan(), 5)
    assert as_lists(plan(), 5) != as_lists(plan(), 6)
    assert as_lists(plan(), 5) != as_lists(plan(seed=2), 5)
