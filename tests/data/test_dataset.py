"""Batches as tensors, of a made-up split."""

from __future__ import annotations

import itertools
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor

from asr.augment import Join, Speed, change_speed, utterance_keys
from asr.data.batch import Batch, pad_labels, pad_waveforms
from asr.data.dataset import SplitRows, TrainingBatches, make_batch, validation_batches, waveform
from asr.data.sampler import BatchPlan
from asr.units.characters import CharacterUnits

UNITS = CharacterUnits(("<blank>", "|", "a", "b"))
WORLDS = (1, 2, 4, 8)


class MadeSplit:
    """Utterance i is i + 1 tenths of a second of the constant 327.68 x i; its reads are counted."""

    def __init__(self, count: int = 4, name: str = "u") -> None:
        self.ids = [f"{name}{index}" for index in range(count)]
        self.texts = [("a", "ab", "b a", "bb")[index % 4] for index in range(count)]
        self.speakers = ["s" if index < 2 else "t" for index in range(count)]
        self.samples = 1600 * np.arange(1, count + 1)
        self.read: list[str] = []

    def __len__(self) -> int:
        return len(self.ids)

    def waveform(self, index: int) -> np.ndarray:
        self.read.append(self.ids[index])
        return np.full(self.samples[index], round(327.68 * index), dtype=np.int16)


def batches(
    split: MadeSplit | None = None,
    factors: tuple[float, ...] = (1.0,),
    batch_s: float = 60.0,
    max_utterances: int = 3,
    **changed: object,
) -> TrainingBatches:
    split = split or MadeSplit()
    rows = SplitRows([(split, range(len(split)))])  # type: ignore[list-item]
    plan = BatchPlan(rows.samples, rows.keys, batch_s, max_utterances, 1, Speed(factors, 1))
    return TrainingBatches(rows, plan, UNITS.encode, **changed)  # type: ignore[arg-type]


def whole(made: TrainingBatches, epoch: int = 1) -> list[Batch]:
    """The global batches of an epoch as one process sees them."""
    found = []
    for share in made.shares(epoch):
        (batch,) = share.micro_batches
        found.append(batch)
    return found


def ids(made: TrainingBatches, epoch: int = 1, first: int = 0) -> list[tuple[str, ...]]:
    return [share.micro_batches[0].ids for share in made.shares(epoch, first)]


def test_waveforms_and_labels_are_padded_with_zeros() -> None:
    first, second = whole(batches())
    assert first.ids == ("u0", "u1", "u2")
    assert second.ids == ("u3",)
    assert first.waveform_lengths.tolist() == [1600, 3200, 4800]
    assert first.waveforms.shape == (3, 4800)
    assert first.waveforms[1, :3200].tolist() == pytest.approx([0.01] * 3200, rel=0.01)
    assert not first.waveforms[1, 3200:].any()
    assert first.targets.tolist() == [[2, 0, 0], [2, 3, 0], [3, 1, 2]]
    assert first.target_lengths.tolist() == [1, 2, 3]
    assert first.inner_target_lengths.tolist() == [0, 0, 0]
    assert first.audio_s == 0.6


def test_one_process_that_takes_all_at_once_has_the_planned_batch_bit_for_bit() -> None:
    split = MadeSplit(20)
    made = batches(split, factors=(0.9, 1.0, 1.1))
    assert len(set(np.concatenate([batch.factors for batch in made.plan.epoch(3)]))) == 3
    for planned, share in zip(made.plan.epoch(3), made.shares(3), strict=True):
        rows = [(split, int(index)) for index in planned.indices]
        played = [
            change_speed(waveform(*row), float(factor))  # type: ignore[arg-type]
            for row, factor in zip(rows, planned.factors, strict=True)
        ]
        expected = make_batch([[row] for row in rows], played, UNITS.encode, epoch=3)  # type: ignore[arg-type]
        (found,) = share.micro_batches
        assert (share.utterances, share.weight) == (len(rows), 1.0)
        for field in fields(Batch):
            mine, its = getattr(found, field.name), getattr(expected, field.name)
            if isinstance(its, Tensor | np.ndarray):
                assert mine.dtype == its.dtype
                assert mine.tolist() == its.tolist()
            else:
                assert mine == its


def test_speed_belongs_to_the_plan() -> None:
    first, _ = whole(batches(factors=(0.5,)))
    assert first.waveform_lengths.tolist() == [3200, 6400, 9600]


def test_an_epoch_is_planned_by_its_number() -> None:
    made = batches(MadeSplit(20))
    assert ids(made, 2) != ids(made, 3)
    assert ids(made, 2) == ids(batches(MadeSplit(20)), 2)
    assert [batch.epoch for batch in whole(made, 3)] == [3] * len(made.plan.epoch(3))


def test_from_any_batch_on_the_rest_comes_and_nothing_before_it_is_read() -> None:
    every = ids(batches(MadeSplit(20)), 2)
    assert len(every) == 7
    for first in range(len(every) + 1):
        split = MadeSplit(20)
        made = batches(split)
        begun = [share.micro_batches[0].ids for share in itertools.islice(made.shares(2), first)]
        split.read.clear()
        rest = ids(made, 2, first)
        assert begun + rest == every
        assert split.read == [name for batch in every[first:] for name in batch]


@pytest.mark.parametrize("device_batch_s", [None, 4.0])
@pytest.mark.parametrize("world", WORLDS)
def test_ranks_have_each_utterance_of_each_batch_once(
    world: int, device_batch_s: float | None
) -> None:
    alone = ids(batches(MadeSplit(40), max_utterances=9), 3)
    ranks = [
        list(
            batches(MadeSplit(40), max_utterances=9, device_batch_s=device_batch_s).shares(
                3, rank=rank, world=world
            )
        )
        for rank in range(world)
    ]
    assert [len(shares) for shares in ranks] == [len(alone)] * world
    idle = 0
    for expected, *shares in zip(alone, *ranks, strict=True):
        counted: list[str] = []
        for share in shares:
            assert share.utterances == len(expected)
            names = [name for batch in share.micro_batches for name in batch.ids]
            if share.weight == 1.0:
                counted += names
            else:  # something to run that counts nothing
                idle += 1
                assert share.weight == 0.0
                assert len(names) == 1
                assert names[0] in expected
        assert sorted(counted) == sorted(expected)
    assert idle > 0 or world < 8  # such shares were among them


def test_a_rank_reads_its_own_share_alone() -> None:
    split = MadeSplit(8)
    share = next(batches(split, max_utterances=8).shares(1, rank=1, world=4))
    assert split.read == [name for batch in share.micro_batches for name in batch.ids]
    assert len(split.read) == 2


def test_a_device_takes_a_share_in_pieces_of_its_size() -> None:
    # 0.1 s, 0.2 s … 0.5 s, and 0.9 s, longer than what a device takes: at most 0.8 s at once.
    split = MadeSplit(9)
    rows = SplitRows([(split, [0, 1, 2, 3, 4, 5, 8])])  # type: ignore[list-item]
    plan = BatchPlan(rows.samples, rows.keys, 60, 9, 1)
    made = TrainingBatches(rows, plan, UNITS.encode, device_batch_s=0.8)
    (share,) = made.shares(1)
    assert [batch.ids for batch in share.micro_batches] == [
        ("u0", "u1"),  # three of 0.3 s were 0.9 s
        ("u2", "u3"),  # two of 0.4 s
        *(("u4",), ("u5",), ("u8",)),
    ]
    assert [batch.waveforms.shape[1] for batch in share.micro_batches][:2] == [3200, 6400]
    assert share.utterances == 7


def test_pieces_are_of_the_size_of_the_perturbed_audio() -> None:
    all_at_once = batches(MadeSplit(4), max_utterances=4, device_batch_s=1.6)
    assert [len(batch) for share in all_at_once.shares(1) for batch in share.micro_batches] == [4]
    made = batches(MadeSplit(3), device_batch_s=0.6)
    slowed = batches(MadeSplit(3), factors=(0.5,), device_batch_s=0.6)
    assert [len(batch) for share in made.shares(1) for batch in share.micro_batches] == [2, 1]
    assert [len(batch) for share in slowed.shares(1) for batch in share.micro_batches] == [1, 1, 1]


def test_a_waveform_is_altered_by_its_own_key_after_the_change_of_speed() -> None:
    seen: list[tuple[int, int, int]] = []

    def alter(samples: Tensor, epoch: int, key: np.uint64) -> Tensor:
        seen.append((len(samples), epoch, int(key)))
        return samples + len(seen)

    plain = whole(batches(MadeSplit(20), factors=(0.5,)), 2)
    altered = whole(batches(MadeSplit(20), factors=(0.5,), alter=alter), 2)
    assert seen == [
        (length, 2, int(utterance_keys([name])[0]))
        for batch in plain
        for length, name in zip(batch.waveform_lengths.tolist(), batch.ids, strict=True)
    ]
    assert min(seen)[0] == 3200  # u0 at half the speed
    number = itertools.count(1)
    for before, after in zip(plain, altered, strict=True):
        for row, length in enumerate(before.waveform_lengths.tolist()):
            difference = after.waveforms[row] - before.waveforms[row]
            assert difference[:length].numpy() == pytest.approx(next(number), abs=1e-5)
            assert not difference[length:].any()  # padding stays


def test_rows_of_several_splits_are_one_list() -> None:
    first, second, third = MadeSplit(4, "u"), MadeSplit(2, "v"), MadeSplit(3, "w")
    parts = [(first, [1, 3]), (second, []), (third, np.array([2, 0]))]
    rows = SplitRows(parts)  # type: ignore[arg-type]
    assert list(rows) == [(first, 1), (first, 3), (third, 2), (third, 0)]
    assert (len(rows), rows[-1]) == (4, (third, 0))
    assert rows.samples.tolist() == [3200, 6400, 4800, 1600]
    assert rows.keys.tolist() == utterance_keys(["u1", "u3", "w2", "w0"]).tolist()
    with pytest.raises(IndexError):
        rows[4]


def test_validation_brings_each_utterance_once_the_longest_first() -> None:
    found = list(validation_batches(MadeSplit(), 60, 3))  # type: ignore[arg-type]
    assert [batch.ids for batch in found] == [("u3",), ("u0", "u1", "u2")]
    assert found[1].texts == ("a", "ab", "b a")
    assert found[1].speakers == ("s", "s", "t")


@pytest.mark.parametrize("world", WORLDS)
def test_ranks_validate_each_batch_once_in_turn(world: int) -> None:
    def validated(rank: int, world: int) -> list[tuple[str, ...]]:
        found = validation_batches(MadeSplit(14), 60, 3, rank, world)  # type: ignore[arg-type]
        return [batch.ids for batch in found]

    alone = validated(0, 1)
    assert len(alone) == 5
    ranks = [validated(rank, world) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1  # nobody waits for another
    in_turn = list(itertools.chain.from_iterable(zip(*ranks, strict=True)))
    assert in_turn[: len(alone)] == alone
    assert set(in_turn[len(alone) :]) <= {()}
    assert len(in_turn) < len(alone) + world


def test_nothing_can_be_padded_too() -> None:
    waveforms, lengths = pad_waveforms([])
    assert waveforms.shape == (0, 0)
    assert lengths.shape == (0,)
    labels, sizes = pad_labels([[], []])
    assert labels.shape == (2, 0)
    assert sizes.tolist() == [0, 0]


def test_a_batch_moves_whole() -> None:
    moved = whole(batches())[0].to("meta")
    assert moved.waveforms.device.type == moved.inner_targets.device.type == "meta"
    assert moved.ids == ("u0", "u1", "u2")


def joined(split: MadeSplit, join: Join, **changed: object) -> TrainingBatches:
    """With other speeds, and one utterance that none may follow and that follows none."""
    rows = SplitRows([(split, range(len(split)))])  # type: ignore[list-item]
    joinable = np.arange(len(split)) != 3
    speed = Speed((0.9, 1.0, 1.1), 1)
    plan = BatchPlan(rows.samples, rows.keys, 60.0, 8, 1, speed, join=join, joinable=joinable)
    return TrainingBatches(rows, plan, UNITS.encode, **changed)  # type: ignore[arg-type]


def test_others_follow_an_utterance_with_their_words_and_at_their_speed() -> None:
    split = MadeSplit(40)
    made = joined(split, Join(0.5, most=3, longest_s=5.0, start_epoch=2))
    assert all(len(name.split("+")) == 1 for batch in whole(made, 1) for name in batch.ids)
    lengths = []
    for batch in whole(made, 2):
        for row, name in enumerate(batch.ids):
            spoken = [split.ids.index(one) for one in name.split("+")]
            heard = [
                change_speed(
                    waveform(split, one),  # type: ignore[arg-type]
                    float(made.plan.factors(2, np.array([one]))[0]),
                )
                for one in spoken
            ]
            expected = torch.cat(heard)
            assert batch.waveform_lengths[row] == len(expected)
            assert torch.equal(batch.waveforms[row, : len(expected)], expected)
            assert batch.texts[row] == " ".join(split.texts[one] for one in spoken)
            labels = UNITS.encode(batch.texts[row])
            assert batch.targets[row, : len(labels)].tolist() == labels
            assert len(spoken) == 1 or len(expected) <= 5.0 * 16_000
            assert len(spoken) == 1 or 3 not in spoken
            lengths.append(len(spoken))
    assert sorted(set(lengths)) == [1, 2, 3]
    firsts = [name.split("+")[0] for batch in whole(made, 2) for name in batch.ids]
    assert sorted(firsts) == sorted(split.ids)


def test_a_batch_of_joined_utterances_is_planned_by_their_length_together() -> None:
    made = joined(
        MadeSplit(90), Join(1.0, most=6, longest_s=40.0, start_epoch=1), device_batch_s=45.0
    )
    for share in made.shares(2):
        longest = [int(batch.waveform_lengths.max()) for batch in share.micro_batches]
        assert all(
            len(batch) == 1 or len(batch) * most <= 45.0 * 16_000
            for batch, most in zip(share.micro_batches, longest, strict=True)
        )
        assert share.utterances == 1 or share.utterances * max(longest) <= 60.0 * 16_000


@pytest.mark.parametrize("world", WORLDS)
def test_any_number_of_ranks_joins_the_same_utterances(world: int) -> None:
    made = joined(MadeSplit(60), Join(0.7, most=4, longest_s=20.0, start_epoch=1))
    alone = [batch.ids for batch in whole(made, 3)]
    ranks = [list(made.shares(3, rank=rank, world=world)) for rank in range(world)]
    for number, expected in enumerate(alone):
        own = [share[number] for share in ranks]
        together = [name for share in own if share.weight for name in share.micro_batches[0].ids]
        assert sorted(together) == sorted(expected)
