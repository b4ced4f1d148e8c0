"""Every member of the family of models learns, is saved and loaded, and computes in bf16."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import asr
from asr import registry
from asr.audio import load
from asr.bundle import Bundle
from asr.features import LogMel
from asr.models.ctc import CtcModel
from asr.recipes import load_recipe
from asr.scoring.rates import Scored, score
from asr.text import english
from asr.training.module import ctc_loss
from asr.units.characters import CharacterUnits

MEMBERS = sorted(registry.COMPONENTS["models"])
MEL_BINS = 40
SIZES = {"channels": 8, "hidden": 64, "layers": 2, "dropout": 0.0}


@dataclass(frozen=True)
class Eight:
    """Eight real utterances as one batch."""

    texts: tuple[str, ...]
    units: CharacterUnits
    waveforms: tuple[np.ndarray, ...]
    extractor: LogMel
    features: Tensor  # [8, T, F]
    lengths: Tensor  # [8]
    targets: Tensor  # [8, U]
    target_lengths: Tensor  # [8]


@pytest.fixture(scope="module")
def eight(real_data: Callable[[str], Path]) -> Eight:
    """The first of AN4's training utterances that last between one and two seconds."""
    listing = load_recipe("an4").read(real_data("an4"))
    chosen = []
    for utterance in listing.utterances:
        if utterance.split == "train":
            waveform = torch.from_numpy(load(utterance.audio))
            if 16_000 <= len(waveform) <= 32_000:
                chosen.append((english(utterance.text), waveform))
        if len(chosen) == 8:
            break
    texts, waveforms = zip(*chosen, strict=True)
    units = CharacterUnits.from_texts(texts)
    extractor = LogMel(mel_bins=MEL_BINS)
    extractor.fit(waveforms)
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    padded = torch.nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True)
    labels = [torch.tensor(units.encode(text)) for text in texts]
    return Eight(
        texts,
        units,
        tuple(waveform.numpy() for waveform in waveforms),
        extractor,
        *extractor(padded, lengths),
        torch.nn.utils.rnn.pad_sequence(labels, batch_first=True),
        torch.tensor([len(label) for label in labels]),
    )


def model(name: str, vocabulary_size: int) -> CtcModel:
    torch.manual_seed(0)
    encoder = registry.find("models", name)(input_size=MEL_BINS, **SIZES)
    return CtcModel(encoder, vocabulary_size)


def step_loss(network: CtcModel, eight: Eight) -> Tensor:
    emissions, lengths = network(eight.features, eight.lengths)
    return ctc_loss(emissions, lengths, eight.targets, eight.target_lengths).mean()


def overfit(network: CtcModel, eight: Eight) -> None:
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(300):
        loss = step_loss(network, eight)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        if loss.item() < 0.03:
            return


@pytest.mark.parametrize("name", MEMBERS)
def test_it_overfits_eight_real_utterances_and_is_the_same_from_its_bundle(
    name: str, eight: Eight, tmp_path: Path
) -> None:
    network = model(name, len(eight.units.symbols))
    overfit(network, eight)
    bundle = Bundle(
        network=network,
        model={"name": name, **SIZES},
        features=eight.extractor,
        units=eight.units,
        normaliser="english",
        decoder={"name": "greedy"},
        trained={},
    )
    bundle.save(tmp_path / "model")
    loaded = asr.load(tmp_path / "model")
    heard = loaded.transcribe(list(eight.waveforms))
    rates = score(
        Scored(str(row), "s", text, transcript.text)
        for row, (text, transcript) in enumerate(zip(eight.texts, heard, strict=True))
    )
    assert rates.cer == 0
    assert loaded.digest == bundle.digest
    emissions, _ = bundle.emissions(eight.waveforms)
    assert torch.equal(emissions, loaded.emissions(eight.waveforms)[0])


@pytest.mark.parametrize("name", MEMBERS)
def test_a_training_step_in_bf16_is_close_to_the_one_in_fp32(name: str, eight: Eight) -> None:
    network = model(name, len(eight.units.symbols))
    exact = step_loss(network, eight)
    exact.backward()
    wanted = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        try:
            loss = step_loss(network, eight)
            loss.backward()
        except RuntimeError as error:
            pytest.skip(f"this CPU has no bf16 kernel for it: {error}")
    found = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)
    # bf16 keeps 8 bits, and a norm within the cell magnifies what they lose.
    assert torch.nn.functional.cosine_similarity(found, wanted, dim=0) > 0.95
    assert not torch.equal(found, wanted)  # it was in bf16
