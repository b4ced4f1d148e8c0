"""torchaudio's recognisers compute what torchaudio computes, and each utterance by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import asr
from asr.decoding.words import LEAD_S
from asr.pipelines import open_model

# Each kind of network, and a head from which other rows were cut: German.
BASE, LARGE, GERMAN = (
    *("WAV2VEC2_ASR_BASE_960H", "WAV2VEC2_ASR_LARGE_LV60K_960H"),
    "VOXPOPULI_ASR_BASE_10K_DE",
)
NAMES = (BASE, LARGE, GERMAN)
Installed = Callable[..., Any]
Noise = Callable[..., np.ndarray]


@torch.inference_mode()
def emissions_of_torchaudio(pipeline: Any, waveform: np.ndarray) -> Tensor:
    logits, _ = pipeline.get_model()(torch.from_numpy(waveform)[None])
    return logits[0].log_softmax(-1)  # [T', V]


@pytest.mark.parametrize("name", NAMES)
def test_emissions_are_those_that_torchaudio_computes(
    name: str, installed: Installed, noise: Noise
) -> None:
    pipeline, waveform = installed(name), noise(40_000)
    emissions, lengths = open_model(f"torchaudio:{name}").emissions([waveform])
    expected = emissions_of_torchaudio(pipeline, waveform)
    assert lengths.tolist() == [len(expected)] == [124]  # 1 + (40,000 - 400) // 320
    assert len(set(expected.argmax(-1).tolist())) > 5  # a network that hears something
    torch.testing.assert_close(emissions[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_padding_and_neighbours_change_no_result(
    name: str, installed: Installed, noise: Noise
) -> None:
    pipeline = installed(name)
    bundle = open_model(f"torchaudio:{name}")
    sizes = (48_000, 20_000, 719, 400, 399, 0)
    waveforms = [noise(size, seed) for seed, size in enumerate(sizes)]
    together, lengths = bundle.emissions(waveforms)
    assert lengths.tolist() == [149, 62, 1, 1, 0, 0]
    for row, waveform, length in zip(together, waveforms, lengths.tolist(), strict=True):
        alone, (count,) = bundle.emissions([waveform])
        assert int(count) == length
        torch.testing.assert_close(row[:length], alone[0, :length], atol=1e-4, rtol=0)
    with torch.inference_mode():  # of torchaudio itself that is not true
        padded, _ = pipeline.get_model()(*bundle.padded(waveforms[:2]))
    expected = emissions_of_torchaudio(pipeline, waveforms[1])
    assert (padded[1, :62].log_softmax(-1) - expected).abs().max() > 1e-2


def test_a_text_is_the_best_path_in_lower_case(installed: Installed, noise: Noise) -> None:
    pipeline, waveform = installed(BASE), noise(64_000)
    path = emissions_of_torchaudio(pipeline, waveform).argmax(-1).tolist()
    labels = [pipeline.get_labels()[label] for label, _ in groupby(path) if label]
    expected = " ".join("".join(labels).replace("|", " ").lower().split())
    [transcript] = asr.load(f"torchaudio:{BASE}").transcribe([waveform])
    assert transcript.text == expected
    assert len(transcript.words) == len(expected.split()) > 3
    assert transcript.words[-1].end_s <= transcript.duration_s == 4.0


def test_a_frame_stands_in_the_middle_of_the_samples_it_is_made_of(
    installed: Installed, noise: Noise
) -> None:
    model = installed(LARGE).get_model().model
    waveform = torch.from_numpy(noise(16_000))[None].requires_grad_()
    frames, _ = model.feature_extractor(waveform, None)  # [1, T', H]
    (gradient,) = torch.autograd.grad(frames[0, 20].sum(), waveform)
    samples = gradient[0].nonzero().flatten()
    middle_s = (float(samples[0]) + float(samples[-1]) + 1) / 2 / 16_000
    bundle = open_model(f"torchaudio:{LARGE}")
    assert bundle.offset_s + 20.5 * bundle.seconds_per_frame == pytest.approx(middle_s)


def test_words_begin_where_their_first_letter_is_emitted(installed: Installed) -> None:
    installed(BASE)
    bundle = open_model(f"torchaudio:{BASE}")
    emissions = torch.full((1, 100, 29), -9.0)
    emissions[0, :, 0] = 0.0
    for frame, symbol in ((20, "h"), (25, "i"), (30, "|"), (50, "x")):
        emissions[0, frame, bundle.units.symbols.index(symbol)] = 1.0
    [[best]] = bundle.search.decode(emissions, torch.tensor([100]))
    assert best.text == "hi x"
    # Frame 20 begins at 0.4025 s: 20 times 20 ms, and half of what 25 ms are longer than that.
    assert [word.start_s for word in best.words] == [
        pytest.approx(0.4025 - LEAD_S, abs=6e-4),
        pytest.approx(1.0025 - LEAD_S, abs=6e-4),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_parts_of_a_recording_are_normalised_as_the_whole(
    name: str, installed: Installed, noise: Noise
) -> None:
    installed(name)
    bundle = open_model(f"torchaudio:{name}")
    recording = noise(200_000)

    def blocks() -> Iterator[np.ndarray]:
        yield from np.split(recording, [1, 3, 11, 40_000])

    with torch.inference_mode():
        fitted = bundle.features.fitted(blocks())
        whole, _ = bundle.features(*bundle.padded([recording]))
        part, (count,) = fitted(*bundle.padded([recording[3_200:64_000]]))
        first = 3_200 // bundle.features.hop_samples
        expected = whole[0, :, first : first + int(count)]
        torch.testing.assert_close(part[0, :, : int(count)], expected, atol=1e-4, rtol=0)
        alone, _ = bundle.features(*bundle.padded([recording[3_200:64_000]]))
        assert (alone[0, :, : int(count)] - expected).abs().max() > 0.1


def test_a_recording_of_less_than_a_frame_has_no_text(installed: Installed, noise: Noise) -> None:
    installed(BASE)
    bundle = open_model(f"torchaudio:{BASE}")
    assert [one.text for one in bundle.transcribe([np.zeros(0, np.float32), noise(300)])] == [
        "",
        "",
    ]


def test_its_digest_is_that_of_what_changes_the_text(installed: Installed) -> None:
    installed(BASE)
    first, again = open_model(f"torchaudio:{BASE}"), open_model(f"torchaudio:{BASE}")
    assert first.digest == again.digest
    with torch.no_grad():
        again.network.encoder.convolutions[0].layer_norm.bias[0] += 1e-3  # type: ignore[union-attr]
    assert first.digest != again.digest
    other = open_model(f"torchaudio:{BASE}")
    other.decoder = {"name": "beam"}
    assert first.digest != other.digest
