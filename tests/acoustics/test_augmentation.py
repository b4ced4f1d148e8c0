"""Noise, rooms and levels: against sums written out, and what they may depend on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from asr.acoustics.augmentation import (
    Gain,
    Noise,
    Reverb,
    WaveformAugmentation,
    add_noise,
    reverberate,
)
from asr.audio import load
from asr.augment import utterance_keys
from asr.commands.compose import compose
from asr.errors import UserError

KEYS = utterance_keys([f"utterance-{number}" for number in range(2000)])
RANDOM = np.random.default_rng(7)
WAVEFORM = RANDOM.normal(0, 0.05, 3_000).astype(np.float32)


def decibels(ratio: float) -> float:
    return float(10 * np.log10(ratio))


def snr_db(clean: np.ndarray, noisy: np.ndarray) -> float:
    """Of what was added to `clean`."""
    added = noisy.astype(np.float64) - clean
    return decibels(np.sum(clean.astype(np.float64) ** 2) / np.sum(added**2))


@pytest.fixture
def noises(tmp_path: Path) -> str:
    """Three recordings of noise: loud, soft, and shorter than the waveform."""
    for name, deviation, samples in (("a", 0.3, 9_000), ("b", 0.001, 5_000), ("c", 0.1, 700)):
        (tmp_path / "noises").mkdir(exist_ok=True)
        soundfile.write(
            tmp_path / f"noises/{name}.wav", RANDOM.normal(0, deviation, samples), 16_000
        )
    return str(tmp_path / "noises")


@pytest.fixture
def rooms(tmp_path: Path) -> str:
    """Three impulse responses: sound that comes late and decays."""
    (tmp_path / "rooms").mkdir()
    for number, delay in enumerate((0, 40, 90)):
        response = RANDOM.normal(0, 0.1, 800) * np.exp(-np.arange(800) / 200)
        response[:delay] *= 0.01
        response[delay] = 0.9
        soundfile.write(tmp_path / f"rooms/{number}.wav", response, 16_000)
    return str(tmp_path / "rooms")


@pytest.mark.parametrize("wanted_db", [-10.0, 0.0, 7.3, 40.0])
def test_noise_is_added_at_its_snr(wanted_db: float) -> None:
    noise = RANDOM.normal(0.2, 0.7, 3_000).astype(np.float32)
    noisy = add_noise(WAVEFORM, noise, wanted_db)
    assert snr_db(WAVEFORM, noisy) == pytest.approx(wanted_db, abs=1e-3)
    theirs = torchaudio.functional.add_noise(
        torch.from_numpy(WAVEFORM), torch.from_numpy(noise), torch.tensor(wanted_db)
    )
    np.testing.assert_allclose(noisy, theirs.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("silent", ["waveform", "noise", "both"])
def test_silence_stays_what_it_is(silent: str) -> None:
    nothing = np.zeros_like(WAVEFORM)
    waveform = WAVEFORM if silent == "noise" else nothing
    noise = WAVEFORM if silent == "waveform" else nothing
    np.testing.assert_array_equal(add_noise(waveform, noise, 5.0), waveform)
    np.testing.assert_array_equal(reverberate(waveform, noise), waveform)


def test_the_faintest_noise_gives_numbers() -> None:
    faintest = np.full_like(WAVEFORM, 1e-45)
    assert 0 < faintest[0] < 1e-44
    assert snr_db(WAVEFORM, add_noise(WAVEFORM, faintest, 5.0)) == pytest.approx(5.0, abs=1e-3)
    assert np.isfinite(reverberate(WAVEFORM, faintest)).all()


@pytest.mark.parametrize(("samples", "response_samples"), [(300, 80), (300, 1), (50, 200), (1, 9)])
def test_reverberation_is_the_sum_over_the_impulse_response(
    samples: int, response_samples: int
) -> None:
    waveform, response = RANDOM.normal(0, 0.1, samples), RANDOM.normal(0, 0.1, response_samples)
    direct = response_samples // 3
    response[direct] = -2.0
    heard = [
        sum(
            response[later + direct] * waveform[time - later]
            for later in range(-direct, response_samples - direct)
            if 0 <= time - later < samples
        )
        for time in range(samples)
    ]
    expected = np.array(heard) * np.sqrt(np.sum(waveform**2) / np.sum(np.square(heard)))
    result = reverberate(waveform.astype(np.float32), response.astype(np.float32))
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_reverberation_is_right_at_any_length() -> None:
    response = RANDOM.normal(0, 0.1, 20)
    response[0] = 1.0
    for samples in range(1, 300):
        waveform = RANDOM.normal(0, 0.1, samples)
        heard = np.convolve(waveform, response)[:samples]
        expected = heard * np.sqrt(np.sum(waveform**2) / np.sum(heard**2))
        result = reverberate(waveform.astype(np.float32), response.astype(np.float32))
        np.testing.assert_allclose(result, expected, atol=1e-6)


def test_reverberation_is_numpys_convolution_aligned_and_as_strong(rooms: str) -> None:
    for path in sorted(Path(rooms).iterdir()):
        response, _ = soundfile.read(path)
        heard = np.convolve(WAVEFORM.astype(np.float64), response)
        heard = heard[np.abs(response).argmax() :][: len(WAVEFORM)]
        result = reverberate(WAVEFORM, load(path))
        energy = np.sum(WAVEFORM.astype(np.float64) ** 2)
        assert np.sum(result.astype(np.float64) ** 2) == pytest.approx(energy, rel=1e-5)
        np.testing.assert_allclose(result, heard * np.sqrt(energy / np.sum(heard**2)), atol=1e-6)


@pytest.mark.parametrize("delay", [0, 1, 57])
def test_a_room_that_only_delays_changes_nothing(delay: int) -> None:
    response = np.zeros(100, np.float32)
    response[delay] = -0.4
    np.testing.assert_allclose(reverberate(WAVEFORM, response), -WAVEFORM, atol=1e-7)


@pytest.mark.parametrize("level_db", [-20.0, -6.0, 3.5])
def test_gain_is_in_decibels(level_db: float) -> None:
    louder = Gain(level_db, level_db)(WAVEFORM, 1, 1, KEYS[0])
    np.testing.assert_allclose(louder, WAVEFORM * 10 ** (level_db / 20), rtol=1e-6)


def test_beyond_full_scale_nothing_is_clipped() -> None:
    loud = 10 * WAVEFORM
    assert np.abs(loud).max() > 1
    np.testing.assert_allclose(Gain(20.0, 20.0)(WAVEFORM, 1, 1, KEYS[0]), loud, rtol=1e-6)
    np.testing.assert_allclose(reverberate(loud, np.ones(1, np.float32)), loud, rtol=1e-5)
    assert snr_db(loud, add_noise(loud, WAVEFORM[::-1], 20.0)) == pytest.approx(20.0, abs=1e-3)


def test_snrs_are_drawn_evenly_within_their_range(noises: str) -> None:
    noise = Noise(noises, probability=1.0, low_snr_db=5.0, high_snr_db=20.0, start_epoch=1)
    drawn = np.array([snr_db(WAVEFORM, noise(WAVEFORM, 1, 1, key)) for key in KEYS])
    assert drawn.min() > 5 - 1e-3
    assert drawn.max() < 20 + 1e-3
    assert drawn.mean() == pytest.approx(12.5, abs=5 * 15 / np.sqrt(12 * 2000))
    counts, _ = np.histogram(drawn, bins=5, range=(4.99, 20.01))
    assert np.abs(counts - 400).max() < 5 * np.sqrt(400)


def test_levels_are_drawn_evenly_within_their_range() -> None:
    gain = Gain(-6.0, 3.0)
    drawn = [decibels(float(gain(WAVEFORM, 1, 1, key)[0] / WAVEFORM[0]) ** 2) for key in KEYS]
    assert -6 - 1e-3 < min(drawn) < -5.9
    assert 2.9 < max(drawn) < 3 + 1e-3
    assert np.mean(drawn) == pytest.approx(-1.5, abs=5 * 9 / np.sqrt(12 * 2000))


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_as_many_utterances_are_changed_as_was_asked_for(
    noises: str, rooms: str, probability: float
) -> None:
    for change in (Noise(noises, probability, start_epoch=1), Reverb(rooms, probability, 1)):
        changed = [change(WAVEFORM, 1, 1, key) is not WAVEFORM for key in KEYS[:500]]
        assert np.mean(changed) == pytest.approx(probability, abs=4 * np.sqrt(0.25 / 500))
        assert np.mean(changed) == probability or 0 < probability < 1


def test_every_recording_of_a_folder_is_heard(noises: str, rooms: str) -> None:
    noise = Noise(noises, probability=0.3, start_epoch=1)
    reverb = Reverb(rooms, probability=0.3, start_epoch=1)
    long_ones = {path.name: load(path) for path in Path(noises).iterdir() if path.name != "c.wav"}
    impulse = np.zeros(1_000, np.float32)
    impulse[500] = 1.0
    heard, tails = set(), set()
    for key in KEYS[:150]:
        tails.add(reverb(impulse, 1, 1, key)[501:].tobytes())
        added = noise(WAVEFORM, 1, 1, key).astype(np.float64) - WAVEFORM
        if not added.any():
            continue
        likeness = {
            name: np.correlate(samples, added).max()
            / np.sqrt(np.sum(added**2) * np.sum(samples[: len(added)].astype(np.float64) ** 2))
            for name, samples in long_ones.items()
        }
        closest = max(likeness, key=likeness.__getitem__)
        heard.add(closest if likeness[closest] > 0.5 else "c.wav")
    assert heard == {"a.wav", "b.wav", "c.wav"}
    assert len(tails) == 4  # one for the impulse as it was


@pytest.mark.parametrize("part", ["noise", "reverb", "gain"])
def test_what_is_drawn_depends_on_seed_epoch_and_utterance_alone(
    noises: str, rooms: str, part: str
) -> None:
    options: dict[str, Noise | Reverb | Gain] = {
        "noise": Noise(noises, probability=1.0, start_epoch=1),
        "reverb": Reverb(rooms, probability=1.0, start_epoch=1),
        "gain": Gain(-6.0, 6.0),
    }

    def results(seed: int, epoch: int, keys: np.ndarray) -> list[np.ndarray]:
        augmentation = WaveformAugmentation(seed, **{part: options[part]})  # type: ignore[arg-type]
        return [augmentation(torch.from_numpy(WAVEFORM), epoch, key).numpy() for key in keys]

    first = results(1, 4, KEYS[:40])
    assert not any(np.array_equal(one, WAVEFORM) for one in first)
    for others in (results(2, 4, KEYS[:40]), results(1, 5, KEYS[:40]), results(1, 4, KEYS[40:80])):
        same = sum(np.array_equal(*pair) for pair in zip(first, others, strict=True))
        assert same < (25 if part == "reverb" else 1)  # of three rooms one is met again
    for one, again in zip(first[::-3], results(1, 4, KEYS[:40][::-3]), strict=True):
        np.testing.assert_array_equal(one, again)


def test_one_augmentations_draws_are_not_anothers(noises: str, rooms: str) -> None:
    noise, reverb = Noise(noises, 0.5, start_epoch=1), Reverb(rooms, 0.5, start_epoch=1)
    gain = Gain(-6.0, 6.0)
    drawn = [
        (
            noise(WAVEFORM, 1, 1, key) is WAVEFORM,
            reverb(WAVEFORM, 1, 1, key) is WAVEFORM,
            gain(WAVEFORM, 1, 1, key)[0],
        )
        for key in KEYS[:600]
    ]
    correlation = np.corrcoef(np.array(drawn, dtype=np.float64).T)
    assert np.abs(correlation - np.eye(3)).max() < 0.2


def test_the_room_comes_first_then_noise_then_gain(noises: str, rooms: str) -> None:
    noise, reverb = Noise(noises, 1.0, start_epoch=1), Reverb(rooms, 1.0, start_epoch=1)
    gain = Gain(-6.0, 6.0)
    whole = WaveformAugmentation(3, noise, reverb, gain)(torch.from_numpy(WAVEFORM), 2, KEYS[5])
    by_hand = gain(noise(reverb(WAVEFORM, 3, 2, KEYS[5]), 3, 2, KEYS[5]), 3, 2, KEYS[5])
    np.testing.assert_array_equal(whole.numpy(), by_hand)
    assert whole.dtype == torch.float32
    assert whole.shape == (3_000,)


def test_each_waits_for_its_epoch(noises: str, rooms: str) -> None:
    changes: tuple[Callable[..., np.ndarray], ...] = (
        Noise(noises, probability=1.0, start_epoch=3),
        Reverb(rooms, probability=1.0, start_epoch=3),
        Gain(6.0, 6.0, start_epoch=3),
    )
    for change in changes:
        assert change(WAVEFORM, 1, 2, KEYS[0]) is WAVEFORM
        assert not np.array_equal(change(WAVEFORM, 1, 3, KEYS[0]), WAVEFORM)


@pytest.mark.parametrize("name", ["standard", "none"])
def test_unless_asked_for_waveforms_stay_as_they_are(name: str) -> None:
    augment = compose(["recipe=an4", f"augment={name}"]).augment
    augmentation = WaveformAugmentation(
        1,
        Noise(**dataclasses.asdict(augment.noise)),
        Reverb(**dataclasses.asdict(augment.reverb)),
        Gain(**dataclasses.asdict(augment.gain)),
    )
    augmentation.check()
    for epoch in (1, 2, 3, 50):
        result = augmentation(torch.from_numpy(WAVEFORM), epoch, KEYS[0])
        np.testing.assert_array_equal(result.numpy(), WAVEFORM)


def test_settings_reach_what_they_name(noises: str, rooms: str) -> None:
    words = [
        *(f"augment.noise.folder={noises}", "augment.noise.probability=1"),
        *("augment.noise.low_snr_db=9", "augment.noise.high_snr_db=9"),
        *(f"augment.reverb.folder={rooms}", "augment.gain.high_db=3"),
    ]
    augment = compose(["recipe=an4", "augment=none", *words]).augment
    noisy = Noise(**dataclasses.asdict(augment.noise))(WAVEFORM, 1, 1, KEYS[0])
    assert snr_db(WAVEFORM, noisy) == pytest.approx(9.0, abs=1e-3)
    assert Reverb(**dataclasses.asdict(augment.reverb)).folder == rooms
    assert Gain(**dataclasses.asdict(augment.gain)) == Gain(0.0, 3.0)
    with pytest.raises(UserError, match=r"augment\.noise\.probability=1\.5 must be between 0"):
        compose(["recipe=an4", "augment.noise.probability=1.5"])


def test_the_check_names_noise_rooms_and_what_is_no_impulse_response(
    noises: str, rooms: str
) -> None:
    WaveformAugmentation(1, Noise(noises), Reverb(rooms)).check()
    with pytest.raises(UserError, match=r"augment\.noise\.folder=.*nowhere is no folder"):
        WaveformAugmentation(1, Noise(noises + "/nowhere"), Reverb(rooms)).check()
    with pytest.raises(UserError, match=r"augment\.reverb\.folder=.*nowhere is no folder"):
        WaveformAugmentation(1, Noise(noises), Reverb(rooms + "/nowhere")).check()
    soundfile.write(Path(noises) / "music.wav", np.full(31 * 8_000, 0.1), 8_000)
    Noise(noises).check()
    with pytest.raises(UserError, match=r"music\.wav is 31 s long, more than 30 s"):
        Reverb(noises).check()


def test_real_speech_as_noise_behind_real_speech(real_data: Callable[[str], Path]) -> None:
    speakers = real_data("an4") / "wav" / "an4test_clstk"
    waveform = load(next(iter(sorted((speakers / "fcaw").glob("*.wav")))))
    noise = Noise(str(speakers), probability=1.0, low_snr_db=0.0, high_snr_db=10.0, start_epoch=1)
    noise.check()
    assert noise.recordings
    assert len(noise.recordings.paths) == 130
    for key in KEYS[:20]:
        noisy = noise(waveform, 1, 1, key)
        assert noisy.shape == waveform.shape
        assert -1e-3 < snr_db(waveform, noisy) < 10 + 1e-3
