"""Tiny networks in the place of torchaudio's, with weights where torch downloads to; no network."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio

TINY = {
    "extractor_conv_layer_config": [(8, 10, 5), *[(8, 3, 2)] * 4, *[(8, 2, 2)] * 2],
    "encoder_embed_dim": 16,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 2,
    "encoder_num_heads": 2,
    "encoder_ff_interm_features": 32,
}


def swelling_noise(samples: int, seed: int = 0) -> np.ndarray:
    """Noise that swells and fades, so that parts of it have other statistics than the whole."""
    generator = np.random.default_rng(seed)
    swell = 0.02 + 0.2 * np.sin(np.arange(samples) / 9000) ** 2
    return (0.01 + swell * generator.standard_normal(samples)).astype(np.float32)


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """A function from a number of samples, and a seed, to noise."""
    return swelling_noise


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's folder of weights, empty; and no network."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tmp_path / "torch/hub/checkpoints"


@pytest.fixture
def installed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
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
            model.aux.weight.normal_(std=1.0)
            heard = model(torch.from_numpy(swelling_noise(32_000))[None])[0]
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
