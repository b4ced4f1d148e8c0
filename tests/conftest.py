"""What many tests share: the real speech, where it is at hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from asr.bundle import Bundle

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """A function from a corpus's name to its folder; it skips the test where the folder is missing."""

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
    from asr.text import BLANK, CharacterUnits

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
