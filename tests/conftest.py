"""What many tests share: the real speech, where it is at hand."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

if TYPE_CHECKING:
    from asr.bundle import Bundle

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """A function from a corpus's name to its folder; skips the test where that is missing."""

    def folder(name: str) -> Path:
        root = Path(os.environ.get("ASR_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
        if not (root / name).is_dir():
            pytest.skip(f"needs the corpus {name}: set ASR_TEST_DATA to the folder that holds it")
        return root / name

    return folder


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Bundle]:
    """A function that makes a tiny untrained model, the same each time; it babbles words."""
    import torch

    from asr.bundle import Bundle
    from asr.features import LogMel
    from asr.models.ctc import CtcModel
    from asr.models.lstm import LstmEncoder
    from asr.units.characters import CharacterUnits
    from asr.units.symbols import BLANK

    def bundle(
        symbols: Sequence[str] = ("|", "a", "b", "c", "nine"), normalisation: str = "corpus"
    ) -> Bundle:
        settings = {"subsampling": 4, "channels": 4, "hidden": 16, "layers": 2}
        features = LogMel(mel_bins=20, normalisation=normalisation)
        features.mean -= 5.0
        features.deviation += 1.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = CtcModel(LstmEncoder(20, **settings), 1 + len(symbols))
            torch.nn.init.normal_(network.head.weight, std=3.0)
            noise = 0.1 * torch.randn(1, 32_000)
        with torch.no_grad():  # so that on noise each unit, the blank too, is often the likeliest
            frames, _ = network.eval().encoder(*features(noise, torch.tensor([32_000])))
            network.head.bias -= network.head(frames)[0].mean(0)
        return Bundle(
            network=network,
            model={"name": "lstm", **settings},
            features=features,
            units=CharacterUnits((BLANK, *symbols)),
            normaliser="english",
            decoder={"name": "greedy"},
            trained={"recipe": "tiny", "run": "base", "seed": 1},
        )

    return bundle


@pytest.fixture
def tiny_bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    """The tiny untrained model."""
    return make_bundle()


LETTERS = {"a": 400.0, "b": 900.0, "c": 1600.0, "d": 2600.0}


def tones(text: str, seed: int) -> np.ndarray:
    """A language learnt in seconds: each letter a tone of 0.12 s, words apart by silence."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(0.12 * 16_000)) / 16_000
    pieces = [np.zeros(800)]
    for letter in text:
        if letter == " ":
            pieces.append(np.zeros(2400))
        else:
            pitch = LETTERS[letter] * generator.uniform(0.97, 1.03)
            pieces += [0.4 * np.sin(2 * np.pi * pitch * time), np.zeros(640)]
    waveform = np.concatenate([*pieces, np.zeros(800)])
    return (waveform + 0.003 * generator.standard_normal(len(waveform))).astype(np.float32)


@pytest.fixture(scope="session")
def tone_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 64 recordings of tones by four 'speakers', in three splits."""
    folder = tmp_path_factory.mktemp("tones")
    generator = np.random.default_rng(1)
    lines = []
    for number in range(64):
        words = ["".join(generator.choice(list("abcd"), generator.integers(1, 4))) for _ in "xx"]
        text = " ".join(words)
        name = f"tones-{number:02d}"
        soundfile.write(folder / f"{name}.wav", tones(text, number), 16_000)
        split = "train" if number < 48 else "validation" if number < 56 else "test"
        line = {"audio": f"{name}.wav", "text": text, "speaker": f"s{number % 4}", "split": split}
        lines.append(json.dumps(line))
    manifest = folder / "tones.jsonl"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest
