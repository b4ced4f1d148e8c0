from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from asr.cluster.filters import Filters, estimate_snr_db
from asr.utterance import Utterance

TEN_LETTERS = Utterance("u1", "/data/a.wav", "abcde fghi", "train")


def speech(seconds: float, pauses: float, seed: int = 0) -> NDArray[np.float64]:
    """Syllables of 0.2 s of noise through a share of the time, silence through the rest."""
    random = np.random.default_rng(seed)
    syllables = random.random(round(seconds / 0.2)) >= pauses
    syllables[0] = False
    return np.repeat(syllables, 3_200) * random.normal(0, 0.1, 3_200 * len(syllables))


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0, 40.0])
@pytest.mark.parametrize("pauses", [0.3, 0.6])
def test_the_estimate_is_near_the_snr_at_which_noise_was_added(
    snr_db: float, pauses: float
) -> None:
    clean = speech(10.0, pauses)
    noise = np.random.default_rng(1).normal(0, 1, len(clean))
    noise *= np.sqrt((clean**2).mean() / (noise**2).mean() / 10 ** (snr_db / 10))
    assert estimate_snr_db((clean + noise).astype(np.float32)) == pytest.approx(snr_db, abs=1.5)


def test_silence_that_was_put_there_is_not_taken_for_the_noise() -> None:
    noisy = speech(4.0, 0.4) + np.random.default_rng(1).normal(0, 0.05, 64_000)
    padded = np.concatenate([np.zeros(32_000), noisy, np.zeros(32_000)])
    assert estimate_snr_db(padded.astype(np.float32)) == pytest.approx(
        estimate_snr_db(noisy.astype(np.float32)), abs=0.1
    )


def test_nothing_but_silence_or_less_than_a_frame_is_no_signal() -> None:
    assert estimate_snr_db(np.zeros(16_000, np.float32)) == 0.0
    assert estimate_snr_db(np.ones(100, np.float32)) == 0.0


@pytest.mark.parametrize(
    ("filters", "reason", "detail"),
    [
        (Filters(min_duration_s=2.001), "filtered-short", "2.000 s: prepare.min_duration_s=2.001"),
        (Filters(max_duration_s=1.999), "filtered-long", "2.000 s: prepare.max_duration_s=1.999"),
        (Filters(max_chars_per_s=4.9), "filtered-fast", "5.0 characters a second"),
        (Filters(min_snr_db=80.0), "filtered-noisy", "an estimated SNR of"),
    ],
)
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_what_is_beyond_a_limit_is_left_out_of_training_alone(
    filters: Filters, reason: str, detail: str, split: str
) -> None:
    utterance = Utterance("u1", "/data/a.wav", "abcde fghi", split, "s1")
    rejection = filters.judge(utterance, speech(2.0, 0.4).astype(np.float32))
    if split != "train":
        assert rejection is None
        return
    assert rejection is not None
    assert (rejection.id, rejection.reason, rejection.speaker) == ("u1", reason, "s1")
    assert rejection.detail.startswith(f"/data/a.wav has {detail}")


@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(min_duration_s=2.0, max_duration_s=2.0, max_chars_per_s=5.0, min_snr_db=10.0),
    ],
)
def test_what_is_at_a_limit_is_kept(filters: Filters) -> None:
    said = np.random.default_rng(0).normal(0, 0.1, 32_000)
    said[8_000:12_000] = 0.0
    assert filters.judge(TEN_LETTERS, said.astype(np.float32)) is None
