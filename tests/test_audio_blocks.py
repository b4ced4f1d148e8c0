from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import audio


def joined(path: Path) -> np.ndarray:
    return np.concatenate(list(audio.blocks(path)))


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
@pytest.mark.parametrize(("rate_hz", "channels"), [(16_000, 1), (44_100, 2), (8_000, 1)])
def test_blocks_are_what_is_loaded_at_once(
    tmp_path: Path, ending: str, rate_hz: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio, "_BLOCK_FRAMES", 10_007)
    path = tmp_path / f"a.{ending}"
    samples = np.random.default_rng(0).normal(0, 0.1, (3 * rate_hz + 11, channels))
    soundfile.write(path, samples, rate_hz)
    whole = audio.load(path)
    assert len(list(audio.blocks(path))) > 2
    assert joined(path).shape == whole.shape
    np.testing.assert_allclose(joined(path), whole, atol=1e-6)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "aiff"])
def test_a_file_that_breaks_off_is_refused_at_its_end(tmp_path: Path, ending: str) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 200_000)
    soundfile.write(tmp_path / f"whole.{ending}", samples, 16_000)
    path = tmp_path / f"cut.{ending}"
    content = (tmp_path / f"whole.{ending}").read_bytes()
    path.write_bytes(content[: 3 * len(content) // 4])
    with pytest.raises(audio.AudioError, match="breaks off") as raised:
        joined(path)
    assert raised.value.reason == "truncated"


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.full(200_000, np.nan), "not-finite"),
        (np.r_[np.zeros(150_000), 1e7], "not-finite"),
        (np.zeros(0), "too-short"),
    ],
)
def test_samples_that_cannot_be_used_are_refused(
    tmp_path: Path, samples: np.ndarray, reason: str
) -> None:
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(audio.AudioError) as raised:
        joined(tmp_path / "a.wav")
    assert raised.value.reason == reason


@pytest.mark.parametrize("name", ["missing.wav", "empty.wav", "text.wav"])
def test_what_is_no_audio_is_refused_before_any_block(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("words")
    with pytest.raises(audio.AudioError):
        next(iter(audio.blocks(tmp_path / name)))
