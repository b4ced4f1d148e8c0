"""Batches as tensors, of a made-up split."""

from __future__ import annotations

import numpy as np
import torch

from asr.augment import Speed, utterance_keys
from asr.data.batch import pad_labels, pad_waveforms
from asr.data.dataset import TrainingBatches, validation_batches
from asr.data.sampler import BatchPlan
from asr.text import CharacterUnits

UNITS = CharacterUnits(("<blank>", "|", "a", "b"))


class MadeSplit:
    """Utterance i is i + 1 tenths of a second of the constant 327.68 x i."""

    ids = ("u0", "u1", "u2", "u3")
    texts = ("a", "ab", "b a", "bb")
    speakers = ("s", "s", "t", "t")
    samples = np.array([1600, 3200, 4800, 6400])

    def waveform(self, index: int) -> np.ndarray:
        return np.full(self.samples[index], round(327.68 * index), dtype=np.int16)


def batches(factors: tuple[float, ...] = (1.0,)) -> TrainingBatches:
    split = MadeSplit()
    plan = BatchPlan(split.samples, utterance_keys(split.ids), 60, 3, 1, Speed(factors, 1))
    rows = [(split, row) for row in range(4)]
    return TrainingBatches(rows, plan, UNITS.encode)  # type: ignore[arg-type]


def test_waveforms_and_labels_are_padded_with_zeros() -> None:
    first, second = batches()
    assert first.ids == ("u0", "u1", "u2")
    assert second.ids == ("u3",)
    assert first.waveform_lengths.tolist() == [1600, 3200, 4800]
    assert first.waveforms.shape == (3, 4800)
    torch.testing.assert_close(
        first.waveforms[1, :3200], torch.full((3200,), 0.01), rtol=1e-2, atol=0
    )
    assert not first.waveforms[1, 3200:].any()
    assert first.targets.tolist() == [[2, 0, 0], [2, 3, 0], [3, 1, 2]]
    assert first.target_lengths.tolist() == [1, 2, 3]
    assert first.inner_target_lengths.tolist() == [0, 0, 0]
    assert first.audio_s == 0.6


def test_speed_belongs_to_the_plan() -> None:
    first, _ = batches(factors=(0.5,))
    assert first.waveform_lengths.tolist() == [3200, 6400, 9600]


def test_an_epoch_is_planned_by_its_number() -> None:
    made = batches()
    keys = [batch.keys.tolist() for batch in made]
    assert keys == [batch.keys.tolist() for batch in made]
    assert {batch.epoch for batch in made} == {1}
    assert len(made) == 2


def test_validation_brings_each_utterance_once_the_longest_first() -> None:
    found = list(validation_batches(MadeSplit(), 60, 3))  # type: ignore[arg-type]
    assert [batch.ids for batch in found] == [("u3",), ("u0", "u1", "u2")]
    assert found[1].texts == ("a", "ab", "b a")
    assert found[1].speakers == ("s", "s", "t")


def test_nothing_can_be_padded_too() -> None:
    waveforms, lengths = pad_waveforms([])
    assert waveforms.shape == (0, 0)
    assert lengths.shape == (0,)
    labels, sizes = pad_labels([[], []])
    assert labels.shape == (2, 0)
    assert sizes.tolist() == [0, 0]


def test_a_batch_moves_whole() -> None:
    moved = batches().batch(batches().plan.batches(1)[0]).to("meta")
    assert moved.waveforms.device.type == moved.inner_targets.device.type == "meta"
    assert moved.ids == ("u0", "u1", "u2")
