"""torchaudio's recognisers behind a bundle's interface; tiny ones with random weights, offline."""

from __future__ import annotations

import json
import os
import socket
import urllib.error
from collections.abc import Callable, Iterator
from email.message import Message
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio
from torch import Tensor

import asr
from asr.bundle import Bundle, load
from asr.commands.describe import describe
from asr.decoding.words import LEAD_S
from asr.description import check_model
from asr.errors import UserError
from asr.pipelines import open_model, outline
from asr.registry import COMPONENTS

# Each kind of network, and a head from which other rows were cut: German.
BASE, LARGE, GERMAN = (
    *("WAV2VEC2_ASR_BASE_960H", "WAV2VEC2_ASR_LARGE_LV60K_960H"),
    "VOXPOPULI_ASR_BASE_10K_DE",
)
NAMES = (BASE, LARGE, GERMAN)
ASR_BUNDLE = torchaudio.pipelines.Wav2Vec2ASRBundle
TINY = {
    "extractor_conv_layer_config": [(8, 10, 5), *[(8, 3, 2)] * 4, *[(8, 2, 2)] * 2],
    "encoder_embed_dim": 16,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 2,
    "encoder_num_heads": 2,
    "encoder_ff_interm_features": 32,
}
Installed = Callable[..., Any]


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Noise that swells and fades, so that parts of it have other statistics than the whole."""
    generator = np.random.default_rng(seed)
    swell = 0.02 + 0.2 * np.sin(np.arange(samples) / 9000) ** 2
    return (0.01 + swell * generator.standard_normal(samples)).astype(np.float32)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's folder of weights, empty; and no network."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tmp_path / "torch/hub/checkpoints"


@pytest.fixture
def installed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """A function that gives a pipeline a tiny network, whose weights lie where torch downloads to.

    They are as the publisher has them: the head has rows that no label belongs to.
    """

    def install(name: str, seed: int = 0) -> Any:
        pipeline = getattr(torchaudio.pipelines, name)
        monkeypatch.setattr(pipeline, "_params", {**pipeline._params, **TINY})
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            model = torchaudio.models.wav2vec2_model(**pipeline._params).eval()
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
            model.aux.weight.normal_(std=3.0)
            heard = model(torch.from_numpy(noise(32_000))[None])[0]
            model.aux.bias -= heard[0].mean(0)  # so that each label is the likeliest now and then
        weights = model.state_dict()
        for key in ("aux.weight", "aux.bias"):
            rows = iter(weights[key])
            total = len(weights[key]) + len(pipeline._remove_aux_axis)
            unused = torch.full_like(weights[key][0], 9.0)
            weights[key] = torch.stack(
                [unused if at in pipeline._remove_aux_axis else next(rows) for at in range(total)]
            )
        cache.mkdir(parents=True, exist_ok=True)
        torch.save(weights, cache / pipeline._path)
        return pipeline

    return install


@torch.inference_mode()
def emissions_of_torchaudio(pipeline: Any, waveform: np.ndarray) -> Tensor:
    logits, _ = pipeline.get_model()(torch.from_numpy(waveform)[None])
    return logits[0].log_softmax(-1)  # [T', V]


@pytest.mark.parametrize("name", NAMES)
def test_emissions_are_those_that_torchaudio_computes(name: str, installed: Installed) -> None:
    pipeline, waveform = installed(name), noise(40_000)
    emissions, lengths = open_model(f"torchaudio:{name}").emissions([waveform])
    expected = emissions_of_torchaudio(pipeline, waveform)
    assert lengths.tolist() == [len(expected)] == [124]  # 1 + (40,000 - 400) // 320
    assert len(set(expected.argmax(-1).tolist())) > 10  # a network that hears something
    torch.testing.assert_close(emissions[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_padding_and_neighbours_change_no_result(name: str, installed: Installed) -> None:
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


def test_a_text_is_the_best_path_in_lower_case(installed: Installed) -> None:
    pipeline, waveform = installed(BASE), noise(64_000)
    path = emissions_of_torchaudio(pipeline, waveform).argmax(-1).tolist()
    labels = [pipeline.get_labels()[label] for label, _ in groupby(path) if label]
    expected = " ".join("".join(labels).replace("|", " ").lower().split())
    [transcript] = asr.load(f"torchaudio:{BASE}").transcribe([waveform])
    assert transcript.text == expected
    assert len(transcript.words) == len(expected.split()) > 3
    assert transcript.words[-1].end_s <= transcript.duration_s == 4.0


def test_a_frame_stands_in_the_middle_of_the_samples_it_is_made_of(installed: Installed) -> None:
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
def test_parts_of_a_recording_are_normalised_as_the_whole(name: str, installed: Installed) -> None:
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


def test_a_recording_of_less_than_a_frame_has_no_text(installed: Installed) -> None:
    installed(BASE)
    bundle = open_model(f"torchaudio:{BASE}")
    assert [one.text for one in bundle.transcribe([np.zeros(0, np.float32), noise(300)])] == ["", ""]


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


def test_a_decoder_with_a_lexicon_takes_its_letters(installed: Installed, tmp_path: Path) -> None:
    installed(BASE)
    bundle = open_model(f"torchaudio:{BASE}")
    (tmp_path / "words.txt").write_text("It's\nHI\n")
    bundle.search = bundle.build_decoder({"name": "beam", "lexicon": str(tmp_path / "words.txt")})
    [transcript] = bundle.transcribe([noise(32_000)])
    assert set(transcript.text.split()) <= {"it's", "hi"}


def test_every_recogniser_of_torchaudio_is_known_and_described_offline(cache: Path) -> None:
    theirs = {
        name
        for name in torchaudio.pipelines.__all__
        if type(getattr(torchaudio.pipelines, name)) is ASR_BUNDLE
    }
    assert set(COMPONENTS["pipelines"]) == theirs
    for name in theirs:
        pipeline = getattr(torchaudio.pipelines, name)
        bundle = outline(f"torchaudio:{name}")
        assert len(bundle.units.symbols) == pipeline._params["aux_num_out"], name
        assert bundle.units.symbols[:2] == ("<blank>", "|"), name
        assert pipeline.sample_rate == 16_000, name
        assert bundle.seconds_per_frame == pytest.approx(0.02), name
        assert "fine-tuned for ASR on" in bundle.trained["about"], name
        assert bundle.trained["licence"] in ("MIT License", "CC BY-NC 4.0"), name
    assert not cache.exists()


def test_describing_one_downloads_nothing(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert describe(f"torchaudio:{BASE}", as_json=False) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for part in ("94,396,320 parameters", "20 ms", "MIT", "LibriSpeech", str(cache.parent.parent)):
        assert part in shown.replace(" ", "") or part in shown
    assert describe(f"torchaudio:{BASE}", as_json=True) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["digest"] is None
    assert record["trained"]["weights"] == str(cache / "wav2vec2_fairseq_base_ls960_asr_ls960.pth")
    assert not cache.exists()


@pytest.mark.parametrize("opened", [open_model, check_model, outline, asr.load])
def test_of_a_mistyped_name_the_nearest_is_offered(opened: Callable[[str], object]) -> None:
    with pytest.raises(UserError, match="Did you mean 'WAV2VEC2_ASR_BASE_960H'"):
        opened("torchaudio:WAV2VEC2_ASR_BASE_960")
    with pytest.raises(UserError, match="No pipeline is called 'MMS_FA'"):
        opened("torchaudio:MMS_FA")


def test_a_known_name_and_a_folder_pass_the_check(tiny_bundle: Bundle, tmp_path: Path) -> None:
    check_model(f"torchaudio:{BASE}")
    tiny_bundle.save(tmp_path / "model")
    check_model(str(tmp_path / "model"))
    assert open_model(tmp_path / "model").digest == tiny_bundle.digest
    with pytest.raises(UserError, match="folder does not exist"):
        check_model(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (urllib.error.URLError(socket.gaierror(-2, "Name or service not known")), "Name or service"),
        (urllib.error.HTTPError("https://x", 403, "Forbidden", Message(), None), "Forbidden"),
        (TimeoutError("timed out"), "timed out"),
    ],
)
def test_without_a_network_one_line_says_which_file_belongs_where(
    error: Exception,
    said: str,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    patience = []

    def urlopen(_: object) -> None:
        patience.append(socket.getdefaulttimeout())
        raise error

    monkeypatch.setattr(torch.hub, "urlopen", urlopen)
    with pytest.raises(UserError) as refused:
        open_model(f"torchaudio:{BASE}")
    file = "wav2vec2_fairseq_base_ls960_asr_ls960.pth"
    assert str(refused.value) == (
        f"torchaudio:{BASE} needs its weights, and"
        f" https://download.pytorch.org/torchaudio/models/{file} cannot be fetched ({said}"
        f"{' not known' if said == 'Name or service' else ''}): put that file at {cache / file}."
    )
    assert patience == [15.0]
    assert socket.getdefaulttimeout() is None
    assert capsys.readouterr().out == ""
    assert list(cache.iterdir()) == []


class Runs:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_weights_that_are_damaged_or_hold_code_are_refused(
    installed: Installed, cache: Path, tmp_path: Path
) -> None:
    file = cache / installed(BASE)._path
    whole = file.read_bytes()
    torch.save({"aux.weight": torch.zeros(1), "more": Runs(tmp_path / "ran")}, tmp_path / "code")
    torch.save({"aux.weight": torch.zeros(32, 2)}, tmp_path / "other")
    torch.save([1, 2], tmp_path / "list")
    damaged = [(tmp_path / name).read_bytes() for name in ("code", "other", "list")]
    for content in (b"", whole[: len(whole) // 2], b"<html>sign in</html>", *damaged):
        file.write_bytes(content)
        with pytest.raises(UserError, match="does not hold the weights of torchaudio:WAV") as said:
            open_model(f"torchaudio:{BASE}")
        assert str(file) in str(said.value)
        assert "\n" not in str(said.value)
    assert not (tmp_path / "ran").exists()
    file.write_bytes(whole)
    assert open_model(f"torchaudio:{BASE}").normaliser == "english"


def test_what_needs_a_folder_says_so(installed: Installed, tmp_path: Path) -> None:
    installed(BASE)
    with pytest.raises(UserError, match="is of torchaudio's, and this needs one of asr's own"):
        load(f"torchaudio:{BASE}")
    bundle = open_model(f"torchaudio:{BASE}")
    with pytest.raises(UserError, match="cannot be saved as a bundle"):
        bundle.save(tmp_path / "model")
    with pytest.raises(UserError, match="cannot stream"):
        bundle.stream()
