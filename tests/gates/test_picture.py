"""The picture is drawn, of the layer that was asked for, whatever the recording holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from asr.bundle import Bundle
from asr.errors import UserError
from asr.gates.colours import LIGHT
from asr.gates.excerpt import Excerpt
from asr.gates.picture import draw
from asr.gates.trace import Trace, trace


@pytest.fixture
def traced(tiny_bundle: Bundle) -> Trace:
    noise = np.random.default_rng(0).normal(0, 0.3, 16_000).astype(np.float32)
    return trace(tiny_bundle, Excerpt("a $x$ [b].wav", noise, 0.0, 1.0))


def drawn(path: Path, traced: Trace, number: int = 0) -> np.ndarray:
    draw(path, traced, traced.cells[number], "m_$1$ (lstm)")
    return matplotlib.image.imread(path)[:, :, :3]


def share(picture: np.ndarray, colour: str) -> float:
    """The share of pixels that have a colour, but for rounding."""
    return float((np.abs(picture - to_rgb(colour)).max(axis=2) < 0.012).mean())


def test_a_slide_shows_gates_in_the_colours_of_their_values(traced: Trace, tmp_path: Path) -> None:
    cell = traced.cells[0]
    shut, opened = np.zeros_like(cell.forget), np.ones_like(cell.forget)
    made = replace(cell, forget=opened, input=shut, output=opened, cell=np.arctanh(0.5 * opened))
    picture = drawn(tmp_path / "a.png", replace(traced, cells=(made,)))
    assert picture.shape == (900, 1600, 3)
    panel = 0.81 * 0.13  # of the picture: width by height
    assert share(picture, LIGHT["forget"][-1]) == pytest.approx(panel, rel=0.05)
    assert share(picture, LIGHT["input"][0]) == pytest.approx(panel, rel=0.05)
    assert share(picture, LIGHT["output"][-1]) == pytest.approx(panel, rel=0.05)
    assert share(picture, LIGHT["cell"][3]) == pytest.approx(panel, rel=0.05)


def test_layers_and_directions_have_pictures_of_their_own(traced: Trace, tmp_path: Path) -> None:
    pictures = [drawn(tmp_path / f"{number}.png", traced, number) for number in range(2)]
    assert (pictures[0] != pictures[1]).mean() > 0.05


@pytest.mark.parametrize("samples", [400, 16_000])
def test_silence_is_drawn_too(tiny_bundle: Bundle, tmp_path: Path, samples: int) -> None:
    silence = Excerpt("silence.wav", np.zeros(samples, np.float32), 0.0, samples / 16_000)
    traced = replace(trace(tiny_bundle, silence), emitted=(), text="")
    assert drawn(tmp_path / "a.png", traced).std() > 0.01


def test_a_picture_that_cannot_be_written_is_named(traced: Trace, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Cannot write"):
        drawn(tmp_path / "nowhere" / "a.png", traced)
