"""Log-mel features against numpy and against themselves under padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchaudio

from asr.features import ENERGY_FLOOR, LogMel


def noise(*samples: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(count, generator=generator) - 0.5 for count in samples]


def padded(waveforms: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    return torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True), lengths


def test_energies_equal_numpys() -> None:
    (waveform,) = noise(1000)
    features = LogMel()
    energies, lengths = features.log_mel(waveform[None], torch.tensor([1000]))
    filters = torchaudio.functional.melscale_fbanks(257, 20.0, 8000.0, 80, 16_000).numpy()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    expected = []
    for start in range(0, 1000 - 400 + 1, 160):
        spectrum = np.fft.rfft(waveform.numpy()[start : start + 400] * window, n=512)
        expected.append(np.log(np.maximum(np.abs(spectrum) ** 2 @ filters, ENERGY_FLOOR)))
    assert int(lengths) == len(expected) == 4
    np.testing.assert_allclose(energies[0].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16_000, 98)]
)
def test_frames_hold_whole_windows_only(samples: int, frames: int) -> None:
    assert LogMel().frame_lengths(torch.tensor([samples])).tolist() == [frames]
    features, lengths = LogMel()(torch.zeros(1, samples), torch.tensor([samples]))
    assert lengths.tolist() == [frames]
    assert features.shape[1] >= frames


@pytest.mark.parametrize("normalisation", ["corpus", "utterance"])
def test_padding_changes_no_feature(normalisation: str) -> None:
    waveforms = noise(4000, 16_000, 7777)
    features = LogMel(normalisation=normalisation)
    features.fit(waveforms)
    together, lengths = features(*padded(waveforms))
    for row, length, waveform in zip(together, lengths, waveforms, strict=True):
        alone, own = features(waveform[None], torch.tensor([len(waveform)]))
        assert int(own) == int(length)
        torch.testing.assert_close(row[:length], alone[0, : int(own)], atol=1e-5, rtol=0)
        assert not row[length:].any()


def test_statistics_are_those_of_all_frames_together() -> None:
    waveforms = noise(5000, 20_000)
    features = LogMel()
    frames = torch.cat([features.log_mel(w[None], torch.tensor([len(w)]))[0][0] for w in waveforms])
    features.fit(waveforms)
    torch.testing.assert_close(features.mean, frames.mean(0))
    torch.testing.assert_close(features.deviation, frames.std(0, correction=0))


def test_an_utterance_normalised_by_itself_has_mean_0_and_deviation_1() -> None:
    (waveform,) = noise(16_000)
    features, _ = LogMel(normalisation="utterance")(waveform[None], torch.tensor([16_000]))
    assert features[0].mean(0).abs().max() < 1e-4
    assert (features[0].std(0, correction=0) - 1).abs().max() < 1e-2


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no recording"):
        LogMel().fit([torch.zeros(10)])


def test_an_unknown_normalisation_is_refused() -> None:
    with pytest.raises(ValueError, match="corpus or utterance"):
        LogMel(normalisation="speaker")
