"""Which stretch of a recording is looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import audio
from asr.errors import UserError
from asr.gates.excerpt import Excerpt, read_excerpt

RATE_HZ = 16_000


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Three seconds, whose sample n is n."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.arange(3 * RATE_HZ, dtype=np.int16), RATE_HZ)
    return path


def read(path: Path, start_s: float = 0.0, length_s: float = 20.0) -> Excerpt:
    return read_excerpt(path, start_s, length_s, "a.wav")


def numbers(excerpt: Excerpt) -> tuple[int, int]:
    """The first and the last sample's number."""
    first, last = excerpt.waveform[[0, -1]] * 32_768
    return round(first), round(last)


def test_a_short_recording_is_whole(recording: Path) -> None:
    excerpt = read(recording)
    assert excerpt.whole
    assert numbers(excerpt) == (0, 47_999 - 65_536)  # 16 bits wrap around
    assert (excerpt.start_s, excerpt.duration_s, excerpt.recording_s) == (0, 3, 3)


def test_a_stretch_begins_and_ends_where_it_was_asked_to(recording: Path) -> None:
    excerpt = read(recording, start_s=0.5, length_s=1.0)
    assert not excerpt.whole
    assert numbers(excerpt) == (8_000, 23_999)
    assert (excerpt.duration_s, excerpt.recording_s) == (1, 3)


def test_a_stretch_ends_with_its_recording_at_the_latest(recording: Path) -> None:
    assert read(recording, start_s=2.0).duration_s == 1.0
    assert not read(recording, start_s=2.0).whole


def test_of_a_long_recording_no_more_is_decoded_than_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(600 * 8_000, np.int16), 8_000)
    asked = []
    load = audio.load
    monkeypatch.setattr(audio, "load", lambda *words: asked.append(words) or load(*words))
    excerpt = read(tmp_path / "long.wav")
    assert asked == [(tmp_path / "long.wav", 0.0, 20.0)]
    assert (excerpt.duration_s, excerpt.recording_s, excerpt.whole) == (20, 600, False)


def test_a_resampled_recording_is_whole_too(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full((44_101, 2), 0.1), 44_100)
    assert read(tmp_path / "a.wav").whole


def test_a_file_that_does_not_say_how_long_it_is_is_read_and_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.arange(3 * RATE_HZ, dtype=np.int16), RATE_HZ)
    data = bytearray(path.read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])  # 36 bits: total samples in STREAMINFO
    path.write_bytes(data)
    excerpt = read(path, length_s=2.0)
    assert (excerpt.duration_s, excerpt.recording_s, excerpt.whole) == (2, 3, False)
    excerpt = read(path, start_s=0.5, length_s=1.0)
    assert (numbers(excerpt), excerpt.recording_s) == ((8_000, 23_999), 3)
    assert read(path).whole
    with pytest.raises(UserError, match=r"a\.wav is 3\.00 s long: nothing is left"):
        read(path, start_s=3.0)


@pytest.mark.parametrize(
    ("start_s", "length_s", "said"),
    [
        (3.0, 1.0, "a.wav is 3.00 s long: nothing is left at --start 3"),
        (1e9, 1.0, "nothing is left"),
        (-0.1, 1.0, "--start is"),
        (float("nan"), 1.0, "--start is"),
        (float("inf"), 1.0, "--start is"),
        (0.0, 0.0, "--length is"),
        (0.0, -1.0, "--length is"),
        (0.0, 61.0, "at most 60 s"),
        (0.0, float("nan"), "--length is"),
    ],
)
def test_a_stretch_that_is_none_is_refused(
    recording: Path, start_s: float, length_s: float, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        read(recording, start_s, length_s)


def test_what_is_no_audio_breaks_off_or_is_missing_is_refused(
    recording: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "none.wav")
    recording.write_bytes(recording.read_bytes()[:-2000])
    with pytest.raises(UserError, match="breaks off"):
        read(recording)
    recording.write_text("this is not audio\n" * 50)
    with pytest.raises(UserError, match="not audio"):
        read(recording)
