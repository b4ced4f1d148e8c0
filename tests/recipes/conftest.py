"""What the tests of recipes share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from asr.recipes import load_recipe


@pytest.fixture
def recipe() -> Callable[[str], ModuleType]:
    """A function from a recipe's name to its `prepare.py`, found as the commands find it."""

    def module(name: str) -> ModuleType:
        return sys.modules[load_recipe(name).read.__module__]

    return module


@pytest.fixture
def recording() -> Callable[[Path], Path]:
    """A function that writes a second of soft noise, in the format that the path's ending says."""

    def write(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(0).integers(-500, 500, 16_000).astype(np.int16)
        if path.suffix == ".raw":
            path.write_bytes(samples.astype(">i2").tobytes())
        elif path.suffix == ".sph":
            soundfile.write(path, samples, 16_000, format="NIST", subtype="PCM_16")
        elif path.suffix == ".opus":
            soundfile.write(path, samples, 16_000, format="OGG", subtype="OPUS")
        else:
            soundfile.write(path, samples, 16_000)
        return path

    return write
