"""Augmentations against numpy, and what they may depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from asr.augment import (
    Join,
    SpecAugment,
    Speed,
    Warp,
    change_speed,
    draw,
    perturbed_samples,
    utterance_keys,
    warp_mel_axis,
)

KEYS = utterance_keys([f"utterance-{number}" for number in range(2000)])


def test_draws_are_uniform_and_independent_of_each_other() -> None:
    numbers = draw(1, 1, KEYS, "x", 4)
    assert numbers.shape == (2000, 4)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=10, range=(0, 1))
    assert np.abs(counts - 800).max() < 5 * np.sqrt(800)
    assert np.abs(np.corrcoef(numbers.T) - np.eye(4)).max() < 0.1


def test_draws_depend_on_seed_epoch_purpose_and_utterance_alone() -> None:
    numbers = draw(1, 1, KEYS, "x", 2)
    np.testing.assert_array_equal(draw(1, 1, KEYS[[7, 3]], "x", 2), numbers[[7, 3]])
    for other in (draw(2, 1, KEYS, "x", 2), draw(1, 2, KEYS, "x", 2), draw(1, 1, KEYS, "y", 2)):
        assert not np.isclose(other, numbers).any(axis=1).all()
        assert abs(np.corrcoef(other[:, 0], numbers[:, 0])[0, 1]) < 0.1


def test_keys_are_the_same_on_every_machine() -> None:
    # printf an4 | b2sum -l 64
    assert utterance_keys(["an4"]).tolist() == [
        int.from_bytes(bytes.fromhex("83eeb297443eced7"), "little")
    ]


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1, 0.95])
def test_speed_moves_a_tone_and_shortens_the_time(factor: float) -> None:
    time = torch.arange(16_000) / 16_000
    played = change_speed(torch.sin(2 * torch.pi * 1000 * time), factor)
    assert len(played) == perturbed_samples(np.array([16_000]), np.array([factor]))[0]
    assert len(played) == pytest.approx(16_000 / factor, abs=1)
    peak = torch.fft.rfft(played, n=16_000).abs().argmax()
    assert float(peak) == pytest.approx(1000 * factor, abs=2)


def test_speeds_are_drawn_evenly_from_their_first_epoch_on() -> None:
    speed = Speed((0.9, 1.0, 1.1), start_epoch=3)
    assert set(speed.draw(1, 2, KEYS)) == {1.0}
    values, counts = np.unique(speed.draw(1, 3, KEYS), return_counts=True)
    assert values.tolist() == [0.9, 1.0, 1.1]
    assert counts.min() > 550


def test_warping_interpolates_as_numpy_does() -> None:
    features = torch.rand(3, 5, 80)
    factors = torch.tensor([0.88, 1.0, 1.12])
    warped = warp_mel_axis(features, factors)
    bins = np.arange(80)
    for row in range(3):
        for frame in range(5):
            wanted = np.clip(bins * float(factors[row]), 0, 79)
            expected = np.interp(wanted, bins, features[row, frame].numpy())
            np.testing.assert_allclose(warped[row, frame].numpy(), expected, atol=1e-5)


def test_warping_waits_for_its_epoch() -> None:
    features = torch.rand(2, 5, 80)
    warp = Warp(start_epoch=3)
    assert warp(features, 1, 2, KEYS[:2]) is features
    assert not torch.equal(warp(features, 1, 3, KEYS[:2]), features)


def test_masks_stay_within_their_limits_and_the_utterance() -> None:
    spec = SpecAugment(frequency_masks=2, frequency_width=15, time_masks=2, time_share=0.1)
    lengths = torch.tensor([100, 40])
    covered = np.zeros(2)
    for epoch in range(4, 60):
        masked = spec(torch.ones(2, 100, 80), lengths, 1, epoch, KEYS[:2]) == 0
        bins = masked.all(dim=1).sum(1)
        frames = masked.all(dim=2)
        assert (bins <= 30).all()
        assert (frames.sum(1) <= 2 * 0.1 * lengths).all()
        assert not frames[1, 40:].any()
        covered += frames.sum(1).numpy()
    assert (covered > 0).all()


def test_masks_do_not_depend_on_the_batch() -> None:
    spec = SpecAugment(start_epoch=1)
    features = torch.rand(8, 120, 80)
    lengths = torch.randint(60, 121, (8,))
    together = spec(features, lengths, 1, 5, KEYS[:8])
    for row in range(8):
        alone = spec(features[row : row + 1], lengths[row : row + 1], 1, 5, KEYS[row : row + 1])
        torch.testing.assert_close(alone[0], together[row])


def test_others_follow_evenly_from_their_first_epoch_on() -> None:
    join = Join(0.6, most=4, longest_s=1.0, start_epoch=3)
    assert join.draw(1, 2, KEYS, 50).shape == (2000, 0)
    assert Join().draw(1, 9, KEYS, 50).shape == (2000, 0)
    followers = join.draw(1, 3, KEYS, 50)
    counts = np.bincount((followers >= 0).sum(axis=1), minlength=4)
    np.testing.assert_allclose(counts / 2000, [0.4, 0.2, 0.2, 0.2], atol=0.05)
    chosen = np.bincount(followers[followers >= 0], minlength=50)
    assert len(chosen) == 50
    assert np.abs(chosen - chosen.mean()).max() < 5 * np.sqrt(chosen.mean())
    np.testing.assert_array_equal(join.draw(1, 3, KEYS[[7, 3]], 50), followers[[7, 3]])
