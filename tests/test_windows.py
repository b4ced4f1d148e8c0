from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from asr import features as features_module
from asr import windows
from asr.bundle import Bundle
from asr.errors import UserError
from asr.windows import EmissionsFile

RATE_HZ = 16_000
FRAME = 640  # samples from one frame of emissions to the next


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Noise whose loudness comes and goes."""
    values = 0.1 * np.random.default_rng(seed).standard_normal(samples)
    return (values * np.sin(np.arange(samples) / 9000)).astype(np.float32)


def in_windows(bundle: Bundle, waveform: np.ndarray, block: int = 5000) -> np.ndarray:
    def blocks() -> Iterator[np.ndarray]:
        yield from (waveform[start : start + block] for start in range(0, len(waveform), block))

    return np.concatenate(list(windows.emissions(bundle.network, bundle.features, blocks)))


def whole(bundle: Bundle, waveform: np.ndarray) -> np.ndarray:
    emissions, lengths = bundle.emissions([waveform])
    return emissions[0, : int(lengths)].numpy()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of two seconds, of which neighbours share one."""
    monkeypatch.setattr(windows, "WINDOW_S", 2.0)
    monkeypatch.setattr(windows, "OVERLAP_S", 1.0)


@pytest.mark.parametrize("normalisation", ["corpus", "utterance"])
def test_a_recording_of_one_window_has_the_emissions_of_the_whole(
    make_bundle: Callable[..., Bundle], normalisation: str
) -> None:
    bundle = make_bundle(normalisation=normalisation)
    waveform = noise(3 * RATE_HZ + 77)
    np.testing.assert_allclose(in_windows(bundle, waveform), whole(bundle, waveform), atol=1e-4)


def forget_soon(bundle: Bundle) -> None:
    """Make a frame's emissions depend on a second around it: nobody has trained the model to."""
    with torch.no_grad():
        for name, parameter in bundle.network.named_parameters():
            if "weight_hh" in name:
                parameter *= 0.05
            elif "bias_ih" in name:
                hidden = len(parameter) // 4
                parameter[hidden : 2 * hidden] = -4.0


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("normalisation", ["corpus", "utterance"])
def test_emissions_in_windows_are_nearly_those_of_the_whole(
    make_bundle: Callable[..., Bundle], normalisation: str
) -> None:
    bundle = make_bundle(normalisation=normalisation)
    forget_soon(bundle)
    waveform = noise(20 * RATE_HZ)
    apart = np.abs(in_windows(bundle, waveform) - whole(bundle, waveform))
    assert np.median(apart) < 1e-4
    assert apart.max() < 0.1


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("extra", [-FRAME, -1, 0, 1, 239, 240, 241, 399, 400, 639, 640])
@pytest.mark.parametrize("seconds", [2, 3, 5])
def test_there_are_as_many_frames_as_of_the_whole(
    tiny_bundle: Bundle, seconds: int, extra: int
) -> None:
    waveform = noise(seconds * RATE_HZ + extra)
    assert len(in_windows(tiny_bundle, waveform)) == len(whole(tiny_bundle, waveform))


@pytest.mark.parametrize("samples", [0, 1, 399])
def test_less_than_a_frame_is_no_frame(tiny_bundle: Bundle, samples: int) -> None:
    assert len(in_windows(tiny_bundle, noise(samples))) == 0


@pytest.mark.parametrize("normalisation", ["corpus", "utterance"])
def test_no_sample_is_no_frame(make_bundle: Callable[..., Bundle], normalisation: str) -> None:
    bundle = make_bundle(normalisation=normalisation)
    assert [len(one) for one in windows.emissions(bundle.network, bundle.features, list)] == [0]


@pytest.mark.usefixtures("short")
def test_the_size_of_blocks_changes_nothing(tiny_bundle: Bundle) -> None:
    waveform = noise(7 * RATE_HZ + 5)
    expected = in_windows(tiny_bundle, waveform)
    for block in (100, 16_000, len(waveform)):
        assert np.array_equal(in_windows(tiny_bundle, waveform, block), expected)


@pytest.mark.usefixtures("short")
def test_no_more_than_a_window_is_waited_for(tiny_bundle: Bundle) -> None:
    read = 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal read
        for _ in range(200):
            read += 1600
            yield noise(1600)

    given = 0
    for frames in windows.emissions(tiny_bundle.network, tiny_bundle.features, blocks):
        assert read - given * FRAME <= 3.2 * RATE_HZ  # a window, what it shares, a block, a frame
        given += len(frames)
    assert given == 500


@pytest.mark.usefixtures("short")
def test_parts_are_normalised_as_the_whole(
    make_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_module, "ENERGIES_S", 0.5)
    features = make_bundle(normalisation="utterance").features
    waveform = noise(5 * RATE_HZ + 123) + 1e-3
    blocks = [waveform[:3001], waveform[3001:60_000], waveform[60_000:]]
    one = torch.from_numpy(waveform)[None], torch.tensor([len(waveform)])
    expected, _ = features(*one)
    found, _ = features.fitted(blocks)(*one)
    assert float((found - expected).abs().max()) < 1e-3
    assert features.normalisation == "utterance"


def posteriors(path: str) -> np.ndarray:
    """Emissions of a blank and a unit, sure of each frame's."""
    return np.log([[0.99, 0.01] if symbol == "-" else [0.01, 0.99] for symbol in path])


@pytest.mark.parametrize(
    ("earlier", "later", "joined"),
    [
        (
            "--x------x--x-----------",
            "----------xx--x-----x---",
            "--x------x--x-----xx--x-----x---",
        ),
        # Where the one emits a unit a frame before the other, it is neither doubled nor lost.
        (
            "---------------x--------",
            "--------x---------------",
            "----------------x---------------",
        ),
        (
            "----------------x-------",
            "-------x----------------",
            "---------------x----------------",
        ),
    ],
)
def test_windows_are_joined_where_they_agree(earlier: str, later: str, joined: str) -> None:
    parts = windows._joined([(0, posteriors(earlier)), (8, posteriors(later))])
    found = np.concatenate(list(parts))
    assert "".join("-x"[unit] for unit in found.argmax(axis=1)) == joined


def test_of_frames_on_which_they_agree_blanks_are_chosen() -> None:
    both = posteriors("x" * 6 + "--" + "x" * 8)
    assert windows._seam(both, both) == 7


def test_emissions_on_the_disk_are_read_in_slices() -> None:
    frames = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    with EmissionsFile(3) as file:
        file.append(frames[:20])
        assert np.array_equal(file[5:10], frames[5:10])
        file.append(frames[20:].astype(np.float64))
        assert file.shape == (50, 3)
        for part in (slice(0, 50), slice(10, 25), slice(40, 99), slice(50, 60)):
            assert np.array_equal(file[part], frames[part])


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"Cannot write .*gone"):
        EmissionsFile(3)
