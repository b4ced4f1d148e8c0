"""The plan of batches: complete, within its limits, a function of seed and epoch, shared fairly."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.augment import Speed, draw, perturbed_samples, utterance_keys
from asr.data import sampler
from asr.data.sampler import BatchPlan, PlannedBatch

RATE = 16_000
WORLDS = (1, 2, 4, 8)


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


def one_by_one(made: BatchPlan, epoch: int) -> list[PlannedBatch]:
    """The batches of an epoch as they are meant: utterance after utterance, all kept."""
    factors = made.speed.draw(made.seed, epoch, made.keys)
    lengths = perturbed_samples(made.samples, factors)
    uniform = draw(made.seed, epoch, made.keys, "plan", 1)[:, 0]
    order = np.lexsort((made.keys, lengths * (1 + 0.05 * (2 * uniform - 1))))
    starts: list[int] = []
    longest = 0
    for position, length in enumerate(lengths[order].tolist()):
        longest = max(longest, length)
        size = position - starts[-1] + 1 if starts else 0
        full = size > made.max_utterances or size * longest > made.batch_s * RATE
        if not starts or full:
            starts.append(position)
            longest = length
    batches = [
        PlannedBatch(indices, factors[indices], epoch) for indices in np.split(order, starts[1:])
    ]
    if epoch == 1 and made.short_first:
        return batches
    firsts = np.array([made.keys[batch.indices[0]] for batch in batches])
    shuffled = np.argsort(draw(made.seed, epoch, firsts, "order", 1)[:, 0], kind="stable")
    return [batches[position] for position in shuffled]


def same(mine: Sequence[PlannedBatch], others: Sequence[PlannedBatch]) -> bool:
    return len(mine) == len(others) and all(
        first.indices.tolist() == second.indices.tolist()
        and first.factors.tolist() == second.factors.tolist()
        and first.epoch == second.epoch
        for first, second in zip(mine, others, strict=True)
    )


@given(
    # From nothing and a lot of ties to far longer than a batch.
    samples=st.sampled_from([1, 3, 50_000, 500_000, 5_000_000]).flatmap(
        lambda longest: st.lists(st.integers(0, longest), min_size=1, max_size=80)
    ),
    keys=st.sampled_from([1, 5, 2**63]),  # different ones, at most
    batch_s=st.sampled_from([1e-4, 0.5, 10.0, 60.0, 600.0, 1e9, float("inf")]),
    max_utterances=st.sampled_from([1, 2, 3, 7, 16, 64, 10**9]),
    seed=st.integers(0, 100),
    epoch=st.integers(1, 4),
    short_first=st.booleans(),
    block=st.sampled_from([1, 2, 5, 16, 1000]),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_the_plan_is_what_putting_one_utterance_after_another_gives(
    samples: list[int],
    keys: int,
    batch_s: float,
    max_utterances: int,
    seed: int,
    epoch: int,
    short_first: bool,
    block: int,
) -> None:
    made = BatchPlan(
        samples=np.array(samples),
        keys=utterance_keys(map(str, range(len(samples)))) % np.uint64(keys),
        batch_s=batch_s,
        max_utterances=max_utterances,
        seed=seed,
        speed=Speed(start_epoch=3),
        short_first=short_first,
    )
    with mock.patch.object(sampler, "BLOCK", block):
        assert same(made.epoch(epoch), one_by_one(made, epoch))


@pytest.mark.parametrize("limits", [(60.0, 16), (4000.0, 1000), (3.0, 1000)])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_it_is_so_over_many_utterances_too(epoch: int, limits: tuple[float, int]) -> None:
    generator = np.random.default_rng(0)
    samples = (generator.gamma(4, 1.0, 5000) * RATE).astype(np.int64)
    made = BatchPlan(samples, utterance_keys(map(str, range(5000))), *limits, 1, Speed())
    with mock.patch.object(sampler, "BLOCK", 999):
        assert same(made.epoch(epoch), one_by_one(made, epoch))


@pytest.mark.parametrize("epoch", [1, 2, 3, 10])
def test_every_utterance_is_in_exactly_one_batch(epoch: int) -> None:
    indices = np.concatenate([batch.indices for batch in plan().epoch(epoch)])
    assert sorted(indices) == list(range(500))


@pytest.mark.parametrize("epoch", [1, 3])
def test_no_batch_exceeds_its_limits(epoch: int) -> None:
    made = plan()
    for batch in made.epoch(epoch):
        longest = (made.samples[batch.indices] / batch.factors).max() / RATE
        assert len(batch) <= 16
        assert len(batch) == 1 or longest * len(batch) <= 60 + 0.01


def test_an_utterance_longer_than_a_batch_stands_alone() -> None:
    made = plan(samples=np.full(500, 61 * RATE), speed=Speed((1.0,)))
    assert all(len(batch) == 1 for batch in made.epoch(2))


def test_nothing_makes_no_batch() -> None:
    nothing = plan(samples=np.zeros(0, dtype=np.int64), keys=np.zeros(0, dtype=np.uint64))
    assert [len(nothing.epoch(epoch)) for epoch in (1, 2)] == [0, 0]


def test_batches_hold_utterances_of_similar_length() -> None:
    made = plan()
    lengths = [(made.samples[b.indices] / b.factors) for b in made.epoch(4)]
    waste = 1 - sum(part.sum() for part in lengths) / sum(
        part.max() * len(part) for part in lengths
    )
    assert waste < 0.06


def test_the_first_epoch_goes_from_short_to_long_and_later_ones_do_not() -> None:
    made = plan()
    first = [made.samples[batch.indices].mean() for batch in made.epoch(1)]
    later = [made.samples[batch.indices].mean() for batch in made.epoch(2)]
    assert first == sorted(first)
    assert abs(np.corrcoef(np.arange(len(later)), later)[0, 1]) < 0.5


def as_lists(made: BatchPlan, epoch: int) -> list[list[int]]:
    return [batch.indices.tolist() for batch in made.epoch(epoch)]


def test_a_plan_is_a_function_of_seed_and_epoch() -> None:
    # Another seed or epoch makes other batches: not only others in front.
    assert sorted(as_lists(plan(), 5)) != sorted(as_lists(plan(), 6))
    assert sorted(as_lists(plan(), 5)) != sorted(as_lists(plan(seed=2), 5))
    through = plan()
    assert [as_lists(through, epoch) for epoch in (6, 1, 5)][-1] == as_lists(plan(), 5)


def test_a_batch_is_found_by_its_number_and_counted_from_either_end() -> None:
    epoch = plan().epoch(3)
    batches = list(epoch)
    assert len(batches) == len(epoch) > 10
    assert same([epoch[number] for number in (7, 0, -1)], [batches[7], batches[0], batches[-1]])
    assert same(epoch[5:9], batches[5:9])
    assert same(list(reversed(epoch)), batches[::-1])
    with pytest.raises(IndexError):
        epoch[len(epoch)]


def test_finding_a_batch_looks_at_no_other() -> None:
    epoch = plan().epoch(3)
    with mock.patch.object(Speed, "draw", autospec=True, side_effect=Speed.draw) as drawn:
        last = epoch[-1]
    ((_, _, _, keys),) = (call.args for call in drawn.call_args_list)
    assert keys.tolist() == plan().keys[last.indices].tolist()


def test_an_epoch_asked_for_again_is_not_planned_again() -> None:
    made = plan()
    with mock.patch.object(sampler, "batch_starts", side_effect=sampler.batch_starts) as planned:
        assert made.epoch(3) is made.epoch(3)
        assert planned.call_count == 1
        assert made.epoch(4).epoch == 4
        assert made.epoch(3).epoch == 3
        assert planned.call_count == 3  # one epoch at a time is kept


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("epoch", [1, 3])
def test_any_number_of_ranks_sees_the_same_batches_in_the_same_order(
    epoch: int, world: int
) -> None:
    alone = plan().epoch(epoch)
    # Each rank is a process of its own, with a plan of its own.
    ranks = [plan().epoch(epoch) for _ in range(world)]
    assert {len(rank) for rank in ranks} == {len(alone)}
    empty = 0
    for number, whole in enumerate(alone):
        shares = [epochs.share(number, rank, world) for rank, epochs in enumerate(ranks)]
        together = [index for share in shares for index in share.indices.tolist()]
        assert len(together) == len(set(together))
        assert set(together) == set(whole.indices.tolist())
        played = dict(zip(whole.indices.tolist(), whole.factors.tolist(), strict=True))
        for share in shares:
            assert [played[index] for index in share.indices.tolist()] == share.factors.tolist()
        empty += sum(len(share) == 0 for share in shares)
    assert empty > 0 or world < 8  # such shares were among them


@pytest.mark.parametrize("world", [2, 4, 8])
def test_ranks_have_about_the_same_to_do_at_each_step(world: int) -> None:
    made = plan(batch_s=240.0, max_utterances=64)
    epoch = made.epoch(3)

    def spread(shares: Sequence[np.ndarray]) -> float:
        """How far the longest utterances of the shares lie apart."""
        factors = [made.speed.draw(made.seed, 3, made.keys[share]) for share in shares]
        longest = [
            (made.samples[share] / speeds).max()
            for share, speeds in zip(shares, factors, strict=True)
        ]
        return 1 - min(longest) / max(longest)

    mine, in_pieces = [], []
    for number, whole in enumerate(epoch):
        shares = [epoch.share(number, rank, world).indices for rank in range(world)]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        mine.append(spread(shares))
        in_pieces.append(spread(np.array_split(whole.indices, world)))
    assert np.mean(mine) < 0.1
    assert np.mean(mine) < 0.6 * np.mean(in_pieces)  # each rank a piece of what is sorted


def test_batches_are_cut_by_their_longest_so_far_and_not_by_their_last() -> None:
    lengths = np.array([5, 1, 1, 1, 1]) * RATE
    assert sampler.batch_starts(lengths, 15.0, 9).tolist() == [0, 3, 5]
    assert sampler.batch_starts(lengths[::-1], 15.0, 9).tolist() == [0, 4, 5]
    assert sampler.batch_starts(lengths, 4.0, 9).tolist() == [0, 1, 5]
    assert list(itertools.pairwise(sampler.batch_starts(lengths, 100.0, 2).tolist())) == [
        *((0, 2), (2, 4), (4, 5))
    ]


def test_no_more_is_looked_ahead_than_a_batch_can_hold() -> None:
    lengths = np.full(1000, RATE)
    with (
        mock.patch.object(sampler, "BLOCK", 100),
        mock.patch.object(sampler, "_sizes", side_effect=sampler._sizes) as sizes,
    ):
        starts = sampler.batch_starts(lengths, 60.0, 10**9)
    assert starts.tolist() == [*range(0, 1000, 60), 1000]
    assert max(len(call.args[0]) for call in sizes.call_args_list) == 100 + 59
